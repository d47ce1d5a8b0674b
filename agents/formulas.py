"""The formulas that teachers share, each in one place: from counts to scores, and from scores to shares.

K arms stand in a fixed order; arrays have an entry for each. Numbers R1 ... F15 are those of the project's catalogue of
teachers, which names their sources. Rule R1 (dealing whole rows) is `dataenv.spaces.allocate`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataenv.spaces import proportions

Floats = NDArray[np.float64]


# -- accuracies -------------------------------------------------------------------------------------------------------


def smoothed(correct: Any, n: Any) -> Floats:
    """(correct+1)/(n+2): never 0 or 1, and 0.5 where nothing was examined (R2, R3)."""
    found: Floats = (np.asarray(correct, np.float64) + 1) / (np.asarray(n, np.float64) + 2)
    return found


def standard_error(correct: Any, n: Any) -> Floats:
    """sqrt(p(1-p)/n) with smoothed p, so never 0; 0.5 where n = 0 (R2)."""
    p, n = smoothed(correct, n), np.asarray(n, np.float64)
    found: Floats = np.where(n > 0, np.sqrt(p * (1 - p) / np.maximum(n, 1)), 0.5)
    return found


def wilson(correct: float, n: float, z: float = 1.96) -> tuple[float, float]:
    """Bounds of the Wilson interval of a share; (0, 1) where n = 0 (F8)."""
    if n == 0:
        return 0.0, 1.0
    p, scale = correct / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


# -- what is worth learning -------------------------------------------------------------------------------------------


def learning_gain(p: Any) -> Floats:
    """2 sqrt(p(1-p)): mean absolute advantage of answers that are right with probability p (F1).

    For an item's pass rate. Of a category's mean it overstates, up to 1 where the truth is 0; use `category_gain`.
    """
    p = np.asarray(p, np.float64)
    found: Floats = 2 * np.sqrt(np.clip(p * (1 - p), 0.0, None))
    return found


def category_gain(correct: Any, n: Any) -> Floats:
    """`learning_gain` of the smoothed mean, where only one answer to each item is known (R9); 0 where all or none is
    right, or nothing was examined: there is no sign of anything to gain."""
    correct, n = np.asarray(correct), np.asarray(n)
    found: Floats = np.where((correct > 0) & (correct < n), learning_gain(smoothed(correct, n)), 0.0)
    return found


def bernoulli_variance(p: Any, k: int) -> Floats:
    """Unbiased p(1-p) from the share p of k answers: k/(k-1) p(1-p); 0 for one answer (F2)."""
    p = np.asarray(p, np.float64)
    found: Floats = p * (1 - p) * (k / (k - 1) if k > 1 else 0.0)
    return found


def variation(mean: Any, sd: Any, n: Any) -> Floats:
    """Coefficient of variation (1 + 1/(4n)) sd/mean of n numbers; 0 for fewer than two, or where the mean is 0 (F4)."""
    mean, sd, n = (np.asarray(x, np.float64) for x in (mean, sd, n))
    safe = (n >= 2) & (mean > 0)
    found: Floats = np.where(safe, (1 + 0.25 / np.maximum(n, 1)) * sd / np.where(safe, mean, 1.0), 0.0)
    return found


def ucb_bonus(n: Any, total: float, scale: float = 1.0) -> Floats:
    """sqrt(2 ln(total+1)/(n+1)) times `scale`, finite for n = 0; total counts as at least 1 (F3, as in DUMP)."""
    found: Floats = scale * np.sqrt(2 * np.log(max(total, 1.0) + 1) / (np.asarray(n, np.float64) + 1))
    return found


def beyond_noise(change: Any, error: Any, z: float = 1.0) -> Floats:
    """How far a change, of either sign, exceeds z standard errors; 0 where it does not (F15, noise-corrected)."""
    found: Floats = np.maximum(np.abs(change) - z * np.asarray(error, np.float64), 0.0)
    return found


# -- over time --------------------------------------------------------------------------------------------------------


def ema(old: Any, new: Any, rate: float) -> Floats:
    """(1-rate) old + rate new; half-life ln 0.5 / ln(1-rate) steps (F5)."""
    found: Floats = (1 - rate) * np.asarray(old, np.float64) + rate * np.asarray(new, np.float64)
    return found


def slope(values: Any) -> Floats:
    """Least-squares slope per step of the last axis; 0 for fewer than two values (F5)."""
    values = np.asarray(values, np.float64)
    w = values.shape[-1]
    if w < 2:
        return np.zeros(values.shape[:-1])
    time = np.arange(w) - (w - 1) / 2
    found: Floats = values @ time / (time @ time)
    return found


def slope_error(error: float, w: int) -> float:
    """Standard error of a slope over w values that each have `error` (F5)."""
    time = np.arange(w) - (w - 1) / 2
    return float(error / np.sqrt(time @ time)) if w > 1 else float("inf")


# -- shares -----------------------------------------------------------------------------------------------------------


def softmax(scores: Any, temperature: float) -> Floats:
    """exp(x / temperature), scaled to add up to 1 (F6); equal where a score has no meaning (NaN)."""
    x = np.asarray(scores, np.float64)
    if np.isnan(x).any():
        return proportions(np.ones_like(x))
    with np.errstate(invalid="ignore"):  # scores that are all infinite: equal shares
        weights = np.exp((x - x.max(initial=-np.inf)) / temperature)
    return proportions(weights)


def scale_free(scores: Any) -> Floats:
    """Softmax at half the scores' standard deviation; equal where they hardly differ (F6)."""
    x = np.asarray(scores, np.float64)
    spread = float(x.std()) if x.size else 0.0
    return softmax(x, 0.5 * spread) if spread >= 1e-9 else proportions(np.ones_like(x))


