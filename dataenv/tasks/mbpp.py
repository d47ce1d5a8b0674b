"""MBPP+: 378 small Python functions from one sentence and an example, with about a hundred tests each.

Mostly Basic Python Problems (Austin et al. 2021, CC BY 4.0), checked and with further tests by EvalPlus (Liu et al.
2023, Apache 2.0). There is no train set, so all five splits are drawn by content hash: 189 or so are the pool that rows
come from, 76 the exam; figures are therefore not those of the published benchmark. What a function must return is what
the reference solution returns for the same input, floats up to 1e-6 (or the problem's own tolerance). As in EvalPlus,
some problems are judged by their intent: results in any order, or whether something was found at all.
A skill is the kind of data the function is first tested with.

Source: a folder with `MbppPlus.jsonl` or `MbppPlus.jsonl.gz` (the EvalPlus release v0.1.0 or v0.2.0), or the Hub data
set evalplus/mbppplus.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Split
from dataenv.tasks.code_kinds import KINDS, kind_of
from dataenv.tasks.code_rows import CodeRows, fenced
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.sources import Folder, Hub, Row
from dataenv.verifiers.sandbox import Limits

REVISION = "b2d74c91837c3f2a20c1299ae98133cbe7cfa077"
"""The commit of the Hub data set that is read when no folder is given."""

LONGEST = 100_000
"""Characters of one problem's inputs that are used: those of one problem are 190,000 long."""
LARGE, FEW = 5_000, 3
"""Of inputs with a whole number this large, so many are used: some problems have dozens, a quarter second each."""
LARGE_FOR = {"combinations_colors": 7, "find_lucas": 30, "catalan_number": 13, "sum_Of_product": 900}
"""The same for functions whose work grows fast."""

_AS_SET = {"similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
           "intersection_array", "find_dissimilar", "Diff"}  # fmt: skip
_WHETHER_FOUND = {"check_str", "text_match_three", "text_starta_endb"}

Convert = Callable[[list[Any]], Sequence[Any]]


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


def _tuples(value: Any) -> Any:
    """A list, with the lists in it as tuples."""
    return [tuple(item) if isinstance(item, list) else item for item in value]


_CONVERT: list[tuple[Convert, tuple[int, ...]]] = [
    # JSON has no tuples, sets or complex numbers: what the arguments of which problems were before they became JSON
    (_tuples,
     (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809)),
    (lambda args: [_tuples(arg) for arg in args],
     (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780)),
    (lambda args: [_tuples(args[0]), *args[1:]], (75, 413, 444, 753)),
    (lambda args: [args[0], tuple(args[1])], (106, 750)),
    (lambda args: [tuple(args[0]), *args[1:]], (250, 307, 405, 446, 617, 720, 763, 808)),
    (lambda args: [tuple(_tuples(arg)) for arg in args], (259, 278, 401, 445)),
    (_deep, (580, 615, 791)),
    (lambda args: [[set(item) if item else {} for item in args[0]]], (115,)),
    (lambda args: [float(args[0]), complex(args[1])], (124,)),
    (lambda args: [complex(args[0])], (252,)),
    (lambda args: [{key: tuple(value) for key, value in args[0].items()}, *args[1:]], (722,)),
]  # fmt: skip
_CONVERT_OF = {number: convert for convert, numbers in _CONVERT for number in numbers}


class MBPP(CodeRows, FixedTask):
    """The mbpp task, from `folder`, or from the Hub at `revision` when there is no folder.

    Nothing is read before the first use. Then InvalidData names the file and line that cannot be read, or says what
    to do when the Hub cannot be reached; MissingDependency names the command that installs `datasets`, and
    IsolationMissing what the sandbox needs.
    """

    name = "mbpp"
    skills = KINDS
    max_new_tokens = 256
    after = "\n\nReply with a Python function."
    limits = Limits(seconds=5, wall=60)

    def __init__(self, folder: str | None = None, *, revision: str = REVISION, unsafe_code: bool = False) -> None:
        self.unsafe_code = unsafe_code
        instead = "download MbppPlus.jsonl.gz from https://github.com/evalplus/mbppplus_release and use mbpp:FOLDER"
        self._source = Folder(Path(folder)) if folder else Hub("evalplus/mbppplus", revision, instead)

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """Every problem; none has a published split."""
        self.isolate()
        part = "MbppPlus" if isinstance(self._source, Folder) else "test"
        for where, row in self._source.rows(part):
            yield _problem(where, row if "entry_point" in row else _of_hub(where, row)), None


