"""alp-gmm: requests are drawn where a mixture of Gaussians sees the most absolute learning progress."""

from __future__ import annotations

import warnings

import numpy as np

from dataenv.agents.allocation import Arms, Step, slots_to_shares
from dataenv.agents.formulas import Floats
from dataenv.agents.levels import BANK, LevelTeacher, third
from dataenv.checks import whole
from dataenv.errors import MissingDependency
from dataenv.records import Feedback, Plan, Request
from dataenv.spaces import allocate, proportions

REQUESTS = 8
"""Requests of a step (ours)."""
FIT_RATE = 40
"""Outcomes between two fits, and that a fit looks at (ours; 250 in the authors' code, for thousands of outcomes)."""
RANDOM = 0.2
"""Share of requests that are drawn uniformly (the authors' code)."""
MOST = 10
"""Gaussians of the largest mixture that is tried (the authors' code)."""
KNOWN, NEIGHBOURS = 5, 500
"""Outcomes that are stored before progress is counted, and among how many the nearest is sought (the authors' code)."""
RIDGE = 1e-6
"""Added to the covariances (ours)."""


class AlpGMM(LevelTeacher):
    """An outcome is a request's skill and difficulty with the student's success there after the step; its absolute
    learning progress is how far that differs from the success of the nearest earlier request. Every `fit_rate` outcomes
    mixtures of 2 to 10 Gaussians are fitted to (request, progress), and the one of the lowest AIC is kept. A request is
    drawn from one of its Gaussians, chosen in proportion to its mean progress, or uniformly (1 in 5, and at first).

    A request is a point: its skill one-hot, so that all of another skill is farther than any difficulty, and its
    difficulty. Success is the share solved of the third of the skill's exercises whose difficulty is nearest; of its
    feedback problems where tasks state none. Actions that have one difficulty for each skill make requests of one skill
    one, at their mean. In SkillTree a request is a leaf.

    At the edge of what can be learnt it sees progress, because neighbours differ, though nothing is learnt.

    Source: ALP-GMM (2019), https://arxiv.org/abs/1910.07224, and its code; the encoding and the smaller fits are ours.
    """

    name = "alp-gmm"

    def __init__(self, fit_rate: int = FIT_RATE, *, requests: int = REQUESTS, bank: int = BANK) -> None:
        super().__init__(bank=bank)
        self.fit_rate, self.requests = whole("alp-gmm: fit_rate", fit_rate, 10), whole("alp-gmm: requests", requests)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.asked: list[tuple[int, float, int]] = []
        """The step's requests: arm, difficulty, and how many of those drawn they are."""
        self.outcomes: list[tuple[int, float, float, float]] = []
        """The last ones: arm, difficulty, success, progress."""
        self.unfitted = 0
        """Outcomes since the last fit."""
        self.means: list[list[float]] = []
        self.covariances: list[list[list[float]]] = []
        """Of the Gaussians; empty before the first fit."""

    def shares(self, arms: Arms) -> Floats:
        """(K,): of requests that are drawn now."""
        k = len(arms.names)
        self.asked = _merged([self._drawn_request(k) for _ in range(self.requests)])
        return slots_to_shares([sum(n for arm, _, n in self.asked if arm == i) for i in range(k)])

    def plan(self, arms: Arms, feedback: Feedback, *, in_words: bool) -> Plan:
        drawn = [self._drawn_request(len(arms.names)) for _ in range(self.requests)]
        self.asked = drawn if in_words else _merged(drawn)
        rows = allocate([n for _, _, n in self.asked], feedback.budget.rows_now).tolist()
        return Plan(
            requests=tuple(
                Request(skill=arms.names[arm], rows=n, difficulty=level)
                for (arm, level, _), n in zip(self.asked, rows, strict=True)
                if n
            )
        )

    def learn(self, step: Step) -> None:
        for (arm, level, _), success in zip(self.asked, self._successes(step.arms), strict=True):
            if success is not None:
                near = self.outcomes[-NEIGHBOURS:]
                progress = 0.0
                if len(near) > KNOWN:
                    # Skills are sqrt 2 apart, difficulties at most 1.
                    nearest = min(near, key=lambda o: 2.0 * (o[0] != arm) + (o[1] - level) ** 2)
                    progress = abs(success - nearest[2])
                self.outcomes = [*self.outcomes, (arm, level, success, progress)][-max(NEIGHBOURS, self.fit_rate) :]
                self.unfitted += 1
        if self.unfitted >= self.fit_rate:
            self.unfitted = 0
            self._fit(len(step.arms.names))

    def _drawn_request(self, k: int) -> tuple[int, float, int]:
        if not self.means or self.rng.random() < RANDOM:
            return (int(self.rng.integers(k)) if k > 1 else 0), float(self.rng.random()), 1
        which = int(self.rng.choice(len(self.means), p=proportions([max(mean[-1], 0.0) for mean in self.means])))
        *skill, level, _ = self.rng.multivariate_normal(self.means[which], self.covariances[which], method="eigh")
        return int(np.argmax(skill)), float(np.clip(level, 0.0, 1.0)), 1

    def _successes(self, arms: Arms) -> list[float | None]:
        """By request; None where nothing is known."""
        examined = [float(c / n) if n else None for c, n in zip(arms.correct, arms.n, strict=True)]
        found: dict[str, list[tuple[float, bool]]] = {}
        if arms.names == arms.skills:
            for skill, difficulty, right in self.solved({arms.names[arm] for arm, _, _ in self.asked}):
                if difficulty is not None:
                    found.setdefault(skill, []).append((difficulty, right))
        successes: list[float | None] = []
        for arm, level, _ in self.asked:
            known = found.get(arms.names[arm])
            if known is None:
                successes.append(examined[arm])
            else:
                levels, right = np.array(known, np.float64).T
                successes.append(float(right[third(levels, level)].mean()))
        return successes

    def _fit(self, k: int) -> None:
        points = np.array([[*np.eye(k)[int(arm)], level, p] for arm, level, _, p in self.outcomes[-self.fit_rate :]])
        best = fitted_mixture(points, min(MOST, self.fit_rate // 5), int(self.rng.integers(2**31)))
        if best is not None:
            self.means, self.covariances = best[0].tolist(), best[1].tolist()


def fitted_mixture(points: Floats, most: int, seed: int) -> tuple[Floats, Floats] | None:
    """Means and covariances of the mixture of 2 to `most` Gaussians with the lowest AIC; None where the points do not
    differ enough for one."""
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise MissingDependency('alp-gmm needs scikit-learn: pip install "dataenv[tasks]".') from error
    best = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # points that coincide: the ridge does for them
        for k in range(2, min(most, len(np.unique(points, axis=0))) + 1):
            mixture = GaussianMixture(k, reg_covar=RIDGE, random_state=seed).fit(points)
            score = mixture.aic(points)
            if best is None or score < best[0]:
                best = score, mixture
    return None if best is None else (best[1].means_, best[1].covariances_)


def _merged(drawn: list[tuple[int, float, int]]) -> list[tuple[int, float, int]]:
    """One request for each arm, at the mean difficulty of those drawn of it."""
    levels: dict[int, list[float]] = {}
    for arm, level, _ in drawn:
        levels.setdefault(arm, []).append(level)
    return [(arm, float(np.mean(found)), len(found)) for arm, found in levels.items()]
