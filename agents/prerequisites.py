"""What teachers know of which skill builds on which: from the task, or as they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataenv.errors import InvalidData
from dataenv.exercises import SetsExercises

Graph = Mapping[str, Sequence[str]]
"""Skill -> skills it builds on."""


class KnowsPrerequisites(SetsExercises):
    """A teacher that reads the task's graph of skills; with `graph`, that one instead. It sets no exercises."""

    def __init__(self, graph: Graph | None = None) -> None:
        self._graph = None if graph is None else checked(self.name, graph)

    def edges(self, skills: Sequence[str]) -> NDArray[np.bool_]:
        """(K, K): whether arm i, of the i-th of `skills`, is a direct prerequisite of arm j."""
        graph = checked(self.name, self.exercises.prerequisites) if self._graph is None else self._graph
        found: NDArray[np.bool_] = np.array([[a in graph.get(b, ()) for b in skills] for a in skills], bool)
        return found.reshape(len(skills), len(skills))


def checked(who: str, graph: Any) -> dict[str, tuple[str, ...]]:
    """`graph` as skill -> prerequisites; raises InvalidData where it is none, or has a cycle."""
    if not isinstance(graph, Mapping) or any(isinstance(before, str) for before in graph.values()):
        raise InvalidData(f"{who}: graph must map skills to lists of skills they build on; it is {graph!r}.")
    found = {str(skill): tuple(map(str, before)) for skill, before in graph.items()}
    done: set[str] = set()
    for start in found:
        path: dict[str, int] = {}
        stack = [(start, 0)]
        while stack:
            skill, next_ = stack.pop()
            if skill in done:
                continue
            path[skill] = next_
            before = found.get(skill, ())
            if next_ == len(before):
                done.add(skill)
                del path[skill]
                continue
            stack.append((skill, next_ + 1))
            if before[next_] in path:
                raise InvalidData(f"{who}: skill '{before[next_]}' builds on itself; take the cycle out of the graph.")
            stack.append((before[next_], 0))
    return found


def reachable(edges: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(K, K): whether i is an ancestor of j, over any number of edges."""
    found = edges.copy()
    for _ in range(len(edges)):
        wider = found | (found.astype(int) @ edges.astype(int) > 0)
        if (wider == found).all():
            break
        found = wider
    return found
