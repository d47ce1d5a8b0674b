"""What tasks that write their problems without end have in common; `fixed.py` is its twin for data sets."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dataenv.errors import InvalidData, UnknownId
from dataenv.records import Problem, Prompt, Split
from dataenv.seeding import stream


class MintedTask:
    """Base of tasks whose problems, of whatever split, are minted when they are asked for.

    A subclass has a `family`, its id, which names its random streams; it says how a problem is drawn (`_draw`), and, if
    it likes, what the subskills of a skill are (`_subskills`).

    Args:
        skills: names, or their text with commas, of those to keep; None keeps all.
        builds_on: every skill there is, with the skills it builds on.

    Raises UnknownId, naming the nearest, for a skill that is not there.
    """

    family: str
    default_engine = "procedural"
    images = False

    def __init__(self, skills: str | Sequence[str] | None, builds_on: Mapping[str, Sequence[str]]) -> None:
        if isinstance(skills, str):
            skills = [name.strip() for name in skills.split(",") if name.strip()]
        for name in skills or ():
            must_be_skill(self.family, name, builds_on)
        self.skills = tuple(dict.fromkeys(skills or builds_on))
        self.name = f"{self.family}:{','.join(self.skills)}" if skills else self.family
        self.prerequisites: Mapping[str, tuple[str, ...]] = {
            name: needed
            for name in self.skills
            if (needed := tuple(other for other in builds_on[name] if other in self.skills))
        }

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        """Up to `per_skill` problems of each skill at the natural mix. InvalidData for None: they have no end."""
        if per_skill is None:
            raise InvalidData(
                f"{self.name} is written without end; say how many problems per skill you want (per_skill)."
            )
        return [
            problem
            for skill in self.skills
            for problem in self._draw(skill, split, per_skill, None, stream(seed, self.family, skill, split))
        ]

    def subskills(self, skill: str) -> tuple[str, ...]:
        """Names of the skill's subskills; none where the task does not divide it. Raises UnknownId."""
        must_be_skill(self.name, skill, self.skills)
        return self._subskills(skill)

    def write(
        self, skill: str, n: int, difficulty: float | None, rng: np.random.Generator, subskill: str | None = None
    ) -> list[Problem]:
        """`n` solved problems of the pool at one difficulty in [0, 1], or at the natural mix when it is None; fewer
        where no more exist.

        Raises UnknownId for a skill or subskill outside this task, InvalidData for a difficulty outside [0, 1].
        """
        known = self.subskills(skill)
        if subskill is not None and subskill not in known:
            raise UnknownId(f"'{skill}' has no subskill '{subskill}'; it has: {'; '.join(known) or 'none'}.")
        if difficulty is not None and not 0 <= difficulty <= 1:
            raise InvalidData(f"difficulty is {difficulty}; it must lie in [0, 1], or be None for the natural mix.")
        return self._draw(skill, "pool", n, difficulty, rng, subskill)

    def held_out(self) -> Sequence[Prompt]:
        """Nothing: exam and selection are minted, and the pool is disjoint from them by content hash."""
        return ()

    def _subskills(self, skill: str) -> tuple[str, ...]:
        return ()

    def _draw(
        self,
        skill: str,
        split: Split,
        n: int,
        difficulty: float | None,
        rng: np.random.Generator,
        subskill: str | None = None,
    ) -> list[Problem]:
        """`n` distinct problems of the split, fewer only where no more exist; see `splits.draw`."""
        raise NotImplementedError


def must_be_skill(task: str, name: str, among: Mapping[str, Any] | Sequence[str]) -> None:
    """Raise UnknownId, naming the nearest, unless `name` is among the skills."""
    if name in among:
        return
    near = difflib.get_close_matches(name, among, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    listing = f"It has: {', '.join(among)}." if len(among) <= 20 else f"It has {len(among)} skills."
    raise UnknownId(f"{task} has no skill '{name}'; {hint}{listing}")
