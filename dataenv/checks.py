"""Whether what comes in from outside is what it must be: settings, parts, and what a part of the user's own returns.

Each is looked at once, where it comes in, so that a slip is one sentence that names it and no riddle further on.
"""

from __future__ import annotations

import inspect
import math
from typing import Any, get_args

from dataenv.errors import InvalidData
from dataenv.records import Example, Finish, Problem, Reply, TeachReport, Verdict

MOST = 1_000_000_000
"""The largest count a setting may have; sums and products of such counts still fit 64 bits."""


def whole(name: str, value: Any, least: int = 1) -> int:
    """`value`, a number or its text, as a count of at least `least`; raises InvalidData, naming the setting."""
    try:
        number = int(value)
        sound = least <= number <= MOST and (isinstance(value, str) or number == value)
    except (TypeError, ValueError, OverflowError):
        sound = False
    if not sound:
        limit = f" and at most {MOST:,}" if isinstance(value, int) and value > MOST else ""
        raise InvalidData(f"{name} must be a whole number of at least {least}{limit}; it is {value}.")
    return number


def real(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """`value`, a number or its text, as a finite number within [low, high]; raises InvalidData, naming the setting."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (math.isfinite(number) and low <= number <= high):
        wanted = f"in [{low:g}, {high:g}]" if high < math.inf else f"of at least {low:g}"
        raise InvalidData(f"{name} must be a number {wanted}; it is {value}.")
    return number


def part(kind: str, value: Any, protocol: type) -> None:
    """Raise InvalidData unless `value` has all that `protocol` asks for. Opens nothing: no property is read."""
    if isinstance(value, type):
        raise InvalidData(f"{kind} is the class {value.__name__}; give an object of it: {value.__name__}(...).")
    for name in (*protocol.__annotations__, *vars(protocol)):
        if not name.startswith("_") and not _has(value, name):
            raise InvalidData(
                f"{kind} must be an id or an object that follows dataenv.protocols.{protocol.__name__}; "
                f"{'None' if value is None else f'this {type(value).__name__}'} has no '{name}'."
            )


def skills(task: Any) -> None:
    """Raise InvalidData unless the task's skills are distinct names, and its replies have a length."""
    names = task.skills
    if not isinstance(names, list | tuple) or not names:
        raise InvalidData(f"Task '{task.name}': skills must be a tuple with at least one name; it is {names!r}.")
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InvalidData(f"Task '{task.name}': skills[{i}] must be a name; it is {name!r}.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidData(f"Task '{task.name}' has the skill '{twice}' twice; names must be distinct.")
    whole(f"max_new_tokens of task '{task.name}'", task.max_new_tokens)


def images(task: Any, student: Any) -> None:
    """Raise InvalidData where the student can make no sense of the task's prompts: see `protocols.SaysImages`."""
    posed, taken = getattr(task, "images", None), getattr(student, "images", None)
    if posed is None or taken is None or posed == taken:
        return
    if posed:
        raise InvalidData(
            f"Student '{student.name}' reads text only, and every prompt of task '{task.name}' holds a picture; choose "
            "a student that sees, such as micro-vision or vlm:ORG/NAME, or a task without pictures."
        )
    raise InvalidData(
        f"Student '{student.name}' needs a picture in every prompt, and those of task '{task.name}' hold none; choose "
        "a student that reads text, such as micro or hf:ORG/NAME, or a task with pictures, such as scenes."
    )


def problems(task: Any, found: Any) -> None:
    """Raise InvalidData unless `task.problems` returned problems of the task's skills."""
    where = f"problems() of task '{task.name}'"
    _list_of(Problem, where, found)
    known = set(task.skills)
    for problem in found:
        if problem.skill not in known:
            raise InvalidData(f"{where} returned a problem of the skill '{problem.skill}', which is not in its skills.")


def verdict(task: Any, found: Any) -> None:
    """Raise InvalidData unless `task.verify` returned a sound verdict."""
    if not isinstance(found, Verdict):
        raise InvalidData(f"verify() of task '{task.name}' must return a Verdict; it returned {_short(found)}.")
    if not isinstance(found.correct, bool) or not isinstance(found.score, float | int) or not 0 <= found.score <= 1:
        raise InvalidData(
            f"verify() of task '{task.name}' must say a score in [0, 1] and whether it is correct, True or False; it "
            f"returned {_short(found)}."
        )


def replies(student: Any, found: Any, prompts: int) -> None:
    """Raise InvalidData unless `student.answer` returned a list of replies for each prompt."""
    where = f"answer() of student '{student.name}'"
    _one_for_each(where, found, prompts, f"a list of replies for each of {prompts} prompts")
    for few in found:
        if not isinstance(few, list | tuple) or not few or not isinstance(few[0], Reply):
            raise InvalidData(
                f"{where} must return a list of Reply for each prompt; for one it returned {_short(few)}."
            )
        if not isinstance(few[0].text, str) or few[0].finish not in get_args(Finish):
            raise InvalidData(f"{where} returned a reply that is none: {_short(few[0])}.")


def report(student: Any, found: Any) -> None:
    """Raise InvalidData unless `student.teach` returned its report."""
    if not isinstance(found, TeachReport):
        raise InvalidData(
            f"teach() of student '{student.name}' must return a TeachReport; it returned {_short(found)}."
        )


def written(engine: Any, found: Any, requests: int) -> None:
    """Raise InvalidData unless `engine.write` returned a list of rows for each request."""
    where = f"write() of engine '{engine.name}'"
    _one_for_each(where, found, requests, f"a list of rows for each of {requests} requests")
    for rows in found:
        _list_of(Example, where, rows)


def reasons(judge: Any, found: Any, rows: int) -> None:
    """Raise InvalidData unless a filter returned a reason or None for each row."""
    where = f"Filter '{getattr(judge, 'name', None) or getattr(judge, '__name__', type(judge).__name__)}'"
    _one_for_each(where, found, rows, f"a reason or None for each of {rows} rows")
    for reason in found:
        if not (reason is None or (isinstance(reason, str) and reason.strip())):
            raise InvalidData(f"{where} must return a reason in words, or None, for each row; one is {_short(reason)}.")


def _one_for_each(where: str, found: Any, n: int, wanted: str) -> None:
    if not isinstance(found, list | tuple) or len(found) != n:
        count = f"{len(found)} of them" if isinstance(found, list | tuple) else _short(found)
        raise InvalidData(f"{where} must return {wanted}; it returned {count}.")


def _list_of(kind: type, where: str, found: Any) -> None:
    if not isinstance(found, list | tuple):
        raise InvalidData(f"{where} must return lists of {kind.__name__}; it returned {_short(found)}.")
    for one in found:
        if not isinstance(one, kind):
            raise InvalidData(f"{where} must return lists of {kind.__name__}; one held {_short(one)}.")


def _has(value: Any, name: str) -> bool:
    """Whether `value` has the attribute; what stands in its class, such as a property, is not read."""
    return inspect.getattr_static(value, name, _has) is not _has or hasattr(value, name)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
