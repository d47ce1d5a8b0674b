"""Schedules: which of the earlier rows are taught again beside new ones, under the regime "continue"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from dataenv.checks import real
from dataenv.records import Example
from dataenv.registry import Registry
from dataenv.spaces import proportions

schedules = Registry(
    "schedule",
    {
        "uniform": ("dataenv.envs.replay:Uniform", "each earlier row as likely as any"),
        "powerlaw-replay": (
            "dataenv.envs.replay:PowerLaw",
            "rows of skills practised lately; powerlaw-replay:-1 of those practised long ago",
        ),
    },
)


class Schedule(Protocol):
    """Chooses rows to replay."""

    def __call__(
        self, taught: Sequence[Example], steps: Sequence[int], now: int, n: int, rng: np.random.Generator
    ) -> Sequence[int]:
        """The places of `n` different rows of `taught`; `steps` says in which step each was new, `now` is the present
        one. All draws are of `rng`."""


class Uniform:
    """Each earlier row as likely as any."""

    def __call__(
        self, taught: Sequence[Example], steps: Sequence[int], now: int, n: int, rng: np.random.Generator
    ) -> list[int]:
        chosen: list[int] = rng.choice(len(taught), n, replace=False).tolist()
        return chosen


class PowerLaw:
    """Skills in proportion to (steps since the skill last had new rows)^-power, and of each its rows alike, as long as
    it has any; a negative power favours what was not practised for long.

    Source: Catastrophic Interference is Mitigated in Naturalistic Power-Law Environments (2024),
    https://arxiv.org/abs/2401.10393; the power 1 is ours.
    """

    def __init__(self, power: float | str = 1.0) -> None:
        self.power = real("powerlaw-replay: power", power, -100, 100)

    def __call__(
        self, taught: Sequence[Example], steps: Sequence[int], now: int, n: int, rng: np.random.Generator
    ) -> list[int]:
        rows: dict[str, list[int]] = {}
        last: dict[str, int] = {}
        for i in rng.permutation(len(taught)).tolist():
            skill = taught[i].skill
            rows.setdefault(skill, []).append(i)
            last[skill] = max(last.get(skill, 0), steps[i])
        skills = sorted(rows)
        weights = recency([now - last[skill] for skill in skills], self.power)
        chosen: list[int] = []
        while len(chosen) < min(n, len(taught)):
            open_ = proportions(weights * np.array([bool(rows[skill]) for skill in skills]))
            for skill, count in zip(skills, rng.multinomial(n - len(chosen), open_).tolist(), strict=True):
                if count:
                    chosen += rows[skill][-count:]
                    del rows[skill][-count:]
        return chosen


def recency(gaps: Sequence[int], power: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The chance of each skill, given the steps since it was last practised (at least 1)."""
    return proportions(np.maximum(np.asarray(gaps, np.float64), 1.0) ** -power)
