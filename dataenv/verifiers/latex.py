"""Answers in LaTeX as text: the one that a response gives, and one way of writing it. Bounded work, no parsing."""

from __future__ import annotations

import re

LONGEST = 500
"""Characters of the longest answer that is read."""

_MOST = 64
"""Boxes that one answer may consist of."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BETWEEN = re.compile(r"[\s$,;]*(?:and|or|\\text\{\s*(?:and|or)\s*\})?[\s$,;]*")
_PHRASE = re.compile(r"(?:answer\s*(?:is|are|:|=)|####)\s*:?", re.IGNORECASE)


def boxed(text: str) -> str | None:
    """What the last `\\boxed{...}` (or `\\fbox`) holds, its braces balanced; None without one, or where it never ends.

    Boxes with nothing but "and", "or" or a comma between them are one answer, a list of what they hold.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes or (last := _group(text, boxes[-1].end())) is None:
        return None
    found, start = [last[0]], boxes[-1].start()
    for box in reversed(boxes[:-1][-_MOST:]):
        held = _group(text, box.end())
        if held is None or held[1] > start or _BETWEEN.fullmatch(text[held[1] : start][:100]) is None:
            break
        found.append(held[0])
        start = box.start()
    return ",".join(dict.fromkeys(reversed(found)))


def final_answer(response: str) -> str | None:
    """The answer that a response gives: its last box; without one, what follows the last "answer is" (or "Answer:",
    or `####`) on its line; else the response, when it is one line; else None.
    """
    if _BOX.search(response):
        return boxed(response)
    said = [match.end() for match in _PHRASE.finditer(response[-20 * LONGEST :])]
    text = response[-20 * LONGEST :][said[-1] :] if said else response
    line = text.strip().partition("\n")[0] if said else text.strip()
    line = line.partition(". I hope")[0].strip()
    if not line or "\n" in line or len(line) > LONGEST:
        return None
    formulas = re.findall(r"(?<!\\)\$(.+?)(?<!\\)\$", line)
    outside = re.sub(r"(?<!\\)\$.+?(?<!\\)\$", "", line)
    return formulas[0] if len(formulas) == 1 and not re.search(r"\d|\\", outside) else line


def _group(text: str, at: int) -> tuple[str, int] | None:
    """The brace group (or single token) that begins at `at`, and where it ends; None where it never ends."""
    if not text.startswith("{", at):
        token = re.compile(r"[^\s$.,{}]+").match(text, at)
        return (token[0], token.end()) if token else None
    depth = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, at):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[at + 1 : brace.start()], brace.end()
    return None


# ------------------------------------------------------------------------------------------------- one way to write

_CHARACTERS = str.maketrans(
    {"−": "-", "–": "-", "﹣": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ",
     "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∅": r"\emptyset ", "°": "", "½": r"\frac{1}{2}",
     "\u2009": " ", "\xa0": " "}
)  # fmt: skip

_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![a-zA-Z])", ""),
        (r"\\(?:mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|operatorname\*?)(?=\s*\{)", r"\\text"),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:leqslant|leq)(?![a-zA-Z])", r"\\le"),
        (r"\\(?:geqslant|geq)(?![a-zA-Z])", r"\\ge"),
        (r"\\neq(?![a-zA-Z])", r"\\ne"),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\{,\}", ","),
        (r"(?<!\\)\\!|\\?\$", ""),
        (r"(?<=\d)(?:(?<!\\)\\[,;: ]|~)(?=\d{3}(?!\d))", ""),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])|\s+", " "),
        (r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))|\\degree(?![a-zA-Z])", ""),
        (r"\\frac\s*([0-9a-zA-Z])\s*([0-9a-zA-Z])", r"\\frac{\1}{\2}"),
        (r"\\frac\s*([0-9a-zA-Z])\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*([0-9a-zA-Z])", r"\1{\2}"),
        (r"\\sqrt\s*([0-9a-zA-Z])", r"\\sqrt{\1}"),
        (r"\s*([-+*/^=<>,;:|(){}\[\]&])\s*", r"\1"),
    )
)


def tidy(text: str) -> str:
    """An answer in one way of writing it: without dollars, spacing, sizes and degrees, fractions with braces."""
    text = text.translate(_CHARACTERS).strip()
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        text = text.removeprefix(opening).removesuffix(closing) if text.endswith(closing) else text
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip().rstrip(".,;:").strip()
