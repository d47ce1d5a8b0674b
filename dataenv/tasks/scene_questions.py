"""The questions of `scenes`: forms that name a skill, the truth of each, and how scenes are made up for them.

A form is a sentence with places for descriptions ("small red circle", "shape"). Its truth is computed from the figures
alone, so any question of a known form about any figures has an answer, or none where it makes no sense: "the circle"
of two circles, "left of" within three pixels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from dataenv.tasks.scene_picture import COLOURS, LARGE, SHAPES, SIDE, SMALL, Figure

Uniform = Callable[[], float]
"""Draws from [0, 1)."""

PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "cross": "crosses", "shape": "shapes"}
_HUES = tuple(COLOURS)
_SINGULARS = {plural: noun for noun, plural in PLURALS.items()}
SIZES = ("small", "large")
MARGIN = 3
"""Pixels by which places must differ before one is said to be left of, or higher than, another."""

_WORDS = rf"(?:(?:{'|'.join(SIZES)}) )?(?:(?:{'|'.join(COLOURS)}) )?"
_ONE = rf"({_WORDS}(?:{'|'.join(PLURALS)}))"
_MANY = rf"({_WORDS}(?:{'|'.join(PLURALS.values())}))"

Figures = Sequence[Figure]
Traits = tuple[str, str, str]
"""Size, colour and shape of a figure, each "" where a description leaves it open."""


def _traits(figure: Figure) -> Traits:
    return figure.size, figure.colour, figure.shape


def _read(description: str) -> Traits:
    *words, noun = description.split()
    noun = _SINGULARS.get(noun, noun)
    size = next((word for word in words if word in SIZES), "")
    colour = next((word for word in words if word in COLOURS), "")
    return size, colour, "" if noun == "shape" else noun


def _said(traits: Traits, many: bool = False) -> str:
    noun = traits[2] or "shape"
    return " ".join(word for word in (*traits[:2], PLURALS[noun] if many else noun) if word)


def _fits(traits: Traits, wanted: Traits) -> bool:
    return all(a == b or not b for a, b in zip(traits, wanted, strict=True))


def _those(figures: Figures, description: str) -> list[Figure]:
    wanted = _read(description)
    return [figure for figure in figures if _fits(_traits(figure), wanted)]


def _the(figures: Figures, description: str) -> Figure | None:
    found = _those(figures, description)
    return found[0] if len(found) == 1 else None


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


# -- the truth --------------------------------------------------------------------------------------------------------


def _colour(figures: Figures, one: str) -> str | None:
    figure = _the(figures, one)
    return figure and figure.colour


def _shape(figures: Figures, one: str) -> str | None:
    figure = _the(figures, one)
    return figure and figure.shape


def _size(figures: Figures, one: str) -> str | None:
    figure = _the(figures, one)
    return figure and figure.size


def _half(axis: str, low: str, high: str) -> Callable[..., str | None]:
    def solve(figures: Figures, one: str) -> str | None:
        figure = _the(figures, one)
        offset = 0.0 if figure is None else getattr(figure, axis) - (SIDE - 1) / 2
        return None if abs(offset) < MARGIN else low if offset < 0 else high

    return solve


def _count(figures: Figures, many: str) -> str:
    return str(len(_those(figures, many)))


def _larger(figures: Figures, one: str, other: str) -> str | None:
    a, b = _the(figures, one), _the(figures, other)
    return None if a is None or b is None or a.diameter == b.diameter else _yes(a.diameter > b.diameter)


def _more(figures: Figures, many: str, others: str) -> str | None:
    return None if many == others else _yes(len(_those(figures, many)) > len(_those(figures, others)))


def _more_of(figures: Figures, one: str, other: str) -> str | None:
    a, b = (sum(word in (f.colour, PLURALS[f.shape]) for f in figures) for word in (one, other))
    return None if a == b else one if a > b else other


_DIRECTIONS = {"left of": ("x", 1), "right of": ("x", -1), "above": ("y", 1), "below": ("y", -1)}


def _side(figures: Figures, one: str, direction: str, other: str) -> str | None:
    a, b = _the(figures, one), _the(figures, other)
    if a is None or b is None:
        return None
    axis, sign = _DIRECTIONS[direction]
    gap = sign * (getattr(b, axis) - getattr(a, axis))
    return None if abs(gap) < MARGIN else _yes(gap > 0)


_ENDS = {"leftmost": ("x", 1), "rightmost": ("x", -1), "topmost": ("y", 1), "lowest": ("y", -1)}


def _end(figures: Figures, end: str) -> str | None:
    axis, sign = _ENDS[end]
    order = sorted(figures, key=lambda figure: sign * getattr(figure, axis))
    if len(order) < 2 or abs(getattr(order[0], axis) - getattr(order[1], axis)) < MARGIN:
        return None
    return order[0].colour


def _nearest(figures: Figures, one: str) -> str | None:
    figure = _the(figures, one)
    if figure is None or len(figures) < 2:
        return None
    away = sorted(((f.x - figure.x) ** 2 + (f.y - figure.y) ** 2, f.colour) for f in figures if f is not figure)
    return None if len(away) > 1 and 3 * away[0][0] > 2 * away[1][0] else away[0][1]


def _both(figures: Figures, one: str, other: str) -> str | None:
    return None if one == other else _yes(bool(_those(figures, one) and _those(figures, other)))


def _either(figures: Figures, one: str, other: str) -> str | None:
    return None if one == other else _yes(bool(_those(figures, one) or _those(figures, other)))


def _all(figures: Figures, many: str, colour: str) -> str | None:
    those = _those(figures, many)
    return _yes(all(figure.colour == colour for figure in those)) if those and not _read(many)[1] else None


def _other(figures: Figures, one: str, colour: str) -> str | None:
    return None if _read(one)[1] else _yes(any(figure.colour != colour for figure in _those(figures, one)))


# -- asking -----------------------------------------------------------------------------------------------------------

Look = tuple[str, str, int]
"""Shape, colour and diameter of a figure that has no place yet."""

Ask = Callable[[Uniform, list[Look], float], str | None]
"""Makes up a question on `looks`, which it may change; the number is the difficulty. None: nothing to ask on these."""


def _pick(uniform: Uniform, among: Sequence[str]) -> str:
    return among[int(uniform() * len(among))]


def _look(uniform: Uniform, difficulty: float) -> Look:
    """Small or large alike; the harder, the smaller within each: 9 and 17 pixels at 0, 5 and 13 at 1."""
    sizes = SMALL if uniform() < 0.5 else LARGE
    step = round(2 * (1 - difficulty) + uniform() - 0.5)
    return _pick(uniform, SHAPES), _pick(uniform, _HUES), sizes[min(max(step, 0), 2)]


def _traits_of(look: Look) -> Traits:
    return "small" if look[2] in SMALL else "large", look[1], look[0]


def _with(look: Look, wanted: Traits) -> Look:
    """A look with the traits that `wanted` does not leave open."""
    size, colour, shape = wanted
    among, others = (SMALL, LARGE) if size == "small" else (LARGE, SMALL)
    diameter = among[others.index(look[2])] if size and look[2] in others else look[2]
    return shape or look[0], colour or look[1], diameter


def _some_traits(uniform: Uniform, look: Look, without: Sequence[int]) -> Traits:
    """One or more of a look's traits, any set of them alike; those at the places `without` are left open."""
    told = [i for i in range(3) if i not in without]
    kept = 1 + int(uniform() * ((1 << len(told)) - 1))
    traits = _traits_of(look)
    size, colour, shape = (traits[i] if i in told and kept >> told.index(i) & 1 else "" for i in range(3))
    return size, colour, shape


