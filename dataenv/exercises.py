"""Problems of the pool for a student to try: for teachers that look at more than the feedback problems.

Mistakes that a teacher has rows made of must not be those of the feedback problems, or the reward would say how well
these were learnt by heart. The pool is what may be taught, and no examination draws from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dataenv import checks
from dataenv.examine import judged
from dataenv.given import Given
from dataenv.protocols import Student, Task
from dataenv.records import Attempt, Problem


class Exercises:
    """What a teacher may have the student try. It can ask the student, not change it; what that took is counted.

    `student` None is for teachers that are to see nothing of it: no exercise is ever tried.
    """

    def __init__(self, task: Task, student: Student | None) -> None:
        self._task, self._student = task, student
        self._answers = self._tokens = 0

    def untried(self) -> Exercises:
        """The same for a teacher that is to see nothing of the student."""
        return Exercises(self._task, None)

    @property
    def prerequisites(self) -> Mapping[str, tuple[str, ...]]:
        """Skill -> skills it builds on, as the task says."""
        return self._task.prerequisites

    def problems(self, per_skill: int, seed: int) -> list[Problem]:
        """Up to `per_skill` problems of each skill from the pool, grouped by skill."""
        problems = self._task.problems("pool", per_skill, seed)
        checks.problems(self._task, problems)
        return problems

    def tried(
        self, problems: Sequence[Problem], *, samples: int = 1, temperature: float = 0.0, seed: int = 0
    ) -> list[list[Attempt]]:
        """`samples` attempts at each problem, in the problems' order; no list at all where nobody may be asked."""
        if self._student is None or not problems:
            return []
        prompts = [problem.prompt for problem in problems]
        replies = self._student.answer(
            prompts, max_new_tokens=self._task.max_new_tokens, samples=samples, temperature=temperature, seed=seed
        )
        checks.replies(self._student, replies, len(prompts))
        self._answers += samples * len(prompts)
        self._tokens += sum(reply.tokens for few in replies for reply in few)
        return [
            [judged(self._task, problem, reply) for reply in few]
            for problem, few in zip(problems, replies, strict=True)
        ]

    def read(self) -> dict[str, int]:
        """Answers given since the last reading, and their tokens."""
        used = {"answers": self._answers, "tokens": self._tokens}
        self._answers = self._tokens = 0
        return used


class SetsExercises:
    """Base of teachers that have the student try exercises; see `protocols.Exercising`."""

    name: str
    exercises: Given[Exercises] = Given(
        "has the student try exercises: call take_exercises(Exercises(env.task, env.student)) first, as runs do."
    )

    def take_exercises(self, exercises: Exercises) -> None:
        """Have `exercises` tried from now on."""
        self.exercises = exercises
