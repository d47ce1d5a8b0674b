"""Runs carried out by processes of this machine: a killed one loses nothing, a run that keeps killing its process is
given up. A process keeps its students' base weights, so that the next run finds them there.

`python -m dataenv.benchmarks.local PARENT_PID` is such a process: a run as a line of JSON in, what came of it out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from typing import Any, NamedTuple

import orjson

from dataenv.runs.config import RunConfig

TRIES = 2
"""Processes that a run may cost before it is given up."""


class Work(NamedTuple):
    """A run to carry out in a folder, by a number of the caller's."""

    number: int
    config: RunConfig
    folder: Path


class Done(NamedTuple):
    """What came of a run: nothing to say when it is finished, else why it is not."""

    number: int
    fault: str | None = None


def carry_out(config: RunConfig, folder: Path) -> str | None:
    """Carry out one run in this process, or what is left of it; returns why it failed, if it did."""
    from dataenv.errors import DataEnvError
    from dataenv.runs.episode import start
    from dataenv.runs.report import write_report

    try:
        _tidy(folder, start(config, folder))
        write_report(folder)
    except DataEnvError as error:
        return str(error)
    except (Exception, SystemExit) as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split())
        return f"{type(error).__name__}: {said} ({Path(place.filename).name}, line {place.lineno})"
    return None


def _tidy(folder: Path, result: Mapping[str, Any]) -> None:
    """Keep of a finished run's students only the one that sat the exam: a comparison has hundreds of runs."""
    for student in folder.glob("steps/*/student"):
        if int(student.parent.name) != result["selected_step"]:
            shutil.rmtree(student, ignore_errors=True)


class Local:
    """`workers` processes; None is one for each processor core. They end when the caller stops listening, and when
    this process ends, however it comes."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1

    def run(self, work: Sequence[Work]) -> Iterator[Done]:
        """Carry out all of `work`, begun in its order; yields as they end."""
        waiting: Queue[Work] = Queue()
        over: Queue[Done] = Queue()
        for one in work:
            waiting.put(one)
        crew = [_Worker(waiting, over, self.workers) for _ in range(min(self.workers, len(work)))]
        try:
            for _ in work:
                yield over.get()
        finally:
            for worker in crew:
                worker.stop()


class _Worker(threading.Thread):
    """One process, begun anew when it dies, and the thread that feeds it."""

    def __init__(self, waiting: Queue[Work], over: Queue[Done], of: int) -> None:
        super().__init__(daemon=True)
        self._waiting, self._over = waiting, over
        self._threads = max((os.cpu_count() or 1) // of, 1)
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def run(self) -> None:
        with suppress(Empty):
            while not self._stopped:
                work = self._waiting.get_nowait()
                self._over.put(Done(work.number, self._fault(work)))
        self.stop()

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _fault(self, work: Work) -> str | None:
        status = 0
        for _ in range(TRIES):
            if self._process is None or self._process.poll() is not None:
                self._process = self._begin()
            line = orjson.dumps([orjson.loads(work.config.model_dump_json()), str(work.folder)])
            with suppress(OSError):
                assert self._process.stdin is not None and self._process.stdout is not None
                self._process.stdin.write(line + b"\n")
                self._process.stdin.flush()
                if answer := self._process.stdout.readline():
                    fault: str | None = orjson.loads(answer)
                    return fault
            self._process.kill()  # it is dying, or talks nonsense
            status = self._process.wait()
            if self._stopped:
                break
        how = (
            f"was killed by signal {-status}, for want of memory, perhaps" if status < 0 else f"ended itself ({status})"
        )
        return f"its process {how}, {TRIES} times"

    def _begin(self) -> subprocess.Popen[bytes]:
        quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONWARNINGS": "ignore"}
        return subprocess.Popen(
            [sys.executable, "-m", "dataenv.benchmarks.local", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the parent's to hear
            env={**os.environ, "OMP_NUM_THREADS": str(self._threads), "TOKENIZERS_PARALLELISM": "false", **quiet},
        )


def main() -> None:
    """Carry out the runs that come in, until no more do or the parent is gone."""
    parent = int(sys.argv[1])

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a part prints must not be taken for an answer
    for line in sys.stdin.buffer:
        config, folder = orjson.loads(line)
        answers.write(orjson.dumps(carry_out(RunConfig.model_validate(config), Path(folder))) + b"\n")
        answers.flush()


if __name__ == "__main__":
    main()
