"""Tool drills: calls of invented tools, short enough for students of characters that train in seconds.

A problem has one to four tools, each with one to three parameters, and a request of one line that ends in "!": `cut 7!`
with `cut(n:int)` at hand wants `cut(n=7)`. A clause of a request is a tool's name and a value for its first parameter,
or the names of parameters with their values, in any order; " and " repeats the call with another value, " then " adds
one that must come after. Where the tool that is asked for is not at hand, `[]` is right. Tools as text, request and
calls together stay within 128 ASCII characters. The form of a problem names its skill, so `recognise` can recompute the
truth of any prompt, whoever wrote it.

Difficulty runs from 0 (names of a few, digits) to 1 (names of four random letters, three digits, more tools, more
parameters, more calls). The natural mix draws it as the square of a uniform number, so most problems are easy.
Source: original to this project, after the categories of the Berkeley Function-Calling Leaderboard.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np

from dataenv.records import Problem, Prompt, Split
from dataenv.tasks.minted import MintedTask
from dataenv.tasks.splits import draw
from dataenv.tasks.tool_rows import ToolRows, as_tool
from dataenv.verifiers.tool_call import Call, expected, function, render

NAMES = ("cut", "add", "set", "get", "mix", "fix", "buy", "dig", "mop", "sew", "tap", "rub")
KEYS = "nkmx"
LETTERS = "abcdefghij"
LONGEST_ANSWER = 40
"""Characters of the longest answer any skill can have."""

Uniform = Callable[[], float]
"""Draws from [0, 1)."""
Drawn = tuple[list[dict[str, Any]], str]
"""Tools and a request."""


def _pick(uniform: Uniform, options: Sequence[str]) -> str:
    return options[int(uniform() * len(options))]


def _word(uniform: Uniform, length: int) -> str:
    return "".join(_pick(uniform, LETTERS) for _ in range(length))


def _several(uniform: Uniform, n: int, write: Callable[[], str]) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < n:
        found[write()] = None
    return list(found)


def _names(uniform: Uniform, difficulty: float, n: int) -> list[str]:
    """`n` names of tools: well-known ones, or the more, the harder, ones of four random letters."""
    return _several(uniform, n, lambda: _word(uniform, 4) if uniform() < difficulty else _pick(uniform, NAMES))


def _keys(uniform: Uniform, difficulty: float, n: int) -> list[str]:
    """`n` names of parameters, of one letter, or the more, the harder, of two; none of them a word of Python's."""

    def write() -> str:
        word = _word(uniform, 2) if uniform() < difficulty else _pick(uniform, KEYS)
        return write() if word == "if" else word

    return _several(uniform, n, write)


def _number(uniform: Uniform, difficulty: float) -> str:
    return str(int(uniform() * (9 * 100**difficulty + 1)))


def _count(uniform: Uniform, difficulty: float, easy: int, hard: int) -> int:
    """From `easy` to `hard`; the fractional part of what lies between is left to chance."""
    return int(easy + (hard - easy) * difficulty + uniform())


def _tool(name: str, keys: Sequence[str], *, kind: str = "integer", default: int | None = None) -> dict[str, Any]:
    """A tool with required parameters, the last of them optional where it has a default."""
    properties: dict[str, Any] = {key: {"type": kind} for key in keys}
    if default is not None:
        properties[keys[-1]] = {"type": kind, "default": default}
    required = list(keys) if default is None else list(keys[:-1])
    return as_tool(name, "", {"type": "object", "properties": properties, "required": required})


def _single(uniform: Uniform, difficulty: float, n: int) -> tuple[list[dict[str, Any]], list[str]]:
    """`n` tools of one whole number each, and their names."""
    names = _names(uniform, difficulty, n)
    return [_tool(name, _keys(uniform, difficulty, 1)) for name in names], names


def _simple(uniform: Uniform, difficulty: float) -> Drawn:
    tools, (name,) = _single(uniform, difficulty, 1)
    return tools, f"{name} {_number(uniform, difficulty)}!"


