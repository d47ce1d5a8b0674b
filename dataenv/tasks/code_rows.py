"""What tasks of code share: how their problems are judged, and how a language model writes their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Verdict
from dataenv.verifiers import code
from dataenv.verifiers.sandbox import Limits, shared


def fenced(source: str) -> str:
    """Code as a reply that is taught: in a block of its own."""
    return f"```python\n{source.strip()}\n```"


class CodeRows:
    """A task whose rows are a problem in words, a Python function, and tests that the function passes.

    A subclass may set `before` and `after`, which stand around every problem in its prompt, `stubbed` where a problem
    is the beginning of its function, and `limits`. `unsafe_code` runs code without isolation.
    """

    before: ClassVar[str] = ""
    after: ClassVar[str] = ""
    stubbed: ClassVar[bool] = False
    limits: ClassVar[Limits | None] = None
    unsafe_code: bool = False

    row_form: Mapping[str, Any] = MappingProxyType(
        {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("problem", "function", "solution", "tests")},
            "required": ["problem", "function", "solution", "tests"],
            "additionalProperties": False,
        }
    )
    row_guide = (
        "problem: what the function must do, in the style of the examples, without its solution. function: its name. "
        "solution: Python source that defines it, with the standard library only. tests: at least three lines like "
        "'assert NAME(ARGUMENTS) == RESULT' that the solution passes and a wrong one does not, edge cases among them."
    )

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Right when the code of the reply passes the problem's hidden tests, in the sandbox; see `verifiers.code`."""
        return code.verify(problem, response, unsafe=self.unsafe_code, limits=self.limits)

    def isolate(self) -> None:
        """Raises IsolationMissing now, rather than in the middle of an examination, where code cannot be isolated."""
        shared(self.unsafe_code, self.limits).check()

    def told(self, problem: Problem) -> dict[str, Any]:
        """A solved problem as its text, the function's name, its source and tests (those that may be shown)."""
        entry = str(problem.data["entry"])
        return {
            "problem": problem.prompt.text.removeprefix(self.before).removesuffix(self.after),
            "function": entry,
            "solution": code.extract(problem.solution or problem.answer, entry),
            "tests": str(problem.data.get("shown") or problem.data["tests"]),
        }

    def read(self, written: Mapping[str, Any]) -> Problem:
        """The problem that a row states, after its solution has passed its tests in the sandbox, and a function that
        does nothing has not.

        Raises InvalidData: "no problem", "no function of that name", "tests that never call the function", "tests that
        a function without a body passes", "solution that fails its tests".
        """
        text, entry = written["problem"].strip(), written["function"].strip()
        source, tests = code.extract(written["solution"], entry), written["tests"].strip()
        if not text:
            raise InvalidData("no problem")
        if not entry.isidentifier() or not code.defines(source, entry):
            raise InvalidData("no function of that name")
        if not re.search(rf"\b(?:{entry}|candidate)\s*\(", tests):
            raise InvalidData("tests that never call the function")
        data = {"entry": entry, "tests": tests, **({"stub": f"{text}\n"} if self.stubbed else {})}
        problem = Problem(
            prompt=Prompt(text=self.before + text + self.after), answer=source, solution=fenced(source), data=data
        )
        if not self._passes(problem, source):
            raise InvalidData("solution that fails its tests")
        if self._passes(problem, f"def {entry}(*args, **named):\n    pass"):
            raise InvalidData("tests that a function without a body passes")
        return problem

    def _passes(self, problem: Problem, source: str) -> bool:
        return code.passes(source, problem, unsafe=self.unsafe_code, limits=self.limits).passed
