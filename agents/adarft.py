"""adarft: a controller that keeps rows as hard as the student solves half of, beside any other teacher's shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataenv.agents.teacher import BaseTeacher
from dataenv.checks import real
from dataenv.errors import InvalidData
from dataenv.exercises import Exercises, SetsExercises
from dataenv.protocols import Exercising, Privileged, Teacher
from dataenv.records import Feedback, Plan, Problem, Record, Transition

TARGET, STEEPNESS = 0.5, 2.0
"""Accuracy that is aimed at, and how sharply the controller answers (the authors' code)."""
STEP = 0.2
"""The largest change of difficulty (ours: theirs, 0.5, swings; it is stable while step x steepness x |dR/dT| < 2)."""
PROBES, BANK = 10, 40
"""Exercises that are tried of a skill, and how many there are to choose from (ours)."""


class AdaRFT(SetsExercises, BaseTeacher):
    """The plan of `base`, at difficulties T that follow the student: T <- clip(T + step tanh(steepness (R - target)))
    before each step but the first, where R is the share it solves of the skill's exercises nearest to T. It begins at
    0. With `shared` there is one T for all skills. Tasks whose exercises state no difficulty leave T as it is.

    Source: Efficient Reinforcement Finetuning via Adaptive Curriculum Learning (2025),
    https://arxiv.org/abs/2504.05520, and its code: there one T, the rows' own rewards are R, and `step` is 0.5.
    """

    name = "adarft"
    environments: tuple[str, ...] = ("open-ended", "skill-list")

    def __init__(
        self, base: str | Teacher = "uniform", *, target: float = TARGET, step: float = STEP, shared: bool = False
    ) -> None:
        from dataenv.agents import teachers

        self._base: Teacher = teachers.make(base) if isinstance(base, str) else base
        name, where = self._base.name, getattr(self._base, "environments", ()) or self.environments
        self.environments = tuple(env for env in self.environments if env in where)
        if not self.environments:
            raise InvalidData(f"adarft: '{name}' acts in {', '.join(where)} only, which has no difficulties.")
        if isinstance(self._base, Privileged):
            raise InvalidData(f"adarft: '{name}' tries its own plans, not those at other difficulties.")
        self.target, self.step = real("adarft: target", target, 0, 1), real("adarft: step", step, 0, 1)
        self.shared = bool(shared)
        self._drawn: tuple[int, list[Problem]] | None = None

    @property
    def parts(self) -> tuple[Teacher]:
        """Whose questions a run's language model answers, too."""
        return (self._base,)

    @property
    def dialogue(self) -> Sequence[Record]:
        return getattr(self._base, "dialogue", ())

    def take_exercises(self, exercises: Exercises) -> None:
        super().take_exercises(exercises)
        if isinstance(self._base, Exercising):
            self._base.take_exercises(exercises)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._base.reset(seed)
        self.draw = int(self.rng.integers(2**63))
        self.levels: dict[str, float] = {}
        """T by skill; empty before the first step."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> Any:
        feedback: Feedback = info["feedback"]
        skills = [score.skill for score in feedback.skills]
        solved = self._solved() if self.levels else {}
        if not self.levels:
            self.levels = dict.fromkeys(skills, 0.0)
        elif self.shared:
            if solved:
                level = controlled(
                    self.levels[skills[0]], float(np.mean(list(solved.values()))), self.target, self.step
                )
                self.levels = dict.fromkeys(skills, level)
        else:
            self.levels |= {s: controlled(self.levels[s], r, self.target, self.step) for s, r in solved.items()}
        plan = self._base.act(observation, info)
        if not isinstance(plan, Plan):
            return plan
        requests = tuple(r.model_copy(update={"difficulty": self.levels.get(r.skill)}) for r in plan.requests)
        return Plan(requests=requests, examples=plan.examples)

    def observe(self, transition: Transition) -> None:
        self._base.observe(transition)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "base": self._base.state()}

    def restore(self, state: dict[str, Any]) -> None:
        own = dict(state)
        self._base.restore(own.pop("base"))
        super().restore(own)

    def _solved(self) -> dict[str, float]:
        """By skill the share solved of the exercises nearest to its level, where some state a difficulty."""
        if self._drawn is None or self._drawn[0] != self.draw:
            self._drawn = self.draw, self.exercises.problems(BANK, self.draw)
        by_skill: dict[str, list[tuple[float, Problem]]] = {}
        for p in self._drawn[1]:
            if p.difficulty is not None and p.skill in self.levels:
                by_skill.setdefault(p.skill, []).append((abs(p.difficulty - self.levels[p.skill]), p))
        near = [p for found in by_skill.values() for _, p in sorted(found, key=lambda pair: pair[0])[:PROBES]]
        right: dict[str, list[bool]] = {}
        tried = self.exercises.tried(near)
        for p, (attempt,) in zip(near, tried, strict=bool(tried)):
            right.setdefault(p.skill, []).append(attempt.correct)
        return {skill: float(np.mean(found)) for skill, found in right.items()}


def controlled(level: float, accuracy: float, target: float = TARGET, step: float = STEP) -> float:
    """The next difficulty, in [0, 1]."""
    return float(np.clip(level + step * np.tanh(STEEPNESS * (accuracy - target)), 0.0, 1.0))
