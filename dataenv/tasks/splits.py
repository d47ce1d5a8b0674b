"""Which split a problem belongs to: decided by the hash of its prompt, so splits are disjoint for every seed.

A nearby seed can repeat a problem, a generator can write the exam's question by chance: neither matters here, because
the same question always falls into the same split. Training rows come from `pool` problems only, so the exam can be
minted when it is scored and still be unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
import orjson

from dataenv.records import Problem, Prompt, Split, normalise

T = TypeVar("T")

SHARES: dict[Split, int] = {"exemplar": 5, "feedback": 15, "selection": 10, "exam": 20, "pool": 50}
"""Percent of a task's prompts in each split."""

_SPLIT_OF_BUCKET: tuple[Split, ...] = tuple(split for split, share in SHARES.items() for _ in range(share))


def split_of(prompt: Prompt) -> Split:
    """The split of a prompt, from its key: the same on every machine and for every seed."""
    return _SPLIT_OF_BUCKET[int(prompt.key[:12], 16) % 100]


def draw_texts(
    write_one: Callable[[], tuple[str, T] | None], split: Split, n: int, *, patience: int = 200
) -> list[tuple[str, T]]:
    """`draw` for writers of plain text: `n` distinct (prompt text, anything) pairs whose prompt falls into `split`.
    None from the writer is a draw that brought nothing.

    The split is read off the text, without a Prompt and a Problem for every draw that is thrown away: about a
    microsecond each, which is most of the cost of writing short rows.
    """
    found: dict[bytes, tuple[str, T]] = {}
    idle = 0
    while len(found) < n and idle < patience:
        drawn = write_one()
        if drawn is None:
            idle += 1
            continue
        # Prompt(text=...).key, as bytes; a test holds the two together.
        key = hashlib.blake2b(orjson.dumps((normalise(drawn[0]), (), ())), digest_size=16).digest()
        if _SPLIT_OF_BUCKET[int.from_bytes(key[:6], "big") % 100] == split and key not in found:
            found[key] = drawn
            idle = 0
        else:
            idle += 1
    return list(found.values())


def draw(
    write_one: Callable[[np.random.Generator], Problem | None],
    split: Split,
    n: int,
    rng: np.random.Generator,
    *,
    patience: int = 200,
) -> list[Problem]:
    """`n` distinct problems of `split` from an endless writer; fewer when `patience` draws in a row bring none.
    None from the writer is a draw that brought nothing."""
    found: dict[str, Problem] = {}
    idle = 0
    while len(found) < n and idle < patience:
        problem = write_one(rng)
        if problem is not None and problem.prompt.key not in found and split_of(problem.prompt) == split:
            found[problem.prompt.key] = problem
            idle = 0
        else:
            idle += 1
    return list(found.values())


def take(
    problems: Iterable[Problem],
    split: Split,
    per_skill: int | None,
    rng: np.random.Generator,
    *,
    assign: Callable[[Prompt], Split] = split_of,
) -> list[Problem]:
    """From a fixed set: up to `per_skill` problems of each skill in `split`, shuffled by `rng`, grouped by skill.

    `assign` says which split a prompt belongs to, for data that comes with splits of its own.
    """
    by_skill: dict[str, dict[str, Problem]] = {}
    for problem in problems:
        if assign(problem.prompt) == split:
            by_skill.setdefault(problem.skill, {}).setdefault(problem.prompt.key, problem)
    chosen: list[Problem] = []
    for skill in sorted(by_skill):
        group = list(by_skill[skill].values())
        order = rng.permutation(len(group))[:per_skill]
        chosen += [group[i] for i in order]
    return chosen
