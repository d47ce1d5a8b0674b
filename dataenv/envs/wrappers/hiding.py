"""The no-state twin: the same teacher, environment and budget, but nothing that tells how the student does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from dataenv.errors import InvalidData
from dataenv.records import Feedback, SkillScore


class HideFeedback(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Blanks performance in observation, info and reward; what a teacher did itself, and its budget, stay.

    The control that says what feedback is worth (the paper's "no state"). The blanks are those of an examination that
    asked nothing: n = 0, accuracy 0.5, gain 0 with standard error 0.5. Skill names, own plans, rows taught, dropped
    and left, and steps left stay, because a teacher blind to its budget would differ by more than feedback. An info
    key that is not known here is taken out, a key of the observation that is not known is refused.

    Reward: 0.0, or a teacher that learns from rewards would see by them. Recorders that need the truth go inside:
    `HideFeedback(RecordEpisodeStatistics(env))`. With `reward=True` it passes; that is for training a policy which
    acts without looking.

    Not hidden: with a `target`, that the episode ends early; with an engine or a filter that asks the student, how many
    rows came of it, and why not more.

    It goes directly around an environment, inside of views: `FlatView(HideFeedback(env))`.
    """

    def __init__(self, env: gym.Env[Any, Any], reward: bool = False) -> None:
        RecordConstructorArgs.__init__(self, reward=reward)
        gym.Wrapper.__init__(self, env)
        space = env.observation_space
        unknown = set(space) - _BLANK.keys() - _KEPT if isinstance(space, gym.spaces.Dict) else {str(space)}
        if unknown:
            raise InvalidData(
                f"HideFeedback does not know what {sorted(unknown)} in the observation tells of the student; "
                "put it directly around a dataenv environment, inside of other views."
            )
        self.shows_reward = reward

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return hidden(*self.env.reset(seed=seed, options=options))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        observation, info = hidden(observation, info)
        return observation, float(reward) if self.shows_reward else 0.0, terminated, truncated, info


def hidden(observation: Mapping[str, Any], info: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copies of observation and info with everything blanked that tells how the student does."""
    seen = {key: _BLANK[key](value) if key in _BLANK else value for key, value in observation.items()}
    told = {key: _INFO[key](value) for key, value in info.items() if key in _INFO}
    return seen, told


def _filled(with_: float) -> Callable[[Any], Any]:
    return lambda value: np.full_like(value, with_)


def _history(value: Any) -> Any:
    """Rows accepted stay; gain 0 and error 0.5 where there was a step."""
    rows, _, error = np.asarray(value).T
    return np.stack([rows, np.zeros_like(rows), np.where(error > 0, 0.5, 0.0)], 1)


def _feedback(feedback: Feedback) -> Feedback:
    scores = tuple(SkillScore(skill=score.skill, n=0, correct=0) for score in feedback.skills)
    history = tuple(past.model_copy(update={"reward": 0.0, "error": 0.5}) for past in feedback.history)
    return feedback.model_copy(update={"skills": scores, "failures": (), "history": history})


def _as_is(value: Any) -> Any:
    return value


def _forest(forest: Any) -> Any:
    """The trees and their quotas, nothing of what their probes showed."""
    return forest.each(lambda _, subskill: subskill.model_copy(update={"n": 0, "correct": 0}))


_KEPT = frozenset({"taught", "budget", "exists", "quota", "subskill_taught", "moves"})
"""Keys of observations that say nothing of the student."""

_BLANK: dict[str, Callable[[Any], Any]] = {
    "accuracy": _filled(0.5),
    "error": _filled(0.5),
    "examined": _filled(0),
    "failures": lambda _: (),
    "history": _history,
    "subskill_accuracy": _filled(0.5),
    "subskill_examined": _filled(0),
}
"""Key of an observation -> what takes its place."""

_INFO: dict[str, Callable[[Any], Any]] = {
    "plan": _as_is,
    "rows": _as_is,
    "unmatched": _as_is,
    "action_mask": _as_is,
    "forest": _forest,
    "feedback": _feedback,
    "baseline": lambda baseline: {**dict.fromkeys(baseline), "shots": baseline["shots"]},
    "student": lambda _: "",
    "reward_error": lambda _: 0.5,
    "reward_n": lambda _: 0,
    "skill_gain": lambda _: {},
    "skill_error": lambda _: {},
    "teach": lambda teach: {**teach, "loss": None},
}
"""Key of info -> what takes its place."""
