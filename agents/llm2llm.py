"""LLM2LLM: a few seed rows, and a new problem in the manner of each one that the student still fails."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any

from dataenv.agents.teacher import BaseTeacher, like, writes, written_out
from dataenv.checks import whole
from dataenv.errors import InvalidData
from dataenv.exercises import SetsExercises
from dataenv.records import Example, Feedback, Plan, Problem

SEEDS = 10
"""Seed rows of a skill (ours; the original takes a small share of each data set)."""
PER_SEED = 1
"""New problems for a failed seed and step (as in the authors' code)."""


class LLM2LLM(SetsExercises, BaseTeacher):
    """The first plan is the seed rows, `seeds` of each skill from the pool, as far as a step's rows go. From then on
    the student tries the seeds, and a new problem is asked for in the manner of each that it fails: only of seeds,
    never of what was written. Where the step has fewer rows, a draw decides. When no seed is failed it asks for nothing
    more. Without state no seed is tried, and all of them count as failed.

    The original teaches all rows so far to the untaught student in each of 10 steps, 3 epochs at 2e-5, and writes
    at temperature 1: `--regime retrain --steps 10 --engine llm`, with the student's options `epochs` and
    `learning_rate`. It also drops what is as like a known problem as ROUGE-L 0.95: `--filter unlike:0.95`.

    Source: LLM2LLM (2024), https://arxiv.org/abs/2403.15042; the numbers are those of its code but for `seeds`.
    """

    name = "llm2llm"
    environments = ("open-ended",)

    def __init__(self, seeds: int = SEEDS) -> None:
        self.seeds = whole(f"{self.name}: seeds", seeds)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.draw = int(self.rng.integers(2**63))
        self.kept = 0
        """Seed rows that there was room for."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        if not writes(observation):
            raise InvalidData(f"{self.name} writes rows out, which this environment does not take; use open-ended.")
        feedback: Feedback = info["feedback"]
        rows = feedback.budget.rows_now
        if not self.kept:
            seeds = self._pool()[:rows]
            self.kept = len(seeds)
            return Plan(examples=tuple(Example.from_problem(problem) for problem in seeds))
        seeds = self._pool()[: self.kept]
        tried = self.exercises.tried(seeds)
        failed = [attempt.problem for (attempt,) in tried if not attempt.correct] if tried else seeds
        if len(failed) * PER_SEED > rows:
            failed = [failed[i] for i in sorted(self.rng.choice(len(failed), rows // PER_SEED, replace=False))]
        return Plan(requests=tuple(like(problem, PER_SEED, shown=True) for problem in failed))

    def _pool(self) -> list[Problem]:
        """The seeds that can be written out, a first of each skill, then a second, and so on."""
        by_skill: dict[str, list[Problem]] = {}
        for problem in filter(written_out, self.exercises.problems(self.seeds, self.draw)):
            by_skill.setdefault(problem.skill, []).append(problem)
        return [problem for problem in chain(*zip_longest(*by_skill.values())) if problem is not None]
