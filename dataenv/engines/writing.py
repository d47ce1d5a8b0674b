"""Engines whose rows a language model writes: the loop they share. `llm.py` and `augmenting.py` say what is asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np

from dataenv.chat.conversing import Converses
from dataenv.chat.question import Failure, Question
from dataenv.checks import real, whole
from dataenv.engines.consistency import UNANSWERED, Consistency
from dataenv.engines.drops import Drops
from dataenv.engines.exemplars import Exemplars
from dataenv.engines.filling import Seen
from dataenv.errors import BadAnswer
from dataenv.protocols import Task
from dataenv.records import UNMATCHED, Example, Request

UNPARSED, EMPTY, COPIED, DUPLICATE = "unparsed", "empty", "copied", "duplicate"
OFF_SKILL, WRONG = "off-skill", "wrong"
"""Why a row came to nothing: no answer of the form asked for; a part of it is blank; a problem that was shown; one
that was taught or written before; the task knows it as one of another skill; its completion is not its right answer."""


class Call(NamedTuple):
    """One question to the model, for `rows` rows of the request of that number."""

    request: int
    rows: int
    question: Question
    shown: Sequence[Example] = ()
    """Rows whose problems the answer may not repeat."""
    start: Example | None = None
    """The row that an augmenting engine makes another of."""


class Writing(Converses):
    """Base of the engines that ask a language model, whose `_calls` and `_rows` say what for.

    All requests' questions are asked at once; rows are read in the order of the requests, checked, and what is missing
    is asked for again, with what there is already, until it is there or the calls are used up. A row must have all its
    parts, be new, be of the skill asked for where the task can tell, and be right: by the true answer where the task
    recognises the problem, else by its own, and then by the agreement of independent solutions (`Consistency`). What
    fails is in `dropped`, by reason; a call without a usable answer counts with the rows it was for ("unanswered", or
    "unparsed" where its form was wrong). An error that concerns every call is raised: with the client's cache nothing
    that was answered is asked again when the run goes on.

    Args:
        batch: most rows asked for in a call. `tries`: calls for a request, at most, as a multiple of those it would
            take if every row were good.
        solutions, agreement: of `Consistency`; 0 solutions leave rows that the task does not recognise unchecked.
        temperature: None leaves it to the model (a local one is then greedy, and repeats itself).
        max_tokens: of one answer, thinking included.

    `provenance` of a row names the model, and the question by the key that the client's cache and tapes have it under.
    """

    def __init__(
        self,
        task: Task,
        *,
        batch: int = 5,
        tries: int = 4,
        solutions: int = 3,
        agreement: float = 0.6,
        temperature: float | None = 1.0,
        max_tokens: int = 4096,
    ) -> None:
        self.task = task
        self.batch, self.tries = whole(f"{self.name}: batch", batch), whole(f"{self.name}: tries", tries)
        self.temperature = None if temperature is None else real(f"{self.name}: temperature", temperature, 0, 10)
        self.max_tokens = whole(f"{self.name}: max_tokens", max_tokens)
        self.consistency: Consistency | None = None
        if whole(f"{self.name}: solutions", solutions, least=0):
            self.consistency = Consistency(
                solutions, task=task, agreement=agreement, temperature=temperature, max_tokens=max_tokens
            )
        self.exemplars = Exemplars(task)
        self.dropped = Drops()

    def converse(self, client: Any) -> None:
        super().converse(client)
        if self.consistency is not None:
            self.consistency.converse(client)

    # -- what an engine adds -----------------------------------------------------------------------------------------

    def _calls(
        self, number: int, request: Request, made: Sequence[Example], tried: Seen, rng: np.random.Generator
    ) -> list[Call]:
        """Calls for the rows that `request` still wants besides those `made`; none where nothing can be asked.

        `tried` holds the prompt keys of rows taught, and whatever the engine adds to it during one `write`.
        """
        raise NotImplementedError

    def _rows(self, call: Call, request: Request, data: Any) -> Iterator[Example]:
        """The rows in an answer, as they come."""
        raise NotImplementedError

    # -- the loop -----------------------------------------------------------------------------------------------------

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        self.dropped = Drops()
        rows: list[list[Example]] = [[] for _ in requests]
        left = [self.tries * math.ceil(request.rows / self.batch) for request in requests]
        seen, tried = Seen(taught), Seen(taught)
        while True:
            calls: list[Call] = []
            for i, request in enumerate(requests):
                if len(rows[i]) < request.rows and left[i]:
                    new = self._calls(i, request, rows[i], tried, rng)[: left[i]]
                    left[i] -= len(new) or left[i]
                    calls += new
            if not calls:
                return rows
            fresh = self._fresh(calls, requests, seen)
            examples = [example for _, example in fresh]
            reasons = self.consistency(examples, rng) if self.consistency else [None] * len(fresh)
            for (i, example), reason in zip(fresh, reasons, strict=True):
                if reason is not None:
                    self.dropped.drop(reason, example)
                elif len(rows[i]) < requests[i].rows:
                    rows[i].append(example)

    def _fresh(self, calls: Sequence[Call], requests: Sequence[Request], seen: Seen) -> list[tuple[int, Example]]:
        """What the calls bring that is worth a second look, with the numbers of the requests; counts the rest."""
        fresh: list[tuple[int, Example]] = []
        for call, result in zip(calls, self.client.ask([call.question for call in calls]), strict=True):
            if isinstance(result, Failure):
                why = UNPARSED if isinstance(result.error, BadAnswer) else UNANSWERED
                self.dropped.drop(why, str(result.error), call.rows)
                continue
            model = self.client.model.id
            for example in self._rows(call, requests[call.request], result.data):
                reason = self._fault(example, call, requests[call.request].skill, seen)
                if reason is not None:
                    self.dropped.drop(reason, example)
                    continue
                seen.add(example.prompt.key)
                example.provenance.update(model=model, question=call.question.key(model))
                fresh.append((call.request, example))
        return fresh

    def _fault(self, example: Example, call: Call, skill: str, seen: Seen) -> str | None:
        """Why a row is of no use, as far as can be said without asking anybody."""
        parts = [example.prompt.text, example.completion, *([] if example.data else [example.answer or ""])]
        if not all(part.strip() for part in parts):
            return EMPTY
        if example.prompt.key in {row.prompt.key for row in call.shown}:
            return COPIED
        if example.prompt.key in seen:
            return DUPLICATE
        known = self.task.recognise(example.prompt)
        if known is not None and skill not in (known.skill, UNMATCHED):
            return OFF_SKILL
        truth = known or example.as_problem()
        if truth is None or not self.task.verify(truth, example.completion).correct:
            return WRONG
        return None

    def _question(self, text: str, form: dict[str, Any], rng: np.random.Generator) -> Question:
        return Question.of(
            text,
            json_schema=form,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=int(rng.integers(2**31)),
        )
