"""A partition of small functions into skills, for data sets that have none: the kind of data that goes in."""

from __future__ import annotations

from collections.abc import Sequence

KINDS = ("numbers", "text", "lists")
"""Skills, by the arguments of a function: numbers alone; a text; a list (or tuple, set, dictionary)."""


def kind_of(arguments: Sequence[object] | None) -> str:
    """The skill of a function first tested with `arguments`; None, which says nothing, counts as numbers."""
    values = list(arguments or ())
    if any(isinstance(value, (list, tuple, set, dict)) for value in values):
        return "lists"
    return "text" if any(isinstance(value, str) for value in values) else "numbers"
