"""Your own problems, from a JSON-lines file: one object a line with a prompt, an answer, optionally a skill.

Nothing is skipped in silence: a line that cannot be used stops the reading with its number and what is wrong.
Problems get their split by content hash; those of the pool are the rows a teacher can have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dataenv.records import Split
from dataenv.tasks.columns import Columns, ColumnsTask, Number
from dataenv.tasks.sources import Row, json_lines


class JsonLines(ColumnsTask):
    """The task in the file at `path` (plain or gzip); `prompt`, `answer`, `skill` and `solution` name the columns.

    Raises InvalidData for a line that is empty, not JSON or not an object, and as `ColumnsTask` does.
    """

    unit = "line"

    def __init__(
        self,
        path: str,
        *,
        prompt: str = "prompt",
        answer: str = "answer",
        skill: str = "skill",
        solution: str = "solution",
        max_new_tokens: int = 128,
    ) -> None:
        self._path = Path(path)
        self.name = f"jsonl:{self._path.name}"
        super().__init__(str(self._path), Columns(prompt, answer, skill, solution), max_new_tokens)

    def rows(self) -> Iterator[tuple[int, Row, Split | None]]:
        """Every line, with its numbers as they are written."""
        loads = partial(json.loads, parse_int=Number, parse_float=Number, parse_constant=_no_constant)
        return ((number, row, None) for number, row in json_lines(self._path, loads))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
