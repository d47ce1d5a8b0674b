"""What the finished runs of a comparison say, read from their folders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dataenv.benchmarks.bench import RUNS, stored
from dataenv.benchmarks.suite import Suite
from dataenv.errors import RunError
from dataenv.runs.charts import finite
from dataenv.runs.report_log import RunLog, mapping, read_run, whole


class Score(NamedTuple):
    """One finished run. `solved` says of each exam problem, by its id, whether the untaught and the taught student
    solved it. `curve` is the accuracy on the feedback problems after each step, from the untaught student's on."""

    gain: float
    before: float
    after: float
    n: int
    solved: Mapping[str, tuple[bool, bool]]
    curve: tuple[tuple[int, float], ...]
    """(rows taught so far, accuracy)."""
    forgotten: float | None
    """Exam accuracy lost on skills that got less than half of an even share of the rows; None where there is none."""
    rows: int
    tokens: int
    seconds: float
    privileged: bool
    selected: int


class Results(NamedTuple):
    """All runs of a comparison: the finished ones by (cell, teacher, seed), and the reasons of those that failed."""

    suite: Suite
    scores: Mapping[tuple[str, str, int], Score]
    failed: Mapping[tuple[str, str, int], str]
    planned: Mapping[tuple[str, str], int]
    """(cell, teacher) -> runs it should have."""


def read(folder: Path) -> Results:
    """The results in a comparison's folder; raises RunError where it holds none."""
    suite, reasons = stored(folder)
    scores, failed = {}, {}
    planned: dict[tuple[str, str], int] = {}
    for job in suite.jobs():
        key = (job.cell, job.entrant, job.seed)
        planned[key[:2]] = planned.get(key[:2], 0) + 1
        place = folder / RUNS / job.place
        try:
            log = read_run(place)
        except RunError:
            log = None
        if log is not None and log.end is not None and log.exam is not None:
            scores[key] = score(log)
        elif str(job.place) in reasons:
            failed[key] = reasons[str(job.place)]
    return Results(suite, scores, failed, planned)


def score(log: RunLog) -> Score:
    """What a finished run's log says."""
    exam = log.exam or {}
    marks = mapping(exam.get("solved"))
    pairs = zip(exam.get("problems", []), marks.get("before", ""), marks.get("after", ""), strict=False)
    taught = sum(whole(mapping(event.get("tokens")).get("taught")) or 0 for event in log.steps)
    rows, curve = 0, []
    for _, event in log.examined:
        rows += whole(event.get("rows_taught")) or 0
        if (accuracy := finite(event.get("accuracy"))) is not None:
            curve.append((rows, accuracy))
    return Score(
        gain=finite(exam.get("gain")) or 0.0,
        before=finite(mapping(exam.get("before")).get("accuracy")) or 0.0,
        after=finite(mapping(exam.get("after")).get("accuracy")) or 0.0,
        n=whole(exam.get("n")) or 0,
        solved={id: (old == "1", new == "1") for id, old, new in pairs},
        curve=tuple(curve),
        forgotten=_forgotten(log),
        rows=log.rows,
        tokens=taught,
        seconds=sum(
            math.fsum(value for key, value in mapping(event.get("seconds")).items() if key != "save")
            for event in log.steps
        ),
        privileged=bool(log.start.get("privileged")),
        selected=whole(exam.get("selected_step")) or 0,
    )


def _forgotten(log: RunLog) -> float | None:
    """See `Score.forgotten`."""
    rows: dict[str, int] = {}
    for event in log.steps:
        for skill, n in mapping(event.get("taught")).items():
            rows[skill] = rows.get(skill, 0) + (whole(n) or 0)
    skills = mapping((log.exam or {}).get("by_skill"))
    even = sum(rows.values()) / max(len(skills), 1)
    lost = [
        before - after
        for skill, result in skills.items()
        if rows.get(skill, 0) < even / 2
        and (before := finite(mapping(result).get("before"))) is not None
        and (after := finite(mapping(result).get("after"))) is not None
    ]
    return sum(lost) / len(lost) if lost else None
