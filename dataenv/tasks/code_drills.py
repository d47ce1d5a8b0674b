"""Code drills: one-line Python functions from a phrase, with generated hidden tests, for students trained in seconds.

A problem is one line that says what `f` gives, `f(x) = x plus 3, times 4`, and a reply is a definition of f: any that
does so is right, `def f(x): return (x+3)*4` is what a student learns. Prompt and reply stay below 50 ASCII characters
each. The phrase names its skill, so `recognise` can write the reference solution for any prompt.

The hidden tests state what the reference solution gives on inputs made for the phrase: around its numbers, with and
without its letters.

Difficulty runs from 0 (one step, numbers up to 20) to 1 (two or three steps, numbers up to 100). The natural mix draws
it as the square of a uniform number, so most problems are on the easy side. Source: original to this project.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from random import Random
from typing import Any, NamedTuple

import numpy as np
from pydantic import JsonValue

from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.tasks.code_rows import CodeRows
from dataenv.tasks.minted import MintedTask
from dataenv.tasks.splits import draw_texts
from dataenv.verifiers.sandbox import Limits

LETTERS = "abcdefgh"


class Form(NamedTuple):
    """A kind of phrase, the expression it means, and how many steps it takes.

    N stands for a number and L for a letter, in the order in which they come, which is the same in both.
    """

    phrase: str
    expression: str
    steps: int


def _arithmetic() -> Iterator[Form]:
    signs = {"plus": "+", "minus": "-", "times": "*"}
    for steps in (1, 2, 3):
        for words in product(signs, repeat=steps):
            expression = "x"
            for i, word in enumerate(words):
                inner = f"({expression})" if word == "times" and i and words[i - 1] != "times" else expression
                expression = f"{inner}{signs[word]}N"
            yield Form(f"x {', '.join(f'{word} N' for word in words)}", expression, steps)


def _each() -> Iterator[Form]:
    for word, sign in (("plus", "+"), ("minus", "-"), ("times", "*")):
        yield Form(f"each of v {word} N", f"[x{sign}N for x in v]", 1)
        for more, test in (("above", ">"), ("below", "<")):
            yield Form(f"each of v {word} N, if {more} N", f"[x{sign}N for x in v if x{test}N]", 2)


def _sums() -> Iterator[Form]:
    for word, sign in (("plus", "+"), ("times", "*")):
        yield Form(f"sum of v, {word} N", f"sum(v){sign}N", 1)
        yield Form(f"length of v, {word} N", f"len(v){sign}N", 1)
        yield Form(f"sum of v above N, {word} N", f"sum(x for x in v if x>N){sign}N", 2)
        yield Form(f"length of v below N, {word} N", f"len([x for x in v if x<N]){sign}N", 2)


def _slices() -> Iterator[Form]:
    parts = {
        "first N": "s[:N]",
        "last N": "s[-N:]",
        "without first N": "s[N:]",
        "without last N": "s[:-N]",
        "every N": "s[::N]",
    }
    for words, part in parts.items():
        yield Form(f"s {words}", part, 1)
        for more, then in (("reversed", "[::-1]"), ("upper", ".upper()"), ("times N", "*N")):
            yield Form(f"s {words}, {more}", part + then, 2)


SKILLS: dict[str, tuple[str, tuple[Form, ...]]] = {
    "arithmetic": ("x", tuple(_arithmetic())),
    "choice": (
        "x",
        (
            Form("N if x above N, else N", "N if x>N else N", 1),
            Form("N if x below N, else N", "N if x<N else N", 1),
            Form("N if x is N, else N", "N if x==N else N", 1),
            Form("N if x above N and below N, else N", "N if x>N and x<N else N", 2),
            Form("N if x is N or N, else N", "N if x in (N,N) else N", 2),
        ),
    ),
    "slicing": ("s", tuple(_slices())),
    "replacing": (
        "s",
        (
            Form("s with L for L", "s.replace('L','L')", 1),
            Form("s then L, N times", "s+'L'*N", 1),
            Form("count of L in s, plus N", "s.count('L')+N", 1),
            Form("s with L for L, then L", "s.replace('L','L')+'L'", 2),
            Form("s with L for L, reversed", "s.replace('L','L')[::-1]", 2),
            Form("count of L in s, times N, plus N", "s.count('L')*N+N", 2),
        ),
    ),
    "each": ("v", tuple(_each())),
    "sums": ("v", tuple(_sums())),
}
"""Each skill's argument, and its forms."""

_PATTERNS = {
    skill: [
        (form, re.compile(re.escape(form.phrase).replace("N", r"(\d{1,3})").replace("L", f"([{LETTERS}])"), re.ASCII))
        for form in forms
    ]
    for skill, (_, forms) in SKILLS.items()
}


