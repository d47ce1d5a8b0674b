"""The nouns that pass between the rooms: frozen, typed, JSON both ways, identified by their content.

Nothing here knows a domain. Images and tool schemas live in `Prompt`, preference pairs in `Example.rejected`,
and whatever a verifier needs beyond the answer (hidden tests, scorer metadata) in `data`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_serializer, model_validator

Split = Literal["exemplar", "feedback", "selection", "exam", "pool"]
"""Disjoint sets of one task's problems; see `dataenv.tasks.splits` for how a problem gets its split."""

Finish = Literal["stop", "length", "overlong"]
"""How a reply ended; see `Reply`."""

UNMATCHED = "unmatched"
"""Stands as the skill of a request, or of a written-out row, that matches none. An engine that reads text may serve
such a request; the others write nothing for it."""

_SPACE = re.compile(r"\s+")


def normalise(text: str) -> str:
    """Text as compared for equality: NFKC, case-folded, runs of white space made one. Signs and digits stay."""
    if text.isascii():
        return " ".join(text.lower().split())
    return _SPACE.sub(" ", unicodedata.normalize("NFKC", text).casefold()).strip()


def content_hash(*parts: Any) -> str:
    """32 hex digits (BLAKE2b, 128 bits) of `parts` as canonical JSON: equal content, equal hash, on every machine."""
    try:
        text = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # whole numbers beyond 64 bits, lone surrogates
        text = json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.blake2b(text, digest_size=16).hexdigest()


