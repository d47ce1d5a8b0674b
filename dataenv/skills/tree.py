"""A forest of skills: one tree per skill, its leaves the subskills, each with a quota of rows and held-out problems."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from pydantic import Field

from dataenv.records import Problem, Record, normalise, smoothed_error


class Subskill(Record):
    """A finer topic below a skill: what it shall get, what it got, and how the student does on it."""

    name: str
    quota: int = Field(ge=0)
    """Rows wanted in every step in which the skill is taught; 0 is pruned, and may be raised again."""
    taught: int = Field(default=0, ge=0)
    """Rows taught so far in the episode."""
    probes: tuple[Problem, ...] = ()
    """Problems of this subskill that are never taught."""
    n: int = Field(default=0, ge=0)
    """Probes the student answered; 0 before it was asked."""
    correct: int = Field(default=0, ge=0)

    @property
    def accuracy(self) -> float | None:
        """Share of the probes answered exactly right; None (never 0) where none was asked."""
        return self.correct / self.n if self.n else None

    @property
    def error(self) -> float:
        """Standard error of the accuracy, smoothed; see `records.smoothed_error`."""
        return smoothed_error(self.correct, self.n)


class Tree(Record):
    """One skill's subskills, in the order in which they were grown. The list never shrinks."""

    skill: str
    subskills: tuple[Subskill, ...] = ()
    complete: bool = False
    """Whether the organiser has no further subskill to propose."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(subskill.name for subskill in self.subskills)

    def grown(self, proposed: list[str], n: int, quota: int) -> Tree:
        """With up to `n` of the proposed names as new subskills. Names that differ from a known one only in case or
        white space are not new. No quota of another subskill changes."""
        known = set(map(normalise, self.names))
        new: list[str] = []
        for name in map(str.strip, proposed):
            if name and normalise(name) not in known:
                known.add(normalise(name))
                new.append(name)
        return Tree(
            skill=self.skill,
            subskills=(*self.subskills, *(Subskill(name=name, quota=quota) for name in new[:n])),
            complete=len(new) <= n,
        )

    def with_quotas(self, quotas: list[int]) -> Tree:
        """With these quotas, one for each subskill."""
        pairs = zip(self.subskills, quotas, strict=True)
        changed = tuple(s if s.quota == quota else s.model_copy(update={"quota": quota}) for s, quota in pairs)
        return self.model_copy(update={"subskills": changed})


class Forest(Record):
    """One tree for each skill of the task, in the task's order."""

    trees: tuple[Tree, ...]

    @cached_property
    def held_out(self) -> frozenset[str]:
        """Keys of the probes' prompts."""
        return frozenset(p.prompt.key for tree in self.trees for s in tree.subskills for p in s.probes)

    def each(self, change: Callable[[str, Subskill], Subskill]) -> Forest:
        """The forest with `change(skill, subskill)` in the place of every subskill."""
        return Forest(
            trees=tuple(
                tree.model_copy(update={"subskills": tuple(change(tree.skill, s) for s in tree.subskills)})
                for tree in self.trees
            )
        )
