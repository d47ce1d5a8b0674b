"""skill-it: rows for skills that help those where most is lost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataenv.agents.allocation import AllocationTeacher, Arms, Step, fitted_to
from dataenv.agents.formulas import Floats, softmax
from dataenv.agents.prerequisites import Graph, KnowsPrerequisites
from dataenv.checks import real, whole

RATE = 0.5
"""Of the exponential weights (the authors' code, for 5 skills; 0.2 for 23)."""
WINDOW = 3
"""Losses that are added up, in place of accumulated weights (the authors' code)."""
EDGE = 0.5
"""How much a skill's rows help one that builds on it, where its own help it by 1 (the authors' code)."""


class SkillIt(KnowsPrerequisites, AllocationTeacher):
    """Share of arm i proportional to exp(rate * sum over j of A_ij * (sum of the last 3 losses of j)), where A_ij says
    how much rows of i help j, and a loss is 1 - accuracy (0.5 where nothing was examined). It begins with losses of 1.

    A has a diagonal of 1 and `edge` from each skill to those that build on it, by `graph` (skill -> prerequisites) or
    the task's own. `targets`, where given, are the only skills whose losses count, and their mean takes the place of
    the sum. It never asks whether a skill can be learnt yet.

    Source: Skill-It! (2023), https://arxiv.org/abs/2307.14430, and its code. Not here: learning A from trainings on
    pairs of skills.
    """

    name = "skill-it"

    def __init__(
        self,
        rate: float = RATE,
        *,
        graph: Graph | None = None,
        edge: float = EDGE,
        window: int = WINDOW,
        targets: tuple[str, ...] = (),
    ) -> None:
        super().__init__(graph)
        self.rate, self.edge = real("skill-it: rate", rate, 0), real("skill-it: edge", edge, 0, 1)
        self.window, self.targets = whole("skill-it: window", window), [str(target) for target in targets]

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.past: list[list[float]] = []
        """Losses before the last steps, by arm."""
        self.begun = False

    def shares(self, arms: Arms) -> Floats:
        k = len(arms.names)
        past = [fitted_to(loss, k, 0.5) for loss in self.past]
        losses = np.vstack([*past, _losses(arms)]) if self.begun else np.ones((1, k))
        return weighted(losses, influence(self.edges(arms.skills), self.edge), self.rate, self._aims(arms))

    def learn(self, step: Step) -> None:
        self.begun = True
        before = np.clip(_losses(step.arms) + step.change, 0, 1)
        self.past = [*self.past, before.tolist()][-self.window + 1 :] if self.window > 1 else []

    def _aims(self, arms: Arms) -> NDArray[np.bool_] | None:
        aims = np.array([skill in self.targets for skill in arms.skills], bool)
        return aims if aims.any() else None


def influence(edges: NDArray[np.bool_], edge: float = EDGE) -> Floats:
    """(K, K): A_ij, what training on i does for j."""
    found: Floats = np.where(np.eye(len(edges), dtype=bool), 1.0, edge * edges)
    return found


def weighted(losses: Floats, a: Floats, rate: float, targets: NDArray[np.bool_] | None = None) -> Floats:
    """The shares that losses (W, K) and influence (K, K) bring; see `SkillIt`."""
    if targets is not None:
        return softmax(rate * a[:, targets] @ losses.mean(axis=0)[targets], 1.0)
    return softmax(rate * a @ losses.sum(axis=0), 1.0)


def _losses(arms: Arms) -> Floats:
    found: Floats = np.where(arms.n > 0, 1 - arms.correct / np.maximum(arms.n, 1), 0.5)
    return found
