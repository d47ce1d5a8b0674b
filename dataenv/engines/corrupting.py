"""Engines for stress tests: rows of another engine, some or all of them made wrong on purpose.

A corrupted row claims its wrong answer as right, so that it passes where nobody knows better. Where the task recognises
the prompt the gate still drops it; the task "unverified:TASK" does not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from dataenv import checks
from dataenv.checks import real
from dataenv.engines import engines
from dataenv.engines.asking import Asking
from dataenv.engines.drops import Drops
from dataenv.errors import InvalidData
from dataenv.protocols import AsksStudent, Engine, Student, Task, TryingEngine
from dataenv.records import Example, Problem, Request

KINDS = ("outcome", "step", "shirk")
"""A wrong answer; a wrong number on the way to a right one; the answer without its working."""
TRIES = 5
"""Wrong answers that are tried for a row before it is left as it is, or dropped."""
UNSPOILT = "no wrong answer"
"""Why a row of `deceive` is dropped."""

_NUMBER = re.compile(r"\d+")


class OverEngine:
    """Base of engines that change the rows of another one, `source` (an engine or its id; None: the task's own)."""

    name: str

    def __init__(self, source: str | Engine | None, task: Task) -> None:
        self.task = task
        source = task.default_engine if source is None else source
        if isinstance(source, str) and source.partition(":")[0] == self.name:  # a task whose own engine is this one
            source = "procedural"
        self.source: Engine = engines.make(source, task=task) if isinstance(source, str) else source
        checks.part(f"{self.name}: source", self.source, Engine)
        self.parts = (self.source,)
        self.dropped = Drops()

    def attach(self, student: Student) -> None:
        if isinstance(self.source, AsksStudent):
            self.source.attach(student)

    def drawn(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str]
    ) -> list[list[Example]]:
        """The rows of the source; what it tried in vain is counted."""
        self.dropped = Drops()
        rows = self.source.write(requests, rng, taught)
        checks.written(self.source, rows, len(requests))
        if isinstance(self.source, TryingEngine):
            self.dropped.take(self.source.dropped)
        return [list(few) for few in rows]


class NoisyEngine(OverEngine):
    """Rows of another engine, of which some shares are corrupted: `outcome` (wrong answer), `step` (a wrong number in
    the working, right answer), `shirk` (the answer without its working). What a row cannot suffer, for it has no
    working or no wrong answer is at hand, it is spared; `spared` counts by kind.

    A wrong answer is another row's of the same skill. `provenance["corrupted"]` says the kind, for audits: neither
    teachers nor the gate read it.

    Source: 20 % of low-effort rows as a breaking point is of Instruct-SkillMix (2024), https://arxiv.org/abs/2408.14774;
    that wrong steps matter more than wrong outcomes of Guiding Through Complexity (2024).
    """

    name = "noisy-engine"

    def __init__(
        self,
        outcome: float | str = 0.2,
        *,
        task: Task,
        step: float = 0.0,
        shirk: float = 0.0,
        source: str | Engine | None = None,
    ) -> None:
        super().__init__(source, task)
        given = zip(KINDS, (outcome, step, shirk), strict=True)
        self.rates = {kind: real(f"noisy-engine: {kind}", rate, 0, 1) for kind, rate in given}
        if sum(self.rates.values()) > 1 + 1e-9:
            raise InvalidData(f"noisy-engine: its rates add up to {sum(self.rates.values()):g}; at most 1 is possible.")
        self.spared: Counter[str] = Counter()

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        rows = self.drawn(requests, rng, taught)
        others = _answers(rows)
        edges = np.cumsum(list(self.rates.values()))
        for few in rows:
            for i, row in enumerate(few):
                place = int(np.searchsorted(edges, rng.random(), side="right"))
                if place < len(KINDS):
                    few[i] = self._corrupted(KINDS[place], row, others, rng)
        return rows

    def _corrupted(self, kind: str, row: Example, others: dict[str, list[str]], rng: np.random.Generator) -> Example:
        if kind == "outcome":
            spoilt = misled(self.task, row, _some(others.get(row.skill, ()), rng))
        else:
            spoilt = _slipped(row, rng) if kind == "step" else _unworked(row)
        if spoilt is None:
            self.spared[kind] += 1
            return row
        return spoilt.model_copy(update={"provenance": {**row.provenance, "corrupted": kind}})