class Record(BaseModel):
    """A frozen pydantic model. Unknown fields are refused, so that a misspelt one is never silently dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def __deepcopy__(self, memo: Any = None) -> Self:
        return self  # frozen; and wrappers and RL libraries copy infos at every step

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]  # pydantic copies cached properties along, but an id follows the content
        return copied


class Image(Record):
    """An encoded picture (PNG, JPEG or WebP bytes), kept in the record so that a row is whole without other files."""

    data: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class Prompt(Record):
    """What a student is shown: text, optionally images and tool schemas. A plain string is accepted in its place."""

    text: str
    images: tuple[Image, ...] = ()
    tools: tuple[dict[str, JsonValue], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _to_text(self, handler: Any) -> Any:
        return handler(self) if self.images or self.tools else self.text

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def key(self) -> str:
        """Hash of the normalised text, images and tools: prompts with equal keys are the same question."""
        return content_hash(normalise(self.text), [image.sha256 for image in self.images], self.tools)

    @property
    def in_words(self) -> str:
        """The text, below a line `[picture]` for each image and one with the names of the tools: what is told to those
        who see neither."""
        inner = [tool.get("function", tool) for tool in self.tools]
        names = ", ".join(str(tool.get("name", "?")) if isinstance(tool, dict) else "?" for tool in inner)
        return "[picture]\n" * len(self.images) + (f"[tools: {names}]\n" if inner else "") + self.text


class Problem(Record):
    """A verifiable question.

    `answer` is the reference answer, `solution` the worked text a student may learn from (the answer when empty),
    `difficulty` lies in [0, 1] where the task knows it, `data` holds what only the verifier needs.
    """

    prompt: Prompt
    answer: str
    skill: str = "general"
    subskill: str | None = None
    difficulty: float | None = Field(default=None, ge=0.0, le=1.0)
    solution: str = ""
    data: dict[str, JsonValue] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def id(self) -> str:
        """Content hash of what is asked and what counts as right; the skill label is not part of it."""
        return content_hash(self.prompt.model_dump(mode="json"), self.answer, self.data)


class Verdict(NamedTuple):
    """What a verifier says: `score` in [0, 1], `correct` (exactly right), why not, and the answer it read."""

    score: float
    correct: bool
    reason: str = ""
    extracted: str | None = None


class Reply(NamedTuple):
    """One response of a student.

    `finish` is "stop" (ended by itself), "length" (cut at the token limit, or where the context ended) or "overlong"
    (the prompt does not fit the student's context, so nothing was asked and `text` is empty). `tokens` counts
    generated tokens.
    """

    text: str
    finish: Finish = "stop"
    tokens: int = 0


class Attempt(Record):
    """A student's response to one problem, with its verdict."""

    problem: Problem
    response: str
    score: float = Field(ge=0.0, le=1.0)
    correct: bool
    reason: str = ""
    extracted: str | None = None
    finish: Finish = "stop"


class Example(Record):
    """One training row: the student learns `completion` given `prompt` (rather than `rejected`, in a pair).

    `answer` and `data` are what the row claims to be right; with them the gate can verify the completion.
    `provenance` says who made the row: engine, teacher, step, request, seed.
    """

    prompt: Prompt
    completion: str
    rejected: str | None = None
    answer: str | None = None
    skill: str = "general"
    subskill: str | None = None
    difficulty: float | None = Field(default=None, ge=0.0, le=1.0)
    data: dict[str, JsonValue] = Field(default_factory=dict)
    provenance: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _distinct_pair(self) -> Example:
        if self.rejected is not None and self.rejected == self.completion:
            raise ValueError("rejected equals completion; a preference pair needs two different texts")
        return self

    def __hash__(self) -> int:
        return hash(self.id)

    @cached_property
    def id(self) -> str:
        """Content hash of what is taught; provenance is not part of it."""
        return content_hash(self.prompt.model_dump(mode="json"), self.completion, self.rejected)

    @classmethod
    def from_problem(cls, problem: Problem, **provenance: JsonValue) -> Example:
        """The row that teaches `problem`: its worked solution where it has one, else its answer."""
        return cls(
            prompt=problem.prompt,
            completion=problem.solution or problem.answer,
            answer=problem.answer,
            skill=problem.skill,
            subskill=problem.subskill,
            difficulty=problem.difficulty,
            data=problem.data,
            provenance=provenance,
        )

    def as_problem(self) -> Problem | None:
        """The problem this row claims to solve, or None when it states no answer."""
        if self.answer is None:
            return None
        return Problem(prompt=self.prompt, answer=self.answer, skill=self.skill, data=self.data)


class Request(Record):
    """One line of a plan: `rows` rows of a skill. `difficulty` None leaves the engine's natural mix."""

    skill: str
    rows: int = Field(ge=0)
    difficulty: float | None = Field(default=None, ge=0.0, le=1.0)
    subskill: str | None = None
    instruction: str = ""
    exemplar: Problem | None = None


class Plan(Record):
    """The teacher's action as data: requests for an engine, and rows the teacher wrote out itself."""

    requests: tuple[Request, ...] = ()
    examples: tuple[Example, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows the plan asks for."""
        return sum(request.rows for request in self.requests) + len(self.examples)


def smoothed_error(correct: int, n: int) -> float:
    """Standard error of an accuracy, sqrt(p(1-p)/n) with p = (correct+1)/(n+2), so never 0; 0.5 when n = 0."""
    if n == 0:
        return 0.5
    p = (correct + 1) / (n + 2)
    return math.sqrt(p * (1 - p) / n)


class SkillScore(Record):
    """What the feedback split says of one skill. `accuracy` is None (never 0) where nothing was examined."""

    skill: str
    n: int = Field(ge=0)
    correct: int = Field(ge=0)

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.n if self.n else None

    @property
    def error(self) -> float:
        """Standard error of the accuracy, smoothed; see `smoothed_error`."""
        return smoothed_error(self.correct, self.n)


class Budget(Record):
    """What is left: rows in the episode, rows in the coming step, steps in the episode."""

    rows_left: int
    rows_per_step: int
    steps_left: int

    @property
    def rows_now(self) -> int:
        """The most rows the next plan can get."""
        return min(self.rows_left, self.rows_per_step)


class Past(Record):
    """What a finished step came to: rows asked for, rows accepted, what was dropped on the way by reason, the reward,
    and its paired standard error.

    More may be dropped than was asked for: an engine is asked again for what is missing.
    """

    asked: int
    rows: int
    dropped: dict[str, int] = Field(default_factory=dict)
    reward: float
    error: float


class Feedback(Record):
    """The state a teacher sees: scores per skill, failed attempts, rows taught so far, the budget, and the finished
    steps, oldest first.

    `skills` has one score for every skill of the task, in the task's order. It never holds an exam problem.
    """

    step: int
    skills: tuple[SkillScore, ...]
    failures: tuple[Attempt, ...] = ()
    taught: dict[str, int] = Field(default_factory=dict)
    budget: Budget
    history: tuple[Past, ...] = ()

    @property
    def n(self) -> int:
        return sum(score.n for score in self.skills)

    @property
    def accuracy(self) -> float:
        """Share of the feedback problems answered exactly right."""
        return sum(score.correct for score in self.skills) / max(self.n, 1)

    @property
    def error(self) -> float:
        return smoothed_error(sum(score.correct for score in self.skills), self.n)


class TeachReport(NamedTuple):
    """What one `Student.teach` did. `overlong` counts rows dropped because they do not fit the context."""

    rows: int
    tokens: int
    loss: float | None
    overlong: int = 0


class Transition(NamedTuple):
    """One step as a teacher is told of it: what it saw, what it did, what came of it."""

    observation: Any
    action: Any
    reward: float
    next_observation: Any
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


def count_by_skill(examples: Iterable[Example]) -> dict[str, int]:
    """Rows per skill, in order of first appearance."""
    return dict(Counter(example.skill for example in examples))
