"""Rewards in other units: how certain a gain is, or what it cost."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs


class RewardPerError(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """The reward in standard errors, reward / `info["reward_error"]`: about what is beyond +-2 is no chance.

    A step that was examined on few problems then weighs no more than it can show.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, float(reward) / info["reward_error"], terminated, truncated, info


class RewardPerThousandRows(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """The reward per 1,000 rows accepted; 0 where there were none.

    Rows, and not seconds, are the cost: seconds are not the same twice.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        rows = info["rows"]["accepted"]
        return observation, 1000 * float(reward) / rows if rows else 0.0, terminated, truncated, info
