"""Statistics of comparisons between teachers: point estimates, intervals, tests; numpy and scipy, nothing of dataenv.

A teacher's scores are a list of arrays, one for each cell of a suite (environment x task x student), each with one
score a seed. Resampling is stratified: seeds are drawn within their cell, never across.

Sources: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (interquartile
mean, optimality gap, probability of improvement, performance profiles, stratified bootstrap); Hesterberg 2015, "What
Teachers Should Know about the Bootstrap" (what makes its intervals too narrow); Holm 1979 (correction for many tests).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[NDArray[np.float64]]
"""One array of scores for each cell, a score a seed."""

RESAMPLES = 50_000
LEVEL = 0.95
CHUNK = 4096
"""Resamples worked out at a time, so that they stay in the processor's cache."""


class Estimate(NamedTuple):
    """A figure with its interval; low and high are NaN where the runs are too few for one."""

    value: float
    low: float
    high: float


GAIN = ("iqm", "mean", "median")
GAP = ("gap",)


def aggregates(scores: Scores, names: Sequence[str] = GAIN, target: float = 1.0) -> dict[str, float]:
    """Of `names`: "iqm", the interquartile mean of all runs (of what is left without their lowest and highest quarter,
    rounded down); "mean"; "median", the mean of the cells' medians (of unlike cells together it may fall between them,
    where no run is); "gap", the optimality gap: the mean shortfall to `target`. NaN for no runs."""
    found = _aggregates([np.asarray(cell, float)[None] for cell in scores], names, target)
    return {name: float(value[0]) for name, value in found.items()}


