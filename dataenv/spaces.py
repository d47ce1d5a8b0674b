"""Spaces of our own, where Gymnasium has none that says what is meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium.spaces import Space
from numpy.typing import NDArray


class Shares(Space[NDArray[np.int64]]):
    """How a budget is dealt: `size` whole numbers, none negative, that add up to at most `budget`.

    `sample` deals the whole budget with uniformly drawn proportions, so a sampled plan never costs more than a step.
    """

    def __init__(self, size: int, budget: int, seed: int | np.random.Generator | None = None) -> None:
        self.size, self.budget = int(size), int(budget)
        super().__init__((self.size,), np.int64, seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False  # a flat Box could not say that the numbers add up to the budget at most

    def sample(self, mask: None = None, probability: None = None) -> NDArray[np.int64]:
        return allocate(self.np_random.dirichlet(np.ones(self.size)), self.budget)

    def contains(self, x: Any) -> bool:
        return self.fault(x) is None

    def fault(self, x: Any) -> str | None:
        """Why `x` is outside the space, in words; None when it is inside."""
        try:
            values = np.asarray(x)
        except ValueError:
            return "is not an array of numbers"
        if values.shape != self.shape:
            return f"has shape {values.shape}; it must have one number for each of the {self.size} skills"
        if values.dtype.kind not in "iuf":
            return f"holds {values.dtype} values; they must be whole numbers"
        for i, value in enumerate(values.tolist()):
            if value != value or value in (float("inf"), float("-inf")):
                return f"[{i}] is {value}; it must be a whole number"
            if value != int(value):
                return f"[{i}] is {value}; rows come in whole numbers"
            if value < 0:
                return f"[{i}] is {int(value)}; it must be at least 0"
        total = sum(int(value) for value in values.tolist())
        return f"adds up to {total}; a step has at most {self.budget} rows" if total > self.budget else None

    def to_jsonable(self, sample_n: Iterable[NDArray[np.int64]]) -> list[Any]:
        return [np.asarray(sample).tolist() for sample in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[NDArray[np.int64]]:
        return [np.asarray(sample, dtype=np.int64) for sample in sample_n]

    def __repr__(self) -> str:
        return f"Shares({self.size}, budget={self.budget})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shares) and (self.size, self.budget) == (other.size, other.budget)


def allocate(weights: Any, rows: int) -> NDArray[np.int64]:
    """Deal `rows` in proportion to `weights`: largest remainder, ties to the lower index; the result adds up to `rows`.

    Weights that are all zero, or hold NaN, count as equal. Source: rule R1 of the teachers' catalogue.
    """
    shares = np.asarray(weights, dtype=np.float64)
    total = shares.sum()
    if not np.isfinite(total) or total <= 1e-12 or (shares < 0).any():
        shares, total = np.ones_like(shares), float(shares.size)
    exact = rows * (shares / total)
    dealt: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - dealt), kind="stable")
    dealt[order[: rows - int(dealt.sum())]] += 1
    return dealt
