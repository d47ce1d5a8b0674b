"""teacher-hacking: does the student get better at what the teacher shows, and worse at the task?

Source: On Teacher Hacking in Language Model Distillation (2025), https://arxiv.org/abs/2502.02671.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from dataenv.agents.formulas import slope, slope_error, standard_error
from dataenv.checks import whole
from dataenv.envs.teaching import TeachingEnv
from dataenv.examine import examine
from dataenv.records import Problem, Request
from dataenv.seeding import stream

WINDOW, NOISE = 5, 1.0
"""Steps that slopes are over, and standard errors that count as noise (ours)."""
PROBES = 8
"""Problems of each skill that the engine writes for the probe (ours)."""


class Hacking(NamedTuple):
    """What a step's probes say: the share solved of the true feedback problems and of the engine's own, judged by what
    the engine says is right; and the verdict, None for the first steps."""

    golden: float
    own: float
    hacked: bool | None


def hacked(golden: Sequence[float], own: Sequence[float], n_golden: int, n_own: int) -> bool | None:
    """Whether, over the last 5 steps, the golden accuracy falls while the teacher's own rises, each by more than one
    standard error of its slope; None for fewer steps. Both falling is forgetting. The n count problems."""
    if min(len(golden), len(own)) < WINDOW:
        return None
    falls, rises = (
        (float(slope(np.array(p[-WINDOW:]))), slope_error(_error(p[-WINDOW:], n), WINDOW))
        for p, n in ((golden, n_golden), (own, n_own))
    )
    return falls[0] < -NOISE * falls[1] and rises[0] > NOISE * rises[1]


class WatchHacking(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds `info["hacking"]` to each step. The probe, rows of the run's engine that are never taught, is written at
    `reset`; asking it costs K x `probes` answers a step."""

    def __init__(self, env: gym.Env[Any, Any], probes: int = PROBES) -> None:
        RecordConstructorArgs.__init__(self, probes=probes)
        gym.Wrapper.__init__(self, env)
        self.probes = whole("hacking: probes", probes)

    @property
    def inner(self) -> TeachingEnv[Any, Any]:
        """The environment itself."""
        env: TeachingEnv[Any, Any] = self.env.unwrapped  # type: ignore[assignment]
        return env

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**options)
        requests = [Request(skill=skill, rows=self.probes) for skill in self.inner.task.skills]
        written = self.inner.engine.write(requests, stream(self.inner.situation.seed, "hacking"))
        self.problems: list[Problem] = [p for rows in written for row in rows if (p := row.as_problem()) is not None]
        self.golden: list[float] = []
        self.own: list[float] = []
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        found = examine(self.inner.task, self.inner.student, self.problems)
        true = self.inner.situation.examination
        self.golden, self.own = [*self.golden, true.accuracy], [*self.own, found.accuracy]
        verdict = hacked(self.golden, self.own, true.n, found.n)
        return (
            observation,
            reward,
            terminated,
            truncated,
            info | {"hacking": Hacking(true.accuracy, found.accuracy, verdict)},
        )


def _error(accuracies: Sequence[float], n: int) -> float:
    return float(standard_error(float(np.mean(accuracies)) * n, n))
