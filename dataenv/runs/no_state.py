"""The no-state twin of a teacher in a run: it is shown nothing of the student, the log keeps the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dataenv.envs.wrappers import hidden
from dataenv.errors import InvalidData
from dataenv.exercises import Exercises
from dataenv.protocols import Exercising, Privileged, Teacher
from dataenv.records import Record, Transition


class NoState:
    """A `Teacher` that sees what `HideFeedback` leaves of the environment, rewards included."""

    def __init__(self, teacher: Teacher) -> None:
        if isinstance(teacher, Privileged):
            raise InvalidData(f"'{teacher.name}' looks ahead in the environment, so it has no no-state twin.")
        self.teacher = teacher
        self.parts = (teacher,)
        self.name = teacher.name
        self.reset, self.state, self.restore = teacher.reset, teacher.state, teacher.restore

    def take_exercises(self, exercises: Exercises) -> None:
        if isinstance(self.teacher, Exercising):
            self.teacher.take_exercises(exercises.untried())

    @property
    def dialogue(self) -> Sequence[Record]:
        return getattr(self.teacher, "dialogue", ())

    def act(self, observation: Any, info: Mapping[str, Any]) -> Any:
        return self.teacher.act(*hidden(observation, info))

    def observe(self, transition: Transition) -> None:
        before, _ = hidden(transition.observation, {})
        after, info = hidden(transition.next_observation, transition.info)
        self.teacher.observe(transition._replace(observation=before, next_observation=after, reward=0.0, info=info))
