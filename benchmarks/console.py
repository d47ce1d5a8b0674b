"""What a person sees while a comparison goes on: a live table on a terminal, a line a run elsewhere."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dataenv.benchmarks.bench import RUNS
from dataenv.benchmarks.scores import score
from dataenv.benchmarks.suite import Job
from dataenv.runs.report_log import read_run
from dataenv.runs.report_words import duration, points


class Screen:
    """A watcher of `bench.bench`; use as a context manager around it."""

    def __init__(self, console: Console, folder: Path) -> None:
        self.console, self.folder = console, folder
        self.live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self.gains: dict[Job, float] = {}
        self.said: set[Job] = set()
        self.begun = False
        self.since, self.first = time.monotonic(), 0

    def __enter__(self) -> Screen:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, jobs: Sequence[Job], over: Mapping[Job, str | None]) -> None:
        new = [job for job, fault in over.items() if job not in self.said]
        begun, self.begun = not self.begun, True
        if begun:
            self.first = len(over)
        self.said.update(new)
        for job in new:
            if over[job] is None:
                self.gains[job] = score(read_run(self.folder / RUNS / job.place)).gain
        if self.live is not None:
            self.live.update(self._table(jobs, over))
            return
        if begun:
            self._say(f"{len(jobs)} runs" + (f", {len(over)} of them finished before" if over else ""))
            return
        for job in new:
            fault = over[job]
            came = f"gain {points(self.gains[job])} points" if fault is None else f"failed: {fault}"
            where = f"{job.cell}: {job.entrant}, seed {job.seed}"
            self._say(f"{len(over)}/{len(jobs)} {where}: {came}{self._left(jobs, over)}")

    def _left(self, jobs: Sequence[Job], over: Mapping[Job, str | None]) -> str:
        done = len(over) - self.first
        if done < 3 or len(over) == len(jobs):
            return ""
        return f", about {duration((time.monotonic() - self.since) / done * (len(jobs) - len(over)))} left"

    def _table(self, jobs: Sequence[Job], over: Mapping[Job, str | None]) -> Table:
        table = Table(title=f"{len(over)} of {len(jobs)} runs{self._left(jobs, over)}", title_justify="left")
        for name in ("teacher", "runs", "failed", "mean gain, points"):
            table.add_column(name, justify="left" if name == "teacher" else "right")
        rows = []
        for teacher in dict.fromkeys(job.entrant for job in jobs):
            own = [job for job in jobs if job.entrant == teacher]
            gains = [self.gains[job] for job in own if job in self.gains]
            failed = sum(over.get(job) is not None for job in own)
            mean = statistics.fmean(gains) if gains else -math.inf
            error = (
                f" ± {points(statistics.stdev(gains) / math.sqrt(len(gains))).lstrip('+')}" if len(gains) > 1 else ""
            )
            words = points(mean) + error if gains else ""
            rows.append((mean, (teacher, f"{len(gains)}/{len(own)}", str(failed or ""), words)))
        for _, cells in sorted(rows, key=lambda row: -row[0]):
            table.add_row(*map(Text, cells))
        return table

    def _say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)
