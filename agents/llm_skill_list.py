"""The paper's Skill-List teacher: a language model reads scores by skill, and errors, and deals the rows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from dataenv.agents.llm import LLMTeacher, Unusable, level, reasoned, whole_rows
from dataenv.chat.templates import prompts
from dataenv.records import Attempt, Feedback, Plan, Request

SCHEMA = reasoned(
    "skills", {"skill": {"type": "string"}, "rows": {"type": "number"}, "difficulty": {"type": ["number", "null"]}}
)


class SkillListLLM(LLMTeacher):
    """Shown are scores, standard errors and rows taught by skill, up to `errors` wrong answers, drawn anew in each step
    and spread over the skills, the budget, and the last steps with what was rejected, and why. The model answers with
    rows and a difficulty for skills.

    Where its plan cannot be used, the rows go to all skills alike.

    Source: the Skill-List agents of DataEnvGym (2024).
    """

    name = "skill-list-llm"

    def act(self, observation: Any, info: Mapping[str, Any]) -> Plan:
        feedback: Feedback = info["feedback"]
        names = [score.skill for score in feedback.skills]
        prompt = prompts.render(
            "skill-list-llm/plan",
            feedback=feedback,
            past=self.past(feedback),
            failures=told(self._drawn(feedback)[: self.errors]),
            failed=len(feedback.failures),
        )

        def read(_: int, data: Any, mended: list[str]) -> Plan:
            wanted, difficulty = dict.fromkeys(names, 0.0), dict[str, float]()
            for entry in data["skills"]:
                skill = self.found(entry["skill"], names, mended)
                if skill is None:
                    continue
                wanted[skill] += max(entry["rows"], 0)
                if (wished := level(entry["difficulty"], skill, mended)) is not None:
                    difficulty[skill] = wished
            rows = whole_rows(list(wanted.values()), feedback.budget.rows_now, mended)
            requests = [
                Request(skill=skill, rows=n, difficulty=difficulty.get(skill))
                for skill, n in zip(names, rows, strict=True)
                if n
            ]
            if not requests:
                raise Unusable("The plan asks for no rows of a skill that there is.")
            return Plan(requests=tuple(requests))

        (plan,) = self.consult([("", prompt)], SCHEMA, read)
        self.note(feedback, self.dialogue[0].reasoning)
        return self.deal(np.ones(len(names)), feedback) if plan is None else plan

    def _drawn(self, feedback: Feedback) -> list[Attempt]:
        """The failures in an order drawn anew: one of each skill, then a second of each, and so on."""
        by_skill: dict[str, list[Attempt]] = {}
        for i in self.rng.permutation(len(feedback.failures)):
            attempt = feedback.failures[i]
            by_skill.setdefault(attempt.problem.skill, []).append(attempt)
        return [attempt for attempt in chain(*zip_longest(*by_skill.values())) if attempt is not None]


def told(attempts: list[Attempt]) -> list[dict[str, str]]:
    """Failed attempts as prompts show them."""
    return [
        {
            "skill": attempt.problem.skill,
            "problem": attempt.problem.prompt.in_words,
            "response": attempt.response,
            "answer": attempt.problem.answer,
        }
        for attempt in attempts
    ]