class Deceive(OverEngine, Asking):
    """Rows of another engine, all with wrong answers: the one the student gives itself where it is wrong, else another
    row's of the same skill. Rows without a wrong answer at hand are dropped. The control that should bring a student
    down to chance.

    Source: Can Language Models Teach Weaker Agents? (2023), https://arxiv.org/abs/2306.09299 (misaligned teachers).
    """

    name = "deceive"

    def __init__(self, source: str | Engine | None = None, *, task: Task) -> None:
        super().__init__(source, task)

    def attach(self, student: Student) -> None:
        Asking.attach(self, student)
        OverEngine.attach(self, student)

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        rows = self.drawn(requests, rng, taught)
        others = _answers(rows)
        prompts = [row.prompt for few in rows for row in few]
        replies = self.student.answer(prompts, max_new_tokens=self.task.max_new_tokens) if prompts else []
        checks.replies(self.student, replies, len(prompts))
        own = iter(replies)
        found: list[list[Example]] = []
        for few in rows:
            found.append([])
            for row in few:
                said = next(own)[0]
                answers = [said.text.strip()] if said.finish == "stop" and said.text.strip() else []
                spoilt = misled(self.task, row, [*answers, *_some(others.get(row.skill, ()), rng)])
                if spoilt is None:
                    self.dropped.drop(UNSPOILT, row)
                else:
                    found[-1].append(spoilt)
        return found


def misled(task: Task, row: Example, answers: Sequence[str]) -> Example | None:
    """`row` with the first of `answers` that is wrong in the place of its own, in its completion, too; None where none
    is wrong, or the row states no answer in words."""
    truth = row.as_problem()
    if truth is None or not row.answer:
        return None
    for answer in answers:
        before, found, after = row.completion.rpartition(row.answer)
        completion = f"{before}{answer}{after}" if found else answer
        claimed = Problem(prompt=row.prompt, answer=answer, skill=row.skill, data=row.data)
        wrong = not task.verify(truth, completion).correct and not task.verify(truth, answer).correct
        if wrong and task.verify(claimed, completion).correct:
            return row.model_copy(update={"completion": completion, "rejected": None, "answer": answer})
    return None


def _slipped(row: Example, rng: np.random.Generator) -> Example | None:
    """`row` with one number of its working changed by one, its answer as it was."""
    if row.answer is None:
        return None
    end = row.completion.rfind(row.answer)
    numbers = [match for match in _NUMBER.finditer(row.completion) if match.end() <= max(end, 0)]
    if not numbers:
        return None
    chosen = numbers[int(rng.integers(len(numbers)))]
    text = f"{row.completion[: chosen.start()]}{int(chosen[0]) + 1}{row.completion[chosen.end() :]}"
    return row.model_copy(update={"completion": text, "rejected": None})


def _unworked(row: Example) -> Example | None:
    """`row` with its answer for a completion."""
    if row.answer is None or row.completion.strip() == row.answer.strip():
        return None
    last = row.completion.rstrip().rpartition("\n")[2]  # as rows of the task state their answer
    return row.model_copy(update={"completion": last if row.answer in last else row.answer, "rejected": None})


def _answers(rows: Sequence[Sequence[Example]]) -> dict[str, list[str]]:
    """Skill -> the distinct answers of its rows."""
    found: dict[str, dict[str, None]] = {}
    for few in rows:
        for row in few:
            if row.answer is not None:
                found.setdefault(row.skill, {})[row.answer] = None
    return {skill: list(answers) for skill, answers in found.items()}


def _some(answers: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Up to `TRIES` of them, drawn without repetition."""
    return [answers[i] for i in rng.permutation(len(answers))[:TRIES]]
