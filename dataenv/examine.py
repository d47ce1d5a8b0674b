"""Examining a student: its attempts at problems, and how much two examinations differ, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dataenv import checks
from dataenv.protocols import Student, Task
from dataenv.records import Attempt, Example, Problem, Reply, SkillScore, Verdict, smoothed_error


@dataclass(frozen=True)
class Examination:
    """A student's attempts at a list of problems, one each, in the problems' order."""

    attempts: tuple[Attempt, ...]
    shots: int = 0
    """How many exemplars, over all skills, stood before the problems."""
    tokens: int = 0
    """Tokens the student generated."""

    @property
    def n(self) -> int:
        return len(self.attempts)

    @cached_property
    def correct(self) -> int:
        return sum(attempt.correct for attempt in self.attempts)

    @property
    def accuracy(self) -> float:
        """Share answered exactly right; 0 when there was nothing to answer (then `n` is 0)."""
        return self.correct / self.n if self.n else 0.0

    @property
    def error(self) -> float:
        """Standard error of the accuracy."""
        return smoothed_error(self.correct, self.n)

    @property
    def overlong(self) -> int:
        """Problems whose prompt did not fit the student's context; they count as not solved."""
        return sum(attempt.finish == "overlong" for attempt in self.attempts)

    @cached_property
    def asked(self) -> frozenset[str]:
        """Ids of the problems."""
        return frozenset(attempt.problem.id for attempt in self.attempts)

    def __add__(self, more: Examination) -> Examination:
        """Both as one: the same student asked more problems."""
        return Examination(self.attempts + more.attempts, max(self.shots, more.shots), self.tokens + more.tokens)

    def by_skill(self, skills: Sequence[str]) -> tuple[SkillScore, ...]:
        """A score for each of `skills`, n = 0 where none of its problems was asked."""
        counts = {skill: [0, 0] for skill in skills}
        for attempt in self.attempts:
            count = counts[attempt.problem.skill]
            count[0] += 1
            count[1] += attempt.correct
        return tuple(SkillScore(skill=skill, n=n, correct=correct) for skill, (n, correct) in counts.items())

    @cached_property
    def groups(self) -> tuple[int, int]:
        """(how many groups were solved whole, how many were asked whole), for benchmarks that score groups: their
        problems say in `data` which `group` they are of, and of how many (`group_size`)."""
        solved: dict[tuple[str, int], list[bool]] = {}
        for attempt in self.attempts:
            group, size = attempt.problem.data.get("group"), attempt.problem.data.get("group_size")
            if isinstance(size, int):
                solved.setdefault((str(group), size), []).append(attempt.correct)
        whole = [all(marks) for (_, size), marks in solved.items() if len(marks) == size]
        return sum(whole), len(whole)


@dataclass(frozen=True)
class Change:
    """The paired difference of two examinations on the same problems: mean gain, its standard error, sample size."""

    gain: float
    error: float
    n: int
    by_skill: Mapping[str, float] = field(default_factory=dict)
    by_problem: tuple[tuple[str, int], ...] = ()
    """(skill, 1 gained, 0 as before, -1 lost) for each problem, in order."""

    @cached_property
    def error_by_skill(self) -> dict[str, float]:
        """Paired standard error of each skill's gain, counted as the one over all."""
        moved: dict[str, list[int]] = {}
        for skill, change in self.by_problem:
            moved.setdefault(skill, []).append(change)
        return {skill: _paired_error(sum(map(abs, c)), sum(c), len(c)) for skill, c in moved.items()}


FIRST_ROUND = 4
"""Problems of each skill that are asked before the standard error is looked at."""

Shots = Mapping[str, Sequence[Example]]
"""Skill -> exemplars that stand before each of its problems."""


def examine(task: Task, student: Student, problems: Sequence[Problem], shots: Shots | None = None) -> Examination:
    """Ask `student` each problem once, greedily, after its skill's exemplars in `shots`, and verify what it says.

    Raises InvalidData, naming the method, when `answer` or `verify` returned what its protocol does not allow.
    """
    replies: dict[int, Reply] = {}
    for exemplars, group in _grouped(problems, shots or {}):
        prompts = [problems[i].prompt for i in group]
        few = student.answer(prompts, max_new_tokens=task.max_new_tokens, shots=exemplars)
        checks.replies(student, few, len(prompts))
        replies |= zip(group, (samples[0] for samples in few), strict=True)
    attempts = tuple(judged(task, problem, replies[i]) for i, problem in enumerate(problems))
    return Examination(attempts, sum(map(len, (shots or {}).values())), sum(r.tokens for r in replies.values()))


