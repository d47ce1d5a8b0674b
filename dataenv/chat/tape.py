"""A tape: one file with everything a run asked and got, to play it again without the model.

One line of JSON for each call's outcome: its key, the question, and the completion, or the error that stood in the
answer's place. Failures are on it too, so that a replay goes the way the recorded run went.
"""

from __future__ import annotations

import fcntl
import os
from io import FileIO
from pathlib import Path
from typing import Self

import orjson
from pydantic import ValidationError

from dataenv import errors
from dataenv.chat.question import Completion, Question
from dataenv.errors import ChatError, InvalidData, NotOnTape


class Tape:
    """Made by `Tape.record(path)` or `Tape.replay(path)`.

    A recording goes on where an earlier one of the same file ended; a line that a kill left unfinished is cut off.
    While recording, a question that was answered before has its answer from the tape, as it will have in the replay.
    """

    def __init__(self, path: Path | str, *, recording: bool) -> None:
        self.path, self.recording = Path(path), recording
        self._outcomes: dict[str, list[Completion | ChatError]] = {}
        self._file: FileIO | None = None
        if recording:
            self._open()
        self._read()

    @classmethod
    def record(cls, path: Path | str) -> Self:
        """A tape that takes down what is asked. Raises InvalidData when the file cannot be written or is in use."""
        return cls(path, recording=True)

    @classmethod
    def replay(cls, path: Path | str) -> Self:
        """A tape that answers by itself. Raises InvalidData when there is none, or it is no tape."""
        return cls(path, recording=False)

    def get(self, key: str, question: Question) -> Completion | None:
        """The completion on tape; None while recording, where there is none yet.

        Raises the error that was recorded in its place, and NotOnTape in a replay that asks something else.
        """
        outcomes = self._outcomes.get(key)
        if self.recording:
            last = outcomes[-1] if outcomes else None
            return last if isinstance(last, Completion) else None
        if not outcomes:
            start = " ".join(question.messages[-1].content.split())[:80]
            raise NotOnTape(
                f'The tape {self.path} has no answer to the question that ends with "{start}": it was recorded with '
                "another model, seed, prompt or setting; record it again."
            )
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if isinstance(outcome, ChatError):
            raise type(outcome)(str(outcome))
        return outcome

    def put(self, key: str, question: Question, outcome: Completion | ChatError) -> None:
        """Take down what came of a question. Raises InvalidData when the disk will not."""
        assert self._file is not None
        line = {"key": key, "question": question.model_dump(mode="json", exclude_defaults=True)}
        if isinstance(outcome, ChatError):
            line |= {"error": type(outcome).__name__, "message": str(outcome)}
        else:
            line["completion"] = outcome.model_dump(mode="json")
        left = memoryview(orjson.dumps(line) + b"\n")
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._unwritable(error) from error
        self._outcomes.setdefault(key, []).append(outcome)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise InvalidData(f"Another run is recording on {self.path}; choose another file.") from None
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> InvalidData:
        return InvalidData(f"The tape {self.path} cannot be written ({os.strerror(error.errno or 0)}).")

    def _read(self) -> None:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise InvalidData(
                f"There is no tape to replay at {self.path} ({os.strerror(error.errno or 0)}); record one first."
            ) from error
        whole = content.rfind(b"\n") + 1
        if self._file is not None and whole < len(content):
            self._file.truncate(whole)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                entry = orjson.loads(line)
                if "error" in entry:
                    kind = getattr(errors, entry["error"])
                    outcome = kind(entry["message"])
                    if not isinstance(outcome, ChatError):
                        raise ValueError(entry["error"])
                else:
                    outcome = Completion.model_validate(entry["completion"])
                self._outcomes.setdefault(entry["key"], []).append(outcome)
            except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
                raise InvalidData(f"Line {number} of {self.path} is none of a tape's; record it again.") from error
