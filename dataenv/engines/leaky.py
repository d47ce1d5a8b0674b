"""A stress test: an engine whose source has been contaminated by the examinations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from dataenv.checks import real
from dataenv.engines.corrupting import OverEngine
from dataenv.protocols import Engine, Task
from dataenv.records import Example, Request

PER_SKILL = 64
"""Problems of each skill of the feedback split that leak."""


class LeakyEngine(OverEngine):
    """Rows of another engine, a `share` of them replaced by problems of the feedback split with their solutions, as in
    data from the web that holds the benchmark. The gate drops those that the student is examined on; a teacher is left
    with fewer rows, not with a better score. `provenance["leaked"]` marks them, for audits.
    """

    name = "leaky-engine"

    def __init__(self, share: float | str = 0.5, *, task: Task, source: str | Engine | None = None) -> None:
        super().__init__(source, task)
        self.share = real("leaky-engine: share", share, 0, 1)

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        rows = self.drawn(requests, rng, taught)
        leaks: dict[str, list[Example]] = defaultdict(list)
        for problem in self.task.problems("feedback", PER_SKILL, int(rng.integers(2**31))):
            leaks[problem.skill].append(Example.from_problem(problem, engine=self.name, leaked=True))
        for few in rows:
            for i, row in enumerate(few):
                if rng.random() < self.share and leaks[row.skill]:
                    few[i] = leaks[row.skill].pop()
        return rows
