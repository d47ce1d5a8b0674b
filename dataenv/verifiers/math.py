"""Comparing mathematical answers written in LaTeX or plainly: exactly where that is possible, else with math-verify.

An answer is a number, an expression, a text, or several of these: a list or set (in any order), a tuple, interval or
matrix (in order, and its brackets count), a union. Elements are compared one by one, so `1,2` is not `1,3` and `5` is
not `5,10`. Numbers are fractions (`0.5`, `1/2`, `\\frac12` and `50\\%` are one), words are compared as words (letters
of `east` are no symbols that commute to `seat`). What remains goes to math-verify (sympy), which can take any time and
memory: in a process that is killed at `SECONDS`. What cannot be read equals nothing but its own spelling.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from typing import NamedTuple

from dataenv.errors import MissingDependency
from dataenv.records import Verdict, normalise
from dataenv.verifiers.latex import LONGEST, final_answer, tidy
from dataenv.verifiers.rational import read_number, same_value
from dataenv.verifiers.workers import CallFailed, LimitExceeded, Pool

SECONDS = 5.0
"""What the worst expression may cost."""

_MOST = 64
"""Elements of the longest list that is compared in any order."""

# ------------------------------------------------------------------------------------------------- what is compared

_UNIT = re.compile(
    r"(?:(?<=[\w})])\s*\\text\{\s*(?P<boxed>[a-zA-Z][a-zA-Z. /]*?)\s*\}"
    r"|(?<=[\d})])\s(?P<plain>[a-zA-Z]{2,}(?:[ /][a-zA-Z]+)*|[mgshlL]))(?P<power>\^\{?[23]\}?)?$"
)
_LONG_UNITS = {
    "centimeter": "cm", "millimeter": "mm", "kilometer": "km", "meter": "m", "inche": "in", "inch": "in", "feet": "ft",
    "foot": "ft", "yard": "yd", "gram": "g", "kilogram": "kg", "second": "s", "sec": "s", "minute": "min", "hour": "h",
    "hr": "h", "liter": "l", "pound": "lb", "mile per hour": "mph", "miles per hour": "mph", "sq": "square",
    "degree": "", "unit": "", "dollar": "", "square unit": "", "cubic unit": "",
}  # fmt: skip
_NAME = re.compile(r"\\?[a-zA-Z]+(?:_\{?\w+\}?)?(?:\([a-z]\))?")
_MEMBER = re.compile(r"^[a-zA-Z]\\in(?![a-zA-Z])\s*(?=.)")
_BASED = re.compile(r"(?P<digits>[0-9A-F]+)_\{?(?P<base>\d+)\}?")
_FUNCTIONS = re.compile(
    r"\\[a-zA-Z]+|(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|log|ln|exp|max|min|gcd|lcm|mod|sqrt|pi(?![a-zA-Z])"
)
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_OPEN, _CLOSE = {"(", "[", "{", r"\{", r"\begin"}, {")", "]", "}", r"\}", r"\end"}
_PIECE = re.compile(
    r"\\(?:begin|end|cup)(?![a-zA-Z])|\\[{}\\]|[()\[\]{},&=]|(?P<word>\\text\{\s*(?:or|and)\s*\}|\s(?:or|and)\s)"
)
_MATRIX = re.compile(r"\\begin\{[pbvBV]?(?:small)?matrix\}(.*)\\end\{[pbvBV]?(?:small)?matrix\}", re.DOTALL)

Undecided = Callable[[str, str], bool | None]


class _Parts(NamedTuple):
    """What an answer consists of; `kind` "list" is in any order, others (their brackets) are not, but for unions."""

    kind: str
    elements: Sequence[str]


def compare(a: str, b: str, undecided: Undecided, depth: int = 0) -> bool | None:
    """Whether two tidy answers agree; `undecided` is asked about expressions with symbols (None: not known here)."""
    if a == b:
        return bool(a)
    if not a or not b or depth > 20:
        return False
    a, b = _MEMBER.sub("", a), _MEMBER.sub("", b)
    x, y = read_number(a), read_number(b)
    if x is not None and y is not None:
        return same_value(x, y)

    def same(one: str, other: str) -> bool | None:
        return compare(one, other, undecided, depth + 1)

    p, q = _parts(a), _parts(b)
    if p is None and q is None:
        return _same_single(a, b, same, undecided)
    # One thing in braces is that thing, and a list is no single thing.
    p, q = p or _Parts("list", [a]), q or _Parts("list", [b])
    if p.kind != q.kind:
        several = any(parts.kind == "list" and len(parts.elements) > 1 for parts in (p, q))
        return False if several else _same_single(a, b, same, undecided)
    if len(p.elements) != len(q.elements):
        return _same_single(a, b, same, undecided) if p.kind == "union" else False
    if p.kind in ("list", "union"):
        return _any_order(p.elements, q.elements, same)
    return _all(same(one, other) for one, other in zip(p.elements, q.elements, strict=True))


def _all(verdicts: Iterable[bool | None]) -> bool | None:
    """False where any is, else unknown where any is."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def _any_order(some: Sequence[str], others: Sequence[str], same: Callable[[str, str], bool | None]) -> bool | None:
    """Whether they can be paired so that every pair agrees; unknown where that hangs on pairs that are unknown."""
    if len(some) > _MOST:
        return sorted(some) == sorted(others)
    verdicts = [[same(one, other) for other in others] for one in some]
    if _pairs([[verdict is True for verdict in row] for row in verdicts]):
        return True
    return None if _pairs([[verdict is not False for verdict in row] for row in verdicts]) else False


