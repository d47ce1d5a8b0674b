"""From words to a skill: which of a task's skills an instruction or an exemplar asks for, without a language model.

In this order: the skill the instruction names; the skill of the exemplar, if the task recognises it; the skill whose
problems the text resembles, if it is near enough and clearly nearer than the next. Else none: nothing is guessed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import cached_property

from dataenv.protocols import Task
from dataenv.records import Prompt, normalise

PROBLEMS = 12
"""Problems of each skill, from the pool split, that a text is compared with."""
NEAR, CLEAR = 0.3, 0.1
"""The least cosine similarity that counts, and how far ahead of the next skill's it must be."""
MOST = 2_000
"""Characters of a text that are compared."""

LEVELS = {"easiest": 0.0, "easy": 0.25, "medium": 0.5, "hard": 0.75, "hardest": 1.0}
"""Difficulty by word, as a share of the task's own scale."""

_WORDS = re.compile(r"[^\W_]+")
_SIGNS = re.compile(r"[\W_]")
_DIGITS = re.compile(r"\d+")
_DIFFICULTY = re.compile(r"\bdifficulty:? +(\d+(?:\.\d+)?(?:e-\d+)?)(?![\w.]*\d)")


class Matcher:
    """Finds the skill of `task` that a text asks for. Reads the pool split only, and only when names do not decide."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._named: dict[str, set[str]] = {}
        for skill in sorted(task.skills, key=len, reverse=True):  # so that the longest name is tried first
            if skill.strip():
                self._named.setdefault(_name(skill), set()).add(skill)
        self._names = re.compile("|".join(f"({name})" for name in self._named) or "(?!)")

    def skill(self, instruction: str, exemplar: str = "") -> str | None:
        """The skill asked for, or None; an instruction that names several leaves the choice to the exemplar."""
        named = self.named(instruction)
        if len(named) == 1:
            return named.pop()
        if exemplar:
            found = self.of_problem(exemplar)
            return found if not named or found in named else None
        return None if named else self.nearest(instruction)

    def named(self, text: str) -> set[str]:
        """The skills whose names stand in `text`, whatever the case and the signs between their words. Where names
        overlap, such as "sum" and "chain_sum", the first and longest counts."""
        names = list(self._named.values())
        found = (names[(match.lastindex or 1) - 1] for match in self._names.finditer(normalise(text)))
        return set().union(*found)

    def difficulty(self, instruction: str) -> float | None:
        """The difficulty an instruction states, as "difficulty 0.3" or by a word of `LEVELS`; None where it states
        none, or two. Words within the name of a skill do not count."""
        text = self._names.sub(" ", normalise(instruction))
        stated = {float(number) for number in _DIFFICULTY.findall(text)}
        stated |= {LEVELS[word] for word in _words(text) if word in LEVELS}
        level = stated.pop() if len(stated) == 1 else None
        return level if level is not None and level <= 1 else None

    def of_problem(self, prompt: str) -> str | None:
        """The skill of a problem, given its prompt: recognised by the task, else by resemblance."""
        known = self.task.recognise(Prompt(text=prompt))
        return self.nearest(prompt) if known is None else known.skill

    def nearest(self, text: str) -> str | None:
        """The skill whose name or problems `text` resembles, or None if none is near, or two are about as near."""
        found = self.similarities(text)
        best = max(found, key=found.__getitem__)
        second = max((score for skill, score in found.items() if skill != best), default=0.0)
        return best if found[best] >= NEAR and found[best] - second >= CLEAR else None

    def similarities(self, text: str) -> dict[str, float]:
        """Per skill, the cosine similarity in [0, 1] of `text` to the skill's name or to the nearest of its problems:
        character 3- and 4-grams, log term frequency times inverse document frequency (Salton and Buckley 1988)."""
        vector = self._vector(_grams(text))
        sums = [0.0] * len(self._skills)
        for gram, weight in vector.items():
            for document, other in self._index.get(gram, ()):
                sums[document] += weight * other
        best = dict.fromkeys(self.task.skills, 0.0)
        for skill, score in zip(self._skills, sums, strict=True):
            best[skill] = max(best[skill], min(score, 1.0))
        return best

    @cached_property
    def _documents(self) -> list[tuple[str, Counter[str]]]:
        """What texts are compared with: each skill's name, and some of its problems."""
        problems = self.task.problems("pool", PROBLEMS, 0)
        named = [(skill, " ".join(_words(skill))) for skill in self.task.skills]
        return [(skill, _grams(text)) for skill, text in [*named, *((p.skill, p.prompt.text) for p in problems)]]

    @cached_property
    def _skills(self) -> list[str]:
        return [skill for skill, _ in self._documents]

    @cached_property
    def _rarity(self) -> dict[str, float]:
        """Gram -> ln((1 + K) / (1 + k)) + 1, where k of the K skills have it."""
        having: dict[str, set[str]] = {}
        for skill, grams in self._documents:
            for gram in grams:
                having.setdefault(gram, set()).add(skill)
        return {gram: math.log((1 + len(self.task.skills)) / (1 + len(skills))) + 1 for gram, skills in having.items()}

    @cached_property
    def _index(self) -> dict[str, list[tuple[int, float]]]:
        """Gram -> the documents that have it, with its weight in each."""
        index: dict[str, list[tuple[int, float]]] = {}
        for document, (_, grams) in enumerate(self._documents):
            for gram, weight in self._vector(grams).items():
                index.setdefault(gram, []).append((document, weight))
        return index

    def _vector(self, grams: Counter[str]) -> dict[str, float]:
        """Weights of length 1. A gram no skill has counts as the rarest: it lowers every similarity."""
        unseen = math.log(1 + len(self.task.skills)) + 1
        weights = {gram: (1 + math.log(n)) * self._rarity.get(gram, unseen) for gram, n in grams.items()}
        length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
        return {gram: weight / length for gram, weight in weights.items()}


def _name(skill: str) -> str:
    """Pattern of a skill's name as it may stand in a sentence: "chain_sum" as "chain sum", but "C++" with its signs."""
    text = normalise(skill)
    core = text.strip("".join(set(_SIGNS.findall(text)))) or text
    before, _, after = text.partition(core)
    inner = r"[\W_]+".join(map(re.escape, _words(core) or [core]))
    return rf"(?<![^\W_]){re.escape(before)}{inner}{re.escape(after)}(?![^\W_])"


def _words(text: str) -> list[str]:
    return _WORDS.findall(normalise(text))


def _grams(text: str) -> Counter[str]:
    """Character 3- and 4-grams; numbers count as one sign each, for it is seldom the number that makes the problem."""
    padded = f" {_DIGITS.sub('0', normalise(text[:MOST]))} "
    return Counter(padded[i : i + n] for n in (3, 4) for i in range(len(padded) - n + 1))
