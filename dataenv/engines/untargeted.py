"""Control engines: rows that carry the form of a lesson, and nothing of what was asked for.

They tell what a teacher's rows are worth beyond making the student answer at all. Compare with equal rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from dataenv import checks
from dataenv.engines import engines
from dataenv.engines.corrupting import OverEngine
from dataenv.errors import InvalidData
from dataenv.protocols import Engine, Task
from dataenv.records import Example, Prompt, Request
from dataenv.spaces import allocate

NUMBERS = 10**6
"""Prompts that `response-only` can tell apart."""


class ResponseOnly(OverEngine):
    """Rows of another engine with nothing but a number for a prompt: the student learns what answers look like.

    Ours: the source leaves the prompt empty; here rows with equal prompts would be duplicates.
    Source: Instruction Following without Instruction Tuning (2024), https://arxiv.org/abs/2409.14254.
    """

    name = "response-only"

    def __init__(self, source: str | Engine | None = None, *, task: Task) -> None:
        super().__init__(source, task)

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        rows = self.drawn(requests, rng, taught)
        return [[self._bare(row, int(rng.integers(NUMBERS))) for row in few] for few in rows]

    def _bare(self, row: Example, number: int) -> Example:
        # Without an answer, so that nobody judges the row by a prompt that asks for nothing.
        return row.model_copy(update={"prompt": Prompt(text=str(number)), "answer": None, "rejected": None, "data": {}})


class OffDomain:
    """As many rows as are asked for, of another task: `off-domain:TASK`. They come from all its skills alike, under the
    names of the skills that were asked for, and nobody here can judge them.

    Source: Non-instructional Fine-tuning (2024), https://arxiv.org/abs/2409.00096, for the idea.
    """

    name = "off-domain"

    def __init__(self, other: str | Task, *, task: Task, source: str | None = None) -> None:
        from dataenv.tasks import tasks

        self.other: Task = tasks.make(other) if isinstance(other, str) else other
        checks.part("off-domain: task", self.other, Task)
        if self.other.name == task.name:
            raise InvalidData(f"off-domain: '{task.name}' is the run's own task; name another, as off-domain:TASK.")
        self.source: Engine = engines.make(source or self.other.default_engine, task=self.other)
        self.parts = (self.source,)

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        total = sum(request.rows for request in requests)
        skills = [self.other.skills[i] for i in rng.permutation(len(self.other.skills))]
        dealt = allocate(np.ones(len(skills)), total).tolist()
        asked = [Request(skill=skill, rows=n) for skill, n in zip(skills, dealt, strict=True) if n]
        found = self.source.write(asked, rng, taught)
        checks.written(self.source, found, len(asked))
        rows = [row for few in found for row in few]
        rows = [rows[i] for i in rng.permutation(len(rows))]
        written: list[list[Example]] = []
        for request in requests:
            own, rows = rows[: request.rows], rows[request.rows :]
            label: dict[str, Any] = {
                "skill": request.skill,
                "subskill": None,
                "answer": None,
                "data": {},
                "rejected": None,
            }
            written.append([row.model_copy(update=label) for row in own])
        return written
