"""The environments, by the ids that `gymnasium.make` and `dataenv run --env` take."""

from __future__ import annotations

import gymnasium as gym

ENVS = {
    "skill-list": ("dataenv/SkillList-v0", "dataenv.envs.skill_list:SkillListEnv", "scores per skill in, rows per skill out"),
}
"""Short name -> (Gymnasium id, entry point, one line)."""


def register_all() -> None:
    """Make the environments known to Gymnasium; `import dataenv` calls it."""
    for id, entry_point, _ in ENVS.values():
        if id not in gym.registry:
            gym.register(id, entry_point=entry_point)
