"""Rows that a language model makes of rows of the task's pool: `answer-augment` and `rephrase`.

Source: MetaMath, https://arxiv.org/abs/2309.12284.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from dataenv.chat.templates import prompts
from dataenv.engines.consistency import solving
from dataenv.engines.filling import Seen
from dataenv.engines.pool import Pool
from dataenv.engines.writing import Call, Writing
from dataenv.protocols import Task
from dataenv.records import Example, Request

REWORDED = {
    "type": "object",
    "properties": {"problem": {"type": "string"}},
    "required": ["problem"],
    "additionalProperties": False,
}
"""The form of a problem in other words."""


class Augmenting(Writing):
    """Base of engines that make one row of each problem they draw from the pool, none of them twice in a `write`.

    The pool has nothing for a request that matches no skill.
    """

    def __init__(self, task: Task, **options: Any) -> None:
        super().__init__(task, **{"batch": 1, **options})
        self.source = Pool(task)

    def _call(self, number: int, start: Example, rng: np.random.Generator) -> Call:
        """What is asked about a row of the pool, for the request of that number."""
        raise NotImplementedError

    def _calls(
        self, number: int, request: Request, made: Sequence[Example], tried: Seen, rng: np.random.Generator
    ) -> list[Call]:
        missing = request.model_copy(update={"rows": request.rows - len(made)})
        starts = self.source.write([missing], rng, tried)[0]
        tried.update(start.prompt.key for start in starts)
        return [self._call(number, start, rng) for start in starts]


class AnswerAugment(Augmenting):
    """Another worked solution to each problem, kept where it comes to the right answer.

    One row of a problem may be taught in an episode, this or the pool's own; where the task's rows hold the answer
    alone, both are the same. Arguments: see `Writing`; every call is for one row.
    """

    name = "answer-augment"

    def _call(self, number: int, start: Example, rng: np.random.Generator) -> Call:
        question = solving(
            start,
            self.exemplars.draw(start.skill, 2, rng),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=int(rng.integers(2**31)),
        )
        return Call(number, 1, question, start=start)

    def _rows(self, call: Call, request: Request, data: Any) -> Iterator[Example]:
        assert call.start is not None
        written = self.exemplars.form(request.skill).completion(data["solution"].strip(), data["answer"].strip())
        yield call.start.model_copy(update={"completion": written, "provenance": {"pool": call.start.id}})


class Rephrase(Augmenting):
    """Each problem in other words, with the solution and the answer it has.

    Kept where the answer is still right: as the task says where it recognises the new wording, else as independent
    solutions agree. Arguments: see `Writing`; every call is for one row.
    """

    name = "rephrase"

    def _call(self, number: int, start: Example, rng: np.random.Generator) -> Call:
        text = prompts.render("rephrase/reword", problem=start.prompt.text)
        return Call(number, 1, self._question(text, REWORDED, rng), shown=[start], start=start)

    def _rows(self, call: Call, request: Request, data: Any) -> Iterator[Example]:
        assert call.start is not None
        prompt = call.start.prompt.model_copy(update={"text": data["problem"].strip()})
        yield call.start.model_copy(update={"prompt": prompt, "provenance": {"pool": call.start.id}})
