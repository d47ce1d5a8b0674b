"""What a client has used and what came of it, as plain numbers for a run's log, and in a file that outlives a kill."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import orjson

from dataenv.errors import ChatError, InvalidData

USED = ("calls", "retries", "lost", "prompt_tokens", "completion_tokens", "dollars")
"""What is used up, also by a process that is killed; the rest of a ledger is counted again when its work is done again.
"""


@dataclass
class Ledger:
    """Counts since the client was made, or, what is `USED`, since the `Journal` was begun that it goes on with.

    `calls` are tries sent to the model, `retries` those beyond a call's first; `answers` and `failures` (by error) are
    questions; `cached` calls were spared because cache or tape knew them; `repairs` asked again for the right form.
    `lost` tries may have been charged by the server though nothing came of them: a budget counts them in full, the
    tokens and dollars here are those that the server has stated. `seconds` are those the callers of `ask` waited.
    """

    calls: int = 0
    retries: int = 0
    cached: int = 0
    repairs: int = 0
    lost: int = 0
    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)

    def failed(self, error: ChatError) -> None:
        self.failures[type(error).__name__] += 1

    def as_dict(self) -> dict[str, Any]:
        """A copy as JSON-serialisable data."""
        return {**vars(self), "failures": dict(self.failures)}

    def since(self, before: dict[str, Any]) -> dict[str, Any]:
        """What was added to an earlier `as_dict`."""
        now = self.as_dict()
        failures = {kind: n - before["failures"].get(kind, 0) for kind, n in now.pop("failures").items()}
        added = {name: value - before[name] for name, value in now.items()}
        return {**added, "failures": {kind: n for kind, n in failures.items() if n}}


class Journal:
    """A file with a line for each change of what is `USED`, so that nothing is forgotten when a process is killed.

    One process writes at a time, as in a run's folder; a line that a kill left unfinished counts for nothing.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file: FileIO | None = None

    def read(self) -> dict[str, Any]:
        """The sums so far."""
        sums: dict[str, Any] = dict.fromkeys(USED, 0)
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return sums
        for line in lines:
            try:
                for name, n in orjson.loads(line).items():
                    sums[name] += n
            except (ValueError, AttributeError, KeyError, TypeError):
                continue
        return sums

    def write(self, added: dict[str, float]) -> None:
        """Keep a change. Raises InvalidData when the disk will not."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("ab", buffering=0)
                self._file.write(b"\n")  # ends what a kill left unfinished
            self._file.write(orjson.dumps(added) + b"\n")
        except OSError as error:
            raise InvalidData(f"{self.path} cannot be written ({os.strerror(error.errno or 0)}).") from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
