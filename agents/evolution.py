"""Teachers that search among whole mixes by the reward alone: `cma-mix`, `es-mix`. They read no score of any skill."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dataenv.agents.formulas import Floats, softmax
from dataenv.agents.teacher import BaseTeacher
from dataenv.checks import real
from dataenv.records import Feedback, Plan, Transition

SIGMA, LEAST = 0.5, 0.05
"""Step size at the start (ours) and its floor (ours: rewards are noisy)."""
COMPARED = 5
"""Rewards whose mean a reward is compared with (ours)."""
UP, DOWN = 1.22, 0.95
"""What the hill climber's step size is multiplied with on success and on failure (the 1/5 rule, roughly)."""

FADES = 0.9
"""What is left of the kept mix's fitness after a failure (ours)."""


class CMA:
    """CMA-ES in n dimensions: `ask` for points, `tell` their values, larger ones better.

    Source: Hansen, The CMA Evolution Strategy: A Tutorial (2016), https://arxiv.org/abs/1604.00772, with its default
    constants and positive weights only.
    """

    def __init__(self, n: int, sigma: float = SIGMA, least: float = LEAST) -> None:
        self.n, self.sigma, self.least = n, sigma, least
        self.mean, self.covariance = np.zeros(n), np.eye(n)
        self.path, self.sigma_path = np.zeros(n), np.zeros(n)
        self.generation = 0
        self.size = 4 + int(3 * math.log(n))
        parents = self.size // 2
        weights = math.log(self.size / 2 + 0.5) - np.log(np.arange(1, parents + 1))
        self.weights: Floats = weights / weights.sum()

    def ask(self, rng: np.random.Generator) -> Floats:
        """(n,): a point to try."""
        values, vectors = np.linalg.eigh(self.covariance)
        drawn = vectors @ (np.sqrt(np.maximum(values, 1e-20)) * rng.standard_normal(self.n))
        point: Floats = self.mean + self.sigma * drawn
        return point

    def tell(self, points: Floats, scores: Floats) -> None:
        """Move to the better of `points` (size, n); NaN scores are the worst."""
        n, mu = self.n, 1 / float((self.weights**2).sum())
        order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")[: len(self.weights)]
        steps = (points[order] - self.mean) / self.sigma
        step = self.weights @ steps
        c_sigma = (mu + 2) / (n + mu + 5)
        damping = 1 + 2 * max(0.0, math.sqrt((mu - 1) / (n + 1)) - 1) + c_sigma
        c_path = (4 + mu / n) / (n + 4 + 2 * mu / n)
        c_one = 2 / ((n + 1.3) ** 2 + mu)
        c_mu = min(1 - c_one, 2 * (mu - 2 + 1 / mu) / ((n + 2) ** 2 + mu))
        expected = math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        values, vectors = np.linalg.eigh(self.covariance)
        whitened = vectors @ ((vectors.T @ step) / np.sqrt(np.maximum(values, 1e-20)))
        self.generation += 1
        self.mean = self.mean + self.sigma * step
        self.sigma_path = (1 - c_sigma) * self.sigma_path + math.sqrt(c_sigma * (2 - c_sigma) * mu) * whitened
        length = float(np.linalg.norm(self.sigma_path))
        settled = length / math.sqrt(1 - (1 - c_sigma) ** (2 * self.generation)) < (1.4 + 2 / (n + 1)) * expected
        self.path = (1 - c_path) * self.path + settled * math.sqrt(c_path * (2 - c_path) * mu) * step
        kept = (1 - c_one - c_mu) + (not settled) * c_one * c_path * (2 - c_path)
        spread = np.einsum("i,ij,ik->jk", self.weights, steps, steps)
        self.covariance = kept * self.covariance + c_one * np.outer(self.path, self.path) + c_mu * spread
        self.sigma = max(self.sigma * math.exp(c_sigma / damping * (length / expected - 1)), self.least)

    def state(self) -> dict[str, Any]:
        """All that `ask` and `tell` depend on, as JSON-serialisable data."""
        kept = ("sigma", "mean", "covariance", "path", "sigma_path", "generation")
        return {"n": self.n, "least": self.least, **{name: np.asarray(getattr(self, name)).tolist() for name in kept}}

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> CMA:
        """What `state` was of."""
        made = cls(state["n"], state["sigma"], state["least"])
        for name in ("mean", "covariance", "path", "sigma_path"):
            setattr(made, name, np.array(state[name], np.float64))
        made.generation = int(state["generation"])
        return made


