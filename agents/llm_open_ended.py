"""The paper's Open-Ended teacher: a language model reads what the student got wrong and says what to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataenv.agents.llm import LLMTeacher, Unusable, numbered, reasoned, whole_rows
from dataenv.chat.templates import prompts
from dataenv.errors import InvalidData
from dataenv.records import UNMATCHED, Feedback, Plan, Problem, Prompt, Request, Transition
from dataenv.spaces import allocate, plain

WORDS = 1_000
"""Bytes of an instruction, at most."""

SCHEMA = reasoned(
    "requests", {"instruction": {"type": "string"}, "error": {"type": "integer"}, "rows": {"type": "number"}}
)


class OpenEndedLLM(LLMTeacher):
    """Shown are the failed problems of the observation, up to `errors`, with the student's answers and the right ones,
    scores by skill, the budget, and the last steps with what was rejected, and why. The model answers with requests: an
    instruction, the error it is about, and rows.

    Where its plan cannot be used, every skill is asked for by name, with the same rows.

    Source: the Open-Ended agents of DataEnvGym (2024).
    """

    name = "open-ended-llm"
    environments = ("open-ended",)

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self.unmatched: list[str] = []

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        if not isinstance(observation, Mapping) or "failures" not in observation:
            raise InvalidData(
                f"{self.name} reads failed problems, which this environment does not show; use open-ended."
            )
        failures = [{**failure, "skill": ""} for failure in observation["failures"][: self.errors]]
        prompt = prompts.render(
            "open-ended-llm/plan",
            feedback=feedback,
            past=self.past(feedback),
            failures=failures,
            failed=len(feedback.failures),
            unmatched=self.unmatched,
        )
        budget = feedback.budget.rows_now

        def read(_: int, data: Any, mended: list[str]) -> Plan:
            rows = whole_rows([request["rows"] for request in data["requests"]], budget, mended)
            requests = []
            for request, n in zip(data["requests"], rows, strict=True):
                words, error = (
                    plain(request["instruction"], WORDS).strip(),
                    numbered(request["error"], failures, mended),
                )
                exemplar = error["problem"] if error is not None else ""
                if n and (words or exemplar.strip()):
                    requests.append(_in_words(words, n, exemplar))
            if not requests:
                raise Unusable("The plan asks for no rows.")
            return Plan(requests=tuple(requests))

        (plan,) = self.consult([("", prompt)], SCHEMA, read)
        self.note(feedback, self.dialogue[0].reasoning)
        return self._even(feedback) if plan is None else plan

    def observe(self, transition: Transition) -> None:
        self.unmatched = [text[:WORDS] for _, text in transition.info.get("unmatched", ())][:8]

    def _even(self, feedback: Feedback) -> Plan:
        names = [score.skill for score in feedback.skills if score.skill.strip()]
        rows = allocate(np.ones(len(names)), feedback.budget.rows_now).tolist() if names else []
        return Plan(requests=tuple(_in_words(plain(name, WORDS), n) for name, n in zip(names, rows, strict=True) if n))


def _in_words(words: str, rows: int, exemplar: str = "") -> Request:
    """A request whose words are all there is to say: which skill they mean is for the environment to find."""
    about = Problem(prompt=Prompt(text=exemplar), answer="") if exemplar else None
    return Request(skill=UNMATCHED, rows=rows, instruction=words, exemplar=about)
