"""canary: marks on exam problems that can be looked for wherever a teacher can see.

A canary is a long random text that stands in the prompt of every exam problem. Where one is found outside of the exam,
exam text has got there. (As evidence from a student's likelihoods it is weak: long texts, often repeated, are needed
for an AUC of 0.75; Copyright Traps, 2024, https://arxiv.org/abs/2402.09363. Students here state none.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dataenv.protocols import Task
from dataenv.records import Problem, Prompt, Split
from dataenv.seeding import stream

LENGTH = 24
"""Letters of a canary: 113 bits, so that none occurs by chance."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def canaries(seed: int, n: int = 1) -> list[str]:
    """`n` random words."""
    drawn = stream(seed, "canaries").integers(len(LETTERS), size=(n, LENGTH)).tolist()
    return ["".join(LETTERS[i] for i in word) for word in drawn]


class Marked:
    """A task whose exam problems end in a canary, on a line of its own; nothing else of it is changed."""

    def __init__(self, task: Task, seed: int) -> None:
        self.task, self.name = task, task.name
        (self.canary,) = canaries(seed)

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        found = self.task.problems(split, per_skill, seed)
        return [self._marked(problem) for problem in found] if split == "exam" else found

    def _marked(self, problem: Problem) -> Problem:
        prompt = problem.prompt
        marked = prompt.model_copy(update={"text": f"{prompt.text}\n{self.canary}"})
        return problem.model_copy(update={"prompt": marked})

    def held_out(self) -> Sequence[Prompt]:
        return [p.model_copy(update={"text": f"{p.text}\n{self.canary}"}) for p in self.task.held_out()]

    def __getattr__(self, name: str) -> Any:
        if name == "task":
            raise AttributeError(name)
        return getattr(self.task, name)


def leaks(places: Iterable[Path | Any], words: Iterable[str]) -> list[str]:
    """Where a canary is found: files (those in folders, too) whose bytes hold one, and objects whose text does."""
    sought = [word.encode() for word in words]
    found: list[str] = []
    for place in places:
        if isinstance(place, Path):
            files = sorted(f for f in place.rglob("*") if f.is_file()) if place.is_dir() else [place]
            found += [str(file) for file in files if any(word in file.read_bytes() for word in sought)]
        elif any(word in repr(place).encode() for word in sought):
            found.append(type(place).__name__)
    return found
