"""Reading a run folder for its report: forgiving of unfinished runs, torn lines and absent keys.

Writing and resuming runs is not done here, and nothing read here is trusted: numbers are checked, text stays text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataenv.errors import RunError
from dataenv.runs.charts import finite

JsonObject = dict[str, Any]


@dataclass
class RunLog:
    """What a run folder says: the last event of each kind, and the steps in order."""

    folder: Path
    config: JsonObject = field(default_factory=dict)
    start: JsonObject = field(default_factory=dict)
    reset: JsonObject | None = None
    steps: list[JsonObject] = field(default_factory=list)
    exam: JsonObject | None = None
    end: JsonObject | None = None
    unreadable: int = 0

    @property
    def planned(self) -> int | None:
        """How many steps the run was to take, where its configuration says so."""
        steps = whole(self.config.get("steps"))
        return steps if steps is not None and steps >= 0 else None

    @property
    def examined(self) -> list[tuple[int, JsonObject]]:
        """(step, event) for each examination of the feedback split: the untaught student is step 0."""
        first = [(0, self.reset)] if self.reset is not None else []
        return first + [(event["step"], event) for event in self.steps]

    @property
    def rows(self) -> int:
        """Rows taught so far, over all steps."""
        return sum(rows_taught(event) for event in self.steps)

    @property
    def skills(self) -> list[str]:
        """All skills: in the task's order where the log has it, then any other in order of appearance."""
        listed = self.start.get("skills")
        names = dict.fromkeys(str(skill) for skill in listed) if isinstance(listed, list) else {}
        for _, event in self.examined:
            for part in ("scores", "taught"):
                names.update(dict.fromkeys(mapping(event.get(part))))
        names.update(dict.fromkeys(mapping((self.exam or {}).get("by_skill"))))
        return list(names)


def mapping(value: object) -> JsonObject:
    """`value` when it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def whole(value: object) -> int | None:
    """`value` as an int when it is a finite number, else None."""
    number = finite(value)
    return None if number is None else int(number)


def rows_taught(event: JsonObject) -> int:
    """New rows that a step taught: the accepted ones, less those that were too long for the student."""
    taught = whole(event.get("rows_taught"))
    return taught if taught is not None else whole(event.get("accepted")) or 0


def tally(event: JsonObject, skill: str) -> tuple[int, int] | None:
    """(examined, correct) of one skill in a reset or step event; None where nothing was examined."""
    score = mapping(event.get("scores")).get(skill)
    if not isinstance(score, list) or len(score) != 2:
        return None
    n, correct = whole(score[0]), whole(score[1])
    return (n, correct) if n and correct is not None else None


def read_run(folder: Path) -> RunLog:
    """The log of the run in `folder`. Unreadable lines are counted, a torn last line is passed over."""
    path = folder / "events.jsonl"
    if not path.is_file():
        raise RunError(f"{folder} is no run folder: it has no events.jsonl; give the folder that `dataenv run` wrote.")
    log = RunLog(folder)
    steps: dict[int, JsonObject] = {}
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()  # what follows the last line end: nothing, or a line whose writing was cut off
    for line in lines:
        event = _object(line)
        if event is None:
            log.unreadable += bool(line.strip())
        else:
            _file(event, log, steps)
    if (event := _object(torn)) is not None:
        _file(event, log, steps)
    log.steps = [steps[number] for number in sorted(steps)]
    config = folder / "config.json"
    log.config = mapping(_object(config.read_bytes()) if config.is_file() else None) or mapping(log.start.get("config"))
    return log


def _file(event: JsonObject, log: RunLog, steps: dict[int, JsonObject]) -> None:
    """Put one event in its place; a step that was taken again after a resume replaces the earlier one."""
    kind = event.get("event")
    if kind == "start":
        log.start = event
    elif kind == "reset":
        log.reset = event
    elif kind == "step" and (number := whole(event.get("step"))) is not None:
        steps[number] = {**event, "step": number}
    elif kind == "exam":
        log.exam = event
    elif kind == "end":
        log.end = event


def _object(line: bytes) -> JsonObject | None:
    """The JSON object in `line`, or None."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def step_folders(folder: Path) -> list[tuple[int, Path]]:
    """The folders of the steps (0 is the untaught student), in order."""
    root = folder / "steps"
    found = [path for path in root.iterdir() if path.name.isdecimal() and path.is_dir()] if root.is_dir() else []
    return sorted((int(path.name), path) for path in found)


def json_lines(path: Path) -> Iterator[bytes]:
    """The non-empty lines of a JSON-lines file, one at a time; none when the file is absent."""
    if path.is_file():
        with path.open("rb") as file:
            yield from (line for line in file if line.strip())
