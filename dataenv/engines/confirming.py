"""Pictures checked against their questions: another image student must come to a row's answer by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataenv.checks import real, whole
from dataenv.engines.asking import Asking
from dataenv.protocols import Task
from dataenv.records import Example

UNCONFIRMED = "unconfirmed"
"""Why a row is dropped: the judge sees something else in its picture."""


class Confirmed(Asking):
    """Drops rows with pictures whose answer an image student, the judge, does not give of itself.

    The judge is another student than the one that is taught, untaught, and should be stronger. It is shown picture and
    question alone, `samples` times, and must give the row's answer, as the task judges it, in a share `agreement`.
    What it confirms may still be wrong: judge and picture can err together, and a question that can be answered without
    looking is confirmed by any picture. Rows without pictures, or that state no answer, pass.

    Source: self-consistency (Wang et al. 2022, arXiv 2203.11171), of another model's answers; checks of made pictures
    by questions: TIFA (Hu et al. 2023, arXiv 2303.11897).

    Args:
        judge: id of a student, as "vlm:ORG/NAME". Its weights load at the first row.
        temperature: of its answers, which must differ to tell how sure it is.
    """

    name = "confirmed"

    def __init__(
        self, judge: str, *, task: Task, samples: int = 5, agreement: float = 0.6, temperature: float = 0.7
    ) -> None:
        super().__init__(task)
        from dataenv.students import make_student

        self.samples = whole(f"{self.name}: samples", samples)
        self.agreement = real(f"{self.name}: agreement", agreement, 0, 1)
        self.temperature = real(f"{self.name}: temperature", temperature, 0, 10)
        self.student = make_student(judge)

    def attach(self, student: object) -> None:
        """The judge is no student of an environment, and stays."""

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[str | None]:
        asked = {i: row.as_problem() for i, row in enumerate(examples) if row.prompt.images}
        problems = {i: problem for i, problem in asked.items() if problem is not None}
        right = self.right_answers(list(problems.values()), rng, samples=self.samples, temperature=self.temperature)
        reasons: list[str | None] = [None] * len(examples)
        for i, answers in zip(problems, right, strict=True):
            if len(answers) < self.agreement * self.samples - 1e-9:
                reasons[i] = UNCONFIRMED
        return reasons