def _name(uniform: Uniform, looks: Sequence[Look], i: int, *without: int) -> str | None:
    """A description that only `looks[i]` fits; None when a few tries find none."""
    if len(looks) == 1 and uniform() < 0.3:
        return "shape"
    for _ in range(3):
        wanted = _some_traits(uniform, looks[i], without)
        if sum(_fits(_traits_of(look), wanted) for look in looks) == 1:
            return _said(wanted)
    return None


def _ask_one(sentence: str, *without: int) -> Ask:
    def ask(uniform: Uniform, looks: list[Look], difficulty: float) -> str | None:
        one = _name(uniform, looks, 0, *without)
        return one and sentence.format(one)

    return ask


def _ask_two(sentence: str, words: Sequence[str], *without: int) -> Ask:
    def ask(uniform: Uniform, looks: list[Look], difficulty: float) -> str | None:
        one, other = _name(uniform, looks, 0, *without), _name(uniform, looks, 1, *without)
        return one and other and sentence.format(one, _pick(uniform, words), other)

    return ask


def _size_untold(uniform: Uniform, difficulty: float) -> tuple[int, ...]:
    """Sizes are told the more often the harder a question is."""
    return () if uniform() < difficulty else (0,)


def _ask_count(uniform: Uniform, looks: list[Look], difficulty: float) -> str | None:
    """0 to 3 of a kind at difficulty 0, to 6 at 1, each number alike, and some others."""
    count = int(uniform() * (4 + 3 * difficulty))
    wanted = _some_traits(uniform, looks[0], _size_untold(uniform, difficulty))
    others = [_look(uniform, difficulty) for _ in range(int(uniform() * (2 + 2 * difficulty)) + (count == 0))]
    looks[:] = [_with(_look(uniform, difficulty), wanted) for _ in range(count)]
    looks += [look for look in others if not _fits(_traits_of(look), wanted)]
    return f"How many {_said(wanted, many=True)} are there?" if looks else None


