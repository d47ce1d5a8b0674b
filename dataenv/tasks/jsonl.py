"""Your own problems, from a JSON-lines file: one object a line with a prompt, an answer, optionally a skill.

Nothing is skipped in silence: a line that cannot be used stops the reading with its number and what is wrong.
Problems get their split by content hash; those of the pool are the rows a teacher can have.
"""

from __future__ import annotations

import difflib
import gzip
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dataenv.checks import whole
from dataenv.errors import InvalidData, Note
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.seeding import stream
from dataenv.tasks import splits
from dataenv.verifiers.exact import same_answer

ROWS_WANTED = 100
"""Rows with which an empty split is unlikely: the exemplar split, the smallest, is then empty 6 times in 1,000."""


class _Number(str):
    """A JSON number, kept as it was written: 1.10 stays 1.10, and no digit of a long one is lost."""


class JsonLines:
    """The task in the file at `path` (plain or gzip).

    `prompt`, `answer`, `skill` and `solution` name the columns. Answers and skills may be JSON numbers. Where no row
    has a `skill`, every row has the skill "general"; `solution` is the worked text to learn from and must end in the
    answer: on its last line, or after its last `####`. Other columns are not read, which a `Note` says. Rows with equal
    prompts are one problem (`duplicates` counts what was merged).

    Raises InvalidData naming the file and line for a line that is empty, not JSON, not an object, lacks a column, has
    one of the wrong type or empty, or answers a prompt differently than an earlier line; for a column that was named
    here and is in no row; and naming the number of rows when they leave a split empty.
    """

    default_engine = "pool"

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
        self.max_new_tokens = whole("max_new_tokens", max_new_tokens)
        self.duplicates = 0
        self._path = Path(path)
        self._columns = {"prompt": prompt, "answer": answer, "skill": skill, "solution": solution}
        self.name = f"jsonl:{self._path.name}"
        self._problems = self._read()
        self.skills = tuple(sorted({problem.skill for problem in self._problems.values()}))
        self.prerequisites: dict[str, tuple[str, ...]] = {}
        filled = {splits.split_of(problem.prompt) for problem in self._problems.values()}
        if missing := [split for split in splits.SHARES if split not in filled]:
            raise InvalidData(
                f"{self._path}: its {len(self._problems)} distinct rows leave no problem for {', '.join(missing)}; "
                f"about {ROWS_WANTED} or more are needed to fill all five splits, so add rows."
            )

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        """Up to `per_skill` problems of each skill (None: all) in an order drawn from `seed`, grouped by skill."""
        return splits.take(self._problems.values(), split, per_skill, stream(seed, "jsonl", split))

    def held_out(self) -> Sequence[Prompt]:
        """Every prompt of the exam and selection splits."""
        prompts = [problem.prompt for problem in self._problems.values()]
        return [prompt for prompt in prompts if splits.split_of(prompt) in ("exam", "selection")]

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Right when the response, or what follows its last `####`, is the answer.

        Texts are compared after white-space and case normalisation, numbers as numbers (1,000 is 1000.0). Where the
        row has a worked solution, the response's last line may hold the answer too.
        """
        said = _candidates(response, worked=problem.data.get("worked") is True)
        for text in said:
            if same_answer(text, problem.answer):
                return Verdict(1.0, True, extracted=text)
        return Verdict(0.0, False, f"expected {problem.answer[:100]}", said[-1][:100])

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The problem with this prompt, if the file holds it."""
        return self._problems.get(prompt.key)

    def _read(self) -> dict[str, Problem]:
        found: dict[str, tuple[Problem, int]] = {}
        columns: dict[str, int] = {}
        skill, skilled = self._columns["skill"], False
        for number, line in self._lines():
            row = self._row(number, line)
            if number == 1:  # the first row decides whether the file has skills; a renamed column must be there
                skilled = skill in row or skill != "skill"
            elif skill in row and not skilled:
                raise self._bad(1, f"field '{skill}' is missing, which line {number} has; give it to all rows or none")
            for column in row:
                columns.setdefault(column, number)
            problem = self._problem(number, row, skilled)
            first = found.setdefault(problem.prompt.key, (problem, number))
            if first[1] != number:
                self.duplicates += 1
                if not same_answer(first[0].answer, problem.answer):
                    raise self._bad(number, f"the prompt of line {first[1]} again, with another answer; keep one")
        self._look_at(columns)
        return {key: problem for key, (problem, _) in found.items()}

    def _look_at(self, columns: Mapping[str, int]) -> None:
        """Say which of the file's columns (each with the line it first stands in) are not read."""
        if columns and (solution := self._columns["solution"]) not in (*columns, "solution"):
            raise InvalidData(f"{self._path}: no row has the field '{solution}' (fields: {', '.join(columns)}).")
        other = [column for column in columns if column not in self._columns.values()]
        if not other:
            return
        hint = ""
        for role in ("skill", "solution"):
            near = difflib.get_close_matches(role, other, n=1, cutoff=0.7)
            if near and self._columns[role] not in columns:
                hint = f"; if '{near[0]}' is the {role}, say --set task.{role}={near[0]}"
        shown = ", ".join(f"'{column}' (line {columns[column]})" for column in other[:4])
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        warnings.warn(f"{self._path}: fields that are not read: {shown}{more}{hint}.", Note, stacklevel=4)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Line numbers and lines. Empty lines at the end are allowed, others are not."""
        number, empty = 0, 0
        try:
            with self._path.open("rb") as start:
                zipped = start.read(2) == b"\x1f\x8b"
            with gzip.open(self._path, "rb") if zipped else self._path.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.strip():
                        empty = empty or number
                        continue
                    if empty:
                        raise self._bad(empty, "the line is empty; remove it")
                    yield number, line
        except FileNotFoundError as error:
            raise InvalidData(f"{self._path}: there is no such file.") from error
        except (OSError, EOFError) as error:
            if number == 0:
                raise InvalidData(f"{self._path}: cannot be read ({error}).") from error
            raise InvalidData(f"{self._path}, after line {number}: cannot be read ({error}).") from error

    def _row(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            row = json.loads(text, parse_int=_Number, parse_float=_Number, parse_constant=_no_constant)
        except UnicodeDecodeError as error:
            raise self._bad(number, f"not UTF-8 (byte {error.start})") from error
        except (ValueError, RecursionError) as error:
            raise self._bad(number, f"not JSON ({error})") from error
        if not isinstance(row, dict):
            raise self._bad(number, "not a JSON object; write {...} with a prompt and an answer")
        return row

    def _problem(self, number: int, row: dict[str, Any], skilled: bool) -> Problem:
        prompt, answer = self._text(number, row, "prompt"), self._text(number, row, "answer")
        solution = self._text(number, row, "solution") if row.get(self._columns["solution"]) is not None else ""
        if solution and not any(same_answer(text, answer) for text in _candidates(solution, worked=True)):
            raise self._bad(
                number,
                f"the solution does not end in a line with the answer {answer[:60]!r} alone, or with '#### ' and it",
            )
        return Problem(
            prompt=Prompt(text=prompt),
            answer=answer,
            skill=self._text(number, row, "skill") if skilled else "general",
            solution=solution,
            data={"worked": True} if solution else {},
        )

    def _text(self, number: int, row: dict[str, Any], role: str) -> str:
        column = self._columns[role]
        if column not in row:
            raise self._bad(number, f"field '{column}' is missing (fields: {', '.join(row) or 'none'})")
        value = row[column]
        # A prompt or solution that is a number is a slip; an answer or a skill may well be one.
        if not isinstance(value, str) or (isinstance(value, _Number) and role in ("prompt", "solution")):
            wanted = "text or a number" if role in ("answer", "skill") else "text"
            kind = "a number" if isinstance(value, _Number) else "null" if value is None else type(value).__name__
            raise self._bad(number, f"field '{column}' must be {wanted}, not {kind}")
        if not value.strip():
            raise self._bad(number, f"field '{column}' is empty")
        return str(value).strip()

    def _bad(self, number: int, what: str) -> InvalidData:
        return InvalidData(f"{self._path}, line {number}: {what}.")


def _candidates(response: str, *, worked: bool) -> list[str]:
    """The texts of a response that may be its answer, at most three, each bounded."""
    text = response.strip()
    found = [text]
    _, mark, after = text.rpartition("####")
    if mark:
        found.append(after.strip())
    elif worked:
        found.append(text.rpartition("\n")[2].strip())
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
