"""The engine of tasks that can write solved problems: a request becomes that many, at its skill and difficulty."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from dataenv.errors import InvalidData
from dataenv.protocols import ProceduralTask, SubdividedTask, Task
from dataenv.records import UNMATCHED, Example, Problem, Request


class Procedural:
    """Rows written by the task; none for a request that names none of its skills."""

    name = "procedural"

    def __init__(self, task: Task) -> None:
        if not isinstance(task, ProceduralTask):
            raise InvalidData(f"Task '{task.name}' cannot write problems; use engine '{task.default_engine}'.")
        self.task = task

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        return [
            [Example.from_problem(problem) for problem in self._problems(r, rng)] if r.skill != UNMATCHED else []
            for r in requests
        ]

    def _problems(self, r: Request, rng: np.random.Generator) -> list[Problem]:
        if isinstance(self.task, SubdividedTask) and r.subskill in self.task.subskills(r.skill):
            return self.task.write(r.skill, r.rows, r.difficulty, rng, subskill=r.subskill)
        return self.task.write(r.skill, r.rows, r.difficulty, rng)