def _ask_more_of(sentence: str, trait: int, words: Mapping[str, str]) -> Ask:
    """Which of two traits more figures have; `words` are the traits and how they are said."""

    def ask(uniform: Uniform, looks: list[Look], difficulty: float) -> str | None:
        pair = _pick(uniform, tuple(words)), _pick(uniform, tuple(words))
        if pair[0] == pair[1]:
            return None
        for i, look in enumerate(looks):
            if uniform() < 0.8:
                traits = ["", "", ""]
                traits[trait] = _pick(uniform, pair)
                looks[i] = _with(look, (traits[0], traits[1], traits[2]))
        return sentence.format(words[pair[0]], words[pair[1]])

    return ask


def _ask_more(uniform: Uniform, looks: list[Look], difficulty: float) -> str | None:
    without = _size_untold(uniform, difficulty)
    one, other = (_some_traits(uniform, look, without) for look in looks[:2])
    if _fits(one, other) or _fits(other, one):
        return None  # where one kind holds the other, the question tells its answer
    for i in range(2, len(looks)):
        if uniform() < 0.7:
            looks[i] = _with(looks[i], one if uniform() < 0.5 else other)
    return f"Are there more {_said(one, many=True)} than {_said(other, many=True)}?"


def _ask_end(uniform: Uniform, looks: list[Look], difficulty: float) -> str | None:
    return f"What colour is the {_pick(uniform, tuple(_ENDS))} shape?"


def _ask_there(word: str) -> Ask:
    """Whether two things are there; those that are not mostly differ from a figure in colour or shape alone."""

    def ask(uniform: Uniform, looks: list[Look], difficulty: float) -> str | None:
        asked: list[Traits] = []
        for look in looks[:2]:
            size, colour, shape = _some_traits(uniform, look, _size_untold(uniform, difficulty))
            if uniform() < 0.5:
                colour, shape = colour and _pick(uniform, _HUES), shape and _pick(uniform, SHAPES)
            asked.append((size, colour, shape))
        one, other = asked
        if _fits(one, other) or _fits(other, one):
            return None
        return f"Is there a {_said(one)} {word} a {_said(other)}?"

    return ask


def _ask_all(sentence: str, many: bool) -> Ask:
    def ask(uniform: Uniform, looks: list[Look], difficulty: float) -> str | None:
        wanted = _some_traits(uniform, looks[0], (1, *_size_untold(uniform, difficulty)))
        colour = looks[0][1]
        for i, look in enumerate(looks):
            if uniform() < 0.6:
                looks[i] = (look[0], colour, look[2])
        return sentence.format(_said(wanted, many), colour)

    return ask


