"""An error in a part of the user's own, for the command line: one sentence, and the traceback in a file.

In Python such an error passes through as it is.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dataenv.errors import RunError
from dataenv.runs.config import RunConfig
from dataenv.runs.folder import holds_run
from dataenv.runs.report_log import read_run

TRACEBACK = "traceback.txt"
_LONGEST = 300


def sentence(error: BaseException, config: RunConfig, folder: Path) -> str | None:
    """What to tell of `error` in a run in `folder`: part, moment, line, and how to go on. Keeps the traceback.

    None where no part of the user's own, or of another package, was at work (then it is a bug of dataenv's), and where
    the traceback can be kept nowhere: then it must be shown.
    """
    if (found := _culprit(error, config)) is None or (trace := _kept(error, folder)) is None:
        return None
    part, line = found
    said = " ".join(str(error).split())[:_LONGEST].rstrip(".")
    said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    then = f"then 'dataenv resume {folder}' goes on from the last finished step"
    if not holds_run(folder):
        then = "and give the same command again, for nothing was begun"
    return f"{part} failed {_moment(folder)} ({line}: {said}); the traceback is in {trace}; mend it, {then}."


def _culprit(error: BaseException, config: RunConfig) -> tuple[str, str] | None:
    """Part and line: those of the last call that ran in the code of a part."""
    parts = list(_parts(config))
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        code, module = frame.f_code, str(frame.f_globals.get("__name__"))
        own = Path(module).name if module.endswith(".py") else None  # see Registry.make: FILE.py:NAME
        here = [(kind, spec) for kind, spec, homes in parts if module in homes or (own and own in spec)]
        if here:
            name = code.co_qualname.partition(".")[0]  # where a file holds several parts, the class says which
            kind, spec = next((part for part in here if part[1].endswith(f":{name}")), here[0])
            return f"{kind.capitalize()} '{spec}'", f"{code.co_filename}, line {number}"
    return None


def _parts(config: RunConfig) -> Iterator[tuple[str, str, set[str]]]:
    """Kind and id of each part of the run, and the modules outside dataenv that make the ids it is put together of."""
    from dataenv.agents import teachers
    from dataenv.engines import engines, filters
    from dataenv.students import students
    from dataenv.tasks import tasks

    ids = ((teachers, config.teacher), (students, config.student), (tasks, config.task), (engines, config.engine or ""))
    for registry, spec in (*ids, *((filters, spec) for spec in config.filters)):
        known, homes = registry.entries(), set[str]()
        for entry in (known[word] for word in spec.split(":") if word in known):
            target = entry.target
            homes.add(target.partition(":")[0] if isinstance(target, str) else target.__module__)
        yield registry.kind, spec, {home for home in homes if home.partition(".")[0] != "dataenv"}


def _moment(folder: Path) -> str:
    """When in the run it is, to judge by the log."""
    with suppress(RunError, OSError):
        log = read_run(folder)
        if log.steps and (log.steps[-1].get("terminated") or log.steps[-1].get("truncated")):
            return "at the exam"
        if log.reset is not None:
            return f"at step {len(log.steps) + 1}"
    return "before the first step"


def _kept(error: BaseException, folder: Path) -> str | None:
    """Where the traceback was written: in the run's folder, or where there is none, among the temporary files."""
    text = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")
    with suppress(OSError):
        if holds_run(folder):
            (folder / TRACEBACK).write_bytes(text)
            return str(folder / TRACEBACK)
        with tempfile.NamedTemporaryFile(prefix="dataenv-", suffix=".txt", delete=False) as file:
            file.write(text)
        return file.name
    return None
