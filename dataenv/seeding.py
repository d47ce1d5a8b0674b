"""All randomness comes from one seed, through child streams with names: a new consumer changes no other stream."""

from __future__ import annotations

from zlib import crc32

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The generator for `names` under `seed` (PCG64 over SeedSequence with the names' CRC-32 as spawn key)."""
    key = tuple(crc32(str(name).encode()) for name in names)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def child_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**63) for `names` under `seed`, for parts that take a number."""
    return int(stream(seed, *names).integers(2**63))
