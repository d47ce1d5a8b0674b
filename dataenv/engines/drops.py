"""Rows that came to nothing: how many, why, and the first few of each reason, to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dataenv.records import Example, Prompt, Record

SAMPLES = 3
"""Rows of each reason that are kept."""


class Dropped(Record):
    """A row that is not taught, and why. Where none could be read its completion is what was written instead."""

    reason: str
    row: Example


class Drops(Counter[str]):
    """Counts by reason; `samples` are the first rows of each that there was something to see of."""

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        super().__init__(counts or {})
        self.samples: list[Dropped] = []

    def drop(self, reason: str, row: Example | str | None = None, n: int = 1) -> None:
        """Count `n` rows under `reason`; text is what stood in a row's place."""
        self[reason] += n
        if isinstance(row, str):
            row = Example(prompt=Prompt(text=""), completion=row)
        if row is not None:
            self.keep([Dropped(reason=reason, row=row)])

    def take(self, others: Mapping[str, int]) -> None:
        """Add what another part counted, with its samples, where it has them."""
        self.update(others)
        self.keep(getattr(others, "samples", ()))

    def keep(self, samples: Iterable[Dropped]) -> None:
        """Keep those of which there are not enough yet."""
        for one in samples:
            if sum(kept.reason == one.reason for kept in self.samples) < SAMPLES:
                self.samples.append(one)

    def __reduce__(self) -> Any:
        return type(self), (dict(self),), {"samples": self.samples}
