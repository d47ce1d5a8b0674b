"""Whose student it is: an object that two environments teach in turn would bring each the other's gains.

The environment that put a student into its present state holds the lease; it ends when another takes it. Kept outside
of the student, so that a student needs to know nothing of it.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from weakref import WeakKeyDictionary

from dataenv.protocols import Student

_NUMBERS = itertools.count(1)
_LAST: WeakKeyDictionary[Student, int] = WeakKeyDictionary()


def take(student: Student) -> int:
    """A new lease, which ends all others."""
    number = next(_NUMBERS)
    with suppress(TypeError):  # an object that cannot be referred to weakly is not watched
        _LAST[student] = number
    return number


def holds(student: Student, lease: int) -> bool:
    """Whether no lease was taken since; also where none ever was, as on a copy that was made with its environment."""
    try:
        return _LAST.get(student, lease) == lease
    except TypeError:
        return True
