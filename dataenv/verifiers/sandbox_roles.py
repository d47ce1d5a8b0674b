"""The two parties of a trial: the subject, which holds the untrusted code, and the judge, which holds the tests.

They are separate processes, and a socket is all they share. The judge asks for one answer at a time; the subject never
holds a test, only the arguments (or the standard input) of the question it is asked. Standard library only.
"""

from __future__ import annotations

import builtins
import copy
import linecache
import math
import os
import random
import re
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

from dataenv.verifiers.sandbox_wire import Gone, Line, decode, encode

OUTPUT = 1 << 20
"""Bytes that are read of a program's output."""
_SHOWN = 200
"""Characters of a value, a test or an error that a reason quotes."""
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def _short(text: str) -> str:
    """A text on one line that any file can hold, without addresses: they are others in each run."""
    text = " ".join(_ADDRESS.sub("", text).split()).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 4]} ..."


def _error(error: BaseException) -> dict[str, Any]:
    try:
        text = str(error)
    except BaseException:
        text = ""
    return {"error": type(error).__name__, "text": text[:1000]}


def subject(line: Line) -> None:
    """Load the code that the first message holds, then answer: calls of its function, or runs of it as a program.

    Runs in the process that the untrusted code runs in, and may be tampered with by it: it promises nothing.
    """
    given = line.receive()
    random.seed(0)  # here, for a fork draws another seed
    if given["entry"] is None:
        _programs(line, given["code"])
        return
    names: dict[str, Any] = {"__name__": "program"}
    try:
        exec(compile(given["code"], "<program>", "exec"), names)
        owner, _, method = given["entry"].rpartition(".")
        function = getattr(names[owner](), method) if owner else names[method]
        ready: dict[str, Any] = {}
    except KeyError as error:
        missing = error.args == (given["entry"].partition(".")[0],)
        ready = {"error": "NameError", "text": f"it defines no {given['entry']}"} if missing else _error(error)
    except BaseException as error:
        ready = _error(error)
    line.send(ready)
    while True:
        question = line.receive()
        try:
            value = function(*decode(question["args"]), **decode(question["named"]))
            answer = {"value": encode(value)}
        except BaseException as error:
            answer = _error(error)
        line.send(answer)


def _programs(line: Line, code: str) -> NoReturn:
    try:
        program = compile(code, "<program>", "exec")
        line.send({})
    except BaseException as error:
        line.send(_error(error))
    while True:
        line.send(_run(program, line.receive()["stdin"], line))


def _run(program: Any, stdin: str, line: Line) -> dict[str, Any]:
    """One run in a process of its own, with files without a name for its input, output and errors."""
    files = [os.open("/tmp", os.O_TMPFILE | os.O_RDWR) for _ in range(3)]
    os.write(files[0], stdin.encode("utf-8", "surrogatepass"))
    os.lseek(files[0], 0, os.SEEK_SET)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            line.end.close()
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            random.seed(0)
            sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            sys.stdout = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            exec(program, {"__name__": "__main__"})
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        try:
            sys.stdout.flush()
        finally:
            os._exit(status & 255)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = []
    for file in files[1:]:
        os.lseek(file, 0, os.SEEK_SET)
        texts.append(os.read(file, OUTPUT).decode("utf-8", "replace"))
    for file in files:
        os.close(file)
    if code:
        name, _, text = texts[1].partition(": ")
        return {"error": name or f"exit status {code}", "text": text[:1000]}
    return {"value": texts[0]}


class _Ended(BaseException):
    """Not an Exception, so that no test takes it for one that the code raised."""


class _Candidate:
    """The function (or program) under test, as the tests see it: a call is a question to the subject."""

    def __init__(self, line: Line, entry: str | None, end_of: Callable[[], str]) -> None:
        self._line, self._entry, self._end_of = line, entry, end_of
        self.calls = 0
        self.last = ""

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.calls += 1
        if self._entry is None:
            asked, question = f"on input {args[0]!r}", {"stdin": str(args[0])}
        else:
            shown = [*map(repr, args), *(f"{name}={value!r}" for name, value in named.items())]
            asked = f"{self._entry}({', '.join(shown)})"
            question = {"args": encode(args), "named": encode(named)}
        self.last = _short(asked)
        answer = self.ask(question)
        if "error" in answer:
            name, text = str(answer["error"]), str(answer.get("text", ""))
            self.last += " " + _short(f"raised {name}: {text}" if text else f"raised {name}")
            raise _as_exception(name, text)
        try:
            value = decode(answer["value"])
        except (ValueError, KeyError, RecursionError) as error:
            raise _Ended(f"{self.last} gave what cannot be read") from error
        self.last += " " + _short(f"gave {value!r}")
        return value

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            self._line.send(question)
            answer = self._line.receive()
        except Gone as error:
            raise _Ended(f"{self.last or 'the program'}: {self._end_of() or error}") from error
        if not isinstance(answer, dict):
            raise _Ended(f"{self.last or 'the program'}: the answer cannot be read")
        return answer


