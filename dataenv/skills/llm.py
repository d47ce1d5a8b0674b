"""Skills found by a language model, in three stages: label each problem, group the labels, map what is left over.

After the system of the paper, and Didolkar et al. 2024 (https://arxiv.org/abs/2405.12205). Only problems are shown, no
answers and nothing of a student. A problem met later is mapped by the rule of all discoveries (`NearestSkill`), which
asks nobody: a run's skills are fixed, and the same in every process.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dataenv.chat.conversing import Converses
from dataenv.chat.question import Answer, Failure, Question
from dataenv.chat.templates import prompts
from dataenv.checks import whole
from dataenv.errors import BadAnswer, ChatError, Note
from dataenv.records import Problem, normalise
from dataenv.skills.clustering import MOST_SKILLS
from dataenv.skills.discovery import Embed, NearestSkill, need_sklearn

TRIES = 3
"""How often the problems that no answer named a skill for are asked about."""
LABELS = 400
"""The most labels that are grouped, those of most problems first; problems of the others are mapped one by one."""
LONGEST = 100
"""Characters of a label or of a skill's name."""

_SEPARATORS = re.compile(r"[\s_-]+")


class ByModel(Converses, NearestSkill):
    """Skills that a language model names; `llm:12` for 12 of them, else as many as it finds, 2 to 24.

    1. *Label*: it names the skill of each problem, `batch` problems to a question. Equal names but for case and the
       signs between words are one label.
    2. *Cluster*: in one question it groups the labels, repeated ones once, and names the groups: these are the skills.
       A label that it puts into two groups is in the first.
    3. *Map*: a problem has the skill of its label; for problems whose label is in no group it chooses one of the
       skills. What it cannot map is mapped like a new problem, which a `Note` counts.

    Questions depend on the feedback problems only, not on their order, so that with the client's cache a fit that broke
    off goes on where it was. Raises the client's error where no call succeeds, or the labels could not be grouped.

    Args:
        n: how many skills. `batch`: problems in a question. `max_tokens`: of an answer, thinking included.
        embed: see `NearestSkill`.
    """

    def __init__(
        self, n: int | str | None = None, *, batch: int = 10, max_tokens: int = 4096, embed: Embed | None = None
    ) -> None:
        need_sklearn()
        self.n = None if n is None else whole("llm: the number of skills", n)
        self.batch, self.max_tokens = whole("llm: batch", batch), whole("llm: max_tokens", max_tokens)
        super().__init__("llm" if n is None else f"llm:{self.n}", self._skill_by_key, embed)

    def _skill_by_key(self, problems: Sequence[Problem]) -> Mapping[str, str]:
        labels = self._each(problems, "label", {"type": "string"}, label)
        skill_of = self._grouped(Counter(labels.values()))
        found = {key: skill_of[name] for key, name in labels.items() if name in skill_of}
        skills = list(dict.fromkeys(skill_of.values()))
        if left := [problem for problem in problems if problem.prompt.key not in found]:
            names = {normalise(skill): skill for skill in skills}
            choice = {"type": "string", "enum": skills}
            found |= self._each(left, "map", choice, lambda said: names.get(normalise(said), ""), skills=skills)
        if lost := len(problems) - len(found):
            text = f"'{self.name}' named no skill for {lost} of {len(problems)} problems; they have the most similar's."
            warnings.warn(text, Note, stacklevel=4)
        return found

    def _each(
        self, problems: Sequence[Problem], stage: str, form: dict[str, Any], read: Callable[[str], str], **shown: Any
    ) -> dict[str, str]:
        """Prompt key -> what `read` makes of the skill that the model names; "" is none. Raises where it names none."""
        entry = {"number": {"type": "integer"}, "skill": form}
        schema = _object(problems={"type": "array", "items": _object(**entry)})
        found: dict[str, str] = {}
        error: ChatError = BadAnswer(f"'{self.name}' named none of the problems' skills; try a larger model.")
        for attempt in range(TRIES):
            left = [problem for problem in problems if problem.prompt.key not in found]
            batches = [left[i : i + self.batch] for i in range(0, len(left), self.batch)]
            questions = [
                self._question(stage, schema, attempt, problems=[p.prompt.text for p in batch], **shown)
                for batch in batches
            ]
            for batch, result in zip(batches, self.client.ask(questions) if questions else (), strict=True):
                if isinstance(result, Failure):
                    error = result.error
                    continue
                for said in result.data["problems"]:
                    if 1 <= said["number"] <= len(batch) and (skill := read(said["skill"])):
                        found.setdefault(batch[said["number"] - 1].prompt.key, skill)
        if not found and stage == "label":
            raise error
        return found

    def _grouped(self, labels: Counter[str]) -> dict[str, str]:
        """Label -> skill, for those of the labels that the model put into a group."""
        ordered = sorted(labels.items(), key=lambda pair: (-pair[1], pair[0]))[:LABELS]
        wanted = None if self.n is None else min(self.n, len(ordered))
        if len(ordered) == 1 or wanted == len(ordered):
            return {name: name for name, _ in ordered}
        group = _object(name={"type": "string"}, labels={"type": "array", "items": {"type": "integer"}})
        sizes = {"minItems": wanted or 1, "maxItems": wanted or MOST_SKILLS}
        schema = _object(skills={"type": "array", "items": group, **sizes})
        names: dict[str, str] = {}
        found: dict[str, str] = {}
        error: ChatError = BadAnswer(f"'{self.name}' found no groups among {len(ordered)} labels; try a larger model.")
        for attempt in range(TRIES):
            question = self._question("cluster", schema, attempt, labels=ordered, skills=wanted, most=MOST_SKILLS)
            (result,) = self.client.ask([question])
            if isinstance(result, Answer):
                for skill in result.data["skills"]:
                    name = _SEPARATORS.sub(" ", skill["name"]).strip()[:LONGEST]
                    for number in skill["labels"] if name else ():
                        if 1 <= number <= len(ordered):
                            found.setdefault(ordered[number - 1][0], names.setdefault(normalise(name), name))
                if found:
                    return found
            else:
                error = result.error
        raise error

    def _question(self, stage: str, schema: dict[str, Any], attempt: int, **values: Any) -> Question:
        text = prompts.render(f"discovery/{stage}", **values)
        return Question.of(text, json_schema=schema, max_tokens=self.max_tokens, seed=attempt)


def label(said: str) -> str:
    """A label as it is compared: "Adding_fractions " is "adding fractions"."""
    return _SEPARATORS.sub(" ", normalise(said)).strip(" .\"'`")[:LONGEST]


def _object(**properties: Any) -> dict[str, Any]:
    """The schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
