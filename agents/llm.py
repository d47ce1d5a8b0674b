"""What teachers that are language models share: how the model is asked, what becomes of a plan that cannot be carried
out as it stands, and the dialogue, which runs keep and reports show.

Whatever the model writes, the plan that comes of it is in its space and within the budget. What is harmless is mended
(rows rounded and scaled, a name that can only mean one skill); what is not is refused and counted, and a step that
nobody needs to regret takes its place. An error that concerns every call is raised: the run then stops, and can go on.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import JsonValue

from dataenv.agents.teacher import BaseTeacher
from dataenv.chat.conversing import Converses
from dataenv.chat.question import Answer, Failure, Question
from dataenv.chat.templates import prompts
from dataenv.checks import real, whole
from dataenv.records import Feedback, Record
from dataenv.spaces import allocate

T = TypeVar("T")

STEPS_SHOWN = 5
"""Finished steps that a prompt looks back."""
MOST_ROWS = 10**9

_WORD = re.compile(r"[^\W_]+")


class Exchange(Record):
    """One question to the model, and what became of its answer: `mended` says how the plan had to be changed,
    `refused` why it could not be used ("" where it could). `about` is the skill in question, where there is one."""

    about: str = ""
    saw: str
    wrote: str = ""
    reasoning: str = ""
    mended: tuple[str, ...] = ()
    refused: str = ""


class Unusable(Exception):
    """A plan that cannot be mended; the message says why."""


class LLMTeacher(Converses, BaseTeacher):
    """Base of the teachers here.

    Args:
        errors: the most wrong answers of the student that a prompt shows.
        temperature: None leaves it to the model.
        max_tokens: of an answer, thinking included.

    `refusals` counts what could not be used, by reason: plans, and parts of plans that name what there is not.
    """

    def __init__(self, *, errors: int = 8, temperature: float | None = None, max_tokens: int = 4096) -> None:
        self.errors = whole(f"{self.name}: errors", errors, least=0)
        self.temperature = None if temperature is None else real(f"{self.name}: temperature", temperature, 0, 10)
        self.max_tokens = whole(f"{self.name}: max_tokens", max_tokens)
        self._dialogue: tuple[Exchange, ...] = ()

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.refusals: dict[str, int] = {}
        self.notes: dict[str, str] = {}
        """Number of a step -> the model's reasoning for it."""
        self._dialogue = ()

    @property
    def dialogue(self) -> tuple[Exchange, ...]:
        """What was asked and answered at the last `act`."""
        return self._dialogue

    def consult(
        self,
        asked: Sequence[tuple[str, str]],
        schema: Mapping[str, JsonValue],
        read: Callable[[int, Any, list[str]], T],
    ) -> list[T | None]:
        """Ask all questions, pairs of what each is about and its prompt, at once; what came of each, in their order.

        `read` makes a plan of the number of a question and its answer, adds to the list how it had to be mended, or
        raises Unusable. None stands where there is no plan.
        """
        role = prompts.render("teachers/role")
        questions = [
            Question.of(
                prompt,
                system=role,
                json_schema=dict(schema),
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                seed=int(self.rng.integers(2**31)),
            )
            for _, prompt in asked
        ]
        plans: list[T | None] = []
        dialogue: list[Exchange] = []
        for i, ((about, prompt), result) in enumerate(zip(asked, self._asked(questions), strict=True)):
            mended: list[str] = []
            plan, refused, wrote, reasoning = None, "", "", ""
            if isinstance(result, Failure):
                refused = str(result.error)
                self.refuse(type(result.error).__name__)
            else:
                wrote, reasoning = result.text, str(result.data["reasoning"])
                try:
                    plan = read(i, result.data, mended)
                except Unusable as why:
                    refused = str(why)
                    self.refuse("unusable plan")
            plans.append(plan)
            dialogue.append(
                Exchange(
                    about=about,
                    saw=prompt,
                    wrote=wrote,
                    reasoning=reasoning,
                    mended=tuple(mended),
                    refused=refused,
                )
            )
        self._dialogue = tuple(dialogue)
        return plans

    def _asked(self, questions: Sequence[Question]) -> list[Answer | Failure]:
        """What came of each question. Where none got through in all its tries they are asked again, until one does or
        the client gives the server up: a step that nobody planned is worse than a run that stops, and can go on."""
        while True:
            results = self.client.ask(questions)
            last = self.client.tries - 1
            if not (results and last and all(isinstance(r, Failure) and r.retries == last for r in results)):
                return results

    def refuse(self, reason: str) -> None:
        self.refusals[reason] = self.refusals.get(reason, 0) + 1

    def note(self, feedback: Feedback, text: str) -> None:
        """Remember the reasoning behind the coming step, for the prompts of the next ones."""
        self.notes[str(feedback.step + 1)] = text[:1000]
        self.notes.pop(str(feedback.step + 1 - STEPS_SHOWN), None)

    def past(self, feedback: Feedback) -> list[dict[str, Any]]:
        """The last finished steps, as prompts show them."""
        steps = list(enumerate(feedback.history, 1))[-STEPS_SHOWN:]
        return [{"number": n, "note": self.notes.get(str(n), ""), **dict(past)} for n, past in steps]

    def found(self, name: str, names: Sequence[str], mended: list[str]) -> str | None:
        """The one of `names` that `name` means; None, which is counted, where there is none or more than one."""
        skill = matched(name, names)
        if skill is None:
            self.refuse("unknown name")
            mended.append(f"{name[:100]!r} is left out: there is nothing of that name.")
        elif skill != name:
            mended.append(f"{name[:100]!r} is taken for {skill!r}.")
        return skill


