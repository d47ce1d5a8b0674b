"""tapir: rows like the problems that are hard for the student, balanced over the skills, harder round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataenv.agents.allocation import ANSWERS, TEMPERATURE, pass_rate
from dataenv.agents.teacher import BaseTeacher, like, writes
from dataenv.checks import real, whole
from dataenv.exercises import SetsExercises
from dataenv.records import Feedback, Plan, Problem, Request
from dataenv.spaces import allocate

ITEMS = 20
"""Exercises of a skill in a round (ours)."""
HARD = 0.5
"""Least difficulty (share of answers that are wrong) of a hard problem (ours; there, 2 points of 10)."""
FIRST, MORE = 0.3, 0.2
"""Share of rows that are like hard problems in the first round, and what is added in each (ours: we do not
know the paper's)."""
TOP = 0.1
"""Share of the exercises that count as hard where none is (ours)."""
HARDER = 0.1
"""What is added to the difficulty where everything is solved (ours)."""


class Tapir(SetsExercises, BaseTeacher):
    """Each step the student answers fresh exercises, some times each. All skills get the same rows; of each skill's
    the share min(1, 0.3 + 0.2 step) is like problems of which it gets at least half of the answers wrong (or the worst
    tenth), the rest like those it does better on. Where a skill's exercises are all solved, harder ones are asked for.
    OpenEnded is told the problems; SkillList the skills and the mean difficulty.

    Source: Distilling Instruction-following Abilities with Task-aware Curriculum Planning (2024),
    https://arxiv.org/abs/2405.13448. Ours: difficulty is the student's own failure, for the right answers are known
    (there, by how much a judge prefers the teacher's), and all kinds of problems weigh the same.
    """

    name = "tapir"
    environments = ("open-ended", "skill-list")

    def __init__(self, items: int = ITEMS, *, answers: int = ANSWERS, temperature: float = TEMPERATURE) -> None:
        self.items, self.answers = whole("tapir: items", items), whole("tapir: answers", answers)
        self.temperature = real("tapir: temperature", temperature, 0, 10)

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        problems = self.exercises.problems(self.items, int(self.rng.integers(2**63)))
        seed = int(self.rng.integers(2**63))
        tried = self.exercises.tried(problems, samples=self.answers, temperature=self.temperature, seed=seed)
        wrong = [1 - pass_rate(attempts) for attempts in tried] or [1.0] * len(problems)
        by_skill: dict[str, list[tuple[float, Problem]]] = {}
        for difficulty, problem in zip(wrong, problems, strict=True):
            by_skill.setdefault(problem.skill, []).append((difficulty, problem))
        shown = writes(observation)
        requests: list[Request] = []
        for dealt in self.deal(np.ones(len(feedback.skills)), feedback).requests:
            known = by_skill.get(dealt.skill, [])
            requests += self._requests(dealt, known, hard_share(feedback.step), shown) if known else [dealt]
        return Plan(requests=tuple(requests))

    def _requests(
        self, dealt: Request, known: Sequence[tuple[float, Problem]], share: float, shown: bool
    ) -> list[Request]:
        """What becomes of one skill's rows."""
        if not any(wrong for wrong, _ in known):
            levels = [problem.difficulty for _, problem in known if problem.difficulty is not None]
            level = min(float(np.mean(levels)) + HARDER, 1.0) if levels else None
            return [dealt.model_copy(update={"difficulty": level})]
        hard, rest = parted(known)
        rows = allocate([share, 1 - share], dealt.rows).tolist() if rest else [dealt.rows, 0]
        return [request for group, n in zip((hard, rest), rows, strict=True) for request in self._like(group, n, shown)]

    def _like(self, problems: Sequence[Problem], rows: int, shown: bool) -> list[Request]:
        """`rows` rows like as many of `problems` as there are rows for, chosen at random."""
        if not rows:
            return []
        chosen = self.rng.permutation(len(problems))[:rows]
        each = allocate(np.ones(len(chosen)), rows).tolist()
        return [like(problems[i], n, shown=shown) for i, n in zip(chosen, each, strict=True)]


def hard_share(step: int) -> float:
    """Share of a round's rows that are like hard problems; `step` rounds are over."""
    return min(1.0, FIRST + MORE * step)


def parted(known: Sequence[tuple[float, Problem]]) -> tuple[list[Problem], list[Problem]]:
    """The hard problems and the others, given the share of wrong answers to each."""
    order = sorted(range(len(known)), key=lambda i: -known[i][0])
    n = sum(wrong >= HARD for wrong, _ in known) or max(round(TOP * len(known)), 1)
    return [known[i][1] for i in order[:n]], [known[i][1] for i in order[n:]]
