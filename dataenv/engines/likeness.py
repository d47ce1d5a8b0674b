"""A filter against near duplicates: rows whose problem is worded almost as one that was taught."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dataenv.checks import real
from dataenv.engines.gate import tokens
from dataenv.protocols import Task
from dataenv.records import Example

LIKE = "near duplicate"
"""Why a row is dropped."""


class Unlike:
    """Drops rows whose problem is as like one taught in an earlier step, or let pass in this one, as ROUGE-L above
    `limit`: with the default, one word in twenty may differ. Problems with different pictures are not alike.

    For rows of other hands, which repeat themselves: two problems of one long template differ by a number, and are as
    like each other. Source: LLM2LLM (2024), https://arxiv.org/abs/2403.15042; ROUGE-L: Lin 2004,
    https://aclanthology.org/W04-1013.
    """

    name = "unlike"

    def __init__(self, limit: float | str = 0.95, *, task: Task) -> None:
        self.limit = real("unlike: limit", limit, 0, 1)
        self._known: defaultdict[tuple[str, ...], list[_Words]] = defaultdict(list)

    def compare(self, taught: Sequence[Example]) -> None:
        """As `protocols.Comparing`."""
        self._known = defaultdict(list)
        for example in taught:
            self._known[_pictures(example)].append(_Words.of(example))

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[str | None]:
        reasons: list[str | None] = []
        for example in examples:
            words, known = _Words.of(example), self._known[_pictures(example)]
            reasons.append(LIKE if any(words.likeness(other, self.limit) > self.limit for other in known) else None)
            if reasons[-1] is None:
                known.append(words)
        return reasons


class _Words(NamedTuple):
    """The words and signs of a problem, in order, and how often each stands in it."""

    order: list[str]
    counts: Counter[str]

    @classmethod
    def of(cls, example: Example) -> _Words:
        order = tokens(example.prompt.text)
        return cls(order, Counter(order))

    def likeness(self, other: _Words, limit: float) -> float:
        """ROUGE-L, the F-measure; or something not above `limit`, where it is not."""
        length = len(self.order) + len(other.order)
        # What the two have in common in any order is the most they can have in the same order.
        if not length or 2 * (self.counts & other.counts).total() <= limit * length:
            return 0.0
        return 2 * longest_common(self.order, other.order) / length


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, with the bits of one number as a row of the usual table.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: defaultdict[str, int] = defaultdict(int)
    for i, word in enumerate(one):
        places[word] |= 1 << i
    row = full = (1 << len(one)) - 1
    for word in other:
        met = row & places[word]
        row = (row + met) | (row - met)
    return len(one) - (row & full).bit_count()


def _pictures(example: Example) -> tuple[str, ...]:
    return tuple(image.sha256 for image in example.prompt.images)
