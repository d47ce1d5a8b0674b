"""What tasks of tool use share: how their problems are judged, and how a language model writes their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Verdict
from dataenv.verifiers import tool_call
from dataenv.verifiers.tool_call import Call, check_tools, function, parse, refused, render, state


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def calls_form(*, with_tools: bool) -> dict[str, Any]:
    """JSON Schema of a row: a request and its calls, and the tools at hand where the task does not fix them."""
    text, anything = {"type": "string"}, {"type": "object"}
    tool = _object(name=text, description=text, parameters=anything)
    tools = {"tools": {"type": "array", "items": tool}} if with_tools else {}
    calls = {"type": "array", "items": _object(name=text, arguments=anything)}
    return _object(request=text, **tools, calls=calls)


def as_tool(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A tool as chat templates and servers take it; without a description where there is none."""
    said = {"description": description} if description else {}
    return {"type": "function", "function": {"name": name, **said, "parameters": dict(parameters)}}


class ToolRows:
    """A task whose rows are a request, the tools at hand, and the calls that the request wants.

    A subclass may set `instruction`, which stands after every request.
    """

    instruction: ClassVar[str] = ""
    row_form: Mapping[str, Any] = calls_form(with_tools=True)
    row_guide = (
        "- `request`: what somebody asks, in words;\n"
        "- `tools`: the tools at hand, each with a name, a description and, as `parameters`, the JSON Schema of an "
        "object with properties and required; some may be of no use for the request;\n"
        "- `calls`: exactly the calls that the request wants, each with the name of a tool and its arguments, which "
        "fit the tool's schema and follow from the request; an empty list where no tool fits."
    )

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Right when the response makes exactly the calls asked for, see `verifiers.tool_call`; where none was asked
        for, it must say so with `[]`."""
        return tool_call.verify(problem, response)

    def told(self, problem: Problem) -> dict[str, Any]:
        """A solved problem as request, tools and calls."""
        tools = [{"description": "", **function(tool)} for tool in problem.prompt.tools]
        calls = [call._asdict() for call in parse(problem.answer, problem.prompt.tools)]
        return {"request": problem.prompt.text.removesuffix(self.instruction), "tools": tools, "calls": calls}

    def read(self, written: Mapping[str, Any]) -> Problem:
        """The problem that a row states. Raises InvalidData: "no request"; "tool without a valid schema"; "unknown
        tool", "missing argument", "unknown argument", "wrong type", "value against the schema" of a call."""
        tools = tuple(as_tool(tool["name"], tool["description"], tool["parameters"]) for tool in written["tools"])
        try:
            check_tools(tools)
        except InvalidData as error:
            raise InvalidData("tool without a valid schema") from error
        return self._stated(written, tools)

    def _stated(self, written: Mapping[str, Any], tools: Sequence[dict[str, Any]], ordered: bool = False) -> Problem:
        calls = [Call(call["name"], call["arguments"]) for call in written["calls"]]
        if not (request := written["request"].strip()):
            raise InvalidData("no request")
        if (reason := refused(calls, tools)) is not None:
            raise InvalidData(reason)
        prompt = Prompt(text=request + self.instruction, tools=tuple(tools))
        return Problem(prompt=prompt, answer=render(calls), data=state(calls, ordered=ordered))
