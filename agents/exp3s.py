"""exp3s: the adversarial bandit whose best arm may change."""

from __future__ import annotations

import numpy as np

from dataenv.agents.allocation import AllocationTeacher, Arms, Step, fitted_to, slots_to_shares
from dataenv.agents.formulas import Floats, beyond_noise, floored, importance_weighted, softmax
from dataenv.checks import real, whole

SLOTS = 8
"""Draws in a step (ours)."""
FLOOR, SHARE = 0.2, 1.0
"""Exploration gamma, and the numerator of the sharing rate alpha = 1/T (EXP3.S)."""
RATE = 1.0
"""Learning rate (ours: the usual gamma/K moves nothing in tens of steps)."""


class Exp3S(AllocationTeacher):
    """Slots are drawn from p = (1-floor) softmax(w) + floor/K. The reward of an arm is how far its accuracy moved
    beyond one standard error, divided by the most any has moved so far; divided by p, it is added to w, and a little of
    all weights is shared out, so that none is lost for ever.

    Source: EXP3.S (Auer et al. 2002), as a curriculum in Automated Curriculum Learning (2017),
    https://arxiv.org/abs/1704.03003. Ours: the reward's scale (there, quantiles), the slots, and that an arm's pulls
    are counted by the rows it got.
    """

    name = "exp3s"

    def __init__(self, slots: int = SLOTS, *, rate: float | None = RATE, floor: float = FLOOR) -> None:
        self.slots = whole("exp3s: slots", slots)
        self.rate = None if rate is None else real("exp3s: rate", rate, 0)
        self.floor = real("exp3s: floor", floor, 0.001, 1)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.weights = np.zeros(0)
        """Logarithms."""
        self.most = 0.0
        """The largest progress so far."""

    def p(self, k: int) -> Floats:
        """The probability of each of `k` arms; at least floor/k."""
        return floored(softmax(fitted_to(self.weights, k), 1.0), self.floor)

    def shares(self, arms: Arms) -> Floats:
        k = len(arms.names)
        return slots_to_shares(self.rng.multinomial(self.slots, self.p(k))) if k > 1 else np.ones(1)

    def learn(self, step: Step) -> None:
        k, feedback = len(step.arms.names), step.arms.feedback
        moved = beyond_noise(step.change, step.error) * step.known
        self.most = max(self.most, float(moved.max(initial=0.0)))
        reward = moved / self.most if self.most > 0 else moved
        gained = importance_weighted(reward, step.rows, self.p(k))
        rate = self.floor / k if self.rate is None else self.rate
        old = fitted_to(self.weights, k)
        shared = SHARE / max(feedback.step + feedback.budget.steps_left, 1)
        grown = old + rate * gained
        top = max(float(grown.max()), float(old.max()))
        total = np.exp(old - top).sum()
        found = np.log(np.exp(grown - top) + np.e * shared / k * total)
        self.weights = found - found.max()
