"""parallel-forms: several tests of the same difficulty, made of one set of problems.

Idea: tests for schools that simulated answers make parallel (Zelikman et al. 2023, https://arxiv.org/abs/2310.06837);
there forms are matched by optimal transport, here dealt in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dataenv.checks import whole
from dataenv.records import Problem


class Forms(NamedTuple):
    """`forms` of problems; those of `shared` skills, which have too few, are in all of them."""

    forms: tuple[tuple[Problem, ...], ...]
    shared: tuple[str, ...]


def parallel_forms(problems: Sequence[Problem], rates: Sequence[float], m: int, rng: np.random.Generator) -> Forms:
    """Deal `problems` into `m` forms of alike difficulty, skill by skill: in the order of their pass rates, by a
    reference student, the forms take turns, forth and back. Equal rates are in random order. What does not divide by m
    is left out."""
    m = whole("parallel forms: m", m)
    by_skill: dict[str, list[int]] = {}
    for i in rng.permutation(len(problems)).tolist():
        by_skill.setdefault(problems[i].skill, []).append(i)
    dealt: list[list[Problem]] = [[] for _ in range(m)]
    shared: list[str] = []
    for skill in sorted(by_skill):
        places = sorted(by_skill[skill], key=lambda i: rates[i])
        if len(places) < m:
            shared.append(skill)
            for form in dealt:
                form += [problems[i] for i in places]
            continue
        for turn in range(len(places) // m):
            block = places[turn * m : (turn + 1) * m]
            for form, i in zip(dealt if turn % 2 == 0 else dealt[::-1], block, strict=True):
                form.append(problems[i])
    return Forms(tuple(map(tuple, dealt)), tuple(shared))
