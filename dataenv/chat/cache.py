"""Completions kept on disk by the hash of model and question: one small file each, whole or not there at all."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import orjson
from pydantic import ValidationError

from dataenv.chat.question import Completion, Question
from dataenv.errors import InvalidData


class Cache:
    """A folder that any number of processes may read and write at once, and any of them may be killed.

    A file is written aside and then renamed into place, so whoever reads sees all of it or none. One that a power cut
    left damaged counts as absent, and is written again.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def get(self, key: str) -> Completion | None:
        """What `put` was given under `key`, None if nothing sound."""
        try:
            return Completion.model_validate(orjson.loads(self._path(key).read_bytes())["completion"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError):
            return None

    def put(self, key: str, question: Question, completion: Completion) -> None:
        """Keep a completion, with its question for people who look. Raises InvalidData when the disk will not."""
        path = self._path(key)
        draft = path.with_name(f".{key}.{uuid4().hex}.part")
        entry = {
            "question": question.model_dump(mode="json", exclude_defaults=True),
            "completion": completion.model_dump(),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.write_bytes(orjson.dumps(entry))
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidData(
                f"Answers cannot be kept in {self.folder} ({os.strerror(error.errno or 0)}); make room there or choose "
                "another folder."
            ) from error

    def used(self) -> tuple[int, int]:
        """Tokens of all the prompts and of all the completions that are kept."""
        prompt = completion = 0
        for path in self.folder.glob("*/*.json"):
            if (found := self.get(path.stem)) is not None:
                prompt, completion = prompt + found.prompt_tokens, completion + found.completion_tokens
        return prompt, completion

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
