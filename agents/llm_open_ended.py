"""The paper's Open-Ended teacher: a language model reads what the student got wrong and says what to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dataenv.agents.llm import LLMTeacher, Unusable, form, whole_rows
from dataenv.chat.templates import prompts
from dataenv.errors import InvalidData
from dataenv.records import Feedback, Transition
from dataenv.spaces import allocate, plain

WORDS = 1_000
"""Bytes of an instruction, at most."""

SCHEMA = form(
    {
        "reasoning": {"type": "string"},
        "requests": {
            "type": "array",
            "items": form(
                {"instruction": {"type": "string"}, "error": {"type": "integer"}, "rows": {"type": "number"}}
            ),
        },
    }
)

Action = tuple[dict[str, Any], ...]


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

    def act(self, observation: Any, info: Mapping[str, Any]) -> Action:
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

        def read(_: int, data: Any, mended: list[str]) -> Action:
            parts = []
            for request, rows in zip(
                data["requests"], whole_rows([r["rows"] for r in data["requests"]], budget, mended), strict=True
            ):
                words, number = plain(request["instruction"], WORDS).strip(), int(request["error"])
                exemplar = failures[number - 1]["problem"] if 0 < number <= len(failures) else ""
                if number and not exemplar:
                    mended.append(f"There is no error {number}.")
                if rows and (words or exemplar.strip()):
                    parts.append({"instruction": words, "exemplar": exemplar, "rows": rows})
            if not parts:
                raise Unusable("The plan asks for no rows.")
            return tuple(parts)

        (action,) = self.consult([("", prompt)], SCHEMA, read)
        self.note(feedback, self.dialogue[0].reasoning)
        return self._even(feedback) if action is None else action

    def observe(self, transition: Transition) -> None:
        self.unmatched = [text[:WORDS] for _, text in transition.info.get("unmatched", ())][:8]

    def _even(self, feedback: Feedback) -> Action:
        names = [plain(score.skill, WORDS) for score in feedback.skills if score.skill.strip()]
        rows = allocate(np.ones(len(names)), feedback.budget.rows_now).tolist() if names else []
        return tuple({"instruction": name, "exemplar": "", "rows": n} for name, n in zip(names, rows, strict=True) if n)
