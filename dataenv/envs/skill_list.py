"""`dataenv/SkillList-v0`: the teacher sees a score per skill and deals rows, with a difficulty, to the skills."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dataenv.envs.scores import score_arrays, score_spaces
from dataenv.envs.teaching import TeachingEnv
from dataenv.errors import InvalidAction
from dataenv.records import Feedback, Plan, Request
from dataenv.spaces import Shares

Observation = dict[str, NDArray[Any]]
Action = dict[str, NDArray[Any]]

NATURAL = -1.0
"""Difficulty that leaves the engine its natural mix; any negative one does."""


class SkillListEnv(TeachingEnv[Observation, Action]):
    """Observation (K skills, in the order of `task.skills`):

    * `accuracy` (K,) in [0, 1]: share of the skill's feedback problems solved; 0.5 where none was examined.
    * `error` (K,): its standard error. `examined` (K,): how many problems it rests on; 0 masks the accuracy.
    * `taught` (K,): rows taught so far. `budget` (2,): rows left in the episode, steps left.

    Action:

    * `rows` (K,): whole numbers that add up to at most `rows`, the step's budget.
    * `difficulty` (K,) in [-1, 1]: 0 easiest, 1 hardest; negative for the task's natural mix.

    Arguments, reward and info: see `TeachingEnv`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.observation_space = spaces.Dict(score_spaces(self))  # type: ignore[arg-type, assignment]
        k = len(self.task.skills)
        self.action_space = spaces.Dict(  # type: ignore[assignment]
            {"rows": Shares(k, self.rows), "difficulty": spaces.Box(-1.0, 1.0, (k,), np.float64)}
        )

    def observe(self, feedback: Feedback) -> Observation:
        return score_arrays(feedback)

    def plan(self, action: Action) -> Plan:
        rows, difficulty = self._checked(action)
        requests = [
            Request(skill=skill, rows=int(n), difficulty=float(d) if d >= 0 else None)
            for skill, n, d in zip(self.task.skills, rows, difficulty, strict=True)
            if n > 0
        ]
        return Plan(requests=tuple(requests))

    def action(self, plan: Plan) -> Action:
        """The action that asks for `plan`: rows added up per skill, difficulties averaged over them.

        Raises InvalidAction where an action of this environment cannot say it: rows written out, instructions,
        exemplars, subskills, or a skill the task does not have.
        """
        rows = dict.fromkeys(self.task.skills, 0)
        weighted = dict.fromkeys(self.task.skills, 0.0)
        natural: set[str] = set()
        if plan.examples:
            raise InvalidAction("plan.examples: SkillList takes no written-out rows; ask for rows per skill.")
        for i, request in enumerate(plan.requests):
            self.must_have(request.skill, f"plan.requests[{i}].skill")
            if request.instruction or request.exemplar or request.subskill:
                raise InvalidAction(f"plan.requests[{i}]: SkillList takes skill, rows and difficulty only.")
            rows[request.skill] += request.rows
            if request.difficulty is None:
                natural.add(request.skill)
            else:
                weighted[request.skill] += request.rows * request.difficulty
        return {
            "rows": np.array(list(rows.values()), dtype=np.int64),
            "difficulty": np.array(
                [NATURAL if s in natural or n == 0 else min(weighted[s] / n, 1.0) for s, n in rows.items()]
            ),
        }

    def _checked(self, action: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """The two arrays of an action inside the space; otherwise one sentence that names the part at fault."""
        if not isinstance(action, dict) or set(action) != {"rows", "difficulty"}:
            got = sorted(map(str, action)) if isinstance(action, dict) else type(action).__name__
            raise InvalidAction(f"An action is a dict with 'rows' and 'difficulty'; got {got}.")
        shares = self.action_space["rows"]  # type: ignore[index]
        fault = shares.fault(action["rows"])
        if fault is not None:
            raise InvalidAction(f"action['rows'] {fault}.".replace("'] [", "']["))
        try:
            difficulty = np.asarray(action["difficulty"])
        except ValueError:  # ragged
            difficulty = np.empty(0, object)
        if difficulty.dtype.kind not in "iuf":
            raise InvalidAction("action['difficulty'] is not an array of numbers.")
        if difficulty.shape != shares.shape:
            raise InvalidAction(f"action['difficulty'] has shape {difficulty.shape}; it must be {shares.shape}.")
        for i, value in enumerate(difficulty.tolist()):
            if not -1.0 <= value <= 1.0:
                raise InvalidAction(f"action['difficulty'][{i}] is {value}; it must lie in [-1, 1].")
        return np.asarray(action["rows"]), difficulty
