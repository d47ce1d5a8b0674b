"""LiveCodeBench: contest problems with hidden tests, by date of publication (Jain et al. 2024).

The published releases are the splits, as in the paper this project implements: release 1 (400 problems) is the exam,
what release 2 adds (111) the feedback split, what release 3 adds (101) the selection split. A window of contest dates
narrows all of them, to problems that are newer than a student. The data has no solutions, so there are neither
exemplars nor a pool: rows come from an engine that writes, such as `llm`. A skill is the published difficulty.

A problem is a program that reads and writes, or a method of a class `Solution`. Outputs are compared line by line, with
numbers as numbers; results of a method as values. The data hides its private tests in a pickle, of which nothing but a
text is ever read.

Source: https://huggingface.co/datasets/livecodebench/code_generation_lite, or a folder with its test.jsonl, test2.jsonl
and test3.jsonl.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
import zlib
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import JsonValue

from dataenv.errors import InvalidData, MissingDependency
from dataenv.records import Problem, Prompt, Split
from dataenv.tasks.code_rows import CodeRows, fenced
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.sources import Row, json_lines, reachable
from dataenv.verifiers import code
from dataenv.verifiers.sandbox import Limits

REVISION = "0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
"""The commit of the Hub data set that is read when no folder is given."""
HUB = "livecodebench/code_generation_lite"

SKILLS = ("easy", "medium", "hard")
RELEASES: dict[int, Split] = {1: "exam", 2: "feedback", 3: "selection"}
"""Release -> the split that the problems it added are."""
LONGEST = 2_000_000
"""Characters of one problem's tests that are used, of the first on; those of a few problems are 100 million long."""

PROGRAM = "\n\nReply with a Python program that reads from standard input and writes to standard output."
METHOD = "\n\nReply with Python code that completes this class:\n\n"


class LiveCodeBench(CodeRows, FixedTask):
    """The livecodebench task, from `folder`, or from the Hub at `revision` when there is no folder.

    `since` and `until` ("2023-09-01") keep problems of contests from and to that day. Nothing is read before the first
    use. Then InvalidData names the file and line that cannot be read, or says what to do when the Hub cannot be
    reached; MissingDependency names the command that installs its client, and IsolationMissing what the sandbox needs.
    """

    name = "livecodebench"
    skills = SKILLS
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType({"medium": ("easy",), "hard": ("medium",)})
    default_engine = "llm"
    published: ClassVar[frozenset[Split]] = frozenset(RELEASES.values())
    max_new_tokens = 2000
    after = PROGRAM
    limits = Limits(seconds=6, wall=120)
    row_form: Mapping[str, Any] = MappingProxyType(
        {
            "type": "object",
            "properties": {
                "problem": {"type": "string"},
                "solution": {"type": "string"},
                "tests": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {name: {"type": "string"} for name in ("input", "output")},
                        "required": ["input", "output"],
                        "additionalProperties": False,
                    },
                },
            },
            "required": ["problem", "solution", "tests"],
            "additionalProperties": False,
        }
    )
    row_guide = (
        "problem: a contest problem with the form of its input and output and an example. solution: a Python program "
        "that reads from standard input and writes to standard output, with the standard library only. tests: at least "
        "three inputs with the output of a right program, edge cases among them."
    )

    def __init__(
        self,
        folder: str | None = None,
        *,
        since: str | None = None,
        until: str | None = None,
        revision: str = REVISION,
        unsafe_code: bool = False,
    ) -> None:
        self._folder, self._revision, self.unsafe_code = folder, revision, unsafe_code
        self._since, self._until = _day("since", since) or date.min, _day("until", until) or date.max

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """Every problem of the releases in use, each with its split."""
        self.isolate()
        for release, split in RELEASES.items():
            file = f"test{release if release > 1 else ''}.jsonl"
            path = Path(self._folder) / file if self._folder else _downloaded(file, self._revision)
            for number, row in json_lines(path):
                problem, day = _problem(f"{path}, line {number}", row)
                if self._since <= day <= self._until:
                    yield problem, split

    def told(self, problem: Problem) -> dict[str, Any]:
        """A solved program with its tests."""
        text = problem.prompt.text.removesuffix(self.after)
        source = code.extract(problem.solution or problem.answer)
        return {"problem": text, "solution": source, "tests": problem.data["cases"]}

    def read(self, written: Mapping[str, Any]) -> Problem:
        """The problem that a row states, after its solution has passed its tests in the sandbox, and a program that
        does nothing has not.

        Raises InvalidData: "no problem", "no tests", "tests that an empty program passes", "solution that fails its
        tests".
        """
        text, source = written["problem"].strip(), code.extract(written["solution"])
        cases: list[JsonValue] = [{"input": test["input"], "output": test["output"]} for test in written["tests"]]
        if not text:
            raise InvalidData("no problem")
        if not cases:
            raise InvalidData("no tests")
        problem = Problem(
            prompt=Prompt(text=text + self.after),
            answer=source,
            solution=fenced(source),
            data={
                "entry": None,
                "tests": _program_tests([(test["input"], test["output"]) for test in written["tests"]]),
                "cases": cases,
            },
        )
        if not self._passes(problem, source):
            raise InvalidData("solution that fails its tests")
        if self._passes(problem, "pass"):
            raise InvalidData("tests that an empty program passes")
        return problem


