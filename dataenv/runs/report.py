"""The report of a run: one page that opens anywhere, offline, without scripts.

`write_report` reads a run folder, finished or not, works out what to say (`view`), and fills
`report.html.jinja` with it. Charts are drawn in `charts`, words and numbers written in `report_words`, texts of the
student picked in `report_answers`. Everything that came from a student, teacher or task is escaped by the template.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from dataenv.errors import RunError
from dataenv.runs import charts, report_words
from dataenv.runs.charts import Bar, Change, Point, Series, Tick, finite
from dataenv.runs.report_answers import GROUPS, compare_answers, sample_rows
from dataenv.runs.report_dialogue import dialogue
from dataenv.runs.report_log import RunLog, mapping, read_run, rows_taught, tally, whole
from dataenv.runs.report_words import SPACE, count, duration, percent, plural, plus_minus, points

WIDE, NARROW = 860, 330
PHASES = ("write", "gate", "teach", "examine", "save", "exam")
_MOST_BARS = 40


@dataclass(frozen=True)
class Cell:
    """One cell of a heat map: what it says, small print below, its heat level, and words for a closer look."""

    text: str
    note: str = ""
    level: int | None = None
    about: str = ""


def write_report(folder: Path) -> Path:
    """Write `report.html` into the run folder and return its path; the file is replaced whole or not at all."""
    folder = Path(folder)
    try:
        log = read_run(folder)
        if not (folder / "events.jsonl").stat().st_size:
            raise RunError(
                f"{folder}/events.jsonl is empty, so there is nothing to report; put it back, or run it anew."
            )
        page = render(log)
    except OSError as error:
        raise RunError(f"The run in {folder} cannot be read ({error.strerror}); allow it.") from error
    path = folder / "report.html"
    draft = folder / f".report.html.{os.getpid()}.tmp"
    try:
        draft.write_bytes(page.encode("utf-8", errors="replace"))
        draft.replace(path)
    except OSError as error:
        raise RunError(f"The report cannot be written to {path}: {error.strerror}; free or allow the place.") from error
    finally:
        with suppress(OSError):  # it was not written, or was put in its place
            draft.unlink()
    return path


def render(log: RunLog) -> str:
    """The page as HTML text."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    words = {name: getattr(report_words, name) for name in ("count", "decimal", "duration", "percent", "points")}
    environment.filters |= words | {"plus_minus": plus_minus, "visible": report_words.visible}
    return environment.get_template("report.html.jinja").render(view(log))


def view(log: RunLog) -> dict[str, Any]:
    """Everything the template needs, worked out."""
    last = log.steps[-1]["step"] if log.steps else 0
    name = log.folder.resolve().name
    return {
        # The folder of a run in a comparison is its seed.
        "name": f"{log.config.get('teacher')}, seed {name}" if name.isdecimal() else name,
        "log": log,
        "config": log.config,
        "status": status(log),
        "outcome": outcome(log),
        "figures": figures(log),
        "baseline": mapping((log.reset or {}).get("baseline")),
        "curve": _curve(log),
        "accuracy": _accuracy_map(log),
        "taught": _taught_map(log),
        "exam": _exam(log),
        "drops": _drops(log),
        "answers": compare_answers(log.folder, last),
        "groups": GROUPS,
        "samples": sample_rows(log.folder, last),
        "dialogue": dialogue(log),
        "times": _times(log),
        "steps": [{"step": number, **_step_row(event)} for number, event in log.examined],
        "settings": report_words.settings({k: v for k, v in log.config.items() if k not in ("versions", "machine")}),
        "machine": report_words.settings(mapping(log.config.get("machine"))),
        "versions": report_words.settings(mapping(log.config.get("versions"))),
        "commands": report_words.commands(log),
    }


def status(log: RunLog) -> str:
    """Whether the run is over, in a few words."""
    done = len(log.steps)
    of = f"{done} of {plural(log.planned, 'step')}" if log.planned is not None else plural(done, "step")
    if log.end is not None:
        return f"finished: {of}"
    if log.exam is None and log.planned is not None and done >= log.planned > 0:
        return f"unfinished: {of}, exam not taken"
    return f"unfinished: {of}"


