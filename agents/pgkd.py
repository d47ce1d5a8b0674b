"""PGKD: a language model reads scores and the errors that the student is sure of, plans, and stops in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dataenv.agents.llm import LLMTeacher, Unusable, level, numbered, reasoned, whole_rows
from dataenv.agents.proportional import error_shares
from dataenv.agents.teacher import writes
from dataenv.chat.templates import prompts
from dataenv.checks import whole
from dataenv.exercises import SetsExercises
from dataenv.records import UNMATCHED, Attempt, Feedback, Plan, Request, normalise
from dataenv.spaces import plain

ITEMS = 100
"""Exercises in a step, over all skills (ours, as in the catalogue of teachers)."""
ANSWERS, TEMPERATURE = 4, 0.8
"""Answers to each, and how they are sampled (likewise)."""
WRONG, RIGHT, STEPS = 8, 4, 3
"""Errors, solved exercises and finished steps that the prompt shows (ours)."""
PATIENCE = 2
"""Steps without a gain above one standard error, after which it stops (ours)."""
BYTES = 1_000
"""Of an instruction, at most."""

SCHEMA = reasoned(
    "requests",
    {
        "skill": {"type": "string"},
        "instruction": {"type": "string"},
        "error": {"type": "integer"},
        "difficulty": {"type": ["number", "null"]},
        "rows": {"type": "number"},
    },
)


class Tried(NamedTuple):
    """The answer a student gave most often to an exercise, and its share of all answers."""

    attempt: Attempt
    share: float


class PGKD(SetsExercises, LLMTeacher):
    """Shown are scores by skill, up to `errors` wrong answers to exercises of the pool, the surest first, up to
    `correct` solved ones, the budget, and the last steps with their plans. The student answers an exercise `ANSWERS`
    times; it is as sure of its commonest answer as that is common. The model answers with requests: skill, rows,
    difficulty, and for OpenEnded an instruction and the error it is about.

    After `patience` steps in a row without a gain above one standard error, or when all is solved, it asks for nothing
    more; what is left of the budget stays unused. With `hard_negatives` False the errors are shown in an order drawn
    anew: the ablation. Where its plan cannot be used, it is that of `error-proportional`.

    Source: Performance-Guided LLM Knowledge Distillation (2024), https://arxiv.org/abs/2411.05045 (data from hard
    negatives and validation scores, and early stopping). The numbers are ours.
    """

    name = "pgkd"

    def __init__(
        self,
        *,
        items: int = ITEMS,
        errors: int = WRONG,
        correct: int = RIGHT,
        patience: int = PATIENCE,
        hard_negatives: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(errors=errors, **options)
        self.items, self.patience = whole(f"{self.name}: items", items), whole(f"{self.name}: patience", patience)
        self.correct, self.hard_negatives = whole(f"{self.name}: correct", correct, least=0), bool(hard_negatives)

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        self._dialogue = ()
        if self._flat(feedback):
            return Plan()
        tried = self._tried(len(feedback.skills))
        wrong = [one for one in tried if not one.attempt.correct]
        if feedback.n and feedback.accuracy == 1 and not wrong:
            return Plan()
        if self.hard_negatives:
            wrong.sort(key=lambda one: -one.share)
        failures = wrong[: self.errors]
        prompt = prompts.render(
            "pgkd/plan",
            feedback=feedback,
            past=self.past(feedback)[-STEPS:],
            wrong=[_told(one) for one in failures],
            failed=len(wrong),
            right=[_told(one) for one in tried if one.attempt.correct][: self.correct],
            tried=len(tried),
        )

        def read(_: int, data: Any, mended: list[str]) -> list[Request]:
            return self._requests(data["requests"], failures, feedback, mended)

        (requests,) = self.consult([("", prompt)], SCHEMA, read)
        if requests is None:
            return self.deal(error_shares(feedback), feedback)
        said = ", ".join(f"{request.rows} rows of {request.skill}" for request in requests)
        self.note(feedback, f"{said}: {self.dialogue[0].reasoning}")
        if writes(observation):
            return Plan(requests=tuple(map(_in_words, requests)))
        return Plan(requests=tuple(r.model_copy(update={"instruction": "", "exemplar": None}) for r in requests))

    def _flat(self, feedback: Feedback) -> bool:
        """Whether the last `patience` steps gained nothing that counts; never where gains are hidden."""
        last = feedback.history[-self.patience :]
        return bool(feedback.n) and len(last) == self.patience and all(past.reward <= past.error for past in last)

    def _tried(self, skills: int) -> list[Tried]:
        """What the student makes of fresh exercises, in an order drawn anew."""
        problems = self.exercises.problems(max(self.items // skills, 1), int(self.rng.integers(2**63)))
        seed = int(self.rng.integers(2**63))
        found = self.exercises.tried(problems, samples=ANSWERS, temperature=TEMPERATURE, seed=seed)
        return [_commonest(found[i]) for i in self.rng.permutation(len(found))]

    def _requests(
        self, written: Sequence[Any], failures: Sequence[Tried], feedback: Feedback, mended: list[str]
    ) -> list[Request]:
        names = [score.skill for score in feedback.skills]
        known = [(entry, skill) for entry in written if (skill := self.found(entry["skill"], names, mended))]
        rows = whole_rows([entry["rows"] for entry, _ in known], feedback.budget.rows_now, mended)
        requests = []
        for (entry, skill), n in zip(known, rows, strict=True):
            error = numbered(entry["error"], failures, mended)
            about = error.attempt.problem if error is not None else None
            difficulty = level(entry["difficulty"], skill, mended)
            words = plain(entry["instruction"], BYTES).strip()
            if n:
                requests.append(Request(skill=skill, rows=n, difficulty=difficulty, instruction=words, exemplar=about))
        if not requests:
            raise Unusable("The plan asks for no rows of a skill that there is.")
        return requests


def _commonest(attempts: Sequence[Attempt]) -> Tried:
    answers = [normalise(attempt.response if attempt.extracted is None else attempt.extracted) for attempt in attempts]
    ((answer, n),) = Counter(answers).most_common(1)
    return Tried(attempts[answers.index(answer)], n / len(answers))


def _told(one: Tried) -> dict[str, Any]:
    """An exercise as the prompt shows it."""
    attempt = one.attempt
    return {
        "skill": attempt.problem.skill,
        "problem": attempt.problem.prompt.in_words,
        "response": attempt.response,
        "answer": attempt.problem.answer,
        "share": round(100 * one.share),
    }


def _in_words(request: Request) -> Request:
    """The same without a skill: its words name it, and may name others."""
    words = f"{request.skill}: {request.instruction}" if request.instruction else request.skill
    if request.difficulty is not None:
        words += f" at difficulty {request.difficulty:.3f}"
    return Request(skill=UNMATCHED, rows=request.rows, instruction=plain(words, 2 * BYTES), exemplar=request.exemplar)
