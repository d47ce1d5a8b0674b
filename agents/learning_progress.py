"""lp-bandit: rows go where accuracies move, up or down."""

from __future__ import annotations

import numpy as np

from dataenv.agents.allocation import AllocationTeacher, Arms, Step, fitted_to
from dataenv.agents.formulas import Floats, beyond_noise, ema, floored, slope, with_unknown
from dataenv.checks import real
from dataenv.errors import InvalidData

RATE = 0.3
"""Weight of the newest progress (ours)."""
NOISE = 1.0
"""Standard errors of a change that count as noise (ours)."""
FLOOR = 0.2
"""Share dealt evenly (the ratio of random tasks in the code of ALP-GMM)."""
WARM_UP = 2
"""Uniform steps before scores count (ours)."""
WINDOW, SLOW = 10, 0.1
"""Scores a slope is fitted to, and its averaging rate, of the TSCL estimators (a public copy of their code)."""

ESTIMATORS = ("corrected", "online", "window", "linreg", "sampling")


class LPBandit(AllocationTeacher):
    """Share in proportion to an average of the absolute learning progress, with a uniform floor.

    Progress of an arm in a step is its change of accuracy less `noise` standard errors, 0 below that. It enters the
    average only where the arm got rows or has moved: so forgetting is noticed, and what was not taught keeps its score.
    An arm that was not examined counts as the mean of the others; no progress at all gives equal shares.

    `estimator` has those of Teacher-Student Curriculum Learning for comparison, without correction for noise:
    `online` (last difference, averaged), `window` (slope of the last 10 scores, averaged), `linreg` (that slope
    itself), `sampling` (for each arm a random one of its last 10 differences; all rows to the largest).

    Source: Teacher-Student Curriculum Learning (2017), https://arxiv.org/abs/1707.00183, with the absolute progress of
    ALP-GMM (2019), https://arxiv.org/abs/1910.07224; the correction is ours. It takes noise for progress where
    accuracies are counted anew each time, on few problems.
    """

    name = "lp-bandit"

    def __init__(
        self, estimator: str = "corrected", *, rate: float = RATE, noise: float = NOISE, floor: float = FLOOR
    ) -> None:
        if estimator not in ESTIMATORS:
            raise InvalidData(f"lp-bandit: estimator must be one of {', '.join(ESTIMATORS)}; it is {estimator!r}.")
        self.estimator = estimator
        self.rate, self.noise = real("lp-bandit: rate", rate, 0, 1), real("lp-bandit: noise", noise, 0)
        self.floor = real("lp-bandit: floor", floor, 0, 1)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.progress = self.known = np.zeros(0)
        """By arm; signed but for `corrected`, so that in an average ups and downs cancel."""
        self.steps = 0
        self.changes: list[list[float]] = []
        """Changes of the last steps, by arm; for the estimators that look back."""

    def shares(self, arms: Arms) -> Floats:
        progress = np.abs(fitted_to(self.progress, len(arms.names)))
        if self.steps < WARM_UP:
            progress = np.zeros_like(progress)
        elif self.estimator == "sampling" and len(arms.names) > 1:
            past = np.array([fitted_to(change, len(arms.names)) for change in self.changes])
            drawn = past[self.rng.integers(len(past), size=len(arms.names)), np.arange(len(arms.names))]
            progress = np.abs(drawn)
            progress = np.where(np.arange(len(progress)) == int(np.argmax(progress)), progress, 0.0)
        known = fitted_to(self.known, len(arms.names)) > 0
        scores = with_unknown(progress, known)
        total = scores.sum()
        return floored(scores / total if total > 1e-12 else np.ones_like(scores) / len(scores), self.floor)

    def learn(self, step: Step) -> None:
        k = len(step.arms.names)
        old = fitted_to(self.progress, k)
        self.steps += 1
        self.known = np.maximum(fitted_to(self.known, k), step.known)
        if self.estimator == "corrected":
            moved = beyond_noise(step.change, step.error, self.noise) * step.known
            self.progress = np.where((step.rows > 0) | (moved > 0), ema(old, moved, self.rate), old)
            return
        self.changes = [*self.changes, step.change.tolist()][-WINDOW:]
        past = np.array([fitted_to(change, k) for change in self.changes])
        scores = np.vstack([np.zeros(k), past.cumsum(axis=0)])[-WINDOW:]  # up to a constant, which no slope sees
        if self.estimator == "online":
            self.progress = ema(old, step.change, SLOW)
        elif self.estimator == "window":
            self.progress = ema(old, slope(scores.T), SLOW)
        else:
            self.progress = slope(scores.T)
