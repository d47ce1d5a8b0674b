"""The environments, by the ids that `gymnasium.make` and `dataenv run --env` take."""

from __future__ import annotations

import difflib

import gymnasium as gym

from dataenv.errors import UnknownId

ENVS = {
    "open-ended": (
        "dataenv/OpenEnded-v0",
        "dataenv.envs.open_ended:OpenEndedEnv",
        "failed problems as text in, requests in free text out",
    ),
    "skill-list": (
        "dataenv/SkillList-v0",
        "dataenv.envs.skill_list:SkillListEnv",
        "scores per skill in, rows per skill out",
    ),
    "skill-tree": (
        "dataenv/SkillTree-v0",
        "dataenv.envs.skill_tree:SkillTreeEnv",
        "a tree of subskills per skill in; wait, explore or exploit out",
    ),
}
"""Short name -> (Gymnasium id, entry point, one line)."""


def register_all() -> None:
    """Make the environments known to Gymnasium; `import dataenv` calls it."""
    for name, (id, entry_point, _) in ENVS.items():
        if id not in gym.registry:
            vector = f"dataenv.envs.vector:{name.replace('-', '_')}"
            gym.register(id, entry_point=entry_point, vector_entry_point=vector)


def env_id(name: str) -> str:
    """The Gymnasium id for a short name or a Gymnasium id."""
    ids = {id for id, _, _ in ENVS.values()}
    if name in ids:
        return name
    if name not in ENVS:
        near = difflib.get_close_matches(name, ENVS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise UnknownId(f"No environment is called '{name}'; {hint}'dataenv list envs' shows all of them.")
    return ENVS[name][0]
