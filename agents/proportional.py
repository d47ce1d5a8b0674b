"""Rows in proportion to errors: the baseline every teacher that reads feedback has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataenv.agents.teacher import BaseTeacher
from dataenv.checks import real
from dataenv.records import Feedback, Plan


class ErrorProportional(BaseTeacher):
    """Share of skill s proportional to (1 - p_s)^power, p_s the smoothed accuracy (correct+1)/(n+2), mixed with a
    uniform floor: (1 - floor) w + floor / K. Folklore; the allocation core of CEMAL (2023). Difficulty is natural.

    A skill without examined problems counts as p = 0.5. What is lost by rounding is made good in the next steps, see
    `BaseTeacher.deal`. It wastes rows on skills that cannot be learnt.
    """

    name = "error-proportional"

    def __init__(self, power: float = 1.0, floor: float = 0.1) -> None:
        self.power = real("error-proportional: power", power, 0)
        self.floor = real("error-proportional: floor", floor, 0, 1)

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        return self.deal(error_shares(feedback, self.power, self.floor), feedback)


def error_shares(feedback: Feedback, power: float = 1.0, floor: float = 0.1) -> NDArray[np.float64]:
    """The share of each skill that `ErrorProportional` deals it."""
    solved = np.array([(score.correct + 1) / (score.n + 2) for score in feedback.skills])
    weights = (1 - solved) ** power
    shares: NDArray[np.float64] = (1 - floor) * weights / weights.sum() + floor / len(weights)
    return shares
