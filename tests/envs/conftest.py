"""What tests of environments share."""

import json

import numpy as np
import pytest

from dataenv.seeding import stream


def _play(env, seed, steps=4, reset=True):
    """A trajectory as JSON text: observations, rewards, ends and everything reproducible in info."""

    def plain(value):
        return value.tolist() if hasattr(value, "tolist") else value.model_dump(mode="json")

    out = list(env.reset(seed=seed)) if reset else []
    rng = stream(17, "actions")
    for _ in range(steps):
        rows = rng.multinomial(env.unwrapped.rows, np.ones(3) / 3)
        out += env.step({"rows": rows, "difficulty": rng.uniform(-1, 1, 3)})
    return json.dumps(out, default=plain)


@pytest.fixture
def play():
    """`play(env, seed, steps=4, reset=True)`: a trajectory as JSON text."""
    return _play