class CodeDrills(CodeRows, MintedTask):
    """The code-drills task; `CodeDrills("arithmetic,slicing")` keeps only those skills.

    Raises IsolationMissing at the first use, which says what the sandbox needs.
    """

    family = "code-drills"
    max_new_tokens = 64
    limits = Limits(seconds=2)

    def __init__(self, skills: str | Sequence[str] | None = None, *, unsafe_code: bool = False) -> None:
        super().__init__(skills, dict.fromkeys(SKILLS, ()))
        self.unsafe_code = unsafe_code

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        self.isolate()
        return super().problems(split, per_skill, seed)

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Right when the code of the reply passes the hidden tests, in the sandbox. The reference solution itself, of a
        prompt that is recognised, is known to, and is not run again: rows are verified by the thousand."""
        if response.strip() == problem.answer:
            known = self.recognise(problem.prompt)
            if known is not None and known.answer == problem.answer:
                return Verdict(1.0, True, extracted=problem.answer)
        return super().verify(problem, response)

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The problem that `prompt` states, with its solution and tests; None when it is none of this task's."""
        if prompt.images or prompt.tools or len(prompt.text) > 100:
            return None
        text = prompt.text.strip()
        for skill in self.skills:
            found = _problem(skill, text, prompt, None)
            if found is not None:
                return found
        return None

    def _draw(
        self,
        skill: str,
        split: Split,
        n: int,
        difficulty: float | None,
        rng: np.random.Generator,
        subskill: str | None = None,
    ) -> list[Problem]:
        random = Random(int(rng.integers(2**63)))

        def write_one() -> tuple[str, float]:
            d = random.random() ** 2 if difficulty is None else difficulty
            return _text(skill, d, random.random), d

        drawn = draw_texts(write_one, split, n, patience=1000)
        problems = (_problem(skill, text, Prompt(text=text), d) for text, d in drawn)
        return [problem for problem in problems if problem is not None]  # always so: a test reads all that is written


def _text(skill: str, difficulty: float, uniform: Callable[[], float]) -> str:
    """A prompt of the skill: steps and numbers grow with the difficulty, the fractional parts left to chance."""
    argument, forms = SKILLS[skill]
    most = max(form.steps for form in forms)
    steps = min(most, 1 + int((most - 1) * difficulty + uniform()))
    few = [form for form in forms if form.steps == steps]
    form = few[int(uniform() * len(few))]
    top = 9 if argument == "s" else 20 * 5**difficulty

    def slot(match: re.Match[str]) -> str:
        if match[0] == "L":
            return LETTERS[int(uniform() * len(LETTERS))]
        return str(1 + int(uniform() * top))

    return f"f({argument}) = {re.sub('[NL]', slot, form.phrase)}"


def _problem(skill: str, text: str, prompt: Prompt, difficulty: float | None) -> Problem | None:
    argument, _ = SKILLS[skill]
    head = f"f({argument}) = "
    if not text.startswith(head):
        return None
    for form, pattern in _PATTERNS[skill]:
        match = pattern.fullmatch(text, len(head))
        if match is not None:
            source = f"def f({argument}): return {_filled(form.expression, match.groups())}"
            data: dict[str, JsonValue] = {"entry": "f", "tests": _tests(argument, source, match.groups())}
            return Problem(prompt=prompt, answer=source, skill=skill, difficulty=difficulty, data=data)
    return None


def _filled(expression: str, slots: Sequence[str]) -> str:
    left = iter(slots)
    return re.sub("[NL]", lambda _: next(left), expression)


def _tests(argument: str, source: str, slots: Sequence[str]) -> str:
    """Assertions on inputs where a wrong step shows. `source` is of a form above, so it is run here."""
    names: dict[str, Any] = {}
    exec(source, names)
    cases = [repr(case) for case in _cases(argument, slots)]
    return "\n".join(f"assert f({case}) == {names['f'](ast.literal_eval(case))!r}" for case in cases)


def _cases(argument: str, slots: Sequence[str]) -> list[object]:
    """Inputs around every number of a phrase, with and without every letter, short and long."""
    near = sorted({int(slot) + step for slot in slots if slot.isdigit() for step in (-1, 0, 1)})
    if argument == "x":
        return [-7, 0, 1, 2, 3, 10, 57, *near]
    if argument == "v":
        return [[], [0], [5, -3, 8, 8], near, [*near[::-1], 120, 1, 2, 3], list(range(-5, 121, 7))]
    letters = [slot for slot in slots if not slot.isdigit()]
    return ["", "h", "abcdefgh", "hgfedcbahgfedcba", "x yz", *(f"x{a}{a}y{a}z" for a in letters), "".join(letters) * 3]