def rounds(problems: Sequence[Problem], error: float | None) -> list[list[Problem]]:
    """How problems are asked until the standard error is at most `error`: 4 of each skill, then 4, 8, 16 ... more,
    so that the number asked doubles. All at once when `error` is None."""
    if error is None:
        return [list(problems)]
    places: dict[str, int] = {}
    blocks: list[list[Problem]] = []
    for problem in problems:
        place = places[problem.skill] = places.get(problem.skill, -1) + 1
        block = max(place // FIRST_ROUND, 0).bit_length()
        blocks += [[] for _ in range(len(blocks), block + 1)]
        blocks[block].append(problem)
    return [block for block in blocks if block]


def examine_untaught(
    task: Task, student: Student, problems: Sequence[Problem], shots: Shots, error: float | None = None
) -> tuple[Examination, dict[str, float | int | str | None]]:
    """The better of the plain and the few-shot examination, and both accuracies.

    A gain counted from the better one is a gain in skill: knowing the answer's format is worth nothing there.
    With `error`, problems are asked in `rounds` until the better one's standard error is at most that.
    """
    plain, few = Examination(()), Examination(()) if any(shots.values()) else None
    better = plain
    for block in rounds(problems, error):
        if error is not None and better.n and better.error <= error:
            break
        plain += examine(task, student, block)
        few = few + examine(task, student, block, shots) if few is not None else None
        better = few if few is not None and few.accuracy > plain.accuracy else plain
    return better, {
        "plain": plain.accuracy,
        "few_shot": few.accuracy if few is not None else None,
        "shots": max(map(len, shots.values()), default=0),
        "used": "plain" if better is plain else "few_shot",
    }


def _grouped(problems: Sequence[Problem], shots: Shots) -> list[tuple[Sequence[Example], list[int]]]:
    """The problems' numbers by the exemplars they share: all in one group where there are none."""
    groups: dict[str | None, list[int]] = {}
    for i, problem in enumerate(problems):
        groups.setdefault(problem.skill if shots.get(problem.skill) else None, []).append(i)
    return [(shots[skill] if skill is not None else (), group) for skill, group in groups.items()]


def judged(task: Task, problem: Problem, reply: Reply) -> Attempt:
    """The attempt that `reply` is at `problem`; what could not be asked counts as wrong."""
    if reply.finish == "overlong":
        verdict = Verdict(0.0, False, "the prompt does not fit the student's context")
    else:
        verdict = task.verify(problem, reply.text)
        checks.verdict(task, verdict)
    # model_construct: both come from typed code, and validating them again would cost more than the judging.
    return Attempt.model_construct(problem=problem, response=reply.text, finish=reply.finish, **verdict._asdict())


def paired(before: Examination, after: Examination) -> Change:
    """Gain from `before` to `after`, problem by problem: mean d and sd(d)/sqrt(n), per skill the mean.

    When nothing changed the variance is taken as if one problem in n had (b + c = 1), so the error is never 0.
    Source: the paired difference of proportions (McNemar's setting). Raises ValueError on different problems.
    """
    if [a.problem.id for a in before.attempts] != [a.problem.id for a in after.attempts]:
        raise ValueError("the two examinations asked different problems")
    n = before.n
    if n == 0:
        return Change(0.0, 0.5, 0)
    gained = lost = 0
    by_skill: dict[str, list[int]] = {}
    by_problem: list[tuple[str, int]] = []
    for old, new in zip(before.attempts, after.attempts, strict=True):
        change = int(new.correct) - int(old.correct)
        gained += change > 0
        lost += change < 0
        by_skill.setdefault(old.problem.skill, []).append(change)
        by_problem.append((old.problem.skill, change))
    return Change(
        (gained - lost) / n,
        _paired_error(gained + lost, gained - lost, n),
        n,
        {skill: sum(changes) / len(changes) for skill, changes in by_skill.items()},
        tuple(by_problem),
    )


def _paired_error(moved: int, net: int, n: int) -> float:
    """Standard error of net / n, where `moved` of `n` answers changed; see `paired`."""
    return math.sqrt(max(max(moved, 1) / n - (net / n) ** 2, 1 / n / n) / n)
