"""The engine of fixed data sets: rows are drawn from the pool split."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from dataenv import checks
from dataenv.protocols import ProceduralTask, Task
from dataenv.records import UNMATCHED, Example, Problem, Request

PER_SKILL_OF_ENDLESS = 2_000
"""Pool size per skill for a procedural task, whose pool has no end."""


class Pool:
    """Rows drawn at random from what is left of the task's pool; with a difficulty, those nearest to it."""

    name = "pool"

    def __init__(self, task: Task, per_skill: int | None = None, seed: int = 0) -> None:
        if per_skill is None and isinstance(task, ProceduralTask):
            per_skill = PER_SKILL_OF_ENDLESS
        self.task, self.per_skill, self.seed = task, per_skill, seed
        self._by_skill: dict[str, list[Problem]] | None = None

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        return [[Example.from_problem(problem) for problem in self._draw(r, rng, taught)] for r in requests]

    def _draw(self, request: Request, rng: np.random.Generator, taught: AbstractSet[str]) -> list[Problem]:
        if self._by_skill is None:
            problems = self.task.problems("pool", self.per_skill, self.seed)
            checks.problems(self.task, problems)
            self._by_skill = {skill: [] for skill in self.task.skills}
            for problem in problems:
                self._by_skill[problem.skill].append(problem)
        if request.skill == UNMATCHED:
            return []
        pool = [problem for problem in self._by_skill[request.skill] if problem.prompt.key not in taught]
        order = rng.permutation(len(pool))
        wanted = request.difficulty
        if wanted is not None:
            far = np.array([abs((p.difficulty if p.difficulty is not None else 0.5) - wanted) for p in pool])
            order = order[np.argsort(far[order], kind="stable")]
        return [pool[i] for i in order[: request.rows]]