def outcome(log: RunLog) -> str:
    """What came of the run, in one or two plain sentences."""
    student = str(log.config.get("student") or "The student")
    work = f"after {plural(log.rows, 'row')} in {plural(len(log.steps), 'step')}"
    if teacher := log.config.get("teacher"):
        work += f" chosen by {teacher}" + (" without seeing feedback" if log.config.get("no_state") is True else "")
        if log.start.get("privileged") is True:
            work += ", which may try its plans beforehand (privileged: a reference line, no competitor)"
    if log.exam is not None:
        return _exam_sentence(log.exam, student, work)
    lead = "" if log.end is not None else f"{status(log).capitalize()}. "
    measured = [event for _, event in log.examined if finite(event.get("accuracy")) is not None]
    if not measured:
        return f"{lead}Nothing has been examined yet."
    if not log.steps:
        return f"{lead}{student}, untaught, solves {_accuracy(measured[0])} of the feedback problems."
    first, last = _accuracy(measured[0]), _accuracy(measured[-1])
    sealed = "the run took no exam" if log.end is not None else "the sealed exam is not taken yet"
    return f"{lead}{student} stands at {last} on the feedback problems, from {first} untaught, {work}; {sealed}."


def _exam_sentence(exam: dict[str, Any], student: str, work: str) -> str:
    before, after = mapping(exam.get("before")), mapping(exam.get("after"))
    gain, error = finite(exam.get("gain")), finite(exam.get("gain_error"))
    change = f"({points(gain)}{plus_minus(error)} points)"
    ends = f"{percent(before.get('accuracy'))} to {percent(after.get('accuracy'))} on the sealed exam {change} {work}"
    if gain is None:
        return f"{student} took the sealed exam {work}; its gain is not known."
    if error is None:
        return f"{student} went from {ends}; how sure the gain is, is not known."
    if abs(gain) < 2 * error:
        doubt = "This is not distinguishable from zero: it is less than two standard errors."
        return f"{student} went from {ends}. {doubt}"
    return f"{student} went {'' if gain > 0 else 'down '}from {ends}."


def figures(log: RunLog) -> list[tuple[str, str, str]]:
    """The key figures: (name, value, small print)."""
    found = []
    if log.exam is not None:
        gain, error = log.exam.get("gain"), log.exam.get("gain_error")
        sure = "standard error not known" if finite(error) is None else f"±{SPACE}{points(error)[1:]} standard error"
        found.append(("Exam gain, points", points(gain), sure))
        ends = [percent(mapping(log.exam.get(end)).get("accuracy")) for end in ("before", "after")]
        found.append(("Sealed exam", " → ".join(ends), f"{count(log.exam.get('n'))} problems"))
    elif log.reset is not None:
        now = log.steps[-1] if log.steps else log.reset
        about = f"from {percent(log.reset.get('accuracy'))} untaught" if log.steps else "untaught"
        found.append(("Feedback accuracy", f"{percent(now.get('accuracy'))}", about))
    step = whole(log.config.get("rows"))
    found.append(("Rows taught", count(log.rows), f"up to {step:,} a step" if step else ""))
    planned = "" if log.planned is None else f"of {log.planned:,} planned"
    found.append(("Steps", count(len(log.steps)), planned))
    seconds = finite((log.end or {}).get("seconds_total"))
    spent = seconds if seconds is not None else sum(sum(_seconds(event).values()) for event in _timed(log).values())
    about = "in all" if seconds is not None else "so far, as logged"
    if (peak := finite((log.end or {}).get("peak_memory_mib"))) is not None:
        about += f"; {report_words.memory(peak)} memory at most"
    found.append(("Time", duration(spent or None), about))
    return found


def _accuracy(event: dict[str, Any]) -> str:
    return f"{percent(event.get('accuracy'))}{plus_minus(event.get('error'))}"


def _pair(draw: Callable[..., str]) -> Markup:
    """One chart twice, drawn for a wide page and for a phone; the style sheet shows the one that fits."""
    wide, narrow = draw(width=WIDE), draw(width=NARROW)
    return Markup(f'<div class="wide">{wide}</div><div class="narrow">{narrow}</div>')


