"""mastering-rate: along the graph of skills, to what can be learnt by now and is not mastered yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataenv.agents.allocation import AllocationTeacher, Arms, Step, fitted_to
from dataenv.agents.formulas import Floats, floored, slope
from dataenv.agents.prerequisites import Graph, KnowsPrerequisites, reachable
from dataenv.checks import real, whole
from dataenv.spaces import proportions

WINDOW = 3
"""Scores that mastery and progress are read from (ours: the code's 10 is as long as an episode)."""
POWER, BALANCE = 6.0, 0.5
"""How sharply ancestors must be mastered, and the weight of progress against what is left (the authors' code)."""
BACK, ON = 0.2, 0.05
"""What a skill gives away to its prerequisites, and then to its successors (the authors' code)."""
FLOOR = 0.1
"""Share dealt evenly (ours)."""


class MasteringRate(KnowsPrerequisites, AllocationTeacher):
    """An arm's attention is (least mastery of its ancestors)^6 times a mean of its normalised progress and of what it
    lacks to mastery, times one minus the least mastery of what builds on it. Then each arm gives 0.2 of its attention
    to its prerequisites and 0.05 of the rest to its successors. Mastery is the mean of the last `window` accuracies on
    the way from `chance` to 1, progress their slope.

    `graph` is skill -> prerequisites; by default the task's. Without edges only progress and potential count. Leaves
    of a tree inherit the edges of their skills.

    Source: Mastering Rate based Curriculum Learning (2020), https://arxiv.org/abs/2008.06456, and its code. An arm's
    window is shorter than there, and its range is [chance, 1] from the start.
    """

    name = "mastering-rate"

    def __init__(
        self, window: int = WINDOW, *, graph: Graph | None = None, chance: float = 0.0, floor: float = FLOOR
    ) -> None:
        super().__init__(graph)
        self.window = whole("mastering-rate: window", window)
        self.chance, self.floor = (
            real("mastering-rate: chance", chance, 0, 1),
            real("mastering-rate: floor", floor, 0, 1),
        )

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.past: list[list[float]] = []
        """Accuracies before the last steps, by arm."""

    def shares(self, arms: Arms) -> Floats:
        attention = attended(self._scores(arms), self.edges(arms.skills), self.chance)
        return floored(proportions(attention + 1e-8), self.floor)

    def learn(self, step: Step) -> None:
        now = np.where(step.arms.n > 0, step.arms.correct / np.maximum(step.arms.n, 1), 0.5)
        self.past = [*self.past, (now - step.change).tolist()][-self.window + 1 :] if self.window > 1 else []

    def _scores(self, arms: Arms) -> Floats:
        """(W, K): the last accuracies, the present ones last; 0.5 where nothing is known."""
        now = np.where(arms.n > 0, arms.correct / np.maximum(arms.n, 1), 0.5)
        return np.vstack([*(fitted_to(past, len(now), 0.5) for past in self.past), now])


def attended(scores: Floats, edges: NDArray[np.bool_], chance: float = 0.0) -> Floats:
    """(K,): attention from the last scores (W, K), where `edges` (K, K) says what is a prerequisite of what."""
    k = scores.shape[1]
    mastery = np.clip((scores.mean(axis=0) - chance) / (1 - chance), 0, 1) if chance < 1 else np.zeros(k)
    progress = np.abs(slope(scores.T))
    progress = progress / progress.max() if progress.max(initial=0.0) > 0 else progress
    ancestors = np.where(reachable(edges), mastery[:, None], 1.0).min(axis=0, initial=1.0)
    after = np.where(edges, mastery[None, :], 1.0).min(axis=1, initial=1.0)
    after = np.where(edges.any(axis=1), after, 0.0)
    attention: Floats = ancestors**POWER * (BALANCE * progress + (1 - BALANCE) * (1 - mastery)) * (1 - after)
    depth = reachable(edges).sum(axis=0)
    for i in np.argsort(-depth, kind="stable"):  # what builds on others gives first
        attention = _given(attention, i, BACK, edges[:, i])
    for i in np.argsort(-depth, kind="stable"):
        if edges[i].any():
            attention = _given(attention, i, ON, edges[i])
    return attention


def _given(attention: Floats, i: int, share: float, to: NDArray[np.bool_]) -> Floats:
    """`attention` after arm i has given away that share of its own; it is lost where there is nobody to give it to."""
    moved = share * attention[i] * to / max(int(to.sum()), 1)
    left: Floats = attention + moved
    left[i] *= 1 - share
    return left
