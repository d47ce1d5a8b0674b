"""Carrying out a suite in a folder: what is finished stays, what is missing is done, what failed is said.

FOLDER/suite.json                       what is compared
FOLDER/runs/CELL/TEACHER/SEED/          a run folder each, see `dataenv.runs.folder`
FOLDER/failed.json                      runs that came to nothing, with the reason
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import orjson

from dataenv.benchmarks.local import Done, Work
from dataenv.benchmarks.suite import Job, Suite
from dataenv.errors import RunError
from dataenv.runs.report_log import read_run

SUITE, RUNS, FAILED = "suite.json", "runs", "failed.json"


class Executor(Protocol):
    """Whoever carries runs out: processes of this machine (`local`), or a cluster (`ray_cluster`)."""

    def run(self, work: Sequence[Work]) -> Iterator[Done]:
        """Carry out all of `work`, in any order; one `Done` for each, as they end."""


Watcher = Callable[[Sequence[Job], Mapping[Job, str | None]], None]
"""Told of all jobs, and of those that are over: with None, or the reason why they failed."""


def bench(
    suite: Suite, folder: Path, executor: Executor, watch: Watcher = lambda jobs, over: None
) -> dict[Job, str | None]:
    """Carry out what `folder` lacks of `suite`; returns for every job None, or why it failed.

    A folder that holds a comparison in the same cells takes further teachers and seeds. Raises RunError where a cell's
    runs are others than before.
    """
    _keep_suite(suite, folder)
    jobs = suite.jobs()
    over: dict[Job, str | None] = {job: None for job in jobs if finished(folder / RUNS / job.place)}
    watch(jobs, over)
    left = [job for job in jobs if job not in over]
    work = [Work(number, job.config, folder / RUNS / job.place) for number, job in enumerate(left)]
    for done in executor.run(work) if work else ():
        over[left[done.number]] = done.fault
        _keep_failures(folder, over)
        watch(jobs, over)
    _keep_failures(folder, over)
    return over


def finished(folder: Path) -> bool:
    """Whether the run in `folder` has sat its exam."""
    try:
        return read_run(folder).end is not None
    except RunError:
        return False


def stored(folder: Path) -> tuple[Suite, dict[str, str]]:
    """The suite that `folder` holds, and why runs of it failed, by their place."""
    try:
        suite = Suite.model_validate_json((folder / SUITE).read_bytes())
        failed = orjson.loads((folder / FAILED).read_bytes()) if (folder / FAILED).exists() else {}
    except OSError as error:
        raise RunError(f"{folder} holds no comparison ({error.strerror}); 'dataenv bench run' makes one.") from error
    except ValueError as error:
        raise RunError(f"{folder}/{SUITE} cannot be read ({error}); run the same 'dataenv bench run' again.") from error
    return suite, failed


def _keep_suite(suite: Suite, folder: Path) -> None:
    """Write the suite down, together with what the folder held of it before."""
    if (folder / SUITE).exists():
        before, _ = stored(folder)
        if before.name != suite.name:
            raise RunError(f"{folder} holds runs of the suite '{before.name}'; give another --out for '{suite.name}'.")
        cells = {cell.name: cell.run for cell in suite.cells}
        if other := [cell.name for cell in before.cells if cells.get(cell.name, cell.run) != cell.run]:
            raise RunError(
                f"{folder} holds runs of '{other[0]}' with other settings; give another --out, or take that one away."
            )
        suite = _together(before, suite)
    elif folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder} holds something else; give another --out, or an empty folder.")
    write(folder / SUITE, suite.model_dump_json(indent=2).encode())


def _together(before: Suite, now: Suite) -> Suite:
    """Both suites as one: the cells, teachers and seeds of either."""
    cells = {cell.name: cell for cell in before.cells}
    for cell in now.cells:
        known = cells[cell.name].entrants if cell.name in cells else ()
        labels = {entrant.label for entrant in known}
        cells[cell.name] = cell.model_copy(
            update={"entrants": (*known, *(entrant for entrant in cell.entrants if entrant.label not in labels))}
        )
    seeds = tuple(dict.fromkeys((*before.seeds, *now.seeds)))
    return now.model_copy(update={"cells": tuple(cells.values()), "seeds": seeds})


def _keep_failures(folder: Path, over: Mapping[Job, str | None]) -> None:
    _, before = stored(folder)
    here = {str(job.place): fault for job, fault in over.items()}
    failed = {place: fault for place, fault in {**before, **here}.items() if fault is not None}
    write(folder / FAILED, orjson.dumps(failed, option=orjson.OPT_INDENT_2))


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content)
        draft.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}); free or allow the place.") from error
    finally:
        draft.unlink(missing_ok=True)
