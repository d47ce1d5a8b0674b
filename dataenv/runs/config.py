"""What a run is: a small serialisable record from which everything heavy is built late."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue

from dataenv.errors import InvalidData
from dataenv.records import Record
from dataenv.registry import no_option

if TYPE_CHECKING:
    from dataenv.chat.client import Client
    from dataenv.envs.teaching import TeachingEnv
    from dataenv.protocols import Discovery, Teacher


Part = Literal["env", "task", "student", "engine", "teacher", "model"]

MOST = 1_000_000
"""More steps, rows of a plan or problems of a skill than any run has use for: a number beyond is a slip."""


class RunConfig(Record):
    """One episode of one teacher, with its exam. The defaults are `dataenv run`'s.

    `no_state` hides from the teacher how the student does. `skills` is "gold" (the task's own) or a way to discover
    them, see `dataenv.skills`. `filters` are ids of `dataenv.engines.filters`. `feedback` and `exam` count problems per
    skill (None: all there are); `error` and `redraw` are explained in `TeachingEnv`. `select` says which student the
    exam judges: "last", or "best" by accuracy on the selection split. `model` is the language model of the parts that
    ask one, an id of `dataenv.chat.models`. `options` holds keyword arguments for the parts, by kind; those of the
    model are `dataenv.chat.make_client`'s.
    """

    env: str = "skill-list"
    task: str = "arithmetic"
    skills: str = "gold"
    student: str = "smollm2-135m"
    teacher: str = "error-proportional"
    no_state: bool = False
    engine: str | None = None
    filters: tuple[str, ...] = ()
    model: str | None = None
    steps: int = Field(default=5, ge=1, le=MOST)
    rows: int = Field(default=200, ge=1, le=MOST)
    max_rows: int | None = Field(default=None, ge=1, le=MOST * MOST)
    seed: int = Field(default=0, ge=0, lt=2**63)
    regime: Literal["continue", "retrain"] = "continue"
    replay: float = Field(default=0.25, ge=0, le=100)
    feedback: int | None = Field(default=8, ge=1, le=MOST)
    exam: int | None = Field(default=20, ge=1, le=MOST)
    error: float | None = Field(default=None, gt=0, lt=1)
    redraw: bool = False
    select: Literal["last", "best"] = "last"
    target: float | None = Field(default=None, gt=0, le=1)
    options: dict[Part, dict[str, JsonValue]] = Field(default_factory=dict)

    def build_client(self, cache: Path | None = None) -> Client | None:
        """The client of the language model, None where the run names none. Raises UnknownId or InvalidData; opens
        nothing."""
        from dataenv.chat import make_client

        options = self.options.get("model", {})
        if self.model is None:
            if options:
                raise InvalidData(f"model.{min(options)} is set, but the run names no model; add --model.")
            return None
        if "key" in options:
            raise InvalidData(
                "model.key is no option to set, for a run's settings are written down; put the key into the "
                "environment, as OPENAI_API_KEY or VLLM_API_KEY."
            )
        usage = None if cache is None else cache / "usage.jsonl"
        client: Client = self._make("model", make_client, self.model, cache=cache, usage=usage)
        return client

    def build_env(self, discovery: Discovery | None = None, client: Client | None = None) -> TeachingEnv[Any, Any]:
        """The environment. Raises UnknownId or InvalidData; opens no weights.

        `discovery` stands in for `skills` with what was found when the run began.
        """
        import gymnasium as gym

        from dataenv.engines import engines
        from dataenv.envs import env_id
        from dataenv.protocols import ProceduralTask
        from dataenv.skills.discovered import discovered
        from dataenv.students import make_student
        from dataenv.tasks import tasks

        task = self._make("task", tasks.make, self.task)
        for flag in ("feedback", "exam"):
            if getattr(self, flag) is None and isinstance(task, ProceduralTask):
                raise InvalidData(
                    f"--{flag} 0 asks for all problems of '{task.name}', which writes them without end; give a number."
                )
        task = discovered(task, discovery or self.skills, client)
        engine = self._make("engine", engines.make, self.engine or task.default_engine, task=task)
        student = self._make("student", make_student, self.student)
        env: TeachingEnv[Any, Any] = self._make(
            "env",
            gym.make,
            env_id(self.env),
            disable_env_checker=True,  # it would cost two extra checks a step, of code the tests check
            task=task,
            student=student,
            engine=engine,
            steps=self.steps,
            rows=self.rows,
            max_rows=self.max_rows,
            feedback=self.feedback,
            error=self.error,
            redraw=self.redraw,
            regime=self.regime,
            replay=self.replay,
            target=self.target,
            filters=self.filters,
            client=client,
        ).unwrapped
        return env

    def build_teacher(self) -> Teacher:
        """Raises InvalidData where it lacks a method, or cannot act in the run's environment."""
        from dataenv import checks
        from dataenv.agents import teachers
        from dataenv.envs import env_id
        from dataenv.protocols import Teacher as Protocol

        teacher: Teacher = self._make("teacher", teachers.make, self.teacher)
        checks.part("teacher", teacher, Protocol)
        where: tuple[str, ...] = getattr(teacher, "environments", ())
        if where and env_id(self.env) not in map(env_id, where):
            raise InvalidData(
                f"Teacher '{self.teacher}' cannot act in '{self.env}'; give --env {' or '.join(where)}, or another "
                "--teacher."
            )
        if self.no_state:
            from dataenv.runs.no_state import NoState

            return NoState(teacher)
        return teacher

    def _make(self, kind: Part, make: Callable[..., Any], id: str, **parts: Any) -> Any:
        """`make(id)` with the options of its kind, which people write: one of the wrong type is no bug here."""
        options = self.options.get(kind, {})
        if own := sorted(parts.keys() & options.keys()):
            raise InvalidData(f"{kind}.{own[0]} is no option to set: the run has a setting of its own for it.")
        try:
            return make(id, **parts, **options)
        except TypeError as error:
            if not options or id.partition(":")[0].endswith(".py"):  # in a file of the user's own it is a bug
                raise
            told = no_option(kind, id, error, options, *_classes(kind, id), own=parts)
            raise InvalidData(told or f"{kind} '{id}' cannot be built with {options}: {error}.") from error


def _classes(kind: Part, id: str) -> tuple[type, ...]:
    """The class of an environment and those it passes options on to: Gymnasium does not let them through an error."""
    if kind != "env":
        return ()
    from gymnasium.envs.registration import load_env_creator, spec

    made: Any = load_env_creator(str(spec(id).entry_point))
    return tuple(made.__mro__)