def _curve(log: RunLog) -> Markup | None:
    """Feedback accuracy over the steps, and the exam before and after."""
    examined = log.examined
    if not examined:
        return None
    feedback = []
    for place, (number, event) in enumerate(examined):
        ends = place in (0, len(examined) - 1)
        accuracy = finite(event.get("accuracy"))
        about = f"step {number}: {_accuracy(event)}"
        label = percent(accuracy) if ends else ""
        feedback.append(Point(number, accuracy, finite(event.get("error")), label, about))
    series = [Series("feedback", feedback)]
    if log.exam is not None:
        selected = whole(log.exam.get("selected_step"))
        series.append(
            Series(
                "sealed",
                _exam_points(log.exam, examined[-1][0] if selected is None else selected),
                diamond=True,
                shift=12,
            )
        )
    ticks = [Tick(number, str(number), count(_rows_until(log, number))) for number, _ in examined]
    title = f"Feedback accuracy after each of {plural(len(log.steps), 'step')}"
    return _pair(partial(charts.line_chart, series, ticks, title=title))


def _exam_points(exam: dict[str, Any], selected: int) -> list[Point]:
    found = []
    for x, end in ((0, "before"), (selected, "after")):
        part = mapping(exam.get(end))
        accuracy = finite(part.get("accuracy"))
        found.append(Point(x, accuracy, finite(part.get("error")), percent(accuracy), f"exam {end}: {_accuracy(part)}"))
    return found


def _rows_until(log: RunLog, step: int) -> int:
    """Rows taught up to and with `step`."""
    return sum(rows_taught(event) for event in log.steps if event["step"] <= step)


def _accuracy_map(log: RunLog) -> list[tuple[str, list[Cell], str, str]]:
    """(skill, one cell per examination, change in points, up, down or flat) for each skill."""
    found = []
    for skill in log.skills:
        cells, shares = [], []
        for number, event in log.examined:
            score = tally(event, skill)
            share = score[1] / score[0] if score else None
            shares.append(share)
            about = f"{skill}, step {number}: {score[1]} of {score[0]} right" if score else f"{skill}: not examined"
            text = "–" if share is None else f"{share * 100:.0f}"
            cells.append(Cell(text, "", charts.level(share), about))
        change = None if len(shares) < 2 or None in (shares[0], shares[-1]) else shares[-1] - shares[0]  # type: ignore[operator]
        found.append((skill, cells, points(change, 0), _direction(change)))
    return found


def _direction(change: float | None) -> str:
    return "flat" if not change else "up" if change > 0 else "down"


def _taught_map(log: RunLog) -> list[tuple[str, list[Cell], int]]:
    """(skill, one cell per step with rows and difficulty, rows in all) for each skill."""
    rows = {skill: [whole(mapping(event.get("taught")).get(skill)) or 0 for event in log.steps] for skill in log.skills}
    top = max((number for numbers in rows.values() for number in numbers), default=0)
    found = []
    for skill, numbers in rows.items():
        cells = []
        for event, number in zip(log.steps, numbers, strict=True):
            hard = finite(mapping(event.get("difficulty")).get(skill)) if number else None
            note = "" if hard is None else f"{hard:.2f}"
            about = f"{skill}, step {event['step']}: {plural(number, 'row')}" + (f", difficulty {note}" if note else "")
            cells.append(Cell(f"{number:,}" if number else "·", note, charts.level(number, top), about))
        found.append((skill, cells, sum(numbers)))
    return found


