"""The organiser that asks a language model: subskills that know the task's domain, without one word about it here."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np

from dataenv.chat.conversing import Converses
from dataenv.chat.question import Failure, Question
from dataenv.chat.templates import prompts
from dataenv.checks import whole
from dataenv.errors import Note
from dataenv.protocols import Task
from dataenv.records import Request, normalise

TRIES = 2
"""Questions for one proposal: the names that are missing after the first are asked for once more."""
LONGEST = 120
"""Characters of a name; a longer one is no name."""

FORM = {
    "type": "object",
    "properties": {"subskills": {"type": "array", "items": {"type": "string"}}},
    "required": ["subskills"],
    "additionalProperties": False,
}

_SPACE = re.compile(r"\s+")


class Proposer(Converses):
    """Subskills that a language model names, shown the skill, `shown` exemplar problems of it and the known names.

    Names that differ from known ones in case or white space only are not proposed; a surplus is cut. Where no call
    succeeds there are fewer, or none, and a `Note` says why. A request says the subskill in words, too, for engines
    that read; nothing but the names is remembered, so a run that resumes asks for the same.
    """

    name = "llm"

    def __init__(self, task: Task, *, shown: int = 4, max_tokens: int = 4096) -> None:
        self.task = task
        self.shown, self.max_tokens = whole("llm: shown", shown, least=0), whole("llm: max_tokens", max_tokens)

    def propose(self, skill: str, known: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
        taken = {normalise(name) for name in known}
        new: list[str] = []
        for _ in range(TRIES):
            if len(new) >= n:
                break
            text = prompts.render(
                "organiser/propose",
                skill=skill,
                skills=self.task.skills,
                problems=self._problems(skill),
                known=[*known, *new],
                n=n - len(new),
            )
            seed = int(rng.integers(2**31))
            question = Question.of(text, json_schema=FORM, max_tokens=self.max_tokens, seed=seed)
            (result,) = self.client.ask([question])
            if isinstance(result, Failure):
                warnings.warn(f"Organiser 'llm' has no subskills for '{skill}': {result.error}", Note, stacklevel=2)
                continue
            for said in result.data["subskills"]:
                name = _SPACE.sub(" ", said).strip()
                if name and len(name) <= LONGEST and normalise(name) not in taken:
                    taken.add(normalise(name))
                    new.append(name)
        return new[:n]

    def request(self, skill: str, subskill: str, rows: int) -> Request:
        words = f"Problems of the skill {skill} that practise this: {subskill}."
        return Request(skill=skill, subskill=subskill, rows=rows, instruction=words)

    def _problems(self, skill: str) -> list[str]:
        if not self.shown:
            return []
        drawn = self.task.problems("exemplar", self.shown, 0)
        return [problem.prompt.text for problem in drawn if problem.skill == skill][: self.shown]
