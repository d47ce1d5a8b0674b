"""How teachers cope with what can go wrong: a score for each challenge, from simulated students, in seconds.

A score is (gain - uniform's) / (the known good policy's - uniform's), on the same seed: 0 is no better than dealing the
same rows to every skill, 1 as good as knowing the world's laws. A gain is the change of the student's true mean
ability, which no teacher sees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataenv.agents import teachers
from dataenv.agents.teacher import BaseTeacher, shares_to_plan
from dataenv.benchmarks.simulated import SimulatedStudent, SimulatedTask, world
from dataenv.envs.skill_list import SkillListEnv
from dataenv.envs.teaching import TeachingEnv
from dataenv.exercises import Exercises
from dataenv.protocols import Exercising, Privileged, Teacher
from dataenv.records import Plan, Transition

CHALLENGES = {
    "mostly-unlearnable": "one skill can be learnt, six never, one is mastered",
    "mostly-mastered": "one skill can be learnt, one never, six are mastered",
    "noisy-distractors": "one skill can be learnt, in seven others answers are a coin's",
    "chain": "each skill can be learnt as far as the one before is known",
    "forgetful": "skills without rows are forgotten",
    "noisy-engine": "three of ten rows are wrong",
    "misleading-feedback": "two skills bear each other's names in the feedback",
    "tiny-budget": "five steps",
}
"""World -> what it is about."""

FEEDBACK = 25
"""Feedback problems of a skill."""
PARTS = 8
"""Into which the known good policy cuts a step's rows."""


class Played(NamedTuple):
    """One episode: rows taught by step and skill (T, K), and abilities before and after each step (T+1, K)."""

    rows: NDArray[np.float64]
    abilities: NDArray[np.float64]

    @property
    def gain(self) -> float:
        """Of the true mean ability."""
        return float(self.abilities[-1].mean() - self.abilities[0].mean())

    @property
    def shares(self) -> NDArray[np.float64]:
        """(T, K): of the rows taught in each step."""
        found: NDArray[np.float64] = self.rows / np.maximum(self.rows.sum(axis=1, keepdims=True), 1)
        return found


class KnownGood(BaseTeacher):
    """The reference: part by part, rows go where by the world's laws they add the most to the true mean ability.
    Myopic, like `oracle-greedy`, but it sees abilities, not answers."""

    name = "known-good"

    def __init__(self, student: SimulatedStudent) -> None:
        self._student = student

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        w, abilities = self._student.world, self._student.abilities
        part = info["feedback"].budget.rows_now / w.rows * (1 - 2 * w.wrong) / PARTS
        shares = np.zeros(len(abilities))
        for _ in range(PARTS):
            shares = max(
                (shares + part * one for one in np.eye(len(shares))), key=lambda s: w.after(abilities, s).sum()
            )
        return shares_to_plan(shares, info["feedback"])


def made(name: str, kind: type[TeachingEnv[Any, Any]] = SkillListEnv, **options: Any) -> TeachingEnv[Any, Any]:
    """The environment of a world, with its student: no replay, and rows and steps as the world has them."""
    w = world(name)
    given = {"steps": w.steps, "rows": w.rows, "feedback": FEEDBACK, "replay": 0.0, **options}
    return kind(SimulatedTask(name), SimulatedStudent(name), **given)


def play(teacher: str | Teacher, env: TeachingEnv[Any, Any], seed: int = 0) -> Played:
    """One episode of a teacher (or its id) in `env`, an environment of `made`."""
    chosen: Teacher = teachers.make(teacher) if isinstance(teacher, str) else teacher
    student = env.student
    assert isinstance(student, SimulatedStudent)
    if isinstance(chosen, Exercising):
        chosen.take_exercises(Exercises(env.task, student))
    if isinstance(chosen, Privileged):
        chosen.attach(env)
    observation, info = env.reset(seed=seed)
    chosen.reset(seed)
    rows, abilities, over = [], [student.abilities], False
    while not over:
        action = chosen.act(observation, info)
        action = env.action(action) if isinstance(action, Plan) else action
        seen, reward, terminated, truncated, info = env.step(action)
        chosen.observe(Transition(observation, action, float(reward), seen, terminated, truncated, info))
        observation, over = seen, terminated or truncated
        rows.append([info["rows"]["taught"].get(skill, 0) for skill in env.task.skills])
        abilities.append(student.abilities)
    return Played(np.array(rows, np.float64), np.array(abilities))


@lru_cache(maxsize=4096)
def references(name: str, seed: int) -> tuple[float, float]:
    """The gains of uniform and of the known good policy."""
    env = made(name)
    student = env.student
    assert isinstance(student, SimulatedStudent)
    return play("uniform", env, seed).gain, play(KnownGood(student), env, seed).gain


def score(teacher: str | Teacher, name: str, seed: int = 0) -> float | None:
    """A teacher's score in a challenge; None where the two references are the same."""
    low, high = references(name, seed)
    if math.isclose(low, high, abs_tol=1e-9):
        return None
    return (play(teacher, made(name), seed).gain - low) / (high - low)


def scores(teacher: str, names: Iterable[str] = tuple(CHALLENGES), seeds: int = 20) -> dict[str, list[float]]:
    """By challenge the scores for seeds 0, 1, ...; those that are not defined are left out."""
    return {
        name: [found for seed in range(seeds) if (found := score(teacher, name, seed)) is not None] for name in names
    }


def followed(played: Played, skill: int = 0, low: float = 0.15, high: float = 0.85) -> float:
    """Mean share of a skill's rows while its ability is between `low` and `high`; NaN where it never is."""
    inside = (played.abilities[:-1, skill] > low) & (played.abilities[:-1, skill] < high)
    return float(played.shares[inside, skill].mean()) if inside.any() else math.nan
