"""CEMAL: the student works through an exercise book, and is taught problems like those it failed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dataenv.agents.teacher import BaseTeacher, like, writes
from dataenv.checks import whole
from dataenv.exercises import SetsExercises
from dataenv.records import Feedback, Plan, Problem

BOOK = 50
"""Exercises of a skill (ours; the paper's is not known to us)."""
REFRESHED = 0.2
"""Share of the book that is new in each step, in place of its oldest exercises (ours)."""
VARIANTS = 3
"""Rows for an exercise that was failed (ours)."""
HARDER = 0.1
"""What is added to the difficulty when nothing was failed (ours)."""


class Cemal(SetsExercises, BaseTeacher):
    """Each step the student tries the book, drawn from the pool; then `variants` rows are asked for like each failed
    exercise, in an order drawn anew, as far as the step's rows go. Where it fails none, all skills get the same rows,
    harder ones than the book's. OpenEnded is told the exercise; SkillList its skill and difficulty.

    With `targeted` False as many rows are like exercises drawn at random from the book: the control. Without state
    no exercise is tried, and all rows are of that kind.

    Source: the loop is that of Let GPT be a Math Tutor (2023), https://arxiv.org/abs/2305.14386 (assess on generated
    exercises, tailor further ones to each failure, add them, retrain). The numbers are ours, and so is that the book is
    drawn from the pool.
    """

    name = "cemal"

    def __init__(self, book: int = BOOK, *, variants: int = VARIANTS, targeted: bool = True) -> None:
        self.book, self.variants = whole(f"{self.name}: book", book), whole(f"{self.name}: variants", variants)
        self.targeted = bool(targeted)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.draws: list[int] = []
        """The seed of each draw from the pool; the book follows from them."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        self.draws.append(int(self.rng.integers(2**63)))
        book = self._book()
        tried = self.exercises.tried(book)
        failed = [attempt.problem for (attempt,) in tried if not attempt.correct]
        if tried and not failed:
            return self._harder(book, feedback)
        n = len(failed) if tried else len(book)
        chosen = failed if tried and self.targeted else book
        left = feedback.budget.rows_now
        requests = []
        for i in self.rng.permutation(len(chosen))[:n]:
            if left:
                requests.append(like(chosen[i], min(self.variants, left), shown=writes(observation)))
                left -= requests[-1].rows
        return Plan(requests=tuple(requests))

    def _book(self) -> list[Problem]:
        first, *later = self.draws
        book = _by_skill(self.exercises.problems(self.book, first))
        for seed in later:
            for skill, drawn in _by_skill(self.exercises.problems(math.ceil(REFRESHED * self.book), seed)).items():
                old = book.get(skill, [])
                new = [problem for problem in drawn if problem not in old]
                book[skill] = [*old, *new][-self.book :]
        return [problem for problems in book.values() for problem in problems]

    def _harder(self, book: list[Problem], feedback: Feedback) -> Plan:
        known: dict[str, list[float]] = {}
        for problem in book:
            if problem.difficulty is not None:
                known.setdefault(problem.skill, []).append(problem.difficulty)
        level = {skill: min(sum(levels) / len(levels) + HARDER, 1.0) for skill, levels in known.items()}
        plan = self.deal(np.ones(len(feedback.skills)), feedback)
        harder = (request.model_copy(update={"difficulty": level.get(request.skill)}) for request in plan.requests)
        return Plan(requests=tuple(harder))


def _by_skill(problems: list[Problem]) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.skill, []).append(problem)
    return found
