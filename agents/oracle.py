"""The privileged reference: try every candidate plan on a fork of the environment, keep the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataenv.agents.teacher import BaseTeacher, rows_to_plan
from dataenv.checks import whole
from dataenv.errors import InvalidData
from dataenv.records import Feedback, Plan
from dataenv.spaces import allocate

Changes = Sequence[tuple[str, int]]
"""(skill, 1 gained or 0 or -1 lost) for each feedback problem."""


class OracleGreedy(BaseTeacher):
    """Candidates: all rows to one skill, for each skill, and the same rows to every skill. Each is carried out on a
    fork of the environment with the draws that the real step will use; the best change of accuracy (mean over skills)
    is chosen, ties to the earlier skill, and uniform when nothing gains. Myopic: a reference line, no true optimum.

    The choice looks at every second feedback problem only; `expected` is the winner's change on the other ones, which
    the choice has not favoured. With `chunks` > 1 the plan is put together greedily from that many parts.

    Privileged: no teacher can try its plans in earnest. A step costs chunks x (skills + 1) trainings and examinations.
    """

    name = "oracle-greedy"

    def __init__(self, chunks: int = 1) -> None:
        self.chunks = whole("oracle-greedy: chunks", chunks)
        self.expected = 0.0

    def attach(self, env: Any) -> None:
        self._env = env.unwrapped

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        if not hasattr(self, "_env"):
            raise InvalidData("oracle-greedy looks ahead in the environment: call teacher.attach(env) before act().")
        feedback: Feedback = info["feedback"]
        k = len(feedback.skills)
        rows = np.zeros(k, dtype=np.int64)
        here = self._env.clone_state()
        try:
            for part in allocate(np.ones(self.chunks), feedback.budget.rows_now).tolist():
                alone = [part * row for row in np.eye(k, dtype=np.int64)]
                candidates = [*(rows + one for one in alone), rows + allocate(np.ones(k), part)]
                changes = [self._try(here, rows_to_plan(candidate, feedback)) for candidate in candidates]
                scores = [_mean_over_skills(change[0::2]) for change in changes]
                best = int(np.argmax(scores)) if max(scores) > 0 else k
                rows, self.expected = candidates[best], _mean_over_skills(changes[best][1::2])
        finally:
            self._env.restore_state(here)
        return rows_to_plan(rows, feedback)

    def _try(self, here: Any, plan: Plan) -> Changes:
        self._env.restore_state(here)
        self._env.step(self._env.action(plan))
        changes: Changes = self._env.change.by_problem
        return changes


def _mean_over_skills(changes: Changes) -> float:
    by_skill: dict[str, list[int]] = {}
    for skill, moved in changes:
        by_skill.setdefault(skill, []).append(moved)
    means: NDArray[np.float64] = np.array([np.mean(moved) for moved in by_skill.values()])
    return float(means.mean()) if means.size else 0.0
