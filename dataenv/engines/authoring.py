"""How a language model is told to write rows of a task, and how what it wrote is read: in words, or in the task's form.

Both know the same: the `schema` of an answer that holds rows, the question (`ask`), and the row that one of them is
(`read`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from dataenv.chat.templates import prompts
from dataenv.engines.exemplars import Exemplars, told
from dataenv.records import UNMATCHED, Example, Problem, Request

TOLD = 20
"""Problems written in the same call of the engine, the latest, that a further question tells not to write again."""


def rows_of(form: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of an answer that holds rows of the `form`."""
    return {
        "type": "object",
        "properties": {"rows": {"type": "array", "items": dict(form)}},
        "required": ["rows"],
        "additionalProperties": False,
    }


class InWords:
    """A row is a problem, a worked solution and an answer, three texts: what any task can be asked for.

    Whether the solution is taught, and how it states the answer, is as in the exemplars of the skill.
    """

    schema = rows_of(
        {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("problem", "solution", "answer")},
            "required": ["problem", "solution", "answer"],
            "additionalProperties": False,
        }
    )

    def __init__(self, exemplars: Exemplars) -> None:
        self.exemplars = exemplars

    def ask(self, request: Request, shown: Sequence[Example], made: Sequence[Example], rows: int) -> str:
        """The question for `rows` rows, which shows some and says what is `made` already."""
        worked = self.exemplars.form(request.skill).worked
        return prompts.render(
            "llm/write", shown=[told(row) for row in shown], worked=worked, **_wanted(request, made, rows)
        )

    def read(self, written: Mapping[str, Any], skill: str) -> Example:
        """The row, under `skill`, that was written."""
        answer = written["answer"].strip()
        completion = self.exemplars.form(skill).completion(written["solution"].strip(), answer)
        return Example(prompt=written["problem"].strip(), completion=completion, answer=answer, skill=skill)


class Authored(Protocol):
    """What `protocols.AuthoredTask` has besides what every task has."""

    row_form: Mapping[str, Any]
    row_guide: str

    def told(self, problem: Problem) -> dict[str, Any]: ...

    def read(self, written: Mapping[str, Any]) -> Problem: ...


class InForm:
    """A row is what the task says it is; see `protocols.AuthoredTask`."""

    def __init__(self, task: Authored) -> None:
        self.task = task
        self.schema = rows_of(task.row_form)

    def ask(self, request: Request, shown: Sequence[Example], made: Sequence[Example], rows: int) -> str:
        """The question for `rows` rows, which shows some and says what is `made` already."""
        examples = []
        for row in shown:
            if (problem := row.as_problem()) is not None:
                written = self.task.told(problem.model_copy(update={"solution": row.completion}))
                examples.append({"written": json.dumps(written, ensure_ascii=False), "difficulty": row.difficulty})
        return prompts.render("llm/author", shown=examples, guide=self.task.row_guide, **_wanted(request, made, rows))

    def read(self, written: Mapping[str, Any], skill: str) -> Example:
        """The row, under `skill`, that was written. Raises InvalidData where it states no problem."""
        return Example.from_problem(self.task.read(written)).model_copy(update={"skill": skill})


def _wanted(request: Request, made: Sequence[Example], rows: int) -> dict[str, Any]:
    """What `prompts/llm/wanted.jinja` asks for."""
    return {
        "skill": None if request.skill == UNMATCHED else request.skill,
        "subskill": request.subskill,
        "difficulty": request.difficulty,
        "instruction": request.instruction,
        "exemplar": None if request.exemplar is None else request.exemplar.prompt.text,
        "made": [row.prompt.text for row in made[-TOLD:]],
        "rows": rows,
    }
