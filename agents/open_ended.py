"""Teachers for `dataenv/OpenEnded-v0` that need no language model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataenv.agents.teacher import BaseTeacher
from dataenv.errors import InvalidData
from dataenv.records import Feedback, Plan
from dataenv.spaces import allocate


class RowsLikeFailures(BaseTeacher):
    """The same number of rows like each failed problem it is shown: a request per failure, the failed problem as its
    exemplar. Where nothing failed, the same rows to every skill.

    The failures shown are a uniform sample, so the skills get rows in proportion to their failures, in expectation.
    It is the paper's Open-Ended teacher without a language model: the engine finds out what the exemplar is about.
    """

    name = "rows-like-failures"
    environments = ("open-ended",)

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan | tuple[dict[str, Any], ...]:
        feedback: Feedback = info["feedback"]
        if not isinstance(observation, Mapping) or "failures" not in observation:
            raise InvalidData(
                f"{self.name} reads failed problems, which this environment does not show; use open-ended."
            )
        failures = [failure for failure in observation["failures"] if failure["problem"].strip()]
        if not failures:
            return self.deal(np.ones(len(feedback.skills)), feedback)
        dealt = allocate(np.ones(len(failures)), feedback.budget.rows_now).tolist()
        return tuple(
            {"exemplar": failure["problem"], "rows": n} for failure, n in zip(failures, dealt, strict=True) if n > 0
        )
