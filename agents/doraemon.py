"""doraemon: as wide a mix of skills and difficulties as the student can still cope with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dataenv.agents.allocation import Arms, Step, fitted_to
from dataenv.agents.formulas import Floats, divergence, smoothed
from dataenv.agents.levels import BANK, LevelTeacher, cells_to_plan
from dataenv.checks import real
from dataenv.records import Feedback, Plan
from dataenv.spaces import proportions

BINS = 5
"""Bands of difficulty (ours)."""
GOAL = 0.5
"""Expected success that is kept (ours)."""
SPEED = 0.1
"""How far the mix may move in a step, as a Kullback-Leibler divergence (ours)."""
FLOOR = 1e-3
"""Least weight of a cell, before all are scaled to 1 (ours)."""
TURNS = 60
"""Of each bisection."""
STEEPEST = 1e4
"""The largest slope c that is tried."""


class Doraemon(LevelTeacher):
    """Shares over cells (skill, band of difficulty): those of the highest entropy whose expected success is at least
    `goal` and whose divergence from the last ones is at most `speed`. It begins at the easiest band of every skill and
    widens as success allows; where success is out of reach, it moves to where there is most.

    Success in a cell is the smoothed share of its exercises that are solved; 0.5 where it has none. In SkillTree the
    cells are the leaves.

    Source: Domain Randomization via Entropy Maximization (2023), https://arxiv.org/abs/2311.01885. Ours: cells in place
    of Beta distributions, for which the optimum is known exactly, see `widened`.
    """

    name = "doraemon"

    def __init__(self, goal: float = GOAL, *, speed: float = SPEED, bank: int = BANK) -> None:
        super().__init__(bank=bank)
        self.goal, self.speed = real("doraemon: goal", goal, 0, 1), real("doraemon: speed", speed, 1e-6)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.cells = np.zeros(0)
        """Weights (K x D) as a list."""
        self.due = np.zeros(0)

    def shares(self, arms: Arms) -> Floats:
        """(K,): over the bands of each arm."""
        found: Floats = self._now(arms).reshape(len(arms.names), -1).sum(axis=1)
        return found

    def plan(self, arms: Arms, feedback: Feedback, *, in_words: bool) -> Plan:
        weights = self._now(arms).reshape(len(arms.names), BINS)
        owed = fitted_to(self.due, weights.size).reshape(weights.shape)
        levels = (np.arange(BINS) + 0.5) / BINS
        plan, owed = cells_to_plan(weights, levels.tolist(), feedback, owed, in_words=in_words)
        self.due = owed.ravel()
        return plan

    def learn(self, step: Step) -> None:
        self.cells = widened(self._now(step.arms), self._solved(step.arms), self.goal, self.speed)

    def _now(self, arms: Arms) -> Floats:
        """The weights of the cells; arms that have joined begin where all began."""
        bins = BINS if arms.names == arms.skills else 1
        first = np.full((len(arms.names), bins), FLOOR)
        first[:, 0] = max(1 - (first.size - len(arms.names)) * FLOOR, FLOOR) / len(arms.names)
        new = first.ravel()[self.cells.size :]
        old = np.concatenate([self.cells * (1 - new.sum()), new]) if self.cells.size else first.ravel()
        return proportions(old)

    def _solved(self, arms: Arms) -> Floats:
        """Success by cell."""
        if arms.names != arms.skills:
            return arms.p
        counts = np.zeros((2, len(arms.names), BINS))
        for skill, difficulty, right in self.solved():
            bins = slice(None) if difficulty is None else min(int(difficulty * BINS), BINS - 1)
            counts[0, arms.names.index(skill), bins] += right
            counts[1, arms.names.index(skill), bins] += 1
        return smoothed(counts[0], counts[1]).ravel()


def widened(old: Floats, p: Floats, goal: float = GOAL, speed: float = SPEED) -> Floats:
    """The w (C,) of the highest entropy with sum w p >= goal and KL(w || old) <= speed, floored.

    It has the form w ~ old^a exp(c p): c is the least that brings enough success, a the least, in [0, 1], that keeps
    the divergence. Where no such w is, the one of most success within the divergence (a = 1).
    """
    log = np.log(np.maximum(old, 1e-300))

    def mix(a: float, c: float) -> Floats:
        x = a * log + c * p
        return proportions(np.exp(x - x.max()))

    def least_slope(a: float) -> float:
        if mix(a, 0.0) @ p >= goal:
            return 0.0
        return _least(lambda c: bool(mix(a, c) @ p >= goal), 0.0, STEEPEST)

    def near(w: Floats) -> bool:
        return divergence(w, old) <= speed

    reached = mix(1.0, least_slope(1.0))
    if reached @ p < goal - 1e-9 or not near(reached):
        found = mix(1.0, STEEPEST - _least(lambda c: near(mix(1.0, STEEPEST - c)), 0.0, STEEPEST))
    elif near(mix(0.0, least_slope(0.0))):
        found = mix(0.0, least_slope(0.0))
    else:
        a = _least(lambda a: near(mix(a, least_slope(a))), 0.0, 1.0)
        found = mix(a, least_slope(a))
    return proportions(np.maximum(found, FLOOR))


def _least(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The least number in [low, high] for which `holds`, where it holds for all larger ones; `high` if for none."""
    for _ in range(TURNS):
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
