"""thompson: each slot goes to the arm that, by a draw from what is believed of all, is likeliest to improve."""

from __future__ import annotations

import numpy as np

from dataenv.agents.allocation import AllocationTeacher, Arms, Step, fitted_to, slots_to_shares
from dataenv.agents.formulas import Floats
from dataenv.checks import real, whole

SLOTS = 8
"""Draws in a step (ours)."""
MEMORY = 0.97
"""What is kept of the counts from step to step (ours)."""


class Thompson(AllocationTeacher):
    """Of each arm a Beta(A, B) is believed on the event that its accuracy rises by more than a standard error when it
    gets rows. Counts fade to the prior Beta(1, 1), because what can be learnt changes.

    Only rises count, so it does best of the bandits here where accuracies are noise.

    Source: Thompson sampling (1933); the event and the fading are ours.
    """

    name = "thompson"

    def __init__(self, slots: int = SLOTS, *, memory: float = MEMORY) -> None:
        self.slots, self.memory = whole("thompson: slots", slots), real("thompson: memory", memory, 0, 1)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.rose = self.fell = np.zeros(0)
        """A and B, by arm."""

    def shares(self, arms: Arms) -> Floats:
        k = len(arms.names)
        if k == 1:
            return np.ones(1)
        drawn = self.rng.beta(fitted_to(self.rose, k, 1.0), fitted_to(self.fell, k, 1.0), size=(self.slots, k))
        return slots_to_shares(np.bincount(drawn.argmax(axis=1), minlength=k))

    def learn(self, step: Step) -> None:
        k = len(step.arms.names)
        rose, fell = (1 + self.memory * (fitted_to(old, k, 1.0) - 1) for old in (self.rose, self.fell))
        pulled = (step.rows > 0) & step.known
        risen = step.change > step.error
        self.rose, self.fell = rose + (pulled & risen), fell + (pulled & ~risen)
