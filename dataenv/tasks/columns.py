"""What tasks over rows of one's own share: which column is the prompt, the answer, the skill, the worked solution.

Nothing is skipped in silence: a row that cannot be used stops the reading, with its number and what is wrong.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from dataenv.checks import whole
from dataenv.errors import InvalidData, Note
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.tasks import splits
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.sources import Row
from dataenv.verifiers.exact import same_answer

ROWS_WANTED = 100
"""Rows with which an empty split is unlikely: the exemplar split, the smallest, is then empty 6 times in 1,000."""


class Number(str):
    """A number, kept as it was written: 1.10 stays 1.10, and no digit of a long one is lost."""


class Columns(NamedTuple):
    """The columns of each role."""

    prompt: str = "prompt"
    answer: str = "answer"
    skill: str = "skill"
    solution: str = "solution"


class ColumnsTask(FixedTask):
    """A task over rows from somewhere (`origin`), read when it is made: a subclass says which rows (`rows`).

    Answers and skills may be numbers. Where no row has a `skill`, every row has the skill "general"; `solution` is the
    worked text to learn from and must end in the answer: on its last line, or after its last `####`. Other columns are
    not read, which a `Note` says. Rows with equal prompts are one problem (`duplicates` counts what was merged).

    Raises InvalidData naming the row that lacks a column (and those it has), has one of the wrong type or empty, or
    answers a prompt differently than an earlier one; for a column that was named and is in no row; and naming the
    number of rows when they leave a split empty.
    """

    unit = "row"

    def __init__(self, origin: str, columns: Columns, max_new_tokens: int) -> None:
        self.max_new_tokens = whole("max_new_tokens", max_new_tokens)
        self.duplicates = 0
        self._origin = origin
        self._columns = columns
        counts = dict.fromkeys(splits.SHARES, 0)
        found = list(self._by_key.values())
        for _, split in found:
            counts[split] += 1
        self.skills = tuple(sorted({problem.skill for problem, _ in found}))
        if missing := [split for split, count in counts.items() if not count]:
            raise InvalidData(
                f"{origin}: its {len(found)} distinct rows leave no problem for {', '.join(missing)}; "
                f"about {ROWS_WANTED} or more are needed to fill all five splits, so add rows."
            )

    def rows(self) -> Iterable[tuple[int, Row, Split | None]]:
        """Every row with its number and the split that it was published in, if any."""
        raise NotImplementedError

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

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """Every problem with its published split. Equal prompts come again; whoever asks keeps the first."""
        found: dict[str, tuple[str, int]] = {}
        columns: dict[str, int] = {}
        skill, skilled = self._columns.skill, False
        for number, row, split in self.rows():
            if number == 1:  # the first row decides whether there are skills; a renamed column must be there
                skilled = skill in row or skill != "skill"
            elif skill in row and not skilled:
                raise self._bad(
                    1, f"field '{skill}' is missing, which {self.unit} {number} has; give it to all rows or none"
                )
            for column in row:
                columns.setdefault(column, number)
            problem = self._problem(number, row, skilled)
            answer, first = found.setdefault(problem.prompt.key, (problem.answer, number))
            if first != number:
                self.duplicates += 1
                if not same_answer(answer, problem.answer):
                    raise self._bad(number, f"the prompt of {self.unit} {first} again, with another answer; keep one")
            yield problem, split
        self._look_at(columns)

    def _look_at(self, columns: Mapping[str, int]) -> None:
        """Say which of the columns (each with the row it first stands in) are not read."""
        if columns and (solution := self._columns.solution) not in (*columns, "solution"):
            raise InvalidData(f"{self._origin}: no row has the field '{solution}' (fields: {', '.join(columns)}).")
        other = [column for column in columns if column not in self._columns]
        if not other:
            return
        hint = ""
        for role in ("skill", "solution"):
            near = difflib.get_close_matches(role, other, n=1, cutoff=0.7)
            if near and getattr(self._columns, role) not in columns:
                hint = f"; if '{near[0]}' is the {role}, say --set task.{role}={near[0]}"
        shown = ", ".join(f"'{column}' ({self.unit} {columns[column]})" for column in other[:4])
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        warnings.warn(f"{self._origin}: fields that are not read: {shown}{more}{hint}.", Note, stacklevel=6)

    def _problem(self, number: int, row: Row, skilled: bool) -> Problem:
        prompt, answer = self._text(number, row, "prompt"), self._text(number, row, "answer")
        solution = self._text(number, row, "solution") if row.get(self._columns.solution) is not None else ""
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

    def _text(self, number: int, row: Row, role: str) -> str:
        column = getattr(self._columns, role)
        if column not in row:
            raise self._bad(number, f"field '{column}' is missing (fields: {', '.join(row) or 'none'})")
        value = row[column]
        # A prompt or solution that is a number is a slip; an answer or a skill may well be one.
        if not isinstance(value, str) or (isinstance(value, Number) and role in ("prompt", "solution")):
            wanted = "text or a number" if role in ("answer", "skill") else "text"
            kind = "a number" if isinstance(value, Number) else "null" if value is None else type(value).__name__
            raise self._bad(number, f"field '{column}' must be {wanted}, not {kind}")
        if not value.strip():
            raise self._bad(number, f"field '{column}' is empty")
        return str(value).strip()

    def _bad(self, number: int, what: str) -> InvalidData:
        return InvalidData(f"{self._origin}, {self.unit} {number}: {what}.")


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
