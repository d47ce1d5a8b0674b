"""Calls of tools: reading them out of a reply, and holding them against what is allowed and what a schema says.

A reply is read whole, never run. It may be Python (`f(a=1)`, `[f(a=1), g("x")]`, an assignment a line, a call over
several lines, a call within a call, the body of one function) or JSON (`{"name": "f", "arguments": {"a": 1}}`, several
of them, a list, within `<tool_call>` tags); what stands in fences counts, and what stands around fences and tags does
not. Text of any other kind holds no calls and is not read. Work is bounded: a reply longer than `LONGEST`, or nested
deeper than `DEEPEST`, is no call.

Judging follows the Berkeley Function-Calling Leaderboard (https://gorilla.cs.berkeley.edu/leaderboard.html): an
argument is right when it is one of the allowed values, texts without regard to case and the signs ` ,./-_*^`; it may
be left out where "" is allowed; any other argument is wrong; so is a missing, further or repeated call; the order of
calls is free unless a problem says otherwise. Here a whole number also counts where a schema wants any number, however
deep, and each call is paired with the one it fits, where the leaderboard takes the first.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from dataenv.errors import InvalidData, MissingDependency
from dataenv.records import Problem, Prompt, Verdict

LONGEST, DEEPEST = 10_000, 50
"""Characters, and brackets within brackets, of the longest and deepest reply that is read."""
SHOWN = 500
"""Characters of the calls that a verdict shows."""

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)```", re.S)
_TAG = re.compile(r"<tool_call>(.*?)</tool_call>", re.S)
_INSIGNIFICANT = str.maketrans({"'": '"', **dict.fromkeys(" ,./-_*^")})
_NAMED = {"true": True, "false": False, "null": None}


class Call(NamedTuple):
    """One call. A value that comes from an earlier call is the text "<node-K>", or "<node-K>.field" for a field of it,
    where K is that call's place in the list, from 0."""

    name: str
    arguments: dict[str, Any]


class NoCalls(ValueError):
    """A text that is not a list of calls; the message says why."""


# -- what tools are -----------------------------------------------------------------------------------------------


