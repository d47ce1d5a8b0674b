"""BFCL: the Berkeley Function-Calling Leaderboard, its single-turn Python categories (Patil et al. 2025, Apache 2.0).

A skill is a category: one call of one tool (simple), of one among several (multiple), several calls (parallel,
parallel_multiple), or none that fits (irrelevance), made up by its authors or given by users (live_…). There is no
train set, so all splits are by content hash of the request: its wording says which split a problem is in, whatever
tools stand beside it, for the leaderboard asks many requests twice with other tools.

Left out: the categories of Java, JavaScript, several turns, web search and memory; live_relevance, which has no
reference answers; and problems that no answer solves, for their own is refused (`unsound`).
Differences from the leaderboard: where no tool fits, a reply must say so with `[]`, as its prompt asks, while there any
text that holds no call is right, noise too; a whole number counts where a schema wants any number, at every depth.

Source: https://gorilla.cs.berkeley.edu/leaderboard.html, the package bfcl-eval, or a folder laid out as its `data`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Split
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.sources import Row, json_lines, packaged
from dataenv.tasks.splits import split_of
from dataenv.tasks.tool_rows import ToolRows, as_tool
from dataenv.verifiers.tool_call import Call, check_tools, expected, render, verify

INSTRUCTION = "\n\nAnswer with nothing but the calls, as in [tool(argument=value), ...], or with [] where no tool fits."

SKILLS: dict[str, str] = {
    name: f"BFCL_v4_{name if name != 'simple' else 'simple_python'}.json"
    for prefix in ("", "live_")
    for name in (f"{prefix}{kind}" for kind in ("simple", "multiple", "parallel", "parallel_multiple", "irrelevance"))
}
"""Skill -> the file of its problems; a file of the same name in `possible_answer` has the answers."""

_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
"""The leaderboard's names of types, where JSON Schema has others; "any" is no restriction."""


class BFCL(FixedTask, ToolRows):
    """The bfcl task, from the package bfcl-eval, or from `folder`, laid out as its `data` folder.

    Nothing is read before the first use. Then MissingDependency says how to install the package where it is absent, and
    InvalidData names the file and line that cannot be read, or the tool and the path inside it that is no JSON Schema.
    """

    name = "bfcl"
    skills = tuple(SKILLS)
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {
            f"{prefix}{kind}": tuple(f"{prefix}{needed}" for needed in needs)
            for prefix in ("", "live_")
            for kind, needs in {
                "multiple": ("simple",),
                "parallel": ("simple",),
                "parallel_multiple": ("multiple", "parallel"),
            }.items()
        }
    )
    max_new_tokens = 256
    instruction = INSTRUCTION

    def __init__(self, folder: str | None = None) -> None:
        self._folder = Path(folder) if folder else None
        self.unsound: list[str] = []
        """Ids of problems left out, because their own reference answer is wrong; filled when the data is read."""

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """Every problem, with the split that the wording of its request says."""
        folder = self._folder or packaged("bfcl-eval", "bfcl_eval", "a folder laid out as its data: bfcl:FOLDER")
        self.unsound = []
        for skill, file in SKILLS.items():
            answers = {}
            if "irrelevance" not in skill:
                for number, row in json_lines(folder / "possible_answer" / file):
                    answers[_field(folder / "possible_answer" / file, number, row, "id", str)] = row.get("ground_truth")
            for number, row in json_lines(folder / file):
                problem = _problem(folder / file, number, row, skill, answers, check=self._folder is not None)
                if verify(problem, problem.answer).correct:
                    yield problem, split_of(Prompt(text=problem.prompt.text))
                else:
                    self.unsound.append(row["id"])


def _problem(path: Path, number: int, row: Row, skill: str, answers: Mapping[str, Any], *, check: bool) -> Problem:
    id = _field(path, number, row, "id", str)
    try:
        turns = [(turn["role"], turn["content"].strip()) for turn in row["question"][0]]
        tools = tuple(
            as_tool(tool["name"], tool["description"], json_schema(tool["parameters"])) for tool in row["function"]
        )
        if check:
            check_tools(tools)
        allowed = [next(iter(call.items())) for call in answers[id]] if answers else []
        right = expected([(name, arguments) for name, arguments in allowed])
        required = {tool["name"]: tool["parameters"].get("required", ()) for tool in row["function"]}
        calls = [Call(name, _chosen(arguments, required.get(name, ()))) for name, arguments in allowed]
    except InvalidData as error:
        raise InvalidData(f"{path}, line {number}: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, StopIteration) as error:
        raise InvalidData(f"{path}, line {number}: not a problem of the leaderboard ({error!r:.100}).") from error
    spoken = [text for role, text in turns] if len(turns) < 3 else [f"{role}: {text}" for role, text in turns]
    prompt = Prompt(text="\n\n".join(spoken) + INSTRUCTION, tools=tools)
    return Problem(prompt=prompt, answer=f"[{render(calls)}]" if calls else "[]", skill=skill, data=right)


def json_schema(written: Any) -> Any:
    """A schema in JSON Schema's words: the leaderboard calls objects dict, numbers float and arrays tuple."""
    if isinstance(written, list):
        return [json_schema(part) for part in written]
    if not isinstance(written, dict):
        return written
    read: dict[str, Any] = {}
    for key, value in written.items():
        if key == "properties" and isinstance(value, dict):
            read[key] = {name: json_schema(schema) for name, schema in value.items()}
        elif key in ("items", "additionalProperties"):
            read[key] = json_schema(value)
        elif key == "type" and isinstance(value, str):
            read.update({} if value == "any" else {"type": _TYPES.get(value, value)})
        elif key != "optional":  # `required` says it already
            read[key] = value
    return read


def _chosen(allowed: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    """Of each argument the first allowed value, without those that may be left out."""
    return {
        name: _plain(next((value for value in values if value != ""), ""))
        for name, values in allowed.items()
        if "" not in values or name in required
    }


def _plain(value: Any) -> Any:
    """An allowed value as a call has it: the fields of an object, and of objects in a list, are lists of what each may
    be; what lies deeper is as it is."""
    if isinstance(value, dict):
        return {name: values[0] for name, values in value.items() if "" not in values}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _field(path: Path, number: int, row: Row, name: str, kind: type) -> Any:
    if not isinstance(row.get(name), kind):
        raise InvalidData(f"{path}, line {number}: a row needs '{name}'.")
    return row[name]
