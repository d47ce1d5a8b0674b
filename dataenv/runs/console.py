"""What a person sees while a run goes on: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from dataenv.runs.report_words import duration, percent, points

_DOING = {
    "build": "makes the student's base, once",
    "prepare": "draws the feedback problems",
    "examine": "loads and examines the student",
    "answer": "examines the student",
    "write": "writes rows",
    "ask": "asks the language model",
    "gate": "checks the rows",
    "teach": "teaches the student",
    "save": "saves",
    "exam": "opens the sealed exam",
}

SILENCE = 60.0
"""Seconds without a plain line after which one says how far the phase is: slow can then be told from stuck."""


def _rows(event: Mapping[str, Any]) -> str:
    """The rows a step taught, and why they are not more."""
    taught = event.get("rows_taught", event["accepted"])
    why = []
    if overlong := event["accepted"] - taught:
        why.append(f"{overlong} too long for the student")
    if short := sum(event.get("shortfall", {}).values()):
        why.append(f"{short} fewer than asked")
    if event["dropped"]:
        why.append("dropped: " + ", ".join(f"{n} {reason}" for reason, n in event["dropped"].items()))
    return f"{taught} rows" + (f" ({'; '.join(why)})" if why else "")


class Screen:
    """A `Watcher` of events and a listener of progress in one. Use as a context manager around a run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal
        self.bar = Progress(
            TextColumn("[bold]{task.fields[where]}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}"),
            TextColumn("[dim]{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self.steps = 0
        self.step = 0
        self.took: list[float] = []
        self.exam = False
        self.said = time.monotonic()

    def __enter__(self) -> Screen:
        if self.live:
            self.bar.start()
            self.task = self.bar.add_task("starts", total=None, where="", amount="", left="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.bar.stop()

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Progress of the part at work; see `dataenv.progress.Listener`."""
        if not self.live:
            if total and time.monotonic() - self.said > SILENCE:
                self._say(f"{_DOING.get(phase, phase)}: {done} of {total}")
            return
        where = "exam" if self.exam else f"step {self.step + 1}/{self.steps}" if self.step or self.took else "start"
        doing = _DOING.get(phase, phase)
        amount = f"{done}/{total}" if total else ""
        self.bar.update(
            self.task,
            description=doing,
            completed=done,
            total=total or None,
            where=where,
            amount=amount,
            left=self._left(),
        )

    def event(self, event: Mapping[str, Any]) -> None:
        """Show what happened."""
        kind = event["event"]
        if kind == "start":
            self.steps = event["config"]["steps"]
            c = event["config"]
            self._say(
                f"{c['teacher']} teaches {c['student']} {c['task']}, {c['steps']} steps of up to {c['rows']} rows"
            )
        elif kind == "reset":
            baseline = event["baseline"]
            shots = baseline["few_shot"]
            both = (
                f" (plain {percent(baseline['plain'])}, {baseline['shots']}-shot {percent(shots)})"
                if shots is not None
                else ""
            )
            self._note(event)
            self._say(f"untaught: {self._accuracy(event)} of the feedback problems{both}")
        elif kind == "step":
            self.step = event["step"]
            self._note(event)
            self._say(
                f"step {event['step']}/{self.steps}: {_rows(event)}, "
                f"accuracy {self._accuracy(event)}, gain {points(event['reward'])} ± "
                f"{points(event['reward_error']).lstrip('+')} points, {duration(self.took[-1])}"
                + (f", {self._left()}" if not self.live and self._left() else "")
            )
        elif kind == "exam-begins":
            self.exam = True
            self._say("the sealed exam: untaught and taught student on the same unseen problems")
        elif kind == "exam":
            self._say(
                f"exam ({event['n']} problems): {percent(event['before']['accuracy'])} -> "
                f"{percent(event['after']['accuracy'])}, gain {points(event['gain'])} ± "
                f"{points(event['gain_error']).lstrip('+')} points"
            )

    def _say(self, line: str) -> None:
        self.said = time.monotonic()
        self.console.print(Text(line), soft_wrap=True)

    def _note(self, event: Mapping[str, Any]) -> None:
        self.took.append(sum(event["seconds"].values()))
        self.since = time.monotonic()

    def _accuracy(self, event: Mapping[str, Any]) -> str:
        return f"{percent(event['accuracy'])} ± {points(event['error']).lstrip('+')}"

    def _left(self) -> str:
        """A guess from the steps so far; the exam counts as one and a half."""
        if len(self.took) < 2 or self.exam:
            return ""
        mean = sum(self.took[1:]) / len(self.took[1:])
        remaining = mean * (self.steps - self.step + 1.5) - (time.monotonic() - self.since)
        return f"about {duration(max(remaining, 1.0))} left"
