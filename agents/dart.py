"""Rows by problem, as often as the student fails it: `dart-uniform`, `dart-prop2diff`, `dart-vanilla`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataenv.agents.allocation import ANSWERS, TEMPERATURE, pass_rate
from dataenv.agents.formulas import Floats
from dataenv.agents.teacher import BaseTeacher, like, writes
from dataenv.checks import real, whole
from dataenv.exercises import SetsExercises
from dataenv.records import Feedback, Plan, Problem
from dataenv.spaces import allocate, proportions

QUERIES = 10
"""Problems of a skill in a step (ours)."""
MOST = 40
"""Rows for the hardest problem, before all are scaled to the step's (the command that reproduces the paper)."""


class Dart(SetsExercises, BaseTeacher):
    """Base: each step `queries` problems of each skill are drawn from the pool, the student answers each `answers`
    times, and rows are asked for like each of them, in proportion to `weights` of their fail rates. OpenEnded is told
    the problem; SkillList its skill and difficulty.

    Source: DART-Math (2024), https://arxiv.org/abs/2407.13690, and its README. There rows are further right solutions
    of the problem itself, sampled from a strong model that fails at that rate; here a problem is taught once in an
    episode, so rows are of problems like it, and the rate is the student's. With `--engine self-sampling` they are its
    own solutions, and what it cannot solve is given up after that engine's tries. Without state all count alike.
    """

    name = "dart"
    environments = ("open-ended", "skill-list")

    def __init__(self, queries: int = QUERIES, *, answers: int = ANSWERS, temperature: float = TEMPERATURE) -> None:
        self.queries, self.answers = whole(f"{self.name}: queries", queries), whole(f"{self.name}: answers", answers)
        self.temperature = real(f"{self.name}: temperature", temperature, 0, 10)

    def weights(self, failed: Floats) -> Floats:
        """(n,): how many rows each of n problems shall have, relative to each other, given its fail rate."""
        raise NotImplementedError

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        problems = self._drawn()
        tried = self.exercises.tried(
            problems, samples=self.answers, temperature=self.temperature, seed=int(self.rng.integers(2**63))
        )
        if not problems:
            return self.deal(np.ones(len(feedback.skills)), feedback)
        failed = np.array([1 - pass_rate(attempts) for attempts in tried] or [1.0] * len(problems))
        rows = allocate(proportions(self.weights(failed)), feedback.budget.rows_now).tolist()
        shown = writes(observation)
        return Plan(requests=tuple(like(p, n, shown=shown) for p, n in zip(problems, rows, strict=True) if n))

    def _drawn(self) -> list[Problem]:
        """In random order, so that no skill comes first where there are fewer rows than problems."""
        problems = self.exercises.problems(self.queries, int(self.rng.integers(2**63)))
        return [problems[i] for i in self.rng.permutation(len(problems))]


class DartUniform(Dart):
    """The same rows like each problem, however often it is failed."""

    name = "dart-uniform"

    def weights(self, failed: Floats) -> Floats:
        return np.ones_like(failed)


class DartProp2Diff(Dart):
    """Rows like a problem in proportion to its fail rate; at least one each, unless `least` is 0."""

    name = "dart-prop2diff"

    def __init__(self, queries: int = QUERIES, *, least: int = 1, **options: Any) -> None:
        super().__init__(queries, **options)
        self.least = whole("dart-prop2diff: least", least, least=0)

    def weights(self, failed: Floats) -> Floats:
        return prop2diff(failed, MOST, self.least)


class DartVanilla(Dart):
    """The control: rows as plain rejection sampling brings them, in proportion to how often a problem is solved."""

    name = "dart-vanilla"

    def weights(self, failed: Floats) -> Floats:
        return 1 - failed


def prop2diff(failed: Floats, most: int, least: int = 0) -> Floats:
    """Rows by problem: ceil(most d / max d), at least `least`; equal where nothing is failed."""
    top = failed.max(initial=0.0)
    if top <= 0:
        return np.full_like(failed, float(most))
    found: Floats = np.maximum(np.ceil(most * failed / top - 1e-9), least)
    return found
