"""Controls that follow the clock, not the student: orders of difficulty and of skills.

The difficulty of a request is the task's own scale, or that of its pool (`--engine pool` draws the rows nearest to it);
an engine or a task that knows no difficulty makes all of these `uniform`. SkillTree takes none, so those that set one
cannot act there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataenv.agents.formulas import Floats
from dataenv.agents.levels import cells_to_plan
from dataenv.agents.teacher import BaseTeacher, shares_to_plan, writes
from dataenv.checks import real
from dataenv.errors import InvalidData
from dataenv.records import Feedback, Plan, Request
from dataenv.spaces import allocate

LOW, HIGH = 0.1, 0.9
"""Difficulties a ramp goes between (ours)."""
EASY, HARD = 0.15, 0.85
"""Constant difficulties (ours)."""
START, GROWTH = 0.25, 2.0
"""Of cyclical: the least share of the material in use, and how it grows and shrinks (the authors' code)."""
QUANTILES = 4
"""Levels within the share in use (ours)."""

LEVELLED = ("open-ended", "skill-list")
"""Environments whose actions have a difficulty."""


def horizon(feedback: Feedback) -> tuple[int, int]:
    """The number of finished steps, and of all steps of the episode."""
    return feedback.step, feedback.step + feedback.budget.steps_left


def ramp(step: int, steps: int, low: float = LOW, high: float = HIGH, power: float = 1.0) -> float:
    """low + (high-low) (t/(T-1))^power; the middle where there is but one step."""
    if steps <= 1:
        return (low + high) / 2
    return float(low + (high - low) * (min(step, steps - 1) / (steps - 1)) ** power)


class EasyToHard(BaseTeacher):
    """The same rows to every skill, at a difficulty that rises from `low` to `high` over the episode.

    Source: the controls of When Do Curricula Work in Federated Learning? (2022), https://arxiv.org/abs/2212.12712:
    easy first, hard first, random.
    """

    name = "easy-to-hard"
    environments = LEVELLED

    def __init__(self, low: float = LOW, high: float = HIGH, *, power: float = 1.0) -> None:
        self.low, self.high = real(f"{self.name}: low", low, 0, 1), real(f"{self.name}: high", high, 0, 1)
        self.power = real(f"{self.name}: power", power, 0)

    def level(self, feedback: Feedback) -> float:
        return ramp(*horizon(feedback), self.low, self.high, self.power)

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        k = len(feedback.skills)
        return self.deal(np.ones(k), feedback, np.full(k, self.level(feedback)))


class HardToEasy(EasyToHard):
    """`easy-to-hard` backwards: in step t the difficulty of its step T-1-t."""

    name = "hard-to-easy"

    def level(self, feedback: Feedback) -> float:
        step, steps = horizon(feedback)
        return ramp(steps - 1 - step, steps, self.low, self.high, self.power)


class EasyOnly(BaseTeacher):
    """The same rows to every skill, all of the same low difficulty.

    Source: The Unreasonable Effectiveness of Easy Training Data for Hard Tasks (2024),
    https://arxiv.org/abs/2401.06751: about as good as hard data, so whatever seeks hard rows must beat it.
    """

    name = "easy-only"
    environments = LEVELLED

    def __init__(self, difficulty: float | None = None) -> None:
        chosen = self.default if difficulty is None else difficulty
        self.difficulty = real(f"{self.name}: difficulty", chosen, 0, 1)

    default = EASY

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        k = len(feedback.skills)
        return self.deal(np.ones(k), feedback, np.full(k, self.difficulty))


class HardOnly(EasyOnly):
    """The same rows to every skill, all of the same high difficulty."""

    name = "hard-only"
    default = HARD


class Blocked(BaseTeacher):
    """One skill after the other, in the task's order: in step t of T all rows go to skill floor(t K / T), or, where
    there are fewer steps than skills, to those whose turn falls into the step.

    With `curriculum` the difficulty rises within each skill's block.

    Source: Fine-tuning LLMs with Human-inspired Learning Strategies in Medical QA (2024),
    https://arxiv.org/abs/2408.07888.
    """

    name = "blocked"

    def __init__(self, curriculum: bool = False) -> None:
        self.curriculum = bool(curriculum)
        if self.curriculum:
            self.environments = LEVELLED

    def shares(self, k: int, step: int, steps: int) -> Floats:
        turns = np.arange(k) * steps // k
        found = np.zeros(k)
        if k <= steps:
            found[step * k // steps] = 1.0
        else:
            found[turns == step] = 1.0
        return found

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        k, (step, steps) = len(feedback.skills), horizon(feedback)
        shares = self.shares(k, min(step, steps - 1), max(steps, 1))
        if not self.curriculum:
            return shares_to_plan(shares, feedback)
        skill = int(shares.argmax())
        block = [t for t in range(steps) if self.shares(k, t, steps)[skill]]
        level = ramp(block.index(step) if step in block else 0, len(block))
        return shares_to_plan(shares, feedback, np.full(k, level))


class BlockedCurriculum(Blocked):
    """`blocked`, easy to hard within each block."""

    name = "blocked-curriculum"
    environments = LEVELLED

    def __init__(self) -> None:
        super().__init__(curriculum=True)


class Interleaved(BaseTeacher):
    """The same rows to every skill, which alternate row by row: A, B, C, A, B, C.

    Only actions in words can ask for single rows; elsewhere it is `uniform`. Students that shuffle a lesson undo it.
    With `curriculum` the difficulty rises over the episode. Source: see `Blocked`.
    """

    name = "interleaved"

    def __init__(self, curriculum: bool = False) -> None:
        self.curriculum = bool(curriculum)
        if self.curriculum:
            self.environments = LEVELLED

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.next = 0

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        k, n = len(feedback.skills), feedback.budget.rows_now
        level = ramp(*horizon(feedback)) if self.curriculum else None
        order = [(self.next + i) % k for i in range(n)]
        self.next = (self.next + n) % k
        names = [score.skill for score in feedback.skills]
        if writes(observation):
            return Plan(requests=tuple(Request(skill=names[i], rows=1, difficulty=level) for i in order))
        rows = np.bincount(np.array(order, np.int64), minlength=k).tolist()
        return Plan(
            requests=tuple(
                Request(skill=name, rows=count, difficulty=level)
                for name, count in zip(names, rows, strict=True)
                if count
            )
        )


class InterleavedCurriculum(Interleaved):
    """`interleaved`, easy to hard over the episode."""

    name = "interleaved-curriculum"
    environments = LEVELLED

    def __init__(self) -> None:
        super().__init__(curriculum=True)


class Cyclical(BaseTeacher):
    """The share of the material in use goes 0.25, 0.5, 1, 0.5, 0.25, ..., the easiest first: the same rows to every
    skill, at levels spread over the easiest part. With `budget` "paper" a step uses that share of its rows, too; the
    default, all of them, is for comparisons.

    Where a skill has one difficulty in a step, the levels take turns. Ours: the original draws problems, easy ones more
    often, and counts a cycle as an epoch.

    Source: Cyclical Curriculum Learning (2022), https://arxiv.org/abs/2202.05531, and its code.
    """

    name = "cyclical"
    environments = LEVELLED

    def __init__(self, budget: str = "equal-rows") -> None:
        if budget not in ("equal-rows", "paper"):
            raise InvalidData(f"cyclical: budget must be 'equal-rows' or 'paper'; it is {budget!r}.")
        self.budget = budget

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.size, self.rising = START, True
        self.due = np.zeros((0, QUANTILES))

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        k = len(feedback.skills)
        if self.budget == "paper":
            rows = int(allocate([self.size, 1 - self.size], feedback.budget.rows_now)[0])
            budget = feedback.budget.model_copy(update={"rows_per_step": rows})
            feedback = feedback.model_copy(update={"budget": budget})
        levels = (self.size * (np.arange(QUANTILES) + 0.5) / QUANTILES).tolist()
        owed = self.due if len(self.due) == k else np.zeros((k, QUANTILES))
        plan, self.due = cells_to_plan(np.ones((k, QUANTILES)), levels, feedback, owed, in_words=writes(observation))
        self._turn()
        return plan

    def _turn(self) -> None:
        if self.rising and self.size >= 1:
            self.rising = False
        elif not self.rising and self.size <= START:
            self.rising = True
        self.size = min(self.size * GROWTH, 1.0) if self.rising else max(self.size / GROWTH, START)
