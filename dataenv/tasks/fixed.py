"""What tasks over a fixed set of problems share: which split each is in, drawing them, finding them again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar

from dataenv.records import Problem, Prompt, Split
from dataenv.seeding import stream
from dataenv.tasks import splits


class FixedTask:
    """A task whose problems are all there from the start: a subclass says which (`load`) and judges (`verify`).

    A published split stays as it was published. Every other problem gets its split by content hash; where that is one
    that was published, it joins the pool. Of problems with equal prompts, the first that is read is kept.
    """

    name: str
    default_engine = "pool"
    images = False
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    published: ClassVar[frozenset[Split]] = frozenset()
    """Splits that the data set itself says."""

    def load(self) -> Iterable[tuple[Problem, Split | None]]:
        """Every problem, and the published split that it is of, if any. Called once, at the first use."""
        raise NotImplementedError

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        """Up to `per_skill` problems of each skill (None: all) in an order drawn from `seed`, grouped by skill."""
        rng = stream(seed, self.name.partition(":")[0], split)
        found = (problem for problem, _ in self._by_key.values())
        return splits.take(found, split, per_skill, rng, assign=lambda prompt: self._by_key[prompt.key][1])

    def held_out(self) -> Sequence[Prompt]:
        """Every prompt of the exam and selection splits."""
        return [problem.prompt for problem, split in self._by_key.values() if split in ("exam", "selection")]

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The problem with this prompt, if the data holds it."""
        found = self._by_key.get(prompt.key)
        return found and found[0]

    @cached_property
    def _by_key(self) -> dict[str, tuple[Problem, Split]]:
        found: dict[str, tuple[Problem, Split]] = {}
        for problem, split in self.load():
            if problem.prompt.key not in found:
                found[problem.prompt.key] = problem, split or self._hashed(problem.prompt)
        return found

    def _hashed(self, prompt: Prompt) -> Split:
        split = splits.split_of(prompt)
        return "pool" if split in self.published else split