def _pairs(possible: Sequence[Sequence[bool]]) -> bool:
    """Whether every row can have a column of its own that is possible for it (Kuhn's augmenting paths, 1955)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column, fits in enumerate(possible[row]):
            if fits and column not in tried:
                tried.add(column)
                if column not in owner or place(owner[column], tried):
                    owner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(possible)))


def _parts(text: str) -> _Parts | None:
    """The elements of a list, set, tuple, interval, matrix or union; None for anything that is one thing."""
    if r"\pm" in text and not re.search(r"\\pm.*\\pm|\\mp", text):
        return _Parts("list", [text.replace(r"\pm", sign, 1).removeprefix("+") for sign in "+-"])
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        rows = [_split(row, "&") for row in _split(matrix[1].removesuffix(r"\\"), r"\\")]
        return _Parts(f"matrix of {[len(row) for row in rows]}", [entry for row in rows for entry in row])
    if len(pieces := _split(text, r"\cup")) > 1:
        return _Parts("union", pieces)
    if len(pieces := _split(text, ",", words=True)) > 1:
        return _Parts("list", pieces)
    if text.startswith(r"\{") and text.endswith(r"\}") and _closes(text, 2):
        held = text[2:-2].strip()
        return _Parts("list", _split(held, ",", words=True)) if held else None
    if text[0] in "([" and text[-1] in ")]" and _closes(text, 1):
        inner = _split(text[1:-1], ",")
        if len(inner) > 1:
            return _Parts(text[0] + text[-1], inner)
        if text[0] == "(" and text[-1] == ")":
            return _Parts("list", inner)
    return None


def _pieces(text: str) -> list[tuple[re.Match[str], int]]:
    """Brackets and separators with their depth; that of a bracket is the depth outside it."""
    found, depth = [], 0
    for piece in _PIECE.finditer(text):
        if piece[0] in _CLOSE:
            depth -= 1
        found.append((piece, depth))
        if piece[0] in _OPEN:
            depth += 1
    return found


def _split(text: str, separator: str, *, words: bool = False) -> list[str]:
    """`text` at each separator outside all brackets; with `words`, at "or" and "and" too. Empty pieces stay."""
    found, start = [], 0
    for piece, depth in _pieces(text):
        if depth == 0 and (piece[0] == separator or (words and piece["word"])):
            found.append(text[start : piece.start()].strip())
            start = piece.end()
    return [*found, text[start:].strip()]


def _closes(text: str, width: int) -> bool:
    """Whether the bracket that begins the text is closed by the one that ends it."""
    ends = [piece for piece, depth in _pieces(text) if depth == 0 and piece[0] in _CLOSE]
    return bool(ends) and ends[0].start() == len(text) - width


def _same_single(a: str, b: str, same: Undecided, undecided: Undecided) -> bool | None:
    sides, others = _split(a, "="), _split(b, "=")
    if len(sides) > 1 or len(others) > 1:
        return _same_equation(sides, others, same, undecided)
    x, y = _BASED.fullmatch(a), _BASED.fullmatch(b)
    if x or y:  # 1011_2: the base may be left out, as it may in a unit, but not differ
        bases = {match["base"] for match in (x, y) if match}
        return len(bases) == 1 and (x["digits"] if x else a) == (y["digits"] if y else b)
    (a, unit), (b, other) = _without_unit(a), _without_unit(b)
    if unit and other and unit != other:
        return False
    v, w = read_number(a), read_number(b)
    if v is not None and w is not None:
        return same_value(v, w)
    if _is_text(a) or _is_text(b):
        return _words(a) == _words(b) != ""
    return a == b or undecided(a, b)


def _same_equation(a: list[str], b: list[str], same: Undecided, undecided: Undecided) -> bool | None:
    """Two answers by their sides. An equation is what it says of a name ("x=5" is 5); one without a name, or of several
    sides, is what each of them is ("2+3=5" is 5, "4=5" is not)."""
    if len(a) > 1 and len(b) > 1:
        if a[0] == b[0]:
            return len(a) == len(b) and _all(map(same, a[1:], b[1:]))
        return False if any(map(_is_text, a + b)) else undecided("=".join(a), "=".join(b))
    (first, *sides), value = (a, b[0]) if len(a) > 1 else (b, a[0])
    named = _NAME.fullmatch(first) or _is_text(first)
    return _all(same(side, value) for side in (sides if named else [first, *sides]))


def _without_unit(text: str) -> tuple[str, str]:
    """`text` without the unit behind it, and that unit in its short form."""
    match = _UNIT.search(text)
    if match is None:
        return text, ""
    unit = " ".join((match["boxed"] or match["plain"]).lower().replace(".", "").split())
    for form in (unit, unit.removesuffix("s")):
        unit = _LONG_UNITS.get(form, form)
    return text[: match.start()].rstrip(), unit + re.sub(r"[{}]", "", match["power"] or "")


def _is_text(text: str) -> bool:
    return r"\text" in text or re.search("[a-zA-Z]{3}", _FUNCTIONS.sub(" ", text)) is not None


def _words(text: str) -> str:
    """A text as it is compared: "\\text{(C)}" is "c", "The east." is "east"."""
    text = normalise(_TEXT.sub(r"\1", text)).strip(" .,;:!?\"'")
    text = re.sub(r"^(?:the|an?) (?=\w)", "", text)
    return text[1:-1] if re.fullmatch(r"\([a-z]\)", text) else text


# ------------------------------------------------------------------------------------------------------- the judgement


def same_maths(a: str, b: str) -> bool:
    """Whether two answers agree (see the top of this module).

    Bounded: about a millisecond, or where symbols must be compared, about ten and at most `SECONDS`, after which
    LimitExceeded is raised. CallFailed where math-verify itself fails. Works from any thread.
    """
    if max(len(a), len(b)) > LONGEST:
        return a.strip() == b.strip() != ""
    a, b = tidy(a), tidy(b)
    decided = compare(a, b, lambda *_: None)
    return _ask(a, b) if decided is None else decided


def judge(response: str, answer: str) -> Verdict:
    """The verdict on a response to a problem with this answer: see `final_answer` and `same_maths`. Never raises."""
    if response.strip() == answer.strip() != "":
        return Verdict(1.0, True, extracted=answer)
    said = final_answer(response)
    if said is None:
        return Verdict(0.0, False, "no answer: no box, and no line that is one")
    try:
        right = same_maths(said, answer)
    except (LimitExceeded, CallFailed) as error:
        return Verdict(0.0, False, f"could not be compared: {error}"[:200], said[:LONGEST])
    return Verdict(float(right), right, "" if right else f"expected {answer[:100]}", said[:LONGEST])


def require() -> None:
    """MissingDependency where math-verify is not installed, so that a task says so before it judges anything."""
    if find_spec("math_verify") is None:
        raise MissingDependency('comparing maths needs math-verify: pip install "dataenv[tasks]".')


def symbolic(a: str, b: str) -> bool:
    """`compare` with math-verify for what has symbols. It may take for ever: only for a process that can be killed."""
    return compare(a, b, _by_math_verify) is True


def _by_math_verify(a: str, b: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    read = [
        [
            value
            for value in parse(f"${text}$", [LatexExtractionConfig()], parsing_timeout=None)
            if type(value) is not str
        ]
        for text in (a, b)
    ]
    # What it cannot read comes back empty or as text, and equals nothing.
    return all(read) and verify(read[0], read[1], timeout_seconds=None) is True


@lru_cache(20_000)
def _ask(a: str, b: str) -> bool:
    return bool(_pool().call(a, b))


_making = threading.Lock()


def _pool() -> Pool:
    with _making:
        return _made()


@cache
def _made() -> Pool:
    return Pool("dataenv.verifiers.math:symbolic", seconds=SECONDS, warm=["x+1", "1+x"])