def _problem(where: str, row: Row) -> Problem:
    texts, lists = ("task_id", "prompt", "entry_point", "canonical_solution"), ("base_input", "plus_input")
    # one row of the release has {} for its plus_input, which it has none of
    if not all(isinstance(row.get(name), str) for name in texts) or not all(
        isinstance(row.get(name), list) or row.get(name) == {} for name in lists
    ):
        raise InvalidData(f"{where}: a row needs {', '.join(texts)} (texts) and {', '.join(lists)} (lists).")
    entry, source = row["entry_point"], row["canonical_solution"].strip()
    number = re.search(r"\d+$", row["task_id"])
    convert = _CONVERT_OF.get(int(number[0]) if number else 0, list)
    try:
        inputs = [convert(args) for args in (*row["base_input"], *(row["plus_input"] or ()))]
        tolerance = float(row.get("atol") or 0)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        raise InvalidData(
            f"{where}: the inputs or the tolerance of {row['task_id']} are not what they should be ({error})."
        ) from error
    return Problem(
        prompt=Prompt(text=row["prompt"].strip().strip('"').strip() + MBPP.after),
        answer=source,
        solution=fenced(source),
        skill=kind_of(inputs[0] if inputs else None),
        data={
            "entry": entry,
            "given": source,
            "tests": _tests(entry, inputs, tolerance),
            "shown": str(row.get("assertion") or "").strip(),
        },
    )


def _tests(entry: str, inputs: Sequence[Sequence[Any]], tolerance: float) -> str:
    """Source that compares the candidate with the reference solution, which has its name, on every input that the
    reference solution takes."""
    if entry in _AS_SET:
        compare = "assert set(found) == set(expected)"
    elif entry in _WHETHER_FOUND:
        compare = "assert (found if isinstance(found, bool) else found is not None) == (expected is not None)"
    else:
        compare = f"agree(found, expected, {tolerance or 1e-6!r})"
    return "\n".join(
        [
            "from math import inf, nan",
            "INPUTS = [",
            *(f"    {args!r}," for args in _few(inputs, LARGE_FOR.get(entry, LARGE))),
            "]",
            "for args in INPUTS:",
            "    try:",
            f"        expected = {entry}(*copy(args))",
            "    except Exception:",
            "        continue",
            "    found = candidate(*copy(args))",
            f"    {compare}",
        ]
    )


def _few(inputs: Sequence[Sequence[Any]], limit: int) -> list[tuple[Any, ...]]:
    """The inputs without what takes long and tests little."""
    found, size, large = [], 0, 0
    for args in map(tuple, inputs):
        large += (is_large := any(isinstance(arg, int) and abs(arg) >= limit for arg in args))
        size += len(repr(args))
        if size <= LONGEST and (large <= FEW or not is_large):
            found.append(args)
    return found


def _of_hub(where: str, row: Row) -> Row:
    """A row of the Hub data set as one of the release: its inputs stand in the source of its tests."""
    if not all(isinstance(row.get(name), str) for name in ("code", "prompt", "test")):
        raise InvalidData(f"{where}: a row needs code, prompt and test, all texts.")
    listed = re.search(r"^inputs = (\[.*\])$", row["test"], re.MULTILINE)
    called = re.search(r"assertion\((\w+)\(\*inp\)", row["test"])
    shown = [str(test) for test in row.get("test_list") or ()]
    entry = called[1] if called else _called(shown[0]) if shown else None
    if listed is None or entry is None:
        raise InvalidData(f"{where}: its tests have no line 'inputs = [...]', or call no function.")
    tolerance = re.search(r"exp, ([0-9.e-]+)\)\s*$", row["test"])
    try:
        inputs = [list(args) for args in ast.literal_eval(re.sub(r"\binf\b", "1e999", listed[1]))]
    except (ValueError, SyntaxError, TypeError) as error:
        raise InvalidData(f"{where}: its inputs cannot be read ({error}).") from error
    example = f"\n{shown[0]}" if shown else ""
    return {
        "task_id": "hub",  # the inputs are Python already
        "prompt": row["prompt"] + example,
        "entry_point": entry,
        "canonical_solution": row["code"],
        "base_input": inputs,
        "plus_input": [],
        "atol": tolerance[1] if tolerance else 0.0,
        "assertion": "\n".join(shown),
    }


def _called(test: str) -> str | None:
    found = re.search(r"(?<!\w)(?!assert\b|set\b|sorted\b|str\b|list\b|tuple\b)([A-Za-z_]\w*)\(", test)
    return found[1] if found else None
