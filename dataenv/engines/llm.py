"""Rows that a language model writes from nothing but a request and a few examples: `llm` and `new-question`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dataenv.checks import whole
from dataenv.engines.authoring import InForm, InWords
from dataenv.engines.filling import Seen
from dataenv.engines.pool import Pool
from dataenv.engines.writing import Call, Writing
from dataenv.errors import InvalidData
from dataenv.protocols import AuthoredTask, Task
from dataenv.records import UNMATCHED, Example, Request


class LLM(Writing):
    """Rows written by a language model to what a request says, in words or not.

    They are written as a problem, a worked solution and an answer, or in the form that the task gives (`AuthoredTask`);
    why a row in that form states no problem, as the task says, is the reason it is counted under. A question shows
    `shown` exemplars (of the exemplar split) of the skill, near the difficulty where one is asked for; they say what a
    problem of the task looks like and how its answer is stated. Where the task's rows hold the answer alone, the
    solution is worked out all the same, and not taught. A request that matches no skill is written by its words, and
    its rows have the skill that the task knows them by, if it does.

    Further arguments: see `Writing`.
    """

    name = "llm"

    def __init__(self, task: Task, *, shown: int = 3, **options: Any) -> None:
        super().__init__(task, **options)
        self.shown = whole(f"{self.name}: shown", shown, least=0)
        self.author = InForm(task) if isinstance(task, AuthoredTask) else InWords(self.exemplars)

    def _examples(self, request: Request, tried: Seen, rng: np.random.Generator) -> list[Example]:
        """Rows to show in one call."""
        return self.exemplars.draw(request.skill, self.shown, rng, request.difficulty)

    def _calls(
        self, number: int, request: Request, made: Sequence[Example], tried: Seen, rng: np.random.Generator
    ) -> list[Call]:
        calls = []
        for first in range(0, request.rows - len(made), self.batch):
            rows = min(self.batch, request.rows - len(made) - first)
            shown = self._examples(request, tried, rng)
            text = self.author.ask(request, shown, made, rows)
            calls.append(Call(number, rows, self._question(text, self.author.schema, rng), shown))
        return calls

    def _rows(self, call: Call, request: Request, data: Any) -> Iterator[Example]:
        for written in data["rows"]:
            try:
                row = self.author.read(written, request.skill)
            except InvalidData as error:
                self.dropped.drop(str(error), json.dumps(written, ensure_ascii=False))
                continue
            known = self.task.recognise(row.prompt) if request.skill == UNMATCHED else None
            yield row.model_copy(
                update={
                    "skill": row.skill if known is None else known.skill,
                    "subskill": request.subskill,
                    "difficulty": request.difficulty,
                }
            )


class NewQuestion(LLM):
    """Rows written in the style of problems of the task's pool, other ones for each question; otherwise as `LLM`.

    The rows of a request that matches no skill are none: no problem of the pool is known to be like it. Source:
    e.g. MetaMath, https://arxiv.org/abs/2309.12284, and the seeded variant of the system of the paper.
    """

    name = "new-question"

    def __init__(self, task: Task, **options: Any) -> None:
        super().__init__(task, **options)
        whole("new-question: shown", self.shown)
        self.source = Pool(task)

    def _examples(self, request: Request, tried: Seen, rng: np.random.Generator) -> list[Example]:
        return self.source.write([request.model_copy(update={"rows": self.shown})], rng)[0]

    def _calls(
        self, number: int, request: Request, made: Sequence[Example], tried: Seen, rng: np.random.Generator
    ) -> list[Call]:
        return [call for call in super()._calls(number, request, made, tried, rng) if call.shown]
