"""Spaces of our own, where Gymnasium has none that says what is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space
from gymnasium.spaces.utils import flatdim, flatten, flatten_space, unflatten
from numpy.typing import NDArray

MOVES = ("wait", "explore", "exploit")
WAIT, EXPLORE, EXPLOIT = range(len(MOVES))
"""What SkillTree can do with a skill, as numbers in an action; see `envs.tree_moves`."""


class Shares(Space[NDArray[np.int64]]):
    """How a budget is dealt: `size` whole numbers, none negative, that add up to at most `budget`.

    `sample` deals the whole budget with uniformly drawn proportions, so a sampled plan never costs more than a step.
    `mask` (size,), int8, holds 1 where rows may go; if it is 0 everywhere, nothing is dealt.

    Gymnasium flattens it to a Box in [0, budget]. That can say nothing of the sum: not every sample of it can be
    unflattened to a point of this space. Agents that act in a Box are better served by `envs.wrappers.FlatView`.
    """

    def __init__(self, size: int, budget: int, seed: int | np.random.Generator | None = None) -> None:
        self.size, self.budget = int(size), int(budget)
        super().__init__((self.size,), np.int64, seed)

    @property
    def is_np_flattenable(self) -> bool:
        return True

    def sample(self, mask: NDArray[np.int8] | None = None, probability: None = None) -> NDArray[np.int64]:
        """Raises ValueError for a mask of another shape or with other numbers, and for any `probability`."""
        if probability is not None:
            raise ValueError("Shares.sample takes no probability; give it a mask.")
        if mask is None:
            return allocate(self.np_random.dirichlet(np.ones(self.size)), self.budget)
        allowed = np.asarray(mask)
        if allowed.shape != self.shape or not np.isin(allowed, (0, 1)).all():
            raise ValueError(f"The mask of {self} must be {self.size} numbers, each 0 or 1; it is {mask!r}.")
        dealt = np.zeros(self.size, np.int64)
        places = np.flatnonzero(allowed)
        if places.size:
            dealt[places] = allocate(self.np_random.dirichlet(np.ones(places.size)), self.budget)
        return dealt

    def contains(self, x: Any) -> bool:
        return self.fault(x) is None

    def fault(self, x: Any) -> str | None:
        """Why `x` is outside the space, in words; None when it is inside."""
        try:
            values = np.asarray(x)
        except ValueError:
            return "is not an array of numbers"
        if values.shape != self.shape:
            return f"has shape {values.shape}; it must have one number for each of the {self.size} skills"
        if values.dtype.kind not in "iuf":
            return f"holds {values.dtype} values; they must be whole numbers"
        for i, value in enumerate(values.tolist()):
            if value != value or value in (float("inf"), float("-inf")):
                return f"[{i}] is {value}; it must be a whole number"
            if value != int(value):
                return f"[{i}] is {value}; rows come in whole numbers"
            if value < 0:
                return f"[{i}] is {int(value)}; it must be at least 0"
        total = sum(int(value) for value in values.tolist())
        return f"adds up to {total}; a step has at most {self.budget} rows" if total > self.budget else None

    def to_jsonable(self, sample_n: Iterable[NDArray[np.int64]]) -> list[Any]:
        return [np.asarray(sample).tolist() for sample in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[NDArray[np.int64]]:
        return [np.asarray(sample, dtype=np.int64) for sample in sample_n]

    def __repr__(self) -> str:
        return f"Shares({self.size}, budget={self.budget})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shares) and (self.size, self.budget) == (other.size, other.budget)


@flatdim.register
def _shares_flatdim(space: Shares) -> int:
    return space.size


@flatten_space.register
def _shares_flatten_space(space: Shares) -> Box:
    return Box(0, space.budget, (space.size,), np.int64)


@flatten.register(Shares)
def _shares_flatten(space: Shares, x: Any) -> NDArray[np.int64]:  # type: ignore[misc]  # Gymnasium's is generic
    return np.array(x, np.int64)


@unflatten.register(Shares)
def _shares_unflatten(space: Shares, x: Any) -> NDArray[np.int64]:  # type: ignore[misc]
    dealt: NDArray[np.int64] = np.rint(x).astype(np.int64)
    return dealt


class Prose(Space[str]):
    """Text: any Unicode that UTF-8 can say in at most `max_bytes` bytes, without control characters other than newline
    and tab. (Gymnasium's `Text` knows single characters of a fixed set only, no sentence.)

    `sample` draws up to 64 bytes of letters, digits, signs, blanks and a few characters of two to four bytes.
    `plain` brings any text inside.
    """

    def __init__(self, max_bytes: int, seed: int | np.random.Generator | None = None) -> None:
        self.max_bytes = int(max_bytes)
        super().__init__(None, str, seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: None = None, probability: None = None) -> str:
        _unmasked(self, mask, probability)
        return _babble(self.np_random, self.max_bytes)

    def contains(self, x: Any) -> bool:
        return self.fault(x) is None

    def fault(self, x: Any) -> str | None:
        """Why `x` is outside the space, in words; None when it is inside."""
        if not isinstance(x, str):
            return f"is a {type(x).__name__}; it must be text"
        if len(x) > self.max_bytes:  # no character takes less than a byte; counting them all would be dear
            return f"has {len(x):,} characters; at most {self.max_bytes:,} bytes are allowed"
        try:
            size = len(x.encode())
        except UnicodeEncodeError as error:
            return f"holds half a character (a lone surrogate) at position {error.start}"
        if size > self.max_bytes:
            return f"has {size:,} bytes; at most {self.max_bytes:,} are allowed"
        control = _CONTROL.search(x)
        if control is not None:
            return f"holds the control character U+{ord(control[0]):04X} at position {control.start()}; remove it"
        return None

    def to_jsonable(self, sample_n: Iterable[str]) -> list[Any]:
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[str]:
        return list(sample_n)

    def __repr__(self) -> str:
        return f"Prose({self.max_bytes})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prose) and self.max_bytes == other.max_bytes


class Requests(Space[tuple[dict[str, Any], ...]]):
    """What a teacher writes to an engine: a tuple of parts, of two kinds.

    * `{"instruction": text, "exemplar": text, "rows": n}` asks for n >= 1 rows. One of the two texts may be empty or
      left out; the exemplar is the prompt of a problem like those wanted.
    * `{"prompt": text, "completion": text}` is one row, written out; neither is empty.

    Together at most `budget` rows. No text is longer than `max_bytes`, see `Prose`. A list does for the tuple.

    `sample` gives one to four parts that cost the whole budget at most. Its instructions are one of `topics` half of
    the time, so that not every sampled plan is about nothing; all other texts are samples of `Prose`.
    """

    def __init__(
        self, budget: int, max_bytes: int, topics: Sequence[str] = (), seed: int | np.random.Generator | None = None
    ) -> None:
        self.budget, self.prose = int(budget), Prose(max_bytes)
        self.topics = tuple(topic for topic in topics if topic.strip() and topic in self.prose)
        super().__init__(None, None, seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def sample(self, mask: None = None, probability: None = None) -> tuple[dict[str, Any], ...]:
        _unmasked(self, mask, probability)
        rng = self.np_random
        if min(self.budget, self.prose.max_bytes) < 1:
            return ()
        parts: list[dict[str, Any]] = []
        n = int(rng.integers(1, min(4, self.budget) + 1))
        for rows in (allocate(rng.dirichlet(np.ones(n)), self.budget - n) + 1).tolist():
            if rng.random() < 0.25:
                parts.append({"prompt": self._words(), "completion": self._words()})
            else:
                topic = bool(self.topics) and rng.random() < 0.5
                instruction = str(rng.choice(self.topics)) if topic else self._words()
                exemplar = self._words() if rng.random() < 0.25 else ""
                parts.append({"instruction": instruction, "exemplar": exemplar, "rows": rows})
        return tuple(parts)

    def _words(self) -> str:
        words = _babble(self.np_random, self.prose.max_bytes)
        return words if words.strip() else "?"

    def contains(self, x: Any) -> bool:
        return self.fault(x) is None

    def fault(self, x: Any) -> str | None:
        """Why `x` is outside the space, in words that begin with the part at fault, like "[2]['rows'] is 0; ..."."""
        if not isinstance(x, (tuple, list)):
            return f" is a {type(x).__name__}; it must be a list of requests"
        if len(x) > self.budget:
            return f" has {len(x):,} parts; a step has at most {self.budget:,} rows"
        total = 0
        for i, part in enumerate(x):
            if not isinstance(part, dict):
                return f"[{i}] is a {type(part).__name__}; it must be a dict"
            fault = self._row_fault(part) if "prompt" in part or "completion" in part else self._request_fault(part)
            if fault is not None:
                return f"[{i}]{fault}"
            total += int(part.get("rows", 1))
        return f" asks for {total:,} rows; a step has at most {self.budget:,}" if total > self.budget else None

    def _row_fault(self, part: dict[Any, Any]) -> str | None:
        if set(part) != {"prompt", "completion"}:
            return f" has {_keys(part)}; a written-out row has 'prompt' and 'completion', nothing else"
        for key in ("prompt", "completion"):
            fault = self.prose.fault(part[key])
            if fault is not None:
                return f"['{key}'] {fault}"
            if not part[key].strip():
                return f"['{key}'] is empty; a row needs both a prompt and a completion"
        return None

    def _request_fault(self, part: dict[Any, Any]) -> str | None:
        if "rows" not in part or not set(part) <= {"instruction", "exemplar", "rows"}:
            return f" has {_keys(part)}; a request has 'rows' and 'instruction', 'exemplar' or both"
        for key in ("instruction", "exemplar"):
            fault = self.prose.fault(part.get(key, ""))
            if fault is not None:
                return f"['{key}'] {fault}"
        if not (part.get("instruction", "").strip() or part.get("exemplar", "").strip()):
            return " says nothing; give it an instruction or an exemplar"
        rows = part["rows"]
        if isinstance(rows, (bool, np.bool_)) or not isinstance(rows, (int, float, np.integer, np.floating)):
            return f"['rows'] is a {type(rows).__name__}; it must be a whole number"
        if not 1 <= rows <= self.budget or rows != int(rows):
            given = f"; it is {rows}" if -1e9 < rows < 1e9 else ""
            return f"['rows'] must be a whole number from 1 to {self.budget:,}{given}"
        return None

    def to_jsonable(self, sample_n: Iterable[tuple[dict[str, Any], ...]]) -> list[Any]:
        return [
            [{key: int(value) if key == "rows" else value for key, value in part.items()} for part in sample]
            for sample in sample_n
        ]

    def from_jsonable(self, sample_n: list[Any]) -> list[tuple[dict[str, Any], ...]]:
        return [tuple(dict(part) for part in sample) for sample in sample_n]

    def __repr__(self) -> str:
        return f"Requests(budget={self.budget}, max_bytes={self.prose.max_bytes}, topics={self.topics})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Requests) and (self.budget, self.prose, self.topics) == (
            other.budget,
            other.prose,
            other.topics,
        )


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ALPHABET = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789        .,;:!?+-*/=()[]{}<>'\"\\#%$_\n\t"
    + "äßé∑√漢🙂"
)


def plain(text: str, max_bytes: int) -> str:
    """`text` as `Prose(max_bytes)` holds it: control characters dropped, line ends as newlines, half characters as
    "?", and what is too long cut off, with an ellipsis in its place where that fits."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    data = text.encode("utf-8", "replace")
    if len(data) <= max_bytes:
        return data.decode()
    mark = "…" if max_bytes >= 3 else ""
    return data[: max_bytes - len(mark.encode())].decode("utf-8", "ignore") + mark


def _unmasked(space: Space[Any], mask: Any, probability: Any) -> None:
    if mask is not None or probability is not None:
        raise ValueError(f"{type(space).__name__}.sample takes neither a mask nor a probability.")


def _babble(rng: np.random.Generator, max_bytes: int) -> str:
    letters = rng.integers(len(_ALPHABET), size=rng.integers(min(max_bytes, 64) + 1))
    return "".join(_ALPHABET[i] for i in letters).encode()[: min(max_bytes, 64)].decode("utf-8", "ignore")


def _keys(part: dict[Any, Any]) -> str:
    return ", ".join(repr(key) for key in part if isinstance(key, str) and len(key) < 40) or "no known keys"


def proportions(weights: Any) -> NDArray[np.float64]:
    """`weights` scaled to add up to 1; those that are all zero, or hold NaN or a negative number, count as equal."""
    shares = np.asarray(weights, dtype=np.float64)
    total = shares.sum()
    if not np.isfinite(total) or total <= 1e-12 or (shares < 0).any():
        shares, total = np.ones_like(shares), float(shares.size)
    scaled: NDArray[np.float64] = shares / total
    return scaled


def allocate(weights: Any, rows: int) -> NDArray[np.int64]:
    """Deal `rows` in proportion to `weights`: largest remainder, ties to the lower index; the result adds up to `rows`.

    Weights without a meaning count as equal, see `proportions`. Source: rule R1 of the teachers' catalogue.
    """
    exact = rows * proportions(weights)
    dealt: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - dealt), kind="stable")
    dealt[order[: rows - int(dealt.sum())]] += 1
    return dealt
