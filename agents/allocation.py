"""Teachers that deal rows to arms by a rule: what an arm is in each environment, and what a step changed for it.

In SkillList and OpenEnded the arms are the skills. In SkillTree they are the leaves that have been grown, and what is
grown is decided by `tree-threshold`'s rule, for all of these teachers alike (rule R11 of the teachers' catalogue).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataenv.agents.formulas import Floats, smoothed, standard_error
from dataenv.agents.teacher import BaseTeacher, writes
from dataenv.agents.tree import THRESHOLD, Leaves, TreeTeacher, Wish
from dataenv.checks import real, whole
from dataenv.exercises import SetsExercises
from dataenv.records import Attempt, Feedback, Plan, Transition
from dataenv.spaces import allocate

ITEMS, ANSWERS, TEMPERATURE = 8, 4, 0.8
"""Exercises of each skill, answers to each, and how these are sampled (rule R9; the number of items is ours)."""


class Arms(NamedTuple):
    """What may get rows, and how the student does on it: K arms, in the order in which they were first seen."""

    names: list[str]
    skills: list[str]
    """The skill that each belongs to: its own name, but for leaves."""
    n: Floats
    """Problems that were examined; 0 where none was."""
    correct: Floats
    taught: Floats
    """Rows so far."""
    feedback: Feedback

    @property
    def p(self) -> Floats:
        """Smoothed accuracies."""
        return smoothed(self.correct, self.n)


class Step(NamedTuple):
    """What a step brought, by arm (K,)."""

    arms: Arms
    """As they are after it."""
    rows: Floats
    """Rows that were taught."""
    known: NDArray[np.bool_]
    """Whether the accuracy is known before and after."""
    change: Floats
    """Of the accuracy, unsmoothed; 0 where it is not known."""
    error: Floats
    """Standard error of the change."""


class AllocationTeacher(BaseTeacher):
    """Base of teachers that say which share of a step's rows each arm gets (`shares`), and may learn from what became
    of it (`learn`). Arrays by arm that they keep are brought to length by `fitted_to`: arms only ever join at the end.
    """

    def shares(self, arms: Arms) -> Floats:
        """(K,), none negative. What it changes is the generator, and at most what `learn` is to know of it."""
        raise NotImplementedError

    def learn(self, step: Step) -> None:
        """Take in what a step brought; not called after the last one, nor while there are no arms."""

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.names: list[str] = []
        """Arms in the order in which they were first seen."""
        self.n = self.correct = self.taught = np.zeros(0)
        """What was seen of them at the last `act`."""
        self.gaining: list[str] = []
        """Skills whose last gain is above tree-threshold's threshold: they do not explore."""

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan | dict[str, NDArray[np.int64]]:
        feedback: Feedback = info["feedback"]
        arms = self._look(info)
        self.n, self.correct, self.taught = arms.n, arms.correct, arms.taught
        if "forest" not in info:
            return self.plan(arms, feedback, in_words=writes(observation))
        rows: dict[str, int] = {}
        if arms.names:
            rows = dict(zip(arms.names, allocate(self.shares(arms), feedback.budget.rows_now).tolist(), strict=True))
        quotas = [np.array([rows[_leaf(t.skill, s)] for s in t.names], np.int64) for t in info["forest"].trees]
        stays = [tree.skill in self.gaining for tree in info["forest"].trees]
        return _Leafwise(quotas, stays).act(observation, info)

    def plan(self, arms: Arms, feedback: Feedback, *, in_words: bool) -> Plan:
        """What is asked for where arms are skills; `in_words` says that a skill may be asked for at several levels."""
        return self.deal(self.shares(arms), feedback)

    def observe(self, transition: Transition) -> None:
        if transition.terminated or transition.truncated:
            return
        info = transition.info
        arms = self._look(info)
        n, correct, taught = (fitted_to(old, len(arms.names)) for old in (self.n, self.correct, self.taught))
        known = (n > 0) & (arms.n > 0)
        change = np.where(known, arms.correct / np.maximum(arms.n, 1) - correct / np.maximum(n, 1), 0.0)
        error = np.hypot(standard_error(correct, n), standard_error(arms.correct, arms.n))
        gains, errors = info.get("skill_gain", {}), info.get("skill_error", {})
        for i, name in enumerate(arms.names):
            if name in gains and name in errors:  # paired on the same problems: far less noise
                change[i], error[i] = gains[name], errors[name]
        self.gaining = [skill for skill, gain in gains.items() if gain > THRESHOLD]
        if arms.names:  # a tree may not have grown a leaf yet
            self.learn(Step(arms, np.maximum(arms.taught - taught, 0), known, change, error))

    def _look(self, info: Mapping[str, Any]) -> Arms:
        """The arms as `info` shows them."""
        feedback: Feedback = info["feedback"]
        found: dict[str, tuple[str, int, int, int]] = {}
        if "forest" in info:
            for tree in info["forest"].trees:
                for s in tree.subskills:
                    found[_leaf(tree.skill, s.name)] = tree.skill, s.n, s.correct, s.taught
        else:
            for score in feedback.skills:
                found[score.skill] = score.skill, score.n, score.correct, feedback.taught.get(score.skill, 0)
        self.names = [*self.names, *(name for name in found if name not in set(self.names))]
        rows = [found[name] for name in self.names]
        n, correct, taught = np.array([row[1:] for row in rows], np.float64).reshape(-1, 3).T
        return Arms(list(self.names), [row[0] for row in rows], n, correct, taught, feedback)


