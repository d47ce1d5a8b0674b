"""What a task's rows look like, learnt from its exemplar split: shown to a model that writes rows, and kept to by code.

Nothing here knows a task: whether rows hold worked solutions, and how these state their answer, is read off the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np

from dataenv.protocols import Task
from dataenv.records import Example

PER_SKILL = 16
"""Exemplars of each skill that are drawn from, and that the form is learnt from."""


class Form(NamedTuple):
    """How the completions of a task's rows state their answer.

    `worked`: a completion is a worked solution, not the answer alone. `ending`: what stands before and behind the
    answer on its last line, ("#### ", "") for GSM8K; None where rows end in different ways.
    """

    worked: bool
    ending: tuple[str, str] | None = None

    @classmethod
    def of(cls, rows: Sequence[Example]) -> Self:
        """The form that `rows` have in common. One row shows no ending: its last line may be anything."""
        worked = [row for row in rows if row.answer is not None and row.completion.strip() != row.answer.strip()]
        if 2 * len(worked) <= len(rows):
            return cls(worked=False)
        endings = set()
        for row in worked:
            answer = str(row.answer).strip()
            before, found, after = row.completion.strip().rpartition("\n")[2].rpartition(answer or "\n")
            endings.add((before, after) if found else None)
        return cls(worked=True, ending=endings.pop() if len(endings) == 1 and len(worked) > 1 else None)

    def completion(self, solution: str, answer: str) -> str:
        """What a row teaches: the answer alone, or the solution ending as the task's do; nothing where that is blank.

        A solution that ends so already stays as it is, also where it states another answer: it is wrong, then.
        """
        if not self.worked:
            return answer
        if self.ending is None or not solution.strip():
            return solution
        before, after = self.ending
        last = solution.rpartition("\n")[2].strip()
        mark = before.strip()
        if last == f"{before}{answer}{after}".strip() or (mark and last.startswith(mark)):
            return solution
        return f"{solution}\n{before}{answer}{after}"


class Exemplars:
    """The exemplars of a task by skill, always the same ones, and the form of its rows."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def of(self, skill: str) -> Sequence[Example]:
        """Those of `skill`; all there are where it has none, as a request in words that names no skill."""
        return self._by_skill.get(skill) or [row for rows in self._by_skill.values() for row in rows]

    def form(self, skill: str) -> Form:
        """Of the rows of `skill`."""
        return Form.of(self.of(skill))

    def draw(self, skill: str, n: int, rng: np.random.Generator, difficulty: float | None = None) -> list[Example]:
        """`n` of them at random; with a difficulty, of the 2n that are nearest to it."""
        rows = [self.of(skill)[i] for i in rng.permutation(len(self.of(skill)))]
        if difficulty is not None:
            rows = sorted(rows, key=lambda row: abs((0.5 if row.difficulty is None else row.difficulty) - difficulty))
            rows = [rows[i] for i in rng.permutation(min(2 * n, len(rows)))]
        return rows[:n]

    @cached_property
    def _by_skill(self) -> Mapping[str, list[Example]]:
        found: dict[str, list[Example]] = {}
        for problem in self.task.problems("exemplar", PER_SKILL, 0):
            found.setdefault(problem.skill, []).append(Example.from_problem(problem))
        return found


def told(row: Example) -> dict[str, Any]:
    """A row as the prompts show it (`prompts/llm/shown.jinja`)."""
    return {
        "problem": row.prompt.in_words,
        "solution": row.completion,
        "answer": row.answer or row.completion,
        "difficulty": row.difficulty,
    }