def _day(name: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(str(text))
    except ValueError as error:
        raise InvalidData(f"livecodebench: {name} must be a day like 2023-09-01, not '{text}'.") from error


def _downloaded(file: str, revision: str) -> Path:
    instead = f"download {file} from https://huggingface.co/datasets/{HUB} and use livecodebench:FOLDER"
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingDependency(
            f'livecodebench from the Hub needs its client: pip install "dataenv[tasks]"; or {instead}.'
        ) from error
    try:
        cached = not reachable()
        return Path(hf_hub_download(HUB, file, repo_type="dataset", revision=revision, local_files_only=cached))
    except Exception as error:  # the Hub client raises a dozen kinds, from DNS to HTTP to cache errors
        raise InvalidData(
            f"{HUB} cannot be read from the Hub ({type(error).__name__}): check the network, or {instead}."
        ) from error


def _problem(where: str, row: Row) -> tuple[Problem, date]:
    names = (
        "question_content",
        "starter_code",
        "difficulty",
        "contest_date",
        "public_test_cases",
        "private_test_cases",
    )
    if missing := [name for name in names if not isinstance(row.get(name), str)]:
        raise InvalidData(f"{where}: a row needs {', '.join(missing)}, as text.")
    if row["difficulty"] not in SKILLS:
        raise InvalidData(f"{where}: the difficulty is '{row['difficulty']}', not {', '.join(SKILLS)}.")
    try:
        day = date.fromisoformat(row["contest_date"][:10])
        cases = [*json.loads(row["public_test_cases"]), *hidden_tests(row["private_test_cases"])]
        pairs = [(str(case["input"]), str(case["output"])) for case in cases]
        method = json.loads(row.get("metadata") or "{}").get("func_name")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidData(f"{where}: its tests, date or metadata cannot be read ({error}).") from error
    kept: list[tuple[str, str]] = []
    for pair in pairs:
        if not kept or sum(len(a) + len(b) for a, b in (*kept, pair)) <= LONGEST:
            kept.append(pair)
    starter = row["starter_code"].strip()
    text = row["question_content"].strip() + (f"{METHOD}{fenced(starter)}" if method else PROGRAM)
    data: dict[str, JsonValue] = {
        "entry": f"Solution.{method}" if method else None,
        "tests": _method_tests(where, kept) if method else _program_tests(kept),
        "date": day.isoformat(),
    }
    return Problem(prompt=Prompt(text=text), answer="", skill=row["difficulty"], data=data), day


def _program_tests(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(f"same_output(candidate({given!r}), {wanted!r})" for given, wanted in pairs)


def _method_tests(where: str, pairs: list[tuple[str, str]]) -> str:
    """Inputs hold one argument a line, as JSON; outputs one value."""
    try:
        calls = [([json.loads(line) for line in a.splitlines() if line.strip()], json.loads(b)) for a, b in pairs]
    except ValueError as error:
        raise InvalidData(f"{where}: a test of a method is not JSON ({error}).") from error
    head = "from math import inf, nan\ndef plain(v):\n    return [plain(x) for x in v] if isinstance(v, tuple) else v\n"
    return head + "\n".join(
        f"agree(plain(candidate({', '.join(map(repr, arguments))})), {wanted!r})" for arguments, wanted in calls
    )


class _TextOnly(pickle.Unpickler):
    """Reads a pickled text; whatever else a pickle could make is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in a pickle that should hold a text")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("a reference in a pickle that should hold a text")


def hidden_tests(text: str) -> list[dict[str, Any]]:
    """The private tests of a row: JSON as it is, or as a pickled text, compressed and in base 64.

    Raises ValueError for anything else; nothing in a pickle is ever called.
    """
    try:
        found = json.loads(text)
    except ValueError:
        try:
            unpacked = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), 1 << 30)
            found = json.loads(_TextOnly(io.BytesIO(unpacked)).load())
        except Exception as error:  # reading a pickle raises whatever its bytes lead to
            raise ValueError(f"no private tests: {error}") from error
    if not isinstance(found, list) or not all(isinstance(case, dict) for case in found):
        raise ValueError("private tests are a list of objects")
    return found
