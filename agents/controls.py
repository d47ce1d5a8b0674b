"""Controls: teachers that ignore the student. Every comparison needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataenv.agents.teacher import BaseTeacher, rows_to_plan, shares_to_plan
from dataenv.records import Feedback, Plan


class Random(BaseTeacher):
    """Shares from a flat Dirichlet, difficulties uniform in [0, 1]."""

    name = "random"

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        k = len(feedback.skills)
        shares = self.rng.dirichlet(np.ones(k)) if k > 1 else np.ones(1)
        return shares_to_plan(shares, feedback, self.rng.uniform(0.0, 1.0, k))


class Uniform(BaseTeacher):
    """The same rows to every skill at natural difficulty; the rows that do not divide rotate, so that over the steps
    no skill is ahead by more than one."""

    name = "uniform"

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.next = 0

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        k = len(feedback.skills)
        each, rest = divmod(feedback.budget.rows_now, k)
        rows = np.full(k, each, dtype=np.int64)
        rows[[(self.next + i) % k for i in range(rest)]] += 1
        self.next = (self.next + rest) % k
        return rows_to_plan(rows, feedback)
