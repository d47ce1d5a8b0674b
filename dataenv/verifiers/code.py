"""Code in replies: finding it in the text, and judging it by tests in the sandbox.

A problem of code keeps in its `data` what judging needs:

* `tests`: source that calls `candidate`, or the function by its name, and raises where an answer is wrong;
* `entry`: the function's name ("Class.method" for a method), or None for a program that reads its standard input;
* `given` (optional): source whose names the tests may use, such as a reference solution;
* `stub` (optional): the beginning of the function, as the prompt shows it. What stands in it before the function is
  there for the reply too, and a reply that does not define the function is read as what comes after the stub.
"""

from __future__ import annotations

import re
from functools import lru_cache

from dataenv.records import Problem, Verdict
from dataenv.verifiers.sandbox import Limits, Outcome, shared

LONGEST = 50_000
"""Characters of the longest reply that is looked at."""

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[ \t]*([\w+-]*)[^\n`]*$", re.MULTILINE)
_PYTHON = ("python", "py", "python3")
_BEGINS = re.compile(r"^(?:(?:def|class|import|from|async def)\b|@\w)", re.MULTILINE)
_CODE_LINE = re.compile(
    r"\s|$|[#@)\]}\"']|(?:def|class|import|from|async|if|elif|else|for|while|with|try|except|finally|return|assert|del"
    r"|global|pass|raise|match|print)\b(?!\s+(?:the|a|an|this|that|it|is)\b)|[A-Za-z_][\w.\[\], ]*\s*(?:[-+*/%|&]?=|\()"
)


def blocks(text: str) -> list[tuple[str, str]]:
    """(language tag in lower case, content) of every fenced block; one that is never closed goes to the end."""
    found, start, tag = [], -1, ""
    for mark in _FENCE.finditer(text):
        if start < 0:
            start, tag = mark.end() + 1, mark[1].lower()
        else:
            found.append((tag, text[start : mark.start()]))
            start = -1
    if 0 <= start < len(text):
        found.append((tag, text[start:]))
    return found


def extract(response: str, entry: str | None = None) -> str:
    """The code of a reply: linear in its length, and the text is never parsed or run here.

    Of several fenced blocks, those tagged as Python go before those without a tag, and blocks of other languages are
    left out; of these the last that defines `entry` counts, else the longest. A reply without a block is read from its
    first line of code to the last before prose, or as it is where no line looks like code.
    """
    fenced = blocks(response)
    few = [text for tag, text in fenced if tag in _PYTHON] or [text for tag, text in fenced if not tag]
    if few:
        defining = [text for text in few if entry and defines(text, entry)]
        return (defining[-1] if defining else max(few, key=len)).strip("\n")
    text = response.lstrip() if _BEGINS.match(response.lstrip()) else response
    begin = _BEGINS.search(text)
    if begin is None:
        return response.strip("\n")
    kept: list[str] = []
    for line in text[begin.start() :].splitlines():
        if not _CODE_LINE.match(line):
            break
        kept.append(line)
    return "\n".join(kept).rstrip()


def defines(code: str, entry: str) -> bool:
    """Whether a line of `code` begins a function (or, for "Class.method", a class) of this name, or assigns to it."""
    name = re.escape(entry.partition(".")[0])
    return re.search(rf"^(?:(?:async )?def|class)\s+{name}\b|^{name}\s*=", code, re.MULTILINE) is not None


def complete(code: str, entry: str | None, stub: str) -> str:
    """The code as it is run: with what stands before the function in `stub`, or as the continuation of `stub`."""
    if not stub or entry is None:
        return code
    if defines(code, entry):
        head = re.search(rf"^(?:async )?(?:def|class)\s+{re.escape(entry.partition('.')[0])}\b", stub, re.MULTILINE)
        return f"{stub[: head.start()] if head else ''}{code}"
    return f"{stub.rstrip()}\n{code}"


def verify(problem: Problem, response: str, *, unsafe: bool = False, limits: Limits | None = None) -> Verdict:
    """Right when the code of the reply passes the problem's tests; else the reason has the test that failed and what
    came of it. Raises IsolationMissing where code cannot be isolated."""
    if len(response) > LONGEST:
        return Verdict(0.0, False, f"longer than {LONGEST:,} characters")
    stated = problem.data.get("entry")
    entry = None if stated is None else str(stated)
    code = extract(response, entry)
    if not code.strip():
        return Verdict(0.0, False, "no code")
    outcome = passes(code, problem, unsafe=unsafe, limits=limits)
    return Verdict(float(outcome.passed), outcome.passed, outcome.reason, code)


def passes(code: str, problem: Problem, *, unsafe: bool = False, limits: Limits | None = None) -> Outcome:
    """What comes of `code` at the problem's tests."""
    tests, given, stub = (str(problem.data.get(name, "")) for name in ("tests", "given", "stub"))
    stated = problem.data.get("entry")
    entry = None if stated is None else str(stated)
    return _outcome(complete(code, entry, stub), tests, entry, given, unsafe, limits)


@lru_cache(4096)
def _outcome(code: str, tests: str, entry: str | None, given: str, unsafe: bool, limits: Limits | None) -> Outcome:
    """Kept, for students say the same again: the untaught one at each examination, a taught one at most problems."""
    return shared(unsafe, limits).trial(code, tests, entry=entry, given=given)