def intervals(
    scores: Scores,
    rng: np.random.Generator,
    names: Sequence[str] = GAIN,
    target: float = 1.0,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """`aggregates` with stratified bootstrap intervals: estimate -+ t sqrt(n/(n-1)) se, with the bootstrap's standard
    error, see `widened`."""
    values = aggregates(scores, names, target)
    cells = [np.asarray(cell, np.float32) for cell in scores if len(cell)]
    drawn: dict[str, list[NDArray[Any]]] = {name: [] for name in values}
    for first in range(0, resamples, CHUNK):
        size = min(CHUNK, resamples - first)
        found = _aggregates([cell[_draws(rng, size, len(cell))] for cell in cells], names, target)
        for name, value in found.items():
            drawn[name].append(value)
    sizes = [len(cell) for cell in cells]
    # A trimmed mean of one cell has the degrees of freedom of the values it keeps (Tukey and McLaughlin 1963); of runs
    # of unlike cells it rests on more. Half of what it leaves out makes intervals that hold what they say in both.
    cut = {"iqm": sum(sizes) // 4}
    made = {
        name: widened(values[name], np.concatenate(found), sizes, level, cut.get(name, 0))
        for name, found in drawn.items()
    }
    # Few seeds that happen to agree show no spread, which says nothing of the spread there is.
    if all(np.ptp(cell) == 0 for cell in cells):
        return {name: Estimate(one.value, math.nan, math.nan) for name, one in made.items()}
    return made


def widened(value: float, drawn: NDArray[Any], sizes: Sequence[int], level: float = LEVEL, cut: int = 0) -> Estimate:
    """An estimate, with an interval from its bootstrap values over cells of these sizes; it leaves `cut` values out.

    A plain bootstrap of n values is too narrow: its spread by sqrt((n - 1)/n), its quantile by the normal
    distribution in place of Student's. Both are made up for (Hesterberg 2015). One run a cell gives no interval.
    """
    from scipy import stats

    freedom = sum(n - 1 for n in sizes)
    if freedom < 1:
        return Estimate(value, math.nan, math.nan)
    reach = stats.t.ppf((1 + level) / 2, max(freedom - cut, 1)) * math.sqrt(sum(sizes) / freedom) * float(np.std(drawn))
    return Estimate(value, float(value - reach), float(value + reach))


def improvement(
    ours: Scores,
    theirs: Scores,
    rng: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Estimate:
    """Probability that a run of ours scores higher than one of theirs in the same cell, ties counting half, averaged
    over the cells; the interval resamples both teachers' seeds."""
    pairs = [(np.asarray(x, float), np.asarray(y, float)) for x, y in zip(ours, theirs, strict=True)]
    wins = [np.sign(x[:, None] - y[None]) / 2 + 0.5 for x, y in pairs if len(x) and len(y)]
    if not wins:
        return Estimate(math.nan, math.nan, math.nan)
    value = float(np.mean([win.mean() for win in wins]))
    drawn = np.zeros(resamples, np.float32)
    for win in wins:
        x, y = (_counts(rng, resamples, n) / np.float32(n) for n in win.shape)
        drawn += np.einsum("ij,ij->i", x @ win.astype(np.float32), y)
    _, low, high = widened(value, drawn / len(wins), [min(win.shape) for win in wins], level)
    return Estimate(value, max(low, 0.0), min(high, 1.0)) if low == low else Estimate(value, low, high)


def profile(scores: Scores, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Performance profile: for each threshold the share of runs that score more."""
    runs = _pooled(scores)
    if not runs.size:
        return np.full(len(thresholds), np.nan)
    return 1 - np.searchsorted(np.sort(runs), thresholds, side="right") / runs.size


class Paired(NamedTuple):
    """The mean difference of two teachers on equal seeds and problems: its interval, and p of "there is none"."""

    difference: float
    low: float
    high: float
    p: float
    pairs: int


def paired(differences: Scores, level: float = LEVEL) -> Paired:
    """Student's t on differences of runs with equal cell and seed: the mean of the cells' means, with standard error
    sqrt(sum_c s_c^2 / n_c) / C and Welch-Satterthwaite degrees of freedom.

    Cells with fewer than two pairs have no spread of their own and are left out; where all are such, the mean is of
    them, and the rest is NaN. Where all differences are equal nothing is random: p is 1 when they are 0, else 0.
    """
    from scipy import stats

    cells = [np.asarray(cell, float) for cell in differences if len(cell) > 1]
    if not cells:
        alone = _pooled(differences)
        return Paired(float(alone.mean()) if len(alone) else math.nan, math.nan, math.nan, math.nan, len(alone))
    value = float(np.mean([cell.mean() for cell in cells]))
    parts = np.array([cell.var(ddof=1) / len(cell) for cell in cells]) / len(cells) ** 2
    error = math.sqrt(parts.sum())
    pairs = sum(map(len, cells))
    if error == 0.0:
        return Paired(value, value, value, float(value == 0.0), pairs)
    freedom = parts.sum() ** 2 / sum(part**2 / (len(cell) - 1) for part, cell in zip(parts, cells, strict=True))
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Paired(value, value - reach, value + reach, float(2 * stats.t.sf(abs(value) / error, freedom)), pairs)


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values: each below a level keeps the chance of any false one among all below that level.

    NaN stays NaN and does not count as a test.
    """
    order = sorted((name for name, p in ps.items() if not math.isnan(p)), key=lambda name: ps[name])
    adjusted = dict.fromkeys(ps, math.nan)
    least = 0.0
    for i, name in enumerate(order):
        least = adjusted[name] = max(least, min(1.0, (len(order) - i) * ps[name]))
    return adjusted


def detectable(cells: int, seeds: int, spread: float, comparisons: int = 1, power: float = 0.8) -> float:
    """The smallest true difference that a paired comparison finds with this `power` at a level of 5 %, shared out over
    `comparisons` tests, when differences on one seed have the standard deviation `spread`: (t_a + t_b) s / sqrt(n).

    Infinite where there is one seed, which says nothing of the spread.
    """
    from scipy import stats

    freedom = cells * (seeds - 1)
    if freedom < 1:
        return math.inf
    reach = stats.t.ppf(1 - (1 - LEVEL) / 2 / max(comparisons, 1), freedom) + stats.t.ppf(power, freedom)
    return float(reach * spread / math.sqrt(cells * seeds))


def front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Which points are on the Pareto front: no other costs as little or less and gains as much or more, and is better
    in one of the two. NaN is never on it."""
    points = list(zip(costs, gains, strict=True))
    return [
        not (math.isnan(c) or math.isnan(g)) and not any(x <= c and y >= g and (x < c or y > g) for x, y in points)
        for c, g in points
    ]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings of the same teachers; NaN for fewer than two or where one is all ties."""
    from scipy import stats

    return float(stats.kendalltau(a, b).statistic) if len(a) > 1 else math.nan


def _aggregates(cells: Sequence[NDArray[Any]], names: Sequence[str], target: float) -> dict[str, NDArray[Any]]:
    """Those aggregates of each sample; each of `cells` holds its runs as (samples, runs)."""
    cells = [cell for cell in cells if cell.shape[-1]]
    if not cells:
        return dict.fromkeys(names, np.full(1, np.nan))
    runs = np.concatenate(cells, axis=-1)
    return {name: _AGGREGATES[name](cells, runs, target) for name in names}


def _iqm(cells: Sequence[NDArray[Any]], runs: NDArray[Any], target: float) -> Any:
    n = runs.shape[-1]
    return np.sort(runs, axis=-1)[..., n // 4 : n - n // 4].mean(axis=-1)


def _median(cells: Sequence[NDArray[Any]], runs: NDArray[Any], target: float) -> Any:
    """By sorting, which of few numbers is quicker than np.median's partition."""
    middles = [np.sort(cell, axis=-1)[..., (cell.shape[-1] - 1) // 2 : cell.shape[-1] // 2 + 1] for cell in cells]
    return np.mean([middle.mean(axis=-1) for middle in middles], axis=0)


_AGGREGATES: Mapping[str, Callable[[Sequence[NDArray[Any]], NDArray[Any], float], Any]] = {
    "iqm": _iqm,
    "mean": lambda cells, runs, target: runs.mean(axis=-1),
    "median": _median,
    "gap": lambda cells, runs, target: np.maximum(target - runs, 0).mean(axis=-1),
}


def _pooled(scores: Scores) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(cell, float) for cell in scores]) if scores else np.zeros(0)


def _draws(rng: np.random.Generator, resamples: int, n: int) -> NDArray[Any]:
    """Numbers below n: which of n runs each of `resamples` samples holds."""
    return rng.integers(n, size=(resamples, n), dtype=np.uint8 if n <= 256 else np.int64)


def _counts(rng: np.random.Generator, resamples: int, n: int) -> NDArray[np.float32]:
    """How often each of n runs is in each of `resamples` samples."""
    places = _draws(rng, resamples, n).astype(np.int64) + n * np.arange(resamples)[:, None]
    return np.bincount(places.ravel(), minlength=n * resamples).reshape(resamples, n).astype(np.float32)