def matched(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that `name` is, or can only be a slip of: case and signs do not count; else the only one that
    is as like it as 0.8 (`difflib`). None where there is no such one, or more than one."""
    if name in names:
        return name
    words = " ".join(_WORD.findall(name.casefold()))
    plain = {known: " ".join(_WORD.findall(known.casefold())) for known in names}
    found = [known for known in names if words and plain[known] == words]
    if not found and len(words) <= 200:
        found = [known for known in names if difflib.SequenceMatcher(None, words, plain[known]).ratio() >= 0.8]
    return found[0] if len(found) == 1 else None


def whole_rows(wanted: Sequence[float], budget: int, mended: list[str]) -> list[int]:
    """`wanted` as whole numbers of at least 0 that add up to at most `budget`, in proportion where they did not."""
    rows = [max(round(min(number, MOST_ROWS)), 0) for number in wanted]
    if list(wanted) != rows:
        mended.append("Numbers of rows are rounded, those below 0 to 0.")
    if sum(rows) > budget:
        mended.append(f"{sum(rows):,} rows are scaled down to the {budget:,} there are.")
        rows = allocate(rows, budget).tolist()
    return rows


def level(wanted: float | None, skill: str, mended: list[str]) -> float | None:
    """A difficulty within 0 to 1, None where none is wanted."""
    if wanted is None or 0 <= wanted <= 1:
        return wanted
    mended.append(f"The difficulty of {skill!r} is moved into 0 to 1.")
    return min(max(wanted, 0.0), 1.0)


def numbered(number: float, shown: Sequence[T], mended: list[str]) -> T | None:
    """The error of that number among those `shown`, counted from 1; None for 0, and where there is none."""
    if 0 < number <= len(shown):
        return shown[int(number) - 1]
    if number:
        mended.append(f"There is no error {int(number)}.")
    return None


def reasoned(part: str, properties: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The form of a plan: the reasoning, and under the name `part` a list of objects with these properties."""
    return form({"reasoning": {"type": "string"}, part: {"type": "array", "items": form(properties)}})


def form(properties: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The JSON Schema of an object with all of these properties and no others, as strict grammars want it."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