class _Leafwise(TreeTeacher):
    """Skills that `tree-threshold` would let explore do so; the others exploit, with these quotas."""

    name = "leafwise"

    def __init__(self, quotas: Sequence[NDArray[np.int64]], stays: Sequence[bool]) -> None:
        super().__init__()
        self.quotas, self.stays = quotas, stays

    def wish(self, leaves: Leaves, step: int) -> Wish:
        if leaves.can_explore and not self.stays[leaves.skill]:
            return self.explore(leaves)
        return Wish(self.quotas[leaves.skill])


class ItemTeacher(SetsExercises, AllocationTeacher):
    """Base of allocation teachers that look at single items: how often the student solves each of some exercises.

    Exercises are `items` problems of each skill from the pool, drawn anew each time, with `answers` sampled answers to
    each. With one answer an item has no spread, and in SkillTree no exercise is known to be of a leaf: what is examined
    anyway has to do then, as one number by arm.
    """

    def __init__(self, *, items: int = ITEMS, answers: int = ANSWERS, temperature: float = TEMPERATURE) -> None:
        self.items, self.answers = whole(f"{self.name}: items", items), whole(f"{self.name}: answers", answers)
        self.temperature = real(f"{self.name}: temperature", temperature, 0, 10)

    def rates(self, arms: Arms) -> list[Floats] | None:
        """For each arm the pass rates of its items, empty where it has none; None where there are no items to ask, or
        nobody may be asked."""
        if self.answers == 1 or arms.names != arms.skills:
            return None
        problems = self.exercises.problems(self.items, int(self.rng.integers(2**63)))
        seed = int(self.rng.integers(2**63))
        tried = self.exercises.tried(problems, samples=self.answers, temperature=self.temperature, seed=seed)
        found: dict[str, list[float]] = {name: [] for name in arms.names}
        for attempts in tried:
            found[attempts[0].problem.skill].append(pass_rate(attempts))
        return [np.array(found[name]) for name in arms.names] if tried else None


def pass_rate(attempts: Sequence[Attempt]) -> float:
    """Share of the attempts that are right."""
    return sum(attempt.correct for attempt in attempts) / len(attempts)


def fitted_to(values: Any, k: int, fill: float = 0.0) -> Floats:
    """`values` by arm for `k` arms: those that have joined since have `fill`."""
    values = np.asarray(values, np.float64)
    return np.concatenate([values, np.full(k - len(values), fill)])


def slots_to_shares(pulls: Any) -> Floats:
    """The share of each arm that has `pulls` of the slots."""
    pulls = np.asarray(pulls, np.float64)
    found: Floats = pulls / max(pulls.sum(), 1.0)
    return found


def _leaf(skill: str, subskill: str) -> str:
    return f"{skill}/{subskill}"