def greedy(scores: Any) -> Floats:
    """All to the highest score, ties to the lower index (R6)."""
    x = np.asarray(scores, np.float64)
    found: Floats = np.eye(x.size)[int(np.argmax(x))]
    return found


CONVERTERS: dict[str, Callable[[Any], Floats]] = {
    "proportional": proportions,
    "scale-free": scale_free,
    "greedy": greedy,
}
"""Ways from scores to shares that need no setting (F6); `softmax` needs a temperature."""


def floored(shares: Any, floor: float) -> Floats:
    """(1-floor) shares + floor/K: every arm keeps something (R4)."""
    shares = np.asarray(shares, np.float64)
    found: Floats = (1 - floor) * shares + floor / max(shares.size, 1)
    return found


def with_unknown(scores: Any, known: Any, optimistic: bool = False) -> Floats:
    """Scores where arms that are not `known` have the mean of the others, or their maximum if `optimistic` (R3)."""
    scores, known = np.asarray(scores, np.float64), np.asarray(known, bool)
    if not known.any():
        return np.zeros_like(scores)
    found: Floats = np.where(known, scores, scores[known].max() if optimistic else scores[known].mean())
    return found


def entropy(shares: Any) -> float:
    """-sum w ln w; its exponential is the effective number of arms (F7)."""
    w = np.asarray(shares, np.float64)
    w = w[w > 0]
    return float(-(w * np.log(w)).sum())


def divergence(new: Any, old: Any, floor: float = 0.0) -> float:
    """Kullback-Leibler KL(new || old) = sum w ln(w/v), v at least `floor` (F7)."""
    w, v = np.asarray(new, np.float64), np.maximum(np.asarray(old, np.float64), floor)
    used = w > 0
    with np.errstate(divide="ignore"):
        return float((w[used] * np.log(w[used] / v[used])).sum())


def importance_weighted(reward: Any, pulls: Any, p: Any) -> Floats:
    """reward (pulls/m)/p: an unbiased estimate of each arm's reward, where m slots were drawn with p (F13)."""
    pulls = np.asarray(pulls, np.float64)
    found: Floats = np.asarray(reward, np.float64) * pulls / max(pulls.sum(), 1.0) / np.asarray(p, np.float64)
    return found