class MixTeacher(BaseTeacher):
    """What both share: a step tries one mix, softmax(x), and its fitness is the reward less the mean of the last five.

    A mix is taught to a student that has already learnt from the earlier ones, so fitness drifts; that is why rewards
    are compared with recent ones.
    """

    environments = ("open-ended", "skill-list")

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.x = np.zeros(0)
        """The point that is being tried."""
        self.rewards: list[float] = []

    def next(self) -> Floats:
        """(K,): the point to try now; `self.x` has the number of skills."""
        raise NotImplementedError

    def told(self, fitness: float) -> None:
        """What the last point came to."""
        raise NotImplementedError

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        k = len(feedback.skills)
        if self.x.size != k:
            self.x = np.zeros(k)
        if k > 1:
            self.x = self.next()
        return self.deal(softmax(self.x, 1.0), feedback)

    def observe(self, transition: Transition) -> None:
        reward = float(transition.reward)
        if self.x.size > 1:
            self.told(reward - float(np.mean(self.rewards or [reward])))
        if math.isfinite(reward):
            self.rewards = [*self.rewards, reward][-COMPARED:]


class CMAMix(MixTeacher):
    """CMA-ES over the shares, a generation being so many steps as it has points (8 for five skills).

    The control of teachers that let a language model do the same. `es-mix` is the simpler one. Ours: the fitness, and
    that candidates are tried one after the other, where the original scores all of them from one snapshot.
    """

    name = "cma-mix"

    def __init__(self, sigma: float = SIGMA) -> None:
        self.sigma = real("cma-mix: sigma", sigma, LEAST)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._search: CMA | None = None
        self.points: list[list[float]] = []
        self.fitness: list[float] = []

    def next(self) -> Floats:
        if self._search is None:
            self._search = CMA(self.x.size, self.sigma)
        return self._search.ask(self.rng)

    def told(self, fitness: float) -> None:
        if self._search is None:
            return
        self.points, self.fitness = [*self.points, self.x.tolist()], [*self.fitness, fitness]
        if len(self.points) == self._search.size:
            self._search.tell(np.array(self.points), np.array(self.fitness))
            self.points, self.fitness = [], []

    def state(self) -> dict[str, Any]:
        return {**super().state(), "search": None if self._search is None else self._search.state()}

    def restore(self, state: dict[str, Any]) -> None:
        own = dict(state)
        search = own.pop("search")
        super().restore(own)
        self._search = None if search is None else CMA.restored(search)


class ESMix(MixTeacher):
    """A hill climber, (1+1)-ES: a changed mix is kept if its fitness is above that of the kept one, which fades with
    every failure, for it is of another time (ours); steps grow on success and shrink on failure. It begins with
    uniform."""

    name = "es-mix"

    def __init__(self, sigma: float = SIGMA) -> None:
        self.first_sigma = real("es-mix: sigma", sigma, LEAST)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.sigma = self.first_sigma
        self.kept = np.zeros(0)
        self.best: float | None = None

    def next(self) -> Floats:
        if self.best is None or self.kept.size != self.x.size:
            return np.zeros(self.x.size)
        point: Floats = self.kept + self.sigma * self.rng.standard_normal(self.x.size)
        return point

    def told(self, fitness: float) -> None:
        if math.isnan(fitness):
            fitness = -math.inf
        if self.best is None or fitness > self.best:
            self.sigma *= UP if self.best is not None else 1.0
            self.kept, self.best = self.x, max(fitness, -1.0)
        else:
            self.best *= FADES
            self.sigma = max(self.sigma * DOWN, LEAST)
