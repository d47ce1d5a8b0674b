"""K environments in one process, for `gymnasium.make_vec(id, num_envs=K, vectorization_mode="vector_entry_point")`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import iterate

from dataenv.envs import ENVS
from dataenv.errors import InvalidAction, InvalidData
from dataenv.protocols import Student, Task
from dataenv.tasks import tasks


class TeachingVectorEnv(SyncVectorEnv[Any, Any]):
    """K environments of one kind, stepped one after the other; each is what it would be alone with its seed.

    One task serves all. Each has a student of its own; those of one id share the base weights, which the process holds
    once. `reset(seed=s)` gives environment i the seed s + i. Observations are stacked; `info["x"]` is an array over
    the environments with the mask `info["_x"]`, and objects in it, like `info["feedback"][i]`, are the environments'
    own: no text is copied or pickled. (Threads were tried and gained a tenth: a micro step is mostly Python.)

    Args:
        entry_point: "module:class" of the environment.
        task: an id, or a task.
        student: an id, or one student object for each environment.
        autoreset_mode: "NextStep": the step after an episode's last one resets; its action is ignored and its reward
            0. "SameStep" and "Disabled": see Gymnasium.
        options: the environment's own, see `TeachingEnv`.

    When one of the actions is none, InvalidAction comes before any student is taught. An environment that fails in
    another way is as it was; those before it have done their step.
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
        students = [student] * num_envs if isinstance(student, str) else student
        if not isinstance(students, Sequence) or len(students) != num_envs:
            raise InvalidData(f"student must be an id or a list of {num_envs} students, one for each environment.")
        if not isinstance(student, str) and len(set(map(id, students))) < num_envs:
            raise InvalidData("student names the same object twice; each environment needs a student of its own.")
        make: Any = load_env_creator(entry_point)
        task = tasks.make(task) if isinstance(task, str) else task
        super().__init__([partial(make, task, own, **options) for own in students], autoreset_mode=autoreset_mode)

    def step(self, actions: Any) -> Any:
        """See `gymnasium.vector.VectorEnv.step`."""
        for i, (env, action) in enumerate(zip(self.envs, iterate(self.action_space, actions), strict=True)):
            if not self._autoreset_envs[i] and action not in env.action_space:
                try:
                    env.unwrapped.plan(action)  # type: ignore[attr-defined]  # it says what is wrong
                except InvalidAction as error:
                    raise InvalidAction(f"environment {i}: {error}") from error
        return super().step(actions)


def __getattr__(name: str) -> Callable[..., TeachingVectorEnv]:
    """The entry point of every environment: `dataenv.envs.vector:skill_list` makes K of "skill-list"."""
    short = name.replace("_", "-")
    if short not in ENVS:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return partial(TeachingVectorEnv, ENVS[short][1])
