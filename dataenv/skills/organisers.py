"""Organisers: what the subskills of a skill are. `procedural` asks the task, `file` reads them; see
`protocols.Organiser` for what one of your own needs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from dataenv.errors import InvalidData
from dataenv.protocols import SubdividedTask, Task
from dataenv.records import Request, normalise

LEVELS = 5
"""Bands of difficulty that are the subskills where a task names none."""


class Procedural:
    """The subskills that the task names (`protocols.SubdividedTask`); where it names none, five levels of difficulty.

    They are proposed in random order: an order from easy to hard would be a curriculum that no teacher chose.
    """

    name = "procedural"

    def __init__(self, task: Task) -> None:
        self._named = {
            skill: task.subskills(skill) if isinstance(task, SubdividedTask) else () for skill in task.skills
        }
        self._levels = {f"level {i + 1} of {LEVELS}": (i + 0.5) / LEVELS for i in range(LEVELS)}

    def propose(self, skill: str, known: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
        return _drawn(self._named[skill] or tuple(self._levels), known, n, rng)

    def request(self, skill: str, subskill: str, rows: int) -> Request:
        level = None if self._named[skill] else self._levels[subskill]
        return Request(skill=skill, subskill=subskill, rows=rows, difficulty=level)


class FromFile:
    """Subskills of a JSON file: `{skill: {subskill: {"difficulty": 0.3, "instruction": "..."}}}`, both optional, or
    `{skill: [subskill, ...]}`. Names that the task itself knows mean there what they mean to the task.

    Raises InvalidData, naming the place in the file, for anything else and for a skill of the task without subskills.
    """

    name = "file"

    def __init__(self, path: str | Path, task: Task) -> None:
        self.path = Path(path)
        self._subskills = self._read(task.skills)

    def propose(self, skill: str, known: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
        return _drawn(tuple(self._subskills[skill]), known, n, rng)

    def request(self, skill: str, subskill: str, rows: int) -> Request:
        return Request(skill=skill, subskill=subskill, rows=rows, **self._subskills[skill][subskill])

    def _read(self, skills: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
        try:
            content = orjson.loads(self.path.read_bytes())
        except OSError as error:
            raise InvalidData(f"{self.path} cannot be read ({error.strerror}); give a file of subskills.") from error
        except ValueError as error:
            raise InvalidData(f"{self.path} is not JSON ({error}).") from error
        if not isinstance(content, dict):
            raise InvalidData(f"{self.path} must hold an object, skill -> subskills; it holds {_kind(content)}.")
        for skill in content:
            if skill not in skills:
                near = difflib.get_close_matches(skill, skills, n=1, cutoff=0.4)
                hint = f"did you mean '{near[0]}'? " if near else ""
                raise InvalidData(f"{self.path}: the task has no skill '{skill}'; {hint}It has: {', '.join(skills)}.")
        if missing := [skill for skill in skills if not content.get(skill)]:
            raise InvalidData(
                f"{self.path}: {len(missing)} skills have no subskills, such as '{missing[0]}'; add some."
            )
        return {skill: self._of(skill, content[skill]) for skill in skills}

    def _of(self, skill: str, subskills: Any) -> dict[str, dict[str, Any]]:
        """One skill's subskills, checked."""
        if not isinstance(subskills, list | dict):
            raise InvalidData(f"{self.path}: '{skill}' must hold subskills, not {_kind(subskills)}.")
        found: dict[str, dict[str, Any]] = {}
        for name in subskills:
            if not isinstance(name, str) or not name.strip():
                raise InvalidData(f"{self.path}: '{skill}' names a subskill {name!r}; a name is text.")
            if normalise(name) in map(normalise, found):
                raise InvalidData(f"{self.path}: '{skill}' names the subskill '{name}' twice.")
            detail = subskills[name] if isinstance(subskills, dict) else {}
            found[name.strip()] = self._detail(f"'{skill}' '{name}'", detail)
        return found

    def _detail(self, place: str, detail: Any) -> dict[str, Any]:
        if not isinstance(detail, Mapping) or (extra := sorted(set(detail) - {"difficulty", "instruction"})):
            got = extra[0] if isinstance(detail, Mapping) else _kind(detail)
            raise InvalidData(f"{self.path}: {place} takes 'difficulty' and 'instruction', not {got}.")
        difficulty, instruction = detail.get("difficulty"), detail.get("instruction", "")
        number = isinstance(difficulty, int | float) and not isinstance(difficulty, bool)
        if difficulty is not None and not (number and 0 <= difficulty <= 1):
            raise InvalidData(f"{self.path}: {place}: difficulty is {difficulty!r}; it must lie in [0, 1].")
        if not isinstance(instruction, str):
            raise InvalidData(f"{self.path}: {place}: instruction is {_kind(instruction)}; it must be text.")
        return {"difficulty": difficulty, "instruction": instruction}


def _drawn(names: Sequence[str], known: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    """Up to `n` of the names that are not known yet, in random order."""
    left = [name for name in names if name not in set(known)]
    return [left[i] for i in rng.permutation(len(left))[:n]]


def _kind(value: Any) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