def _as_exception(name: str, text: str) -> Exception:
    """A builtin exception by its type, for tests that expect one; never SystemExit and its like."""
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(text)
        except TypeError:  # some need more than a text
            pass
    return RuntimeError(f"{name}: {text}")


def judge(line: Line, trial: Mapping[str, Any], end_of: Callable[[], str]) -> dict[str, Any]:
    """Put the tests to the subject: {"passed": bool, "reason": str}.

    `trial` has the untrusted "code", the "entry" that the tests call (None: a program), "given" (source that the tests
    may use: a reference solution, helpers) and "tests", source that calls `candidate` and raises where an answer is
    wrong. `end_of` says how the subject ended. Tests that never ask anything are failed.
    """
    candidate = _Candidate(line, trial["entry"], end_of)
    random.seed(0)
    names: dict[str, Any] = {"__name__": "tests", "agree": agree, "same_output": same_output, "copy": copy.deepcopy}
    try:
        ready = candidate.ask({"code": trial["code"], "entry": trial["entry"]})
        if "error" in ready:
            return {"passed": False, "reason": _short(f"{ready['error']}: {ready.get('text', '')}")}
        exec(compile(trial["given"], "<given>", "exec"), names)
        names["candidate"] = candidate
        if trial["entry"]:
            names.setdefault(trial["entry"].partition(".")[0], candidate)
        source = trial["tests"]
        linecache.cache["<tests>"] = (len(source), None, source.splitlines(True), "<tests>")
        exec(compile(source, "<tests>", "exec"), names)
    except _Ended as end:
        return {"passed": False, "reason": str(end)}
    except BaseException as error:
        return {"passed": False, "reason": _why(error, candidate)}
    if not candidate.calls:
        return {"passed": False, "reason": "the tests never call the code"}
    return {"passed": True, "reason": ""}


def _why(error: BaseException, candidate: _Candidate) -> str:
    """What was asked last and came back, and the test it failed."""
    place, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<tests>":
            place = trace.tb_lineno
        trace = trace.tb_next
    test = _short(linecache.getline("<tests>", place)) if place else ""
    text = _short(str(error))
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return "; ".join(part for part in (candidate.last or "before any call", test, said) if part)


def agree(found: Any, expected: Any, tolerance: float = 1e-6) -> None:
    """Raise AssertionError unless `found` is `expected`: same type of containers, floats up to `tolerance` (relative
    1e-7 or absolute), everything else by ==. `expected` is made plain first, as `found` was."""
    if not _alike(found, decode(encode(expected)), tolerance):
        raise AssertionError(f"expected {_short(repr(expected))}")


def _alike(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(expected, float) and isinstance(found, (int, float)):
        if math.isnan(expected) or math.isnan(found):
            return math.isnan(expected) and math.isnan(found)
        return found == expected or math.isclose(found, expected, rel_tol=1e-7, abs_tol=tolerance)
    if isinstance(expected, (list, tuple)):
        return (
            type(found) is type(expected)
            and len(found) == len(expected)
            and all(_alike(x, y, tolerance) for x, y in zip(found, expected, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(_alike(found[key], value, tolerance) for key, value in expected.items())
        )
    return bool(found == expected)


def same_output(found: str, expected: str) -> None:
    """Raise AssertionError unless two outputs have the same lines, up to white space around each line, and up to the
    form of numbers (1.0 is 1)."""
    lines = [[line.split() for line in text.strip().splitlines()] for text in (found, expected)]
    if lines[0] == lines[1]:
        return
    if [len(words) for words in lines[0]] == [len(words) for words in lines[1]]:
        pairs = [pair for few in zip(*lines, strict=True) for pair in zip(*few, strict=True)]
        if all(a == b or _same_number(a, b) for a, b in pairs):
            return
    raise AssertionError(f"expected {_short(repr(expected))}")


def _same_number(a: str, b: str) -> bool:
    try:
        return max(len(a), len(b)) < 100 and Decimal(a) == Decimal(b)
    except InvalidOperation:
        return False