def _texts(uniform: Uniform, difficulty: float) -> Drawn:
    (name,) = _names(uniform, difficulty, 1)
    digits = uniform() < 0.5
    value = _number(uniform, difficulty) if digits else _word(uniform, _count(uniform, difficulty, 1, 4))
    return [_tool(name, _keys(uniform, difficulty, 1), kind="string")], f"{name} {value}!"


def _arguments(uniform: Uniform, difficulty: float) -> Drawn:
    (name,) = _names(uniform, difficulty, 1)
    keys = _keys(uniform, difficulty, min(_count(uniform, difficulty, 2, 3), 3))
    order = sorted(keys, key=lambda _: uniform())
    return [_tool(name, keys)], f"{name} {' '.join(f'{key} {_number(uniform, difficulty)}' for key in order)}!"


def _defaults(uniform: Uniform, difficulty: float) -> Drawn:
    (name,) = _names(uniform, difficulty, 1)
    keys = _keys(uniform, difficulty, 2)
    given = f" {keys[1]} {_number(uniform, difficulty)}" if uniform() < 0.5 else ""
    tool = _tool(name, keys, default=int(_number(uniform, difficulty)))
    return [tool], f"{name} {_number(uniform, difficulty)}{given}!"


def _multiple(uniform: Uniform, difficulty: float) -> Drawn:
    tools, names = _single(uniform, difficulty, min(_count(uniform, difficulty, 2, 4), 4))
    return tools, f"{_pick(uniform, names)} {_number(uniform, difficulty)}!"


def _parallel(uniform: Uniform, difficulty: float) -> Drawn:
    tools, (name,) = _single(uniform, difficulty, 1)
    n = min(_count(uniform, difficulty, 2, 3), 3)
    return tools, f"{name} {' and '.join(_several(uniform, n, lambda: _number(uniform, difficulty)))}!"


def _sequence(uniform: Uniform, difficulty: float) -> Drawn:
    tools, names = _single(uniform, difficulty, 2)
    clauses = [f"{name} {_number(uniform, difficulty)}" for name in names]
    return tools, f"{' then '.join(sorted(clauses, key=lambda _: uniform()))}!"


def _irrelevance(uniform: Uniform, difficulty: float) -> Drawn:
    n = min(_count(uniform, difficulty, 1, 2), 2)
    tools, names = _single(uniform, difficulty, n + 1)
    return tools[1:], f"{names[0]} {_number(uniform, difficulty)}!"


SKILLS: dict[str, tuple[Callable[[Uniform, float], Drawn], tuple[str, ...]]] = {
    "simple": (_simple, ()),
    "texts": (_texts, ("simple",)),
    "arguments": (_arguments, ("simple",)),
    "defaults": (_defaults, ("arguments",)),
    "multiple": (_multiple, ("simple",)),
    "parallel": (_parallel, ("simple",)),
    "sequence": (_sequence, ("multiple", "parallel")),
    "irrelevance": (_irrelevance, ("multiple",)),
}
"""Skill -> how its problems are written, and what it builds on."""

_CLAUSE = r"[a-z]{2,5}(?: [a-z]{1,3} \d{1,4}){2,3}|[a-z]{2,5} [a-z0-9]{1,5}(?: [a-z]{1,3} \d{1,4})?"
_REQUEST = re.compile(
    rf"(?:{_CLAUSE}|(?P<first>[a-z]{{2,5}} \d{{1,4}})(?: and \d{{1,4}}){{1,2}}|[a-z]{{2,5}} \d{{1,4}} then "
    r"[a-z]{2,5} \d{1,4})!",
    re.ASCII,
)


def solve(prompt: Prompt) -> Problem | None:
    """The problem that a prompt states, with its answer computed from the tools and the request; None if it is none."""
    text = prompt.text.strip()
    if prompt.images or not 1 <= len(prompt.tools) <= 4 or len(text) > 60 or not _REQUEST.fullmatch(text):
        return None
    tools = {}
    for tool in map(function, prompt.tools):
        if not _of_our_kind(tool):
            return None
        tools[tool["name"]] = tool["parameters"]
    name = text.split(" ")[0]
    joint = " then " if " then " in text else " and "
    clauses = text[:-1].split(joint)
    if joint == " and ":
        clauses[1:] = [f"{name} {clause}" for clause in clauses[1:]]
    if name not in tools:
        calls: list[Call] | None = [] if len(clauses) == 1 else None
    else:
        calls = _calls(clauses, tools)
    if calls is None:
        return None
    allowed = [(call.name, _allowed(call, tools[call.name]["properties"])) for call in calls]
    return Problem(
        prompt=prompt,
        answer=render(calls),
        skill=_skill(name, clauses, joint, tools),
        data=expected(allowed, joint == " then "),
    )


