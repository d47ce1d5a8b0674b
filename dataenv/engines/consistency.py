"""Self-consistency: a row whose answer nobody can verify must be what independent solutions come to.

Source: Wang et al. 2022, https://arxiv.org/abs/2203.11171; as a check of written problems, e.g. MATH^2 and PromptCoT.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from dataenv.chat.conversing import Converses
from dataenv.chat.question import Answer, Question
from dataenv.chat.templates import prompts
from dataenv.checks import real, whole
from dataenv.engines.exemplars import Exemplars, told
from dataenv.protocols import Task
from dataenv.records import Example, Problem

INCONSISTENT, UNANSWERED = "inconsistent", "unanswered"
"""Why a row is dropped: too few solutions agree with it, or there was none at all."""

SOLVED = {
    "type": "object",
    "properties": {"solution": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["solution", "answer"],
    "additionalProperties": False,
}
"""The form of a solution."""


class Consistency(Converses):
    """Drops rows with which fewer than a share `agreement` of `solutions` independent solutions agree.

    The model solves the problem without having seen the row's answer; a solution agrees if the row's completion is
    right by its answer, as the task judges, or, where a row says by `data` what is right (tests, allowed calls), if it
    is right by that. Rows whose prompt the task recognises pass: the gate knows the true answer. So do rows with
    pictures, which the model is not shown. Solutions that did not arrive agree with nothing.

    Args:
        solutions: k, of each problem. `agreement`: least share of the k, in [0, 1].
        temperature: of the solutions, which must differ to be independent; a local model is greedy without one.
        max_tokens: of a solution, thinking included.
    """

    name = "consistent"

    def __init__(
        self,
        solutions: int | str = 3,
        *,
        task: Task,
        agreement: float = 0.6,
        temperature: float | None = 1.0,
        max_tokens: int = 2048,
    ) -> None:
        self.task = task
        self.solutions = whole("consistent: solutions", solutions)
        self.agreement = real("consistent: agreement", agreement, 0, 1)
        self.temperature = None if temperature is None else real("consistent: temperature", temperature, 0, 10)
        self.max_tokens = whole("consistent: max_tokens", max_tokens)
        self._exemplars = Exemplars(task)

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[str | None]:
        doubtful = [
            i
            for i, example in enumerate(examples)
            if not example.prompt.images and self.task.recognise(example.prompt) is None
        ]
        questions = [self._question(examples[i], rng) for i in doubtful for _ in range(self.solutions)]
        results = iter(self.client.ask(questions) if questions else ())
        reasons: list[str | None] = [None] * len(examples)
        for i in doubtful:
            came = [found for _ in range(self.solutions) if isinstance(found := next(results), Answer)]
            agreed = sum(self._agrees(examples[i], **found.data) for found in came)
            if not came:
                reasons[i] = UNANSWERED
            elif agreed < self.agreement * self.solutions - 1e-9:
                reasons[i] = INCONSISTENT
        return reasons

    def _question(self, example: Example, rng: np.random.Generator) -> Question:
        return solving(
            example,
            self._exemplars.draw(example.skill, 2, rng),
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=int(rng.integers(2**31)),
        )

    def _agrees(self, example: Example, solution: str, answer: str) -> bool:
        answer = answer.strip()
        if not answer:
            return False
        if example.data and (problem := example.as_problem()) is not None:
            said = self._exemplars.form(example.skill).completion(solution.strip(), answer)
            return self.task.verify(problem, said).correct
        problem = Problem(prompt=example.prompt, answer=answer, skill=example.skill, data=example.data)
        return self.task.verify(problem, example.completion).correct


def solving(
    example: Example, shown: Sequence[Example], *, temperature: float | None, max_tokens: int, seed: int
) -> Question:
    """The question that asks for a solution (`SOLVED`) of a row's problem, which shows nothing else of the row."""
    text = prompts.render(
        "llm/solve",
        problem=example.prompt.text,
        tools=[json.dumps(tool, ensure_ascii=False) for tool in example.prompt.tools],
        shown=[told(row) for row in shown],
    )
    return Question.of(text, json_schema=SOLVED, max_tokens=max_tokens, temperature=temperature, seed=seed)
