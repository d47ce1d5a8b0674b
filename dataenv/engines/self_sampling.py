"""The engine that needs no other model: the student's own right answers become rows.

Rejection sampling (Yuan et al. 2023, RFT, https://arxiv.org/abs/2308.01825): the student answers a problem several
times, and what verifies is taught. Asked again at every step, by the student as it then is, it is the loop of STaR
(Zelikman et al. 2022, https://arxiv.org/abs/2203.14465) without its hints; with the regime "retrain" each round starts
from the untaught student, as there.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from dataenv import checks
from dataenv.checks import real, whole
from dataenv.engines import engines
from dataenv.engines.asking import Asking
from dataenv.engines.drops import Drops
from dataenv.engines.exemplars import Exemplars
from dataenv.engines.filling import Seen
from dataenv.protocols import AsksStudent, Engine, Student, Task, TryingEngine
from dataenv.records import Example, Problem, Request

UNSOLVED, UNVERIFIABLE = "unsolved", "unverifiable"
"""Why a problem became no row: none of the answers is right, or it states no answer to judge them by."""
FIRST = 8
"""Problems of a request that are asked at most before it is known how many the student solves."""


class SelfSampling(Asking):
    """Rows whose completion the student wrote itself: for each problem that it solves its first right answer.

    Problems come from the engine `source`, which writes or draws them. The student is asked as many as rows are
    missing, divided by the share it solves, until there are enough rows or `tries` problems were asked for each row
    wanted. Its first problems of a skill it answers half plainly and half after exemplars of the skill, later ones
    in the way that brought more: an untaught model may know what to say but not how to put it. The row is taught
    without exemplars in either case. The student is not changed, and all draws come from the generator given.

    Args:
        source: where problems come from: an engine or its id; None is the task's own.
        samples: answers to each problem. `temperature`: of sampling.
        shots: most exemplars before a problem; None for as many as in the student's few-shot examination, 0 for none.
        tries: most problems asked for each row wanted.

    `provenance` of a row says how many of the `samples` were right ("solved"), after how many exemplars ("shots").
    """

    name = "self-sampling"

    def __init__(
        self,
        source: str | Engine | None = None,
        *,
        task: Task,
        samples: int = 4,
        temperature: float = 0.7,
        shots: int | None = None,
        tries: int = 8,
    ) -> None:
        super().__init__(task)
        source = task.default_engine if source is None else source
        self.source: Engine = engines.make(source, task=task) if isinstance(source, str) else source
        checks.part("self-sampling: source", self.source, Engine)
        self.parts = (self.source,)
        self.samples, self.tries = whole("self-sampling: samples", samples), whole("self-sampling: tries", tries)
        self.temperature = real("self-sampling: temperature", temperature, 0, 10)
        self.shots = None if shots is None else whole("self-sampling: shots", shots, least=0)
        self.dropped = Drops()
        self.exemplars = Exemplars(task)

    def attach(self, student: Student) -> None:
        super().attach(student)
        if isinstance(self.source, AsksStudent):
            self.source.attach(student)

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        self.dropped = Drops()
        rows: list[list[Example]] = [[] for _ in requests]
        left = [self.tries * request.rows for request in requests]
        ways: defaultdict[str, _Ways] = defaultdict(_Ways)
        seen = Seen(taught)
        while wanted := {
            i: min(ways[request.skill].needed(missing), left[i])
            for i, request in enumerate(requests)
            if (missing := request.rows - len(rows[i])) > 0 and left[i] > 0
        }:
            asked = [requests[i].model_copy(update={"rows": n}) for i, n in wanted.items()]
            drawn = self.source.write(asked, rng, seen)
            checks.written(self.source, drawn, len(asked))
            if isinstance(self.source, TryingEngine):
                self.dropped.take(self.source.dropped)
            fresh: list[_Asked] = []
            for i, problems in zip(wanted, drawn, strict=True):
                left[i] = left[i] - len(problems) if problems else 0
                fresh += self._askable(i, requests[i].skill, problems, seen)
            for one, row in self._solved(fresh, ways, rng):
                rows[one.request].append(row)
        return [made[: request.rows] for request, made in zip(requests, rows, strict=True)]

    def _askable(self, request: int, skill: str, drawn: Sequence[Example], seen: Seen) -> Iterator[_Asked]:
        """The problems that were not asked yet and can be judged."""
        for example in drawn:
            problem = example.as_problem()
            if problem is None:
                self.dropped[UNVERIFIABLE] += 1
            elif example.prompt.key not in seen:
                seen.add(example.prompt.key)
                yield _Asked(request, skill, problem, example)

    def _solved(
        self, asked: Sequence[_Asked], ways: Mapping[str, _Ways], rng: np.random.Generator
    ) -> Iterator[tuple[_Asked, Example]]:
        """A row for each problem that the student solves, plainly asked ones first; counts the others."""
        plain: list[_Asked] = []
        shown: dict[str, list[_Asked]] = {}
        for n, one in enumerate(asked):
            after = self._shown(one.skill) and ways[one.skill].better(n)
            (shown.setdefault(one.skill, []) if after else plain).append(one)
        for skill, group in [(None, plain), *shown.items()]:
            exemplars = self._shown(skill) if skill is not None else []
            problems = [one.problem for one in group]
            right = self.right_answers(
                problems, rng, samples=self.samples, temperature=self.temperature, shots=exemplars
            )
            for one, texts in zip(group, right, strict=True):
                ways[one.skill].count(bool(exemplars), bool(texts))
                if not texts:
                    self.dropped[UNSOLVED] += 1
                    continue
                made = {"solved": len(texts), "samples": self.samples, "shots": len(exemplars)}
                yield one, one.example.model_copy(update={"completion": texts[0], "rejected": None, "provenance": made})

    def _shown(self, skill: str) -> list[Example]:
        """The exemplars of a skill, always the same ones; none where it has none of its own."""
        n = self.student.shots if self.shots is None else self.shots
        return [row for row in self.exemplars.of(skill)[:n] if row.skill == skill] if n else []


class _Asked(NamedTuple):
    """A problem put to the student for the request of that number, and the row it came from."""

    request: int
    skill: str
    problem: Problem
    example: Example


class _Ways:
    """How many problems of a skill were asked, and how many solved, plainly (False) and after exemplars (True)."""

    def __init__(self) -> None:
        self.asked: Counter[bool] = Counter()
        self.solved: Counter[bool] = Counter()

    def count(self, shown: bool, solved: bool) -> None:
        self.asked[shown] += 1
        self.solved[shown] += solved

    def better(self, n: int) -> bool:
        """Whether to show exemplars: what solved more, so far; every second time while nothing is known."""
        if not self.asked:
            return n % 2 == 1
        # One more solved and one more failed: a way that was never tried is worth a try where the other fails.
        share = {shown: (self.solved[shown] + 1) / (self.asked[shown] + 2) for shown in (False, True)}
        return share[True] > share[False]

    def needed(self, rows: int) -> int:
        """How many problems to ask next for so many rows."""
        if not self.asked:
            return min(rows, FIRST)
        share = max((self.solved[shown] + 0.5) / (self.asked[shown] + 1) for shown in self.asked)
        return math.ceil(rows / share)