def function(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `{name, description, parameters}` of a tool, which may stand in `{"type": "function", "function": …}`."""
    inner = tool.get("function", tool)
    return inner if isinstance(inner, Mapping) else {}


def check_tools(tools: Sequence[Mapping[str, Any]]) -> None:
    """Raises InvalidData naming the tool, and the path inside it, where its parameters are no JSON Schema of an object;
    MissingDependency without `jsonschema`."""
    for number, tool in enumerate(tools, 1):
        name = function(tool).get("name")
        if not isinstance(name, str) or not name:
            raise InvalidData(f"Tool {number} has no name: give it one, a text, as 'name'.")
        _validator(name, json.dumps(function(tool).get("parameters", {}), sort_keys=True))


def refused(calls: Sequence[Call], tools: Sequence[Mapping[str, Any]]) -> str | None:
    """Why `calls` cannot be made with `tools`, in few words, judged by their schemas alone; None where they can.

    A value that comes from an earlier call may be of any type.
    """
    known = {function(tool).get("name"): function(tool) for tool in tools}
    for call in calls:
        if call.name not in known:
            return "unknown tool"
        schema = {"additionalProperties": False, **known[call.name].get("parameters", {})}
        for wrong in _validator(call.name, json.dumps(schema, sort_keys=True)).iter_errors(call.arguments):
            if not (isinstance(wrong.instance, str) and wrong.instance.startswith("<node-")):
                return _FAULTS.get(wrong.validator, "value against the schema")
    return None


_FAULTS = {"required": "missing argument", "additionalProperties": "unknown argument", "type": "wrong type"}


@lru_cache(4096)
def _validator(name: str, schema: str) -> Any:
    try:
        from jsonschema import Draft202012Validator, SchemaError
    except ImportError as error:
        raise MissingDependency('Schemas of tools need jsonschema: pip install "dataenv[tasks]".') from error
    parsed = json.loads(schema)
    if not isinstance(parsed, dict) or parsed.get("type", "object") != "object":
        path = "parameters.type" if isinstance(parsed, dict) else "parameters"
        raise InvalidData(f"Tool '{name}': at {path}: write the JSON Schema of an object, with 'properties'.")
    try:
        Draft202012Validator.check_schema(parsed)
    except SchemaError as error:
        path = ".".join(map(str, ("parameters", *error.absolute_path)))
        raise InvalidData(f"Tool '{name}': at {path}: no JSON Schema ({error.message[:200]}).") from error
    return Draft202012Validator(parsed)


# -- reading calls ------------------------------------------------------------------------------------------------


def parse(text: str, tools: Sequence[Mapping[str, Any]] = ()) -> list[Call]:
    """The calls in a reply, in the order in which they are made; an empty list where it says that there are none.

    `tools` give positional arguments their names. In Python a name stands for what was assigned to it; unknown names,
    and expressions that are neither literals nor calls, stand for their own text, as on the leaderboard.
    Raises NoCalls for everything else.
    """
    if len(text) > LONGEST:
        raise NoCalls(f"longer than {LONGEST} characters")
    if (tagged := _TAG.findall(text)) or "<tool_call>" in text:
        if text.count("<tool_call>") != len(tagged):
            raise NoCalls("a tag that is not closed")
        text = "\n".join(tagged)
    elif fenced := _FENCE.findall(text):
        text = "\n".join(fenced)
    text = text.strip()
    if _depth(text) > DEEPEST:
        raise NoCalls("nested too deeply")
    names = {function(tool).get("name"): list(_parameters(tool)) for tool in tools}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an escape that Python does not know is its author's business
            calls = _from_json(text) if re.match(r"\{|\[\s*\{", text) else _Python(names).read(ast.parse(text))
        json.dumps(calls, ensure_ascii=False).encode()  # not so: half a character, a number too long to be written
        return calls
    except NoCalls:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise NoCalls("neither Python nor JSON") from error


def _parameters(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    found = (function(tool).get("parameters") or {}).get("properties")
    return found if isinstance(found, Mapping) else {}


def _depth(text: str) -> int:
    depth = deepest = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _from_json(text: str) -> list[Call]:
    decoder = json.JSONDecoder()
    calls: list[Call] = []
    at = 0
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        calls += map(_from_object, value if isinstance(value, list) else [value])
        while at < len(text) and text[at] in " \t\r\n,;":  # one after another, as several models write them
            at += 1
    return calls


def _from_object(value: Any) -> Call:
    inner = value.get("function", value) if isinstance(value, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
        raise NoCalls("JSON that names no tool")
    arguments = inner.get("arguments", inner.get("parameters", {}))
    if isinstance(arguments, str):  # OpenAI's form
        arguments = json.loads(arguments)
    if not isinstance(arguments, dict):
        raise NoCalls("arguments that are no object")
    return Call(inner["name"], arguments)


class _Python:
    """One reading of Python: `calls` so far, and what was assigned to names."""

    def __init__(self, names: Mapping[Any, Sequence[str]]) -> None:
        self.names = names
        self.calls: list[Call] = []
        self.assigned: dict[str, Any] = {}

    def read(self, module: ast.Module) -> list[Call]:
        statements = module.body
        if len(statements) == 1 and isinstance(statements[0], ast.FunctionDef):
            statements = statements[0].body
        if not statements:
            raise NoCalls("nothing")
        for statement in statements:
            self._statement(statement)
        if not self.calls and not (isinstance(statements[-1], ast.Expr) and _empty(statements[-1].value)):
            raise NoCalls("no call")
        return self.calls

    def _statement(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if statement.value is None or not isinstance(target := targets[0], ast.Name) or len(targets) > 1:
                raise NoCalls("an assignment to something other than one name")
            value = self._value(statement.value)
            # Only what is short is kept: lists of lists of names would double with every line.
            self.assigned[target.id] = value if not isinstance(value, list | dict) else target.id
        elif isinstance(statement, ast.Expr):
            listed = statement.value.elts if isinstance(statement.value, ast.List | ast.Tuple) else [statement.value]
            for value in listed:
                if not isinstance(value, ast.Call):
                    raise NoCalls("words or values beside the calls")
                self._call(value)
        elif not isinstance(statement, ast.Return):
            raise NoCalls(f"a statement that is no call ({type(statement).__name__.lower()})")
        elif statement.value is not None:
            self._value(statement.value)

    def _call(self, node: ast.Call) -> str:
        name = _dotted(node.func)
        arguments: dict[str, Any] = {}
        known = self.names.get(name, ())
        for place, value in enumerate(node.args):
            arguments[known[place] if place < len(known) else f"argument {place + 1}"] = self._value(value)
        for keyword in node.keywords:
            value = self._value(keyword.value)
            given = {keyword.arg: value} if keyword.arg is not None else value
            if not isinstance(given, dict) or arguments.keys() & given.keys():
                raise NoCalls("an argument given twice, or without a name")
            arguments.update(given)
        self.calls.append(Call(name, arguments))
        return f"<node-{len(self.calls) - 1}>"

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=str() | int() | float() | None as value):
                return value
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as value)):
                return -value if isinstance(sign, ast.USub) else value
            case ast.List() | ast.Tuple():
                return [self._value(element) for element in node.elts]
            case ast.Dict():
                if not all(isinstance(key, ast.Constant) for key in node.keys):
                    raise NoCalls("a key that is no literal")
                pairs = zip(node.keys, node.values, strict=True)
                return {str(key.value): self._value(value) for key, value in pairs if isinstance(key, ast.Constant)}
            case ast.Call():
                return self._call(node)
            case ast.Starred():
                raise NoCalls("arguments whose number is not said")
            case ast.Name():
                return self.assigned.get(node.id, _NAMED.get(node.id, node.id))
            case ast.Subscript(slice=ast.Constant(value=str() as field)) | ast.Attribute(attr=field):
                whole = self._value(node.value)
                if isinstance(whole, str) and whole.startswith("<node-"):
                    return whole if "." in whole else f"{whole}.{field}"
            case ast.JoinedStr():
                return self._joined(
                    [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
                )
            case (
                ast.BinOp(op=ast.Add(), left=ast.JoinedStr() | ast.Constant(value=str()))
                | ast.BinOp(op=ast.Add(), right=ast.JoinedStr() | ast.Constant(value=str()))
            ):
                return self._joined([node.left, node.right])
        if any(isinstance(part, ast.Call) for part in ast.walk(node)):
            raise NoCalls("a call within an expression")
        return ast.unparse(node)

    def _joined(self, parts: Sequence[ast.expr]) -> str:
        text = "".join(str(self._value(part)) for part in parts)
        if len(text) > LONGEST:  # names can double a text with every line
            raise NoCalls("a text that grows too long")
        return text


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise NoCalls("a call of something without a name")
    return ".".join([node.id, *reversed(parts)])


def _empty(node: ast.expr) -> bool:
    return isinstance(node, ast.List | ast.Tuple) and not node.elts


def render(calls: Sequence[Call]) -> str:
    """`calls` as a reply that `parse` reads: "f(a=1)", "f(a=1), g(b='x')", "[]" for none.

    JSON where a name is not one that Python could have.
    """
    if all(_sayable(call.name) and all(map(str.isidentifier, call.arguments)) for call in calls):
        said = [f"{call.name}({', '.join(f'{k}={_literal(v)}' for k, v in call.arguments.items())})" for call in calls]
        text = ", ".join(said)
        try:
            ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass  # `f(from=1)`
        else:
            return text or "[]"
    return "\n".join(json.dumps(call._asdict(), ensure_ascii=False) for call in calls)


def _sayable(name: str) -> bool:
    return all(map(str.isidentifier, name.split(".")))


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    return repr(value)


# -- judging ------------------------------------------------------------------------------------------------------


def state(calls: Sequence[Call], *, ordered: bool = False) -> dict[str, Any]:
    """`calls` as the only right ones, in the form that `Problem.data` holds them."""
    return expected([(c.name, {key: [_only(value)] for key, value in c.arguments.items()}) for c in calls], ordered)


def _only(value: Any) -> Any:
    """A value as the one that is allowed: of an object, also within a list, each field lists what it may be."""
    if isinstance(value, dict):
        return {name: [part] for name, part in value.items()}
    return [_only(part) for part in value] if isinstance(value, list) else value


def expected(calls: Sequence[tuple[str, Mapping[str, Sequence[Any]]]], ordered: bool = False) -> dict[str, Any]:
    """What is right, in the form that `Problem.data` holds it: of each call the name, and the values that each argument
    may have; `ordered` where the order of the calls counts."""
    listed = [
        {"name": name, "arguments": {key: list(values) for key, values in given.items()}} for name, given in calls
    ]
    return {"calls": listed, "ordered": ordered}


def verify(problem: Problem, response: str) -> Verdict:
    """Judge a response to a problem whose `data` is of `expected`'s form; see `judge`."""
    try:
        return judge(problem, parse(response, problem.prompt.tools))
    except NoCalls as error:
        return Verdict(0.0, False, f"no calls: {error}")


def judge(problem: Problem, calls: Sequence[Call]) -> Verdict:
    """Hold calls against the right ones, with the types that the tools of the prompt state.

    Each right call is paired with a call of its own, as many as can be. The score of what is not all right is the share
    of right calls that are made; 0 where more calls are made than are right.
    """
    shown, wanted = render(calls)[:SHOWN], problem.data.get("calls")
    if not isinstance(wanted, list):
        return Verdict(0.0, False, "the problem does not say which calls are right", shown)
    if not wanted:
        return Verdict(float(not calls), not calls, "no call was asked for" if calls else "", shown)
    if len(calls) > len(wanted):
        return Verdict(0.0, False, f"{len(calls)} calls for {len(wanted)}", shown)
    known: list[Any] = wanted
    faults = [[_fault(right, call, problem.prompt) for call in calls] for right in known]
    fits = {(i, j) for i, row in enumerate(faults) for j, fault in enumerate(row) if fault is None}
    in_place = sum((i, i) in fits for i in range(len(known)))
    pairs = in_place if problem.data.get("ordered") else _paired(fits, len(known))
    if pairs == len(known):
        return Verdict(1.0, True, extracted=shown)
    if len(calls) < len(known):
        reason = f"{len(calls)} calls for {len(known)}"
    elif _paired(fits, len(known)) == len(known):
        reason = "calls in the wrong order"
    else:  # what is wrong with the call in the place of the first that nothing is right for
        reason = next((row[i] for i, row in enumerate(faults) if None not in row), None) or "a call repeated"
    return Verdict(pairs / len(known), False, reason, shown)


def _paired(fits: set[tuple[int, int]], n: int) -> int:
    """How many right calls can be paired with a call of their own (Kuhn's algorithm)."""
    taken: dict[int, int] = {}

    def place(i: int, tried: set[int]) -> bool:
        for j in sorted(b for a, b in fits if a == i and b not in tried):
            tried.add(j)
            if j not in taken or place(taken[j], tried):
                taken[j] = i
                return True
        return False

    return sum(place(i, set()) for i in range(n))


def _fault(wanted: Mapping[str, Any], call: Call, prompt: Prompt) -> str | None:
    """What is wrong with a call that should be the wanted one."""
    if call.name != wanted["name"]:
        return f"{call.name} called for {wanted['name']}"[:SHOWN]
    tool = next((tool for tool in prompt.tools if function(tool).get("name") == call.name), {})
    types = _parameters(tool)
    required = (function(tool).get("parameters") or {}).get("required", ())
    for name, values in wanted["arguments"].items():
        if name not in call.arguments and ("" not in values or name in required):
            return f"{call.name}: argument {name} is missing"
    for name, value in call.arguments.items():
        if name not in wanted["arguments"] or (types and name not in types):
            return f"{call.name}: unknown argument {name}"[:SHOWN]
        if not any(_allows(allowed, value, types.get(name)) for allowed in wanted["arguments"][name]):
            return f"{call.name}: {name} is not an allowed value"
    return None


def _allows(allowed: Any, value: Any, schema: Any, choices: bool = True) -> bool:
    """Whether a value is the allowed one. With `choices`, the fields of an allowed object are lists of what each may
    be, also where it stands in a list; deeper down they are plain."""
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(allowed, bool) or isinstance(value, bool) or value is None or allowed is None:
        return type(allowed) is type(value) and allowed == value
    if isinstance(allowed, str) and isinstance(value, str):
        if not allowed and schema.get("type", "string") != "string":  # the mark of what may be left out, no value
            return False
        return plain(allowed) == plain(value)
    if isinstance(allowed, int | float) and isinstance(value, int | float):
        whole = isinstance(value, int) or isinstance(allowed, float) or schema.get("type", "number") == "number"
        return whole and allowed == value
    if isinstance(allowed, list) and isinstance(value, list):
        pairs = zip(allowed, value, strict=False)
        return len(allowed) == len(value) and all(_allows(a, v, schema.get("items"), choices) for a, v in pairs)
    if not isinstance(allowed, dict) or not isinstance(value, dict) or not value.keys() <= allowed.keys():
        return False
    inner = schema.get("properties") if isinstance(schema.get("properties"), Mapping) else {}
    if not choices:
        return len(value) == len(allowed) and all(_allows(allowed[k], v, inner.get(k), False) for k, v in value.items())
    return all("" in allowed[key] for key in allowed.keys() - value.keys()) and all(
        any(_allows(choice, v, inner.get(k), False) for choice in allowed[k]) for k, v in value.items()
    )


def plain(text: str) -> str:
    """A text as the leaderboard compares it: without case, without ` ,./-_*^`, with one kind of quotation mark."""
    return text.translate(_INSIGNIFICANT).lower()
