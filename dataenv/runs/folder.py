"""A run on disk: `config.json`, `events.jsonl` and one folder per step. Nothing finished is ever lost.

The event log is appended to and synced to disk after each step; it names the hash of every file the step wrote. So
what a kill or a power cut leaves half-written is recognised when the run is resumed, and done again.

    config.json                 what the run is (written once, whole or not at all)
    events.jsonl                one event a line, each with the hash of itself and all before it
    events.jsonl.lost           finished events that could not be built on, where there were any
    traceback.txt               of the last error of a part of the user's own, where there was one; see `blame`
    chat/                       what a language model answered, by the hash of the question
    steps/000/attempts.jsonl    the untaught student's answers to the feedback problems
    steps/001/rows.jsonl        rows taught in step 1;  attempts.jsonl  answers after it
    steps/001/teacher.json      the teacher's state;    student/        the student's weights
    steps/001/dialogue.jsonl    what a teacher that explains itself saw and wrote
    steps/001/rejected.jsonl    rows that were dropped, a few of each reason
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import warnings
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

from dataenv.errors import Note, RunError
from dataenv.records import Record

UNHASHED = frozenset({"hash", "seconds", "seconds_total", "machine", "versions", "peak_memory_mib", "chat"})
"""Parts of an event that differ between two equal runs."""


def holds_run(folder: Path) -> bool:
    """Whether a run was begun in `folder`; no where nothing may be looked at."""
    return os.access(folder / "config.json", os.F_OK)


class RunFolder:
    """Reading and writing one run's files. Use as a context manager: it holds a lock while open."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.events: list[dict[str, Any]] = []
        self.begun = False
        """Whether anything was finished (the log has more than its first line), sound or not."""
        self._log: FileIO | None = None
        self._refused: OSError | None = None

    # -- opening ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> RunFolder:
        """Open the log and read its sound events. Raises RunError when another process has it.

        A log that may only be read is opened too: a finished run needs no more. Writing to it then raises.
        """
        log = self.path / "events.jsonl"
        with self.writing("events.jsonl"):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                # Unbuffered: what a full disk refused must not be tried again when the file is closed.
                self._log = log.open("a+b", buffering=0)
            except OSError as error:
                if not log.is_file():
                    raise
                self._log, self._refused = log.open("rb", buffering=0), error
        try:
            fcntl.flock(self._log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._log.close()
            raise RunError(f"Another process is working on {self.path}; wait for it or stop it.") from None
        self._log.seek(0)
        content = self._log.readall()
        self.events, self._ends = sound_events(content)
        self.begun = content.count(b"\n") > 1
        return self

    def __exit__(self, *_: object) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    @property
    def config(self) -> dict[str, Any] | None:
        """What `config.json` says; None when the run has not begun."""
        path = self.path / "config.json"
        if not path.exists():
            return None
        try:
            config: dict[str, Any] = dict(orjson.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{path} cannot be read: {error}; the run cannot go on.") from error
        return config

    # -- events -------------------------------------------------------------------------------------------------------

    @property
    def hash(self) -> str:
        """Hash over the reproducible parts of all events so far: equal runs, equal hash."""
        return self.events[-1]["hash"] if self.events else ""

    def append(self, event: dict[str, Any]) -> None:
        """Write one event, over a torn or altered line, and sync it to disk; only then has it happened."""
        assert self._log is not None
        self.keep(len(self.events))
        event = {**event, "hash": _chain(self.hash, event)}
        left = memoryview(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        with self.writing("events.jsonl"):
            while left:
                left = left[self._log.write(left) :]
            os.fsync(self._log.fileno())
        self.events.append(event)
        self._ends.append(self._log.tell())

    def keep(self, n: int) -> None:
        """Forget all but the first `n` events, and whatever stands after them.

        What was finished among that is kept in `events.jsonl.lost`, and a Note says so. A line without its end is
        what a kill leaves, and goes in silence; so does a first event that nothing followed.
        """
        assert self._log is not None
        end = self._ends[n - 1] if n else 0
        with self.writing("events.jsonl"):
            if self._refused is not None:
                raise self._refused
            self._log.seek(end)
            lost, _, _ = self._log.readall().rpartition(b"\n")
            lines = lost.count(b"\n") + bool(lost)
            if lines and n + lines > 1:
                with (self.path / "events.jsonl.lost").open("ab") as aside:
                    aside.write(lost + b"\n")
                warnings.warn(
                    f"{lines} line{'s' if lines > 1 else ''} of {self.path}/events.jsonl cannot be built on, because "
                    "something there, or a file it names, is not as it was written: set aside in events.jsonl.lost; "
                    "the run goes on from before.",
                    Note,
                    stacklevel=2,
                )
            self._log.truncate(end)
            self._log.seek(0, os.SEEK_END)
        del self.events[n:], self._ends[n:]

    # -- files --------------------------------------------------------------------------------------------------------

    def step(self, step: int) -> Path:
        """The folder of one step, made if absent."""
        folder = self.path / "steps" / f"{step:03d}"
        if not folder.is_dir():  # a fiftieth of what asking mkdir costs, and asked thrice a step
            with self.writing(f"steps/{step:03d}"):
                folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write_lines(self, path: Path, records: Iterable[Record]) -> str:
        """Write records as JSON lines; returns the content's hash."""
        # The serializer behind model_dump_json, at half its cost: a step may write a thousand records.
        lines = (r.__pydantic_serializer__.to_json(r, exclude_defaults=True) + b"\n" for r in records)
        return self.write(path, b"".join(lines))

    def write(self, path: Path, content: bytes, sync: bool = False) -> str:
        """Write one file whole or not at all, after a power cut too with `sync`; returns the content's hash."""
        draft = path.with_name(f".{path.name}.part")
        with self.writing(str(path.relative_to(self.path))):
            try:
                with draft.open("wb") as file:
                    file.write(content)
                    if sync:
                        file.flush()
                        os.fsync(file.fileno())
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        return _digest(content)

    def read(self, path: Path, hash: str) -> bytes | None:
        """A file's content, or None when it is not what the log says was written."""
        try:
            content = path.read_bytes()
        except OSError:
            return None
        return content if _digest(content) == hash else None

    def writing(self, what: str) -> _Writing:
        """Turns an error of the disk inside the block into one sentence about `what`."""
        return _Writing(self.path, what)


class _Writing:
    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self.what = folder, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, OSError) or "os error" in str(error):  # the latter is how safetensors says it
            reason = getattr(error, "strerror", None) or str(error)
            told = f"{self.folder}/{self.what} cannot be written ({reason}); free or allow the place"
            if holds_run(self.folder):
                raise RunError(
                    f"{told}, then 'dataenv resume {self.folder}' goes on from the last finished step."
                ) from error
            raise RunError(f"{told} and give the same command again, or choose another --out.") from error


def sound_events(content: bytes) -> tuple[list[dict[str, Any]], list[int]]:
    """The events up to the first torn or altered line, and where each ends in the file."""
    events: list[dict[str, Any]] = []
    ends: list[int] = []
    at, last = 0, ""
    for line in content.splitlines(keepends=True):
        at += len(line)
        try:
            event = orjson.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(event, dict) or event.get("hash") != _chain(last, event):
            break
        events.append(event)
        ends.append(at)
        last = event["hash"]
    return events, ends


def _chain(last: str, event: dict[str, Any]) -> str:
    """Hash of an event's reproducible part and the hash before it."""
    part = {key: value for key, value in event.items() if key not in UNHASHED}
    return _digest(last.encode() + orjson.dumps(part, option=orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