def _of_our_kind(tool: Mapping[str, Any]) -> bool:
    """Whether each parameter of a tool has an object for its schema: JSON Schema allows more."""
    match tool:
        case {"name": str(), "parameters": {"properties": dict(properties), **other}}:
            required = other.get("required") or []
            return (
                all(isinstance(schema, dict) for schema in properties.values())
                and isinstance(required, list)
                and all(isinstance(key, str) for key in required)
            )
    return False


def _calls(clauses: Sequence[str], tools: Mapping[str, Mapping[str, Any]]) -> list[Call] | None:
    calls = []
    for clause in clauses:
        name, *words = clause.split(" ")
        if name not in tools:
            return None
        properties, required = tools[name]["properties"], tools[name].get("required") or []
        if len(words) % 2:  # a value for the first parameter, without its name
            words = [*required[:1], *words]
        if len(words) % 2:
            return None
        given = dict(zip(words[::2], words[1::2], strict=True))
        if len(given) != len(words) // 2 or not set(required) <= given.keys() <= properties.keys():
            return None
        arguments: dict[str, Any] = {}
        for key, value in given.items():
            kind = properties[key].get("type")
            if kind not in ("string", "integer") or (kind == "integer" and not value.isdecimal()):
                return None
            arguments[key] = value if kind == "string" else int(value)
        calls.append(Call(name, arguments))
    return calls


def _allowed(call: Call, properties: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What each argument may be: what the request gives, or, where it gives nothing, nothing or the default."""
    return {
        key: [call.arguments[key]] if key in call.arguments else ["", schema["default"]]
        for key, schema in properties.items()
        if key in call.arguments or "default" in schema
    }


def _skill(name: str, clauses: Sequence[str], joint: str, tools: Mapping[str, Mapping[str, Any]]) -> str:
    if len(clauses) > 1:
        return "sequence" if joint == " then " else "parallel"
    if name not in tools:
        return "irrelevance"
    if len(tools) > 1:
        return "multiple"
    properties = tools[name]["properties"]
    if len(properties) > len(tools[name].get("required") or []):
        return "defaults"
    if len(properties) > 1:
        return "arguments"
    return "texts" if next(iter(properties.values())).get("type") == "string" else "simple"


class ToolDrills(ToolRows, MintedTask):
    """The tool-drills task; `ToolDrills("simple,parallel")` keeps only those skills."""

    family = "tool-drills"
    max_new_tokens = LONGEST_ANSWER + 1  # a token per character, and the end

    def __init__(self, skills: str | Sequence[str] | None = None) -> None:
        super().__init__(skills, {name: needed for name, (_, needed) in SKILLS.items()})

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The problem that `prompt` states, with the answer computed anew; None when it is none of this task's."""
        found = solve(prompt)
        return found if found is not None and found.skill in self.skills else None

    def _stated(self, written: Mapping[str, Any], tools: Sequence[dict[str, Any]], ordered: bool = False) -> Problem:
        return super()._stated(written, tools, " then " in written["request"])

    def _draw(
        self,
        skill: str,
        split: Split,
        n: int,
        difficulty: float | None,
        rng: np.random.Generator,
        subskill: str | None = None,
    ) -> list[Problem]:
        uniform, write = Random(int(rng.integers(2**63))).random, SKILLS[skill][0]

        def write_one(_: np.random.Generator) -> Problem | None:
            d = uniform() ** 2 if difficulty is None else difficulty
            tools, text = write(uniform, d)
            found = solve(Prompt(text=text, tools=tuple(tools)))
            return found and found.model_copy(update={"difficulty": d})

        return draw(write_one, split, n, np.random.default_rng(0))