def _exam(log: RunLog) -> dict[str, Any] | None:
    """The exam per skill, greatest gain first, drawn and as a table."""
    if log.exam is None:
        return None
    rows = []
    for skill, entry in mapping(log.exam.get("by_skill")).items():
        part = mapping(entry)
        before, after = finite(part.get("before")), finite(part.get("after"))
        gain = None if before is None or after is None else after - before
        rows.append((skill, whole(part.get("n")), before, after, gain))
    rows.sort(key=lambda row: (row[4] is None, -(row[4] or 0.0), row[0]))
    changes = [Change(skill, before, after, points(gain, 0)) for skill, _, before, after, gain in rows]
    title = "Accuracy on the sealed exam before and after, per skill"
    sizes = sorted(n for _, n, *_ in rows if n)
    return {
        "chart": _pair(partial(charts.dumbbells, changes, title=title)) if rows else None,
        "rows": rows,
        "before": mapping(log.exam.get("before")),
        "chance": 0.5 / sizes[len(sizes) // 2] ** 0.5 if sizes else None,
        "size": sizes[len(sizes) // 2] if sizes else None,
    }


def _drops(log: RunLog) -> dict[str, Any]:
    """Rows dropped by reason, and skills that got fewer rows than asked, per step."""
    reasons = list(dict.fromkeys(reason for event in log.steps for reason in mapping(event.get("dropped"))))
    rows, total = [], 0
    for event in log.steps:
        numbers = [whole(mapping(event.get("dropped")).get(reason)) or 0 for reason in reasons]
        short = {skill: whole(n) or 0 for skill, n in mapping(event.get("shortfall")).items() if whole(n)}
        overlong = max((whole(event.get("accepted")) or 0) - rows_taught(event), 0)
        total += sum(numbers) + sum(short.values()) + overlong
        rows.append(
            {
                "step": event["step"],
                "asked": event.get("asked"),
                "taught": rows_taught(event),
                "numbers": numbers,
                "overlong": overlong,
                "short": short,
                "clipped": bool(event.get("clipped")),
            }
        )
    return {
        "reasons": reasons,
        "rows": rows,
        "overlong": any(row["overlong"] for row in rows),
        "none": total == 0 and not any(row["clipped"] for row in rows),
    }


def _step_row(event: dict[str, Any]) -> dict[str, Any]:
    """The plain numbers of one examination, for the table under the learning curve."""
    teach, tokens = mapping(event.get("teach")), mapping(event.get("tokens"))
    plain = {name: event.get(name) for name in ("accuracy", "error", "reward", "reward_error")}
    plain["rows"] = rows_taught(event) if event.get("event") == "step" else None
    return plain | {
        "loss": teach.get("loss"),
        "overlong": teach.get("overlong"),
        "taught": tokens.get("taught", teach.get("tokens")),
        "answered": tokens.get("answered"),
        "seconds": sum(_seconds(event).values()),
    }


def _timed(log: RunLog) -> dict[str, dict[str, Any]]:
    """Events that took time, by the label of their bar."""
    found = {("untaught" if number == 0 else f"step {number}"): event for number, event in log.examined}
    return found | ({"exam": log.exam} if log.exam is not None else {})


def _seconds(event: dict[str, Any]) -> dict[str, float]:
    """Seconds by phase, where they are known."""
    given = {phase: finite(value) for phase, value in mapping(event.get("seconds")).items()}
    return {phase: value for phase, value in given.items() if value is not None and value >= 0}


def _times(log: RunLog) -> dict[str, Any] | None:
    """Time by phase and step, drawn and as a table; None when nothing was timed."""
    timed = {label: _seconds(event) for label, event in _timed(log).items()}
    seen = dict.fromkeys(phase for seconds in timed.values() for phase in seconds)
    phases = [phase for phase in PHASES if phase in seen] + [phase for phase in seen if phase not in PHASES]
    bars = [Bar(label, [s.get(phase) for phase in phases], duration(sum(s.values()))) for label, s in timed.items()]
    if not any(sum(seconds.values()) for seconds in timed.values()):
        return None
    title = "Seconds per phase and step"
    totals = [sum(seconds.get(phase, 0.0) for seconds in timed.values()) for phase in phases]
    chart = _pair(partial(charts.stacked_bars, _gather(bars, _MOST_BARS), phases, title=title))
    return {"chart": chart, "phases": phases, "bars": bars, "totals": totals}


def _gather(bars: Sequence[Bar], most: int) -> list[Bar]:
    """`bars` as they are, or summed in runs of neighbours when there are more than `most`."""
    size = -(-len(bars) // most)
    if size <= 1:
        return list(bars)
    gathered = []
    for start in range(0, len(bars), size):
        group = bars[start : start + size]
        parts = [sum(amount or 0.0 for amount in amounts) for amounts in zip(*(b.parts for b in group), strict=True)]
        label = group[0].label if len(group) == 1 else f"{group[0].label} – {group[-1].label.removeprefix('step ')}"
        gathered.append(Bar(label, parts, duration(sum(parts))))
    return gathered
