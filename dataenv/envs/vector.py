"""K environments in one process, for `gymnasium.make_vec(id, num_envs=K, vectorization_mode="vector_entry_point")`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import iterate

from dataenv.envs import ENVS
from dataenv.errors import InvalidAction, InvalidData
from dataenv.meeting import together
from dataenv.protocols import Student, Task
from dataenv.students import make_students
from dataenv.tasks import tasks


class TeachingVectorEnv(SyncVectorEnv[Any, Any]):
    """K environments of one kind, stepped side by side; each is what it would be alone with its seed.

    One task serves all. Each has a student of its own; those of one id share the base weights, which the process holds
    once. `reset(seed=s)` gives environment i the seed s + i. Observations are stacked; `info["x"]` is an array over
    the environments with the mask `info["_x"]`, and objects in it, like `info["feedback"][i]`, are the environments'
    own: no text is copied or pickled.

    The environments run one at a time until each asks its student for something, and what students of one id are
    asked is then computed at once (`dataenv.meeting`, `dataenv.students.stacked`): K micro students cost far less than
    K runs. Their weights may differ from those of a student alone by rounding.

    Args:
        entry_point: "module:class" of the environment.
        task: an id, or a task.
        student: an id, or one student object for each environment.
        autoreset_mode: "NextStep": the step after an episode's last one resets; its action is ignored and its reward
            0. "SameStep" and "Disabled": see Gymnasium.
        options: the environment's own, see `TeachingEnv`.

    When one of the actions is none, InvalidAction comes before any student is taught. When an environment fails in
    another way, all of them are as before the step, and its error is raised.
    """

    def __init__(
        self,
        entry_point: str,
        num_envs: int = 1,
        *,
        task: str | Task = "drills",
        student: str | Sequence[Student] = "micro",
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> None:
        students = make_students(student, num_envs) if isinstance(student, str) else student
        if not isinstance(students, Sequence) or len(students) != num_envs:
            raise InvalidData(f"student must be an id or a list of {num_envs} students, one for each environment.")
        if len(set(map(id, students))) < num_envs:
            raise InvalidData("student names the same object twice; each environment needs a student of its own.")
        make: Any = load_env_creator(entry_point)
        task = tasks.make(task) if isinstance(task, str) else task
        super().__init__([partial(make, task, own, **options) for own in students], autoreset_mode=autoreset_mode)

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> Any:
        """See `gymnasium.vector.VectorEnv.reset`."""
        n = self.num_envs
        seeds: Any = seed
        if seed is None or isinstance(seed, int):
            seeds = [seed if seed is None else seed + i for i in range(n)]
        mask = (options or {}).get("reset_mask", np.ones(n, np.bool_))
        if len(seeds) != n or not (isinstance(mask, np.ndarray) and mask.dtype == np.bool_ and mask.shape == (n,)):
            return super().reset(seed=seed, options=options)  # it says what is wrong
        others = {key: value for key, value in (options or {}).items() if key != "reset_mask"}
        wanted = np.flatnonzero(mask).tolist()
        resets = [partial(self.envs[i].reset, seed=seeds[i], options=others) for i in wanted]
        told = dict(zip(wanted, _all(together(resets)), strict=True))
        with self._standing_in([[told[i]] if i in told else [] for i in range(n)]):
            return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> Any:
        """See `gymnasium.vector.VectorEnv.step`."""
        each = list(iterate(self.action_space, actions))
        for i, (env, action) in enumerate(zip(self.envs, each, strict=True)):
            if not self._autoreset_envs[i] and action not in env.action_space:
                try:
                    env.unwrapped.plan(action)  # type: ignore[attr-defined]  # it says what is wrong
                except InvalidAction as error:
                    raise InvalidAction(f"environment {i}: {error}") from error
        envs: list[Any] = self.envs
        before = [env.clone_state() for env in envs]
        try:
            told = _all(together([partial(self._step_one, i, action) for i, action in enumerate(each)]))
        except BaseException:
            for env, state in zip(envs, before, strict=True):
                with suppress(Exception):  # one that cannot say how it is now must not keep the others from going back
                    env.restore_state(state)
            raise
        with self._standing_in(told):
            return super().step(actions)

    def _step_one(self, i: int, action: Any) -> list[Any]:
        """What environment `i` answers to the calls that gymnasium's loop makes of it in a step."""
        env = self.envs[i]
        if self._autoreset_envs[i] and self.autoreset_mode == AutoresetMode.NEXT_STEP:
            return [env.reset()]
        told: list[Any] = [env.step(action)]
        if (told[0][2] or told[0][3]) and self.autoreset_mode == AutoresetMode.SAME_STEP:
            told.append(env.reset())
        return told

    @contextmanager
    def _standing_in(self, told: Sequence[Sequence[Any]]) -> Iterator[None]:
        """Inside the block the environments answer what they have been `told` already, one answer for each call."""
        stand_ins: list[Any] = [_Told(answers) for answers in told]
        envs, self.envs = self.envs, stand_ins
        try:
            yield
        finally:
            self.envs = envs


class _Told:
    """In place of an environment whose work is done: hands out its answers to gymnasium's loop, which gathers them."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self._answers = iter(answers)

    def step(self, action: Any) -> Any:
        return next(self._answers)

    def reset(self, **_: Any) -> Any:
        return next(self._answers)


def _all(outcomes: Sequence[Any]) -> Sequence[Any]:
    """The outcomes, unless one is an error, which is raised."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return outcomes


def __getattr__(name: str) -> Callable[..., TeachingVectorEnv]:
    """The entry point of every environment: `dataenv.envs.vector:skill_list` makes K of "skill-list"."""
    short = name.replace("_", "-")
    if short not in ENVS:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return partial(TeachingVectorEnv, ENVS[short][1])
