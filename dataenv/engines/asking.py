"""What engines and filters share that ask the student: whose student it is, and which of its answers are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataenv import checks
from dataenv.errors import InvalidData
from dataenv.given import Given
from dataenv.protocols import Student, Task
from dataenv.records import Example, Problem, Prompt


class Asking:
    """Base of parts that ask the student of their environment; see `protocols.AsksStudent`.

    Such a part serves one student: two environments that shared it would ask each other's.
    """

    name: str
    student: Given[Student] = Given("asks a student: call attach(student) first, as an environment does.")

    def __init__(self, task: Task) -> None:
        self.task = task

    def attach(self, student: Student) -> None:
        """Ask `student` from now on. Raises InvalidData where it is not the first one."""
        if vars(self).get("_student", student) is not student:
            raise InvalidData(
                f"'{self.name}' asks the student of another environment already; give each environment one of its own."
            )
        self.student = student

    def right_answers(
        self,
        problems: Sequence[Problem],
        rng: np.random.Generator,
        *,
        samples: int = 1,
        temperature: float = 0.0,
        shots: Sequence[Example] = (),
    ) -> list[list[str]]:
        """For each problem the right ones among `samples` answers of the student, in order, equal ones repeated.

        An answer that was cut off counts as wrong: who is taught it learns not to end. `rng` gives the sampling's seed.
        """
        prompts: list[Prompt] = [problem.prompt for problem in problems]
        if not prompts:
            return []
        found = self.student.answer(
            prompts,
            max_new_tokens=self.task.max_new_tokens,
            shots=shots,
            samples=samples,
            temperature=temperature,
            seed=int(rng.integers(2**63)),
        )
        checks.replies(self.student, found, len(prompts))
        right: list[list[str]] = []
        for problem, replies in zip(problems, found, strict=True):
            texts = [text for reply in replies if reply.finish == "stop" and (text := reply.text.strip())]
            correct = {text: self._is_right(problem, text) for text in dict.fromkeys(texts)}
            right.append([text for text in texts if correct[text]])
        return right

    def _is_right(self, problem: Problem, text: str) -> bool:
        verdict = self.task.verify(problem, text)
        checks.verdict(self.task, verdict)
        return verdict.correct
