"""What SkillList and SkillTree observe alike: a score per skill, and the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dataenv.envs.teaching import TeachingEnv
from dataenv.records import Feedback


def score_spaces(env: TeachingEnv[Any, Any]) -> dict[str, spaces.Box]:
    """The spaces of `score_arrays`, whose entries they explain (K skills, in the order of `task.skills`).

    * `accuracy` (K,) in [0, 1]: share of the skill's feedback problems solved; 0.5 where none was examined.
    * `error` (K,): its standard error. `examined` (K,): how many problems it rests on; 0 masks the accuracy.
    * `taught` (K,): rows taught so far. `budget` (2,): rows left in the episode, steps left.
    """
    k, most = len(env.task.skills), np.iinfo(np.int64).max if env.feedback is None else env.feedback
    return {
        "accuracy": spaces.Box(0.0, 1.0, (k,), np.float64),
        "error": spaces.Box(0.0, 1.0, (k,), np.float64),
        "examined": spaces.Box(0, most, (k,), np.int64),
        "taught": spaces.Box(0, env.max_rows, (k,), np.int64),
        "budget": spaces.Box(np.zeros(2, np.int64), np.array([env.max_rows, env.steps]), dtype=np.int64),
    }


def score_arrays(feedback: Feedback) -> dict[str, NDArray[Any]]:
    """`feedback` as arrays; see `score_spaces`."""
    scores = feedback.skills
    return {
        "accuracy": np.array([0.5 if score.accuracy is None else score.accuracy for score in scores]),
        "error": np.array([score.error for score in scores]),
        "examined": np.array([score.n for score in scores], dtype=np.int64),
        "taught": np.array([feedback.taught[score.skill] for score in scores], dtype=np.int64),
        "budget": np.array([feedback.budget.rows_left, feedback.budget.steps_left], dtype=np.int64),
    }
