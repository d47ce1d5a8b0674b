"""Teachers that choose difficulties: how a share at several levels is asked for, and how the student does by level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataenv.agents.allocation import AllocationTeacher
from dataenv.agents.formulas import Floats
from dataenv.checks import whole
from dataenv.exercises import SetsExercises
from dataenv.records import Feedback, Plan, Problem, Request
from dataenv.spaces import allocate

BANK = 30
"""Exercises of a skill (ours)."""


def cells_to_plan(
    weights: Floats, levels: Sequence[float], feedback: Feedback, owed: Floats, *, in_words: bool
) -> tuple[Plan, Floats]:
    """Rows in proportion to `weights` (K, D) of K skills at D levels, and what rounding owes each cell then (K, D).

    `owed` is what it owes them before. Actions in words ask for each cell; others have one level for each skill in a
    step, so all of a skill's rows go to the level that is owed the most, and over the steps each gets its share.
    """
    budget = feedback.budget.rows_now
    due = budget * weights / weights.sum() + owed
    if in_words:
        rows = allocate(np.maximum(due, 0.0).ravel(), budget).reshape(due.shape)
    else:
        dealt = allocate(np.maximum(due.sum(axis=1), 0.0), budget)
        rows = np.zeros(due.shape, np.int64)
        rows[np.arange(len(due)), due.argmax(axis=1)] = dealt
    requests = tuple(
        Request(skill=score.skill, rows=int(n), difficulty=float(level))
        for score, row in zip(feedback.skills, rows.tolist(), strict=True)
        for n, level in zip(row, levels, strict=True)
        if n
    )
    return Plan(requests=requests), due - rows


class LevelTeacher(SetsExercises, AllocationTeacher):
    """Base of allocation teachers that ask how the student does on exercises of different difficulty: `bank` of each
    skill, drawn from the pool once for an episode, so that changes are paired."""

    def __init__(self, *, bank: int = BANK) -> None:
        self.bank = whole(f"{self.name}: bank", bank)
        self._drawn: tuple[int, list[Problem]] | None = None

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.draw = int(self.rng.integers(2**63))
        """The seed that the bank is drawn with."""

    def solved(self, wanted: Any = None) -> list[tuple[str, float | None, bool]]:
        """Skill, difficulty and whether it is solved, for each exercise of the skills `wanted` (None: of all); nothing
        where nobody may be asked."""
        if self._drawn is None or self._drawn[0] != self.draw:
            self._drawn = self.draw, self.exercises.problems(self.bank, self.draw)
        asked = [problem for problem in self._drawn[1] if wanted is None or problem.skill in wanted]
        tried = self.exercises.tried(asked)
        return [(p.skill, p.difficulty, attempts[0].correct) for p, attempts in zip(asked, tried, strict=bool(tried))]


def third(difficulties: NDArray[np.float64], wanted: float) -> NDArray[np.bool_]:
    """Which of some exercises are in the third, by order of difficulty, whose middle is nearest to `wanted`."""
    order = np.argsort(difficulties, kind="stable")
    parts = [part for part in np.array_split(order, 3) if part.size]
    nearest = min(parts, key=lambda part: abs(float(np.median(difficulties[part])) - wanted))
    found: NDArray[np.bool_] = np.isin(np.arange(difficulties.size), nearest)
    return found