# -- the forms --------------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """A form of question: the skill it belongs to, its sentence (ONE and MANY stand for descriptions), how to ask and
    to answer it, the answers that must come equally often (none where they do by themselves), the fewest figures."""

    skill: str
    sentence: str
    ask: Ask
    solve: Callable[..., str | None]
    balanced: tuple[str, ...] = ()
    least: int = 1


_YES_NO = ("yes", "no")
_NOUNS = f"({'|'.join(PLURALS[shape] for shape in SHAPES)})"
_COLOUR = f"({'|'.join(COLOURS)})"

FORMS: dict[str, Form] = {
    "colour": Form("colour", "What colour is the ONE?", _ask_one("What colour is the {}?", 1), _colour),
    "shape": Form("shape", "What is the ONE?", _ask_one("What is the {}?", 2), _shape),
    "size": Form("size", "Is the ONE small or large?", _ask_one("Is the {} small or large?", 0), _size, SIZES),
    "left or right": Form(
        "position",
        "Is the ONE on the left or right?",
        _ask_one("Is the {} on the left or right?"),
        _half("x", "left", "right"),
        ("left", "right"),
    ),
    "top or bottom": Form(
        "position",
        "Is the ONE at the top or bottom?",
        _ask_one("Is the {} at the top or bottom?"),
        _half("y", "top", "bottom"),
        ("top", "bottom"),
    ),
    "counting": Form("counting", "How many MANY are there?", _ask_count, _count),
    "larger": Form(
        "comparison",
        "Is the ONE larger than the ONE?",
        _ask_two("Is the {0} larger than the {2}?", ("",), 0),  # "small" or "large" would give the answer away
        _larger,
        _YES_NO,
        2,
    ),
    "more of which shape": Form(
        "comparison",
        f"Are there more {_NOUNS} or {_NOUNS}?",
        _ask_more_of("Are there more {} or {}?", 2, {shape: PLURALS[shape] for shape in SHAPES}),
        _more_of,
        least=3,
    ),
    "more of which colour": Form(
        "comparison",
        f"Are there more {_COLOUR} or {_COLOUR} shapes?",
        _ask_more_of("Are there more {} or {} shapes?", 1, {colour: colour for colour in COLOURS}),
        _more_of,
        least=3,
    ),
    "more than": Form("comparison", "Are there more MANY than MANY?", _ask_more, _more, _YES_NO, 3),
    "left of, above": Form(
        "relations",
        f"Is the ONE ({'|'.join(_DIRECTIONS)}) the ONE?",
        _ask_two("Is the {} {} the {}?", tuple(_DIRECTIONS)),
        _side,
        _YES_NO,
        2,
    ),
    "outermost": Form("relations", f"What colour is the ({'|'.join(_ENDS)}) shape?", _ask_end, _end, least=2),
    "nearest": Form(
        "relations",
        "What colour is the shape nearest to the ONE?",
        _ask_one("What colour is the shape nearest to the {}?"),
        _nearest,
        least=3,
    ),
    "and": Form("logic", "Is there a ONE and a ONE?", _ask_there("and"), _both, _YES_NO, 2),
    "or": Form("logic", "Is there a ONE or a ONE?", _ask_there("or"), _either, _YES_NO, 2),
    "all": Form("logic", f"Are all MANY {_COLOUR}?", _ask_all("Are all {} {}?", True), _all, _YES_NO, 2),
    "not": Form(
        "logic",
        f"Is there a ONE that is not {_COLOUR}?",
        _ask_all("Is there a {} that is not {}?", False),
        _other,
        _YES_NO,
        2,
    ),
}
"""Every form by name, the forms of a skill from the common to the rare."""

BUILDS_ON: dict[str, tuple[str, ...]] = {
    "colour": (),
    "shape": (),
    "size": (),
    "position": (),
    "counting": ("colour", "shape"),
    "comparison": ("size", "counting"),
    "relations": ("colour", "position"),
    "logic": ("colour", "shape"),
}
"""Skill -> skills it builds on."""

_PATTERNS = {
    name: re.compile(form.sentence.replace("ONE", _ONE).replace("MANY", _MANY)[:-1] + r"\?", re.IGNORECASE)
    for name, form in FORMS.items()
}


def solve(question: str, figures: Figures) -> tuple[str, str] | None:
    """(name of the form, answer) of a question on figures; None when it has no known form, or no answer."""
    for name, pattern in _PATTERNS.items():
        match = pattern.fullmatch(question)
        if match is not None:
            answer = FORMS[name].solve(figures, *[group.lower() for group in match.groups() if group is not None])
            return None if answer is None else (name, answer)
    return None


def make_up(uniform: Uniform, name: str, difficulty: float) -> tuple[list[Figure], str, str] | None:
    """(figures, question, answer) of a form; None when 60 tries bring no scene on which it has the answer drawn."""
    form = FORMS[name]
    wanted = _pick(uniform, form.balanced) if form.balanced else None
    for _ in range(60):
        n = max(form.least, 1 + int(4.5 * difficulty + 1.5 * uniform()))
        looks = [_look(uniform, difficulty) for _ in range(n)]
        question = form.ask(uniform, looks, difficulty)
        figures = None if question is None else _placed(uniform, looks)
        if question is None or figures is None:
            continue
        solved = solve(question, figures)
        if solved is not None and wanted in (None, solved[1]):
            return figures, question, solved[1]
    return None


def _placed(uniform: Uniform, looks: Sequence[Look]) -> list[Figure] | None:
    """The looks at places drawn by chance, clear of each other; None where that does not come about."""
    figures: list[Figure] = []
    for shape, colour, diameter in looks:
        for _ in range(20):
            free = SIDE - diameter + 1
            x, y = (diameter // 2 + int(uniform() * free) for _ in "xy")
            figure = Figure(shape, colour, diameter, x, y)
            if all(figure.clear_of(other) for other in figures):
                figures.append(figure)
                break
        else:
            return None
    return figures
