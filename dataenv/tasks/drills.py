"""Drills: short character-level skills with exact answers, for students small enough to train in seconds.

A problem is one line, its prompt ends in "=" and says what to do: `12+7=`, `rev abcd=`, `max 3 9 4=`. Prompt and
answer together stay within 40 ASCII characters. The form of a prompt names its skill, so `recognise` can recompute
the truth of any prompt, whoever wrote it.

Difficulty runs from 0 (one or two digits, three letters) to 1 (three digits, six to eight letters: hard for 0.16M
parameters). Lengths grow linearly with it, number ranges geometrically. The natural mix draws it as the square of a
uniform number, so most problems are on the easy side.
Source: original to this project.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.tasks.minted import MintedTask
from dataenv.tasks.splits import draw_texts

LETTERS = "abcdefghij"
LONGEST_ANSWER = 8
"""Characters of the longest answer any skill can have."""

Uniform = Callable[[], float]
"""Draws from [0, 1). A plain `random.Random.random`: twenty times faster than a numpy scalar draw."""


def _number(uniform: Uniform, difficulty: float, easy: int, hard: int, least: int = 0) -> int:
    """A number from [least, top], where the top grows from `easy` to `hard` geometrically."""
    top = easy * (hard / easy) ** difficulty
    return least + int(uniform() * (top - least + 1))


def _length(uniform: Uniform, difficulty: float, easy: int, hard: int) -> int:
    """A length between `easy` and `hard`: the fractional part of the interpolated length is left to chance."""
    return int(easy + (hard - easy) * difficulty + uniform())


def _word(uniform: Uniform, length: int, letters: str = LETTERS) -> str:
    size = len(letters)
    return "".join([letters[int(uniform() * size)] for _ in range(length)])


def _addition(uniform: Uniform, difficulty: float) -> str:
    a, b = _number(uniform, difficulty, 60, 999), _number(uniform, difficulty, 9, 999)
    return f"{a}+{b}="


def _subtraction(uniform: Uniform, difficulty: float) -> str:
    b = _number(uniform, difficulty, 9, 999)
    return f"{b + _number(uniform, difficulty, 60, 999)}-{b}="


def _multiplication(uniform: Uniform, difficulty: float) -> str:
    return f"{_number(uniform, difficulty, 60, 99)}*{_number(uniform, difficulty, 9, 20)}="


def _modulo(uniform: Uniform, difficulty: float) -> str:
    return f"{_number(uniform, difficulty, 99, 500)}%{_number(uniform, difficulty, 9, 12, least=2)}="


def _comparison(uniform: Uniform, difficulty: float) -> str:
    a = _number(uniform, difficulty, 60, 9999)
    # Close numbers need every digit compared, and equal ones are hardly ever drawn by chance.
    kind = uniform()
    if kind < 0.3:
        return f"cmp {a} {a if kind < 0.1 else a + 1 + int(uniform() * 9)}="
    return f"cmp {a} {_number(uniform, difficulty, 60, 9999)}="


def _maximum(uniform: Uniform, difficulty: float) -> str:
    terms = [str(_number(uniform, difficulty, 60, 999)) for _ in range(_length(uniform, difficulty, 2, 4))]
    return f"max {' '.join(terms)}="


def _copying(uniform: Uniform, difficulty: float) -> str:
    return f"copy {_word(uniform, _length(uniform, difficulty, 3, 8))}="


def _reversal(uniform: Uniform, difficulty: float) -> str:
    return f"rev {_word(uniform, _length(uniform, difficulty, 3, 8))}="


def _sorting(uniform: Uniform, difficulty: float) -> str:
    return f"sort {_word(uniform, _length(uniform, difficulty, 3, 6))}="


def _descending(uniform: Uniform, difficulty: float) -> str:
    return f"desc {_word(uniform, _length(uniform, difficulty, 3, 6))}="


def _shifting(uniform: Uniform, difficulty: float) -> str:
    return f"shift {_word(uniform, _length(uniform, difficulty, 3, 7))}="


def _counting(uniform: Uniform, difficulty: float) -> str:
    letters = _word(uniform, 3)
    return f"count {letters[0]} {_word(uniform, _length(uniform, difficulty, 4, 10), letters)}="


def _sequence(uniform: Uniform, difficulty: float) -> str:
    start, step = _number(uniform, difficulty, 60, 300), _number(uniform, difficulty, 9, 30, least=1)
    return f"next {start} {start + step} {start + 2 * step}="


def _chain(uniform: Uniform, difficulty: float) -> str:
    a, b = _number(uniform, difficulty, 30, 99), _number(uniform, difficulty, 9, 99)
    return f"{a}+{b}-{int(uniform() * (min(a + b, 9 * 11**difficulty) + 1))}="


def _next_term(terms: list[int]) -> str | None:
    step = terms[1] - terms[0]
    return str(terms[2] + step) if terms[2] - terms[1] == step else None


def _ints(text: str) -> list[int]:
    return [int(word) for word in text.split()]


_SHIFT = str.maketrans(LETTERS, LETTERS[1:] + LETTERS[0])
_N = r"(\d{1,6})"
_W = r"([a-j]{1,24})"
_NS = r"(\d{1,6}(?: \d{1,6}){1,8})"


Region = Callable[..., bool]
"""Whether a prompt, given as the groups of its skill's form, is in a subskill."""


