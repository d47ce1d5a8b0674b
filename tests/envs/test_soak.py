"""A thousand random steps with a real student, over all environments: nothing breaks, nothing grows."""

import gc
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import dataenv  # noqa: F401  (registers the environments)
from dataenv.envs import ENVS
from dataenv.tasks import tasks

STEPS = 1000
EPISODE = 20


def memory():
    """Resident MiB of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
@pytest.mark.slow
def test_a_thousand_random_steps_neither_break_nor_grow():
    task = tasks.make("drills", skills=["copying", "addition", "sorting"])
    options = {"task": task, "student": "micro", "steps": EPISODE, "rows": 6, "feedback": 1}
    envs = [gym.make(id, disable_env_checker=True, **options) for id, *_ in ENVS.values()]
    for i, env in enumerate(envs):
        env.action_space.seed(i)
    done, start = 0, 0.0
    while done < STEPS:
        for env in envs:
            env.reset(seed=done)
            over = False
            while not over:
                observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                over = terminated or truncated
                done += 1
            assert np.isfinite(reward)
            assert observation in env.observation_space
        start = start or memory()  # after an episode of each: what loads once has loaded
    assert memory() <= 1.05 * start
