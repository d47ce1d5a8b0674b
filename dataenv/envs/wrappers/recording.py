"""Every transition as a line of JSON, to train on, look at or replay later. (Gymnasium records videos and returns.)"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from dataenv.errors import InvalidData, RunError
from dataenv.records import Record, Transition


class Recording(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Appends to `path`, one line per reset and step, what the agent outside sees and does.

    A line is `{"observation": ..., "info": {...}}` for a reset, with "action", "reward", "terminated" and "truncated"
    besides for a step; observations and actions as the spaces' `to_jsonable` says them. `info` names the keys kept.
    A line is written in one piece once the step is done, so a kill leaves whole lines, and half a line that a full
    disk left is cut off before the next is written. Lines are handed to the system, not forced to the disk.

    Raises RunError when the file cannot be written, or another recording has it open.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        path: str | Path,
        info: Sequence[str] = ("plan", "reward_error", "reward_n", "skill_gain", "rows", "teach", "student"),
    ) -> None:
        RecordConstructorArgs.__init__(self, path=str(path), info=info)
        gym.Wrapper.__init__(self, env)
        self.path, self.kept = Path(path), tuple(info)
        self._file: FileIO | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._open()
        observation, info = self.env.reset(seed=seed, options=options)
        self._write(observation, info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        said = self.action_space.to_jsonable([action])
        self._write(
            observation, info, action=said, reward=float(reward), terminated=bool(terminated), truncated=bool(truncated)
        )
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        super().close()

    def _open(self) -> None:
        if self._file is not None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("a+b", buffering=0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.truncate(_whole_lines(file))
            except BaseException:
                file.close()
                raise
        except BlockingIOError:
            raise RunError(f"Another recording is writing to {self.path}; give each environment its own.") from None
        except OSError as error:
            raise RunError(f"{self.path} cannot be written ({error.strerror}); free or allow the place.") from error
        self._file = file

    def _write(self, observation: Any, info: dict[str, Any], **step: Any) -> None:
        if self._file is None:
            raise RunError(f"The recording {self.path} is closed; call reset() first.")
        event = {
            "observation": self.observation_space.to_jsonable([observation]),
            **step,
            "info": {key: info[key] for key in self.kept if key in info},
        }
        line = json.dumps(event, default=_plain).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) != len(line):
                raise OSError(28, "the disk is full")
        except OSError as error:
            self._file.truncate(end)
            raise RunError(
                f"{self.path} cannot be written ({error.strerror}); the step is done but not recorded."
            ) from error


def read_recording(path: str | Path, env: gym.Env[Any, Any]) -> Iterator[Transition]:
    """The transitions in a file that `Recording` wrote, in order; half a line at its end is left out.

    `env` has the spaces of the recorded environment. `info` comes as plain JSON values.
    Raises InvalidData, naming file and line, on anything else.
    """
    observation = None
    for number, line in enumerate(Path(path).read_bytes().splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            return
        try:
            event = json.loads(line)
            (now,) = env.observation_space.from_jsonable(event["observation"])
            if "action" in event:
                (action,) = env.action_space.from_jsonable(event["action"])
                flags = event["terminated"], event["truncated"]
                yield Transition(observation, action, event["reward"], now, *flags, event["info"])
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidData(f"{path}, line {number}, is no transition of this environment: {error}.") from error
        observation = now


def _whole_lines(file: FileIO) -> int:
    """How many bytes from the start of the file are whole lines."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"info holds a {type(value).__name__}, which JSON cannot say")
