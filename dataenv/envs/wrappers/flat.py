"""Numbers in, numbers out: any teaching environment for agents that know nothing but Box spaces."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from dataenv.envs.teaching import TeachingEnv
from dataenv.errors import InvalidAction
from dataenv.records import Feedback, Plan, Request
from dataenv.spaces import allocate

Flat = NDArray[np.float32]


class FlatView(gym.Wrapper[Flat, Flat, Any, Any], RecordConstructorArgs):
    """Box observation and Box action over the K skills of any teaching environment.

    Observation (4K + 2,), float32 in [0, 1], K numbers each, in the order of `task.skills`:

    * accuracy on the feedback problems, 0.5 where none was examined; its standard error;
    * 1 where the skill was examined, else 0; rows taught so far / `max_rows`;
    * then rows left / `max_rows`, and steps left / `steps`.

    Action (K,), or (2K,) with `difficulty`, float32 in [-1, 1]; any finite number is taken, those outside are clipped:

    * K shares: -1 asks for nothing of a skill, 1 for a whole step's rows, linearly between. Shares that add up to more
      than one step's rows are scaled down to it; if they add up to less, the rest is not spent.
    * K difficulties: 0 easiest, 1 hardest, negative for the task's natural mix (as all are without `difficulty`).

    Raises InvalidAction for an action of another shape, or with numbers that are not finite.
    """

    def __init__(self, env: gym.Env[Any, Any], difficulty: bool = False) -> None:
        RecordConstructorArgs.__init__(self, difficulty=difficulty)
        gym.Wrapper.__init__(self, env)
        self._inner = cast(TeachingEnv[Any, Any], env.unwrapped)
        k = len(self._inner.task.skills)
        self.observation_space = Box(0.0, 1.0, (4 * k + 2,), np.float32)
        self.action_space = Box(-1.0, 1.0, (2 * k if difficulty else k,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Flat, dict[str, Any]]:
        _, info = self.env.reset(seed=seed, options=options)
        return self._flat(info["feedback"]), info

    def step(self, action: Flat) -> tuple[Flat, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = self.env.step(self._inner.action(self._plan(action)))
        return self._flat(info["feedback"]), float(reward), terminated, truncated, info

    def _flat(self, feedback: Feedback) -> Flat:
        env, scores = self._inner, feedback.skills
        return np.array(
            [
                *(0.5 if score.accuracy is None else score.accuracy for score in scores),
                *(score.error for score in scores),
                *(float(score.n > 0) for score in scores),
                *(feedback.taught[score.skill] / env.max_rows for score in scores),
                feedback.budget.rows_left / env.max_rows,
                feedback.budget.steps_left / env.steps,
            ],
            dtype=np.float32,
        )

    def _plan(self, action: Any) -> Plan:
        try:
            values = np.asarray(action, dtype=np.float64)
        except (TypeError, ValueError):
            raise InvalidAction("The action is not an array of numbers.") from None
        if values.shape != self.action_space.shape:
            raise InvalidAction(f"The action has shape {values.shape}; it must be {self.action_space.shape}.")
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            raise InvalidAction(f"action[{wrong[0]}] is {values[wrong[0]]}; it must be a finite number.")
        skills, values = self._inner.task.skills, np.clip(values, -1.0, 1.0)
        shares = (values[: len(skills)] + 1) / 2
        rows = allocate(shares, round(min(1.0, float(shares.sum())) * self._inner.rows))
        levels = values[len(skills) :] if len(values) > len(skills) else np.full(len(skills), -1.0)
        return Plan(
            requests=tuple(
                Request(skill=skill, rows=int(n), difficulty=round(abs(float(d)), 3) if d >= 0 else None)
                for skill, n, d in zip(skills, rows, levels, strict=True)
                if n > 0
            )
        )