def _by_size(unit: str, *tops: int) -> dict[str, Region]:
    """A region up to each of `tops` digits or letters, counted over all groups, from above the one before."""
    regions: dict[str, Region] = {}
    for low, top in zip((0, *(top + 1 for top in tops)), tops, strict=False):
        name = f"{top} {unit}" if low == top else f"{low} to {top} {unit}" if low else f"up to {top} {unit}"
        regions[name] = lambda *groups, low=low, top=top: low <= sum(map(str.isalnum, "".join(groups))) <= top
    return regions


def _and(first: dict[str, Region], second: dict[str, Region]) -> dict[str, Region]:
    """The regions where one of `first` and one of `second` overlap."""
    return {
        f"{a}, {b}": lambda *groups, f=f, g=g: f(*groups) and g(*groups)
        for a, f in first.items()
        for b, g in second.items()
    }


def _carries(a: str, b: str) -> bool:
    """Whether some column of a sum reaches ten."""
    return any(int(x) + int(y) > 9 for x, y in zip(reversed(a), reversed(b), strict=False))


def _borrows(a: str, b: str) -> bool:
    """Whether some column of a difference falls below zero."""
    return any(int(x) < int(y) for x, y in zip(reversed(a), reversed(b), strict=False))


def _repeats(word: str) -> bool:
    return len(set(word)) < len(word)


class Skill:
    """One drill: how to write a prompt, the form of its prompts, how to solve one, what it builds on, and regions of
    its prompts that are its subskills."""

    def __init__(
        self,
        write: Callable[[Uniform, float], str],
        form: str,
        solve: Callable[..., str | None],
        *builds_on: str,
        subskills: dict[str, Region],
    ) -> None:
        self.write = write
        self.form = re.compile(form + "=", re.ASCII)
        self._solve = solve
        self.builds_on = builds_on
        self.subskills = subskills

    def within(self, subskill: str, prompt: str) -> bool:
        """Whether a prompt is of this skill and subskill."""
        match = self.form.fullmatch(prompt)
        return match is not None and self.subskills[subskill](*match.groups())

    def solve(self, prompt: str) -> str | None:
        """The answer, or None when the prompt is not of this skill."""
        match = self.form.fullmatch(prompt)
        return None if match is None else self._solve(*match.groups())


_CARRY: dict[str, Region] = {"no carry": lambda a, b: not _carries(a, b), "carry": _carries}
_BORROW: dict[str, Region] = {"no borrow": lambda a, b: not _borrows(a, b), "borrow": _borrows}
_REPEATS: dict[str, Region] = {"all different": lambda word: not _repeats(word), "some twice": _repeats}

