"""Bandits on the learning gain: rows go where the student's answers to one problem differ most. `sec`, `dump-ucb`."""

from __future__ import annotations

from typing import Any

import numpy as np

from dataenv.agents.allocation import Arms, ItemTeacher, Step, fitted_to
from dataenv.agents.formulas import Floats, category_gain, ema, learning_gain, softmax, ucb_bonus
from dataenv.checks import real

RATE, TEMPERATURE = 0.5, 0.2
"""Of SEC: its step size (a public copy of the code), and a temperature at which one of eight arms can lead (ours: with
gains of at most 1 the code's 1.0 gives it no more than 0.28)."""
SHARP, KEPT = 0.1, 300
"""Of DUMP: the temperature, and how many gains of an arm are averaged (the authors' code)."""


class GainTeacher(ItemTeacher):
    """What both share: how much there is to gain, by arm."""

    def gains(self, arms: Arms) -> list[Floats]:
        """2 sqrt(p(1-p)) of each item; where only an arm's accuracy is known, of that, as if it were one item."""
        rates = self.rates(arms)
        if rates is not None:
            return [learning_gain(p) for p in rates]
        found = category_gain(arms.correct, arms.n)
        return [found[i : i + 1] if arms.n[i] else np.zeros(0) for i in range(len(arms.names))]


class SEC(GainTeacher):
    """Shares are a softmax of values Q; in each step those arms that got rows move to Q + rate (gain - Q).

    The gain is the mean absolute advantage of answers, in its closed form for right and wrong ones (F1). Items that the
    student solves always or never count 0, so mastered and hopeless skills fade. What is solved at random, and cannot
    be learnt, draws all rows.

    Source: Self-Evolving Curriculum for LLM Reasoning (2025), https://arxiv.org/abs/2505.14970. There the gain is of
    the answers a step trains on; here students learn from rows, so exercises are asked.
    """

    name = "sec"

    def __init__(self, temperature: float = TEMPERATURE, *, rate: float = RATE, **options: Any) -> None:
        super().__init__(**options)
        self.tau = real("sec: temperature", temperature, 1e-6)
        self.rate = real("sec: rate", rate, 0, 1)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.q = np.zeros(0)

    def shares(self, arms: Arms) -> Floats:
        return softmax(fitted_to(self.q, len(arms.names)), self.tau)

    def learn(self, step: Step) -> None:
        q = fitted_to(self.q, len(step.arms.names))
        for i, found in enumerate(self.gains(step.arms)):
            if found.size and step.rows[i]:
                q[i] = ema(q[i], found.mean(), self.rate)
        self.q = q


class DumpUCB(GainTeacher):
    """Shares are a softmax of the mean of an arm's last 300 gains plus sqrt(2 ln(N+1)/(n+1)); n and N count rows.

    Each row of the arm counts with the gain of one of its exercises, in turn (ours: there, gains are of the rows' own
    answers).

    Source: DUMP (2025), https://arxiv.org/abs/2504.09710, and its code.
    """

    name = "dump-ucb"

    def __init__(self, temperature: float = SHARP, **options: Any) -> None:
        super().__init__(**options)
        self.tau = real("dump-ucb: temperature", temperature, 1e-6)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.kept: list[list[float]] = []
        """The last gains, by arm."""

    def shares(self, arms: Arms) -> Floats:
        kept = [*self.kept, *([] for _ in range(len(arms.names) - len(self.kept)))]
        means = np.array([np.mean(gains) if gains else 0.0 for gains in kept])
        return softmax(means + ucb_bonus(arms.taught, float(arms.taught.sum())), self.tau)

    def learn(self, step: Step) -> None:
        kept = [*self.kept, *([] for _ in range(len(step.arms.names) - len(self.kept)))]
        for i, found in enumerate(self.gains(step.arms)):
            n = int(step.rows[i])
            if found.size and n:
                kept[i] = [*kept[i], *np.resize(found, n).tolist()][-KEPT:]
        self.kept = kept
