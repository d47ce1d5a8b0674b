"""What a recorded step costs beside student, engine and verifier: milliseconds a step, the synced event included.

    python -m dataenv.benchmarks.speed.overhead

A real run of the micro student on drills; the time inside the student's, the engine's and the verifier's methods is
taken off each step. `durable` is the part spent writing rows, answers, teacher and the synced event.
Target: median at most 3 ms.
"""

from __future__ import annotations

import inspect
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from dataenv.runs import episode
from dataenv.runs.config import RunConfig
from dataenv.runs.folder import RunFolder


class Meter:
    """Seconds spent inside wrapped methods; a call inside another counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.depth = 0

    def wrap(self, part: Any, *methods: str) -> None:
        for name in methods:
            setattr(part, name, self._timed(getattr(part, name)))

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            self.depth += 1
            begin = time.perf_counter()
            try:
                return method(*args, **options)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.seconds += time.perf_counter() - begin

        return call


def measure(rows: int, feedback: int, steps: int = 40) -> dict[str, Any]:
    """Median and range in milliseconds of one run's steps, after the first."""
    config = RunConfig(
        task="drills", student="micro", teacher="uniform", steps=steps, rows=rows, feedback=feedback, exam=1,
        options={"student": {"epochs": 1}},
    )  # fmt: skip
    parts, disk = Meter(), Meter()
    build = RunConfig.build_env
    marks: list[tuple[float, float, float]] = []

    def metered(self: RunConfig, *frozen: Any) -> Any:
        env = build(self, *frozen)
        parts.wrap(env.student, "teach", "answer", "save", "clone_state", "restore_state", "_load")
        student = type(env.student)
        version = inspect.getattr_static(student, "version").fget
        counted = type(student.__name__, (student,), {"version": property(parts._timed(version))})
        env.student.__class__ = counted
        parts.wrap(env.engine, "write")
        parts.wrap(env.task, "verify", "recognise", "problems")
        return env

    class Watch:
        def event(self, event: Mapping[str, Any]) -> None:
            if event["event"] in ("reset", "step"):
                marks.append((time.perf_counter(), parts.seconds, disk.seconds))

    with tempfile.TemporaryDirectory() as folder:
        RunConfig.build_env = metered  # type: ignore[method-assign, assignment]
        saved = {name: getattr(RunFolder, name) for name in ("append", "write")}
        try:
            for name, method in saved.items():
                setattr(RunFolder, name, disk._timed(method))
            episode.start(config, Path(folder) / "run", Watch())
        finally:
            RunConfig.build_env = build  # type: ignore[method-assign]
            for name, method in saved.items():
                setattr(RunFolder, name, method)
    own = [1000 * ((b[0] - a[0]) - (b[1] - a[1])) for a, b in pairwise(marks[1:])]
    durable = [1000 * (b[2] - a[2]) for a, b in pairwise(marks[1:])]
    return {
        "rows": rows,
        "problems": feedback * 14,
        "ms_median": round(statistics.median(own), 2),
        "ms_range": [round(min(own), 2), round(max(own), 2)],
        "of_which_durable_ms": round(statistics.median(durable), 2),
    }


def main() -> None:
    """One line for a small and one for a large step."""
    for rows, feedback in ((64, 4), (512, 19)):
        print(json.dumps(measure(rows, feedback)))


if __name__ == "__main__":
    main()