SKILLS: dict[str, Skill] = {
    "addition": Skill(
        _addition,
        rf"{_N}\+{_N}",
        lambda a, b: str(int(a) + int(b)),
        subskills=_and(_by_size("digits", 3, 4, 6), _CARRY),
    ),
    "subtraction": Skill(
        _subtraction,
        f"{_N}-{_N}",
        lambda a, b: str(int(a) - int(b)),
        subskills=_and(_by_size("digits", 3, 4, 7), _BORROW),
    ),
    "multiplication": Skill(
        _multiplication,
        rf"{_N}\*{_N}",
        lambda a, b: str(int(a) * int(b)),
        "addition",
        subskills={"by one digit": lambda a, b: len(b) == 1, "by two digits": lambda a, b: len(b) == 2},
    ),
    "modulo": Skill(
        _modulo,
        f"{_N}%{_N}",
        lambda a, b: str(int(a) % int(b)) if int(b) else None,
        "subtraction",
        "multiplication",
        subskills={
            "by 2 to 5": lambda a, b: 2 <= int(b) <= 5,
            "by 6 to 9": lambda a, b: 6 <= int(b) <= 9,
            "by 10 to 12": lambda a, b: 10 <= int(b) <= 12,
        },
    ),
    "comparison": Skill(
        _comparison,
        f"cmp {_N} {_N}",
        lambda a, b: ">" if int(a) > int(b) else "<" if int(a) < int(b) else "=",
        subskills={
            "equal": lambda a, b: int(a) == int(b),
            "close": lambda a, b: 0 < abs(int(a) - int(b)) < 10,
            "apart, same length": lambda a, b: len(a) == len(b) and abs(int(a) - int(b)) >= 10,
            "apart, other length": lambda a, b: len(a) != len(b) and abs(int(a) - int(b)) >= 10,
        },
    ),
    "maximum": Skill(
        _maximum,
        f"max {_NS}",
        lambda terms: str(max(_ints(terms))),
        "comparison",
        subskills={f"{n} numbers": lambda terms, n=n: len(terms.split()) == n for n in (2, 3, 4)},
    ),
    "copying": Skill(_copying, f"copy {_W}", lambda word: word, subskills=_by_size("letters", 3, 4, 5, 6, 8)),
    "reversal": Skill(
        _reversal, f"rev {_W}", lambda word: word[::-1], "copying", subskills=_by_size("letters", 3, 4, 5, 6, 8)
    ),
    "sorting": Skill(
        _sorting,
        f"sort {_W}",
        lambda word: "".join(sorted(word)),
        "copying",
        subskills=_and(_by_size("letters", 4, 6), _REPEATS),
    ),
    "descending": Skill(
        _descending,
        f"desc {_W}",
        lambda word: "".join(sorted(word, reverse=True)),
        "sorting",
        "reversal",
        subskills=_and(_by_size("letters", 4, 6), _REPEATS),
    ),
    "shifting": Skill(
        _shifting,
        f"shift {_W}",
        lambda word: word.translate(_SHIFT),
        "copying",
        subskills=_by_size("letters", 3, 4, 5, 7),
    ),
    "counting": Skill(
        _counting,
        f"count ([a-j]) {_W}",
        lambda letter, word: str(word.count(letter)),
        subskills={
            "up to one": lambda letter, word: word.count(letter) <= 1,
            "two or three": lambda letter, word: 2 <= word.count(letter) <= 3,
            "four and more": lambda letter, word: word.count(letter) >= 4,
        },
    ),
    "sequence": Skill(
        _sequence,
        f"next {_N} {_N} {_N}",
        lambda *terms: _next_term([int(t) for t in terms]),
        "addition",
        "subtraction",
        subskills=_and(
            {"from below 100": lambda a, b, c: int(a) < 100, "from 100 on": lambda a, b, c: int(a) >= 100},
            {"steps below 10": lambda a, b, c: int(b) - int(a) < 10, "from 10 on": lambda a, b, c: int(b) - int(a) > 9},
        ),
    ),
    "chain": Skill(
        _chain,
        rf"{_N}\+{_N}-{_N}",
        lambda a, b, c: str(int(a) + int(b) - int(c)),
        "addition",
        "subtraction",
        subskills=_by_size("digits", 3, 4, 5, 7),
    ),
}
"""Every drill. `descending` chains sorting and reversal, `chain` addition and subtraction."""


class Drills(MintedTask):
    """The drills task; `Drills("addition,sorting")` keeps only those skills.

    Easy problems are few (some hundreds at difficulty 0 for the arithmetic skills), and a subskill may have none at a
    difficulty: then fewer come back.
    """

    family = "drills"
    max_new_tokens = LONGEST_ANSWER + 1  # a token per character, and the end

    def __init__(self, skills: str | Sequence[str] | None = None) -> None:
        super().__init__(skills, {name: skill.builds_on for name, skill in SKILLS.items()})

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Right when the response equals the answer, white space around it aside."""
        text = response.strip()
        if text == problem.answer:
            return Verdict(1.0, True, extracted=text)
        return Verdict(0.0, False, f"expected {problem.answer}", text[:100])

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The problem that `prompt` states, with the answer computed anew; None when it is none of this task's."""
        if prompt.images or prompt.tools or len(prompt.text) > 100:
            return None
        text = prompt.text.strip()
        for name in self.skills:
            answer = SKILLS[name].solve(text)
            if answer is not None:
                return Problem(prompt=prompt, answer=answer, skill=name)
        return None

    def _subskills(self, skill: str) -> tuple[str, ...]:
        """Regions of the skill's prompts: sizes of its operands, and what makes them hard."""
        return tuple(SKILLS[skill].subskills)

    def _draw(
        self,
        name: str,
        split: Split,
        n: int,
        difficulty: float | None,
        rng: np.random.Generator,
        subskill: str | None = None,
    ) -> list[Problem]:
        skill = SKILLS[name]
        uniform, write, solve = Random(int(rng.integers(2**63))).random, skill.write, skill.solve

        def write_one() -> tuple[str, float] | None:
            d = uniform() ** 2 if difficulty is None else difficulty
            text = write(uniform, d)
            return (text, d) if subskill is None or skill.within(subskill, text) else None

        return [
            Problem(prompt=Prompt(text=text), answer=answer, skill=name, subskill=subskill, difficulty=d)
            for text, d in draw_texts(write_one, split, n, patience=200 if subskill is None else 2000)
            if (answer := solve(text)) is not None  # always so: a test solves every prompt that is written
        ]
