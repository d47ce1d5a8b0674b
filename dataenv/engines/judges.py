"""Filters that ask the student: whether it needs a row at all, and whether the row helps it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dataenv.checks import real, whole
from dataenv.engines.asking import Asking
from dataenv.protocols import Task
from dataenv.records import Example

KNOWN, UNHELPFUL = "known", "unhelpful"
"""Why a row is dropped."""


class Known(Asking):
    """Drops rows whose problem the student solves already: right in at least `threshold` of `samples` plain answers.

    The problem is the true one where the task recognises it, else what the row states; a row without either passes.
    """

    name = "known"

    def __init__(
        self, threshold: float | str = 0.75, *, task: Task, samples: int = 4, temperature: float = 0.7
    ) -> None:
        super().__init__(task)
        self.threshold = real("known: threshold", threshold, 0, 1)
        self.samples = whole("known: samples", samples)
        self.temperature = real("known: temperature", temperature, 0, 10)

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[str | None]:
        problems = [self.task.recognise(example.prompt) or example.as_problem() for example in examples]
        right = iter(
            self.right_answers(
                [problem for problem in problems if problem is not None],
                rng,
                samples=self.samples,
                temperature=self.temperature,
            )
        )
        return [
            KNOWN if problem is not None and len(next(right)) >= self.threshold * self.samples else None
            for problem in problems
        ]


class Helps(Asking):
    """Drops rows that do not help the student in context: as the only exemplar before problems of the row's skill.

    A row's gain is the share of problems solved (greedily) after it, less the share solved without; below `gain` it is
    dropped. The problems, up to `problems` of the skill, are of the exemplar split, which is neither examined nor
    taught, and others at each call. A skill that has none, or whose problems are all solved without, lets every row
    pass. A row whose exemplar leaves the problem no room in the student's context helps nobody.

    With 16 problems a gain has a standard error of about 0.1, and gains in context foretell gains of training but
    loosely. Each row costs `problems` answers, in a call of its own. Source: the Learning-by-Teaching score (Ning et
    al. 2024, https://arxiv.org/abs/2406.14629), as a difference.
    """

    name = "helps"

    def __init__(self, gain: float | str | None = None, *, task: Task, problems: int = 16) -> None:
        super().__init__(task)
        self.problems = whole("helps: problems", problems)
        self.gain = 1 / self.problems if gain is None else real("helps: gain", gain, -1, 1)

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[str | None]:
        skills = {example.skill for example in examples}
        drawn = self.task.problems("exemplar", self.problems, int(rng.integers(2**63)))
        banks = {skill: [problem for problem in drawn if problem.skill == skill] for skill in self.task.skills}
        asked = [problem for skill in banks if skill in skills for problem in banks[skill]]
        solved = dict.fromkeys(banks, 0)
        for problem, right in zip(asked, self.right_answers(asked, rng), strict=True):
            solved[problem.skill] += bool(right)
        reasons: list[str | None] = []
        for example in examples:
            bank = banks.get(example.skill, [])
            before = solved.get(example.skill, 0)
            if before == len(bank):  # none to ask, or none to gain
                reasons.append(None)
                continue
            after = sum(map(bool, self.right_answers(bank, rng, shots=[example])))
            reasons.append(None if (after - before) / len(bank) >= self.gain else UNHELPFUL)
        return reasons
