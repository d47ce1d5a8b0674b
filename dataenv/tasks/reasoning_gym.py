"""Tasks from the reasoning-gym library: any of its datasets is a skill, and `arithmetic` is a preset of 14 easy ones.

Difficulty climbs the library's own curricula: each attribute of a dataset has levels, and difficulty d points at
d * (levels - 1); a fractional position is a mix of the two neighbouring levels, drawn anew for every problem. Ranges
include their lower levels, as in the library. Without a difficulty a dataset keeps the library's default settings.

**What counts as right.** The library's scorers are rewards for RL: some give credit for an answer buried in other
text, some accept any text (game_of_life_halting compares truth values), and nine call `eval` or sympy's parser on the
response, which runs what a student wrote. So the rule here is our own:

1. The response is the answer: the same characters, where white space counts only between words or numbers, line
   breaks count, and case counts only in answers of several words. Or both are plain numbers and equal.
2. Where several answers can be right (`SCORED`), the library's scorer decides as well, if I have read it to be free
   of `eval` and of open-ended work, the response is about as short as an answer, and the score is exactly 1.
   Countdown, puzzle24, n_queens and complex_arithmetic (whose scorer gives "nan" full marks) are judged here.
3. Everything else is wrong. For integrals and polynomial products this means: only the reference form is right.

With one seed the problems are the same in every process, except for four datasets that iterate over sets of text
(isomorphic_strings, polynomial_multiplication, ransom_note, word_ladder): those need a fixed PYTHONHASHSEED too.

Source: https://github.com/open-thought/reasoning-gym (Apache-2.0).
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from random import Random
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from pydantic import JsonValue

from dataenv.checks import whole
from dataenv.errors import InvalidData, MissingDependency
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.tasks.minted import MintedTask, must_be_skill
from dataenv.tasks.splits import draw_texts
from dataenv.verifiers.exact import same_number

# ---------------------------------------------------------------------------------------------------- the preset


class Rungs(tuple[Any, ...]):
    """Values of one setting from easy to hard; difficulty points between two of them."""


ARITHMETIC: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": Rungs((2, 2, 3)), "max_digits": Rungs((1, 2, 2))},
    "products": {"min_terms": 2, "max_terms": 2, "max_digits": Rungs((1, 2))},
    "decimal_chain_sum": {
        "max_terms": 2, "max_digits": Rungs((1, 2)), "max_decimal_places": Rungs((1, 2)),
    },
    "simple_equations": {
        "max_terms": 2, "max_value": Rungs((10, 20, 40)), "operators": ("+", "-"), "operators_weights": (0.5, 0.5),
    },
    "gcd": {"min_value": 2, "max_value": Rungs((20, 50, 100))},
    "fraction_simplification": {
        "styles": ("plain",), "max_value": Rungs((10, 20, 40)), "min_factor": 2, "max_factor": Rungs((9, 12, 20)),
    },
    "complex_arithmetic": {
        "operations": ("+", "-"), "operations_weights": (0.5, 0.5),
        "min_real": Rungs((0, -10)), "min_imag": Rungs((0, -10)),
    },
    "number_sequence": {"max_terms": 5, "min_value": -50, "max_value": 50, "max_complexity": Rungs((1, 2))},
    "calendar_arithmetic": {"tasks": ("weekday_offset",), "offset_upper_bound": Rungs((3, 7, 21))},
    "aiw": {"task_type_weights": (1.0, 0.0, 0.0), "max_entities": Rungs((6, 9, 12))},
    "family_relationships": {"min_family_size": 3, "max_family_size": Rungs((3, 4, 5))},
    "letter_counting": {"min_words": 2, "max_words": Rungs((2, 3, 5))},
    "spell_backward": {"min_word_len": 3, "max_word_len": Rungs((3, 4, 5))},
    "word_sequence_reversal": {"min_words": 2, "max_words": Rungs((2, 3, 4))},
}  # fmt: skip
"""The preset's skills with their settings; what is not named keeps the library's default. Chosen for short prompts
(16 to 50 SmolLM2 tokens), short answers, and rules a 135M-parameter model picks up from some tens of rows each."""

_BUILDS_ON = {
    "products": ("chain_sum",),
    "decimal_chain_sum": ("chain_sum",),
    "simple_equations": ("chain_sum", "products"),
    "fraction_simplification": ("gcd",),
    "gcd": ("products",),
    "complex_arithmetic": ("chain_sum",),
    "number_sequence": ("chain_sum",),
    "word_sequence_reversal": ("spell_backward",),
}


def arithmetic(argument: str | None = None) -> ReasoningGym:
    """The preset `arithmetic`: 14 easy skills for SmolLM2-135M; "arithmetic:gcd,products" keeps some of them.

    Here difficulty climbs the preset's own `Rungs`, since the library's first level is often past a small model
    already; the natural mix draws it uniformly. Replies need at most 32 tokens.
    """
    names = [name.strip() for name in argument.split(",") if name.strip()] if argument else list(ARITHMETIC)
    for name in names:
        must_be_skill("arithmetic", name, ARITHMETIC)
    task = ReasoningGym(names, settings=ARITHMETIC, max_new_tokens=32)
    task.name = "arithmetic" if not argument else f"arithmetic:{','.join(names)}"
    return task


# ------------------------------------------------------------------------------------------------- scoring rules


class Scorer(NamedTuple):
    """Metadata a library scorer reads (kept in `Problem.data`), and the form a response must have to reach it."""

    reads: tuple[str, ...] = ()
    form: str = ""


_NUMBER = r"[+-]?[\d,]*\.?\d+(e[+-]?\d{1,2})?"  # no "nan", which passes comparisons, and no endless exponents

SCORED: dict[str, Scorer] = {
    "complex_arithmetic": Scorer(),
    "countdown": Scorer(("numbers", "target")),
    "cryptarithm": Scorer(("words_letters", "result_letters", "allow_leading_zero")),
    "group_anagrams": Scorer(("solution",)),
    "jugs": Scorer(("puzzle",)),
    "kakurasu": Scorer(("row_sums", "col_sums", "n_rows", "n_cols"), r"[01\s]+"),
    "knight_swap": Scorer(("is_possible", "board", "pieces", "start_turn", "solution")),
    "knights_knaves": Scorer((), r"\w+ is an? \w+((, |,? and )\w+ is an? \w+)*\.?"),
    "n_queens": Scorer(("valid_answers",)),
    "number_format": Scorer(("solution",), _NUMBER),
    "palindrome_generation": Scorer(("letters",), r"\w+"),
    "palindrome_partitioning": Scorer(("solution",)),
    "power_function": Scorer((), _NUMBER),
    "prime_factorization": Scorer((), r"\d+(\s*×\s*\d+)*"),
    "puzzle24": Scorer(("numbers",)),
    "quantum_lock": Scorer(("target_value", "buttons", "initial_state", "initial_value"), r"[ABC](\s*→\s*[ABC])*"),
    "shortest_path": Scorer(("matrix",)),
    "sokoban": Scorer(("gamestr",), r"[LRUD]+"),
    "tower_of_hanoi": Scorer(("num_disks", "num_pegs", "start_peg", "target_peg", "solution_length")),
    "word_ladder": Scorer(("start_word", "end_word"), r"[A-Za-z]+(,\s*[A-Za-z]+)*"),
}
"""Datasets with more than one right answer (or a tolerance the question states)."""

_SCORER_SETTINGS: dict[str, dict[str, Any]] = {"word_ladder": {"min_word_length": 3, "max_word_length": 5}}
"""Where a scorer needs more of its dataset than the default settings load: words of every length."""

_LOOSE_SPACE = re.compile(r"\s*([^\w\s])\s*")
_PLAIN_NUMBER = re.compile(r"[+-]?[0-9][0-9,]*(\.[0-9]+)?")
_COMPLEX = re.compile(
    r"(?P<real>[+-]?\d+(?:\.\d+)?)(?:(?P<imaginary>[+-](?:\d+(?:\.\d+)?)?)i)?|(?P<alone>[+-]?(?:\d+(?:\.\d+)?)?)i"
)
_SUM = re.compile(r"[0-9+\-*/() ]{1,200}")


def _form(text: str) -> str:
    """White space next to punctuation dropped, other runs of it made one, line by line: "[1, 2]" becomes "[1,2]"."""
    return "\n".join(" ".join(_LOOSE_SPACE.sub(r"\1", line).split()) for line in text.strip().splitlines())


def same_form(response: str, answer: str) -> bool:
    """Rule 1 of this module: whether a response is the answer itself."""
    if len(response) > 2 * len(answer) + 100:
        return False
    a, b = _form(response), _form(answer)
    if a == b or (" " not in b and "\n" not in b and a.casefold() == b.casefold()):
        return True
    return _PLAIN_NUMBER.fullmatch(b) is not None and same_number(a, b)


def evaluate_sum(text: str) -> tuple[Fraction, list[int]]:
    """The value of a sum of whole numbers with + - * / and brackets, and the numbers it uses. Runs no code.

    Raises ValueError for anything else or longer than 200 characters, ZeroDivisionError where the sum divides by 0.
    """
    if _SUM.fullmatch(text) is None:
        raise ValueError("not a sum of whole numbers")
    used: list[int] = []

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            used.append(node.value)
            return Fraction(node.value)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            return value(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
        if isinstance(node, ast.BinOp):
            a, b = value(node.left), value(node.right)
            match node.op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
        raise ValueError("not a sum of whole numbers")

    try:
        return value(ast.parse(text.strip(), mode="eval").body), used
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("not a sum of whole numbers") from error


def _complex(text: str) -> tuple[Fraction, Fraction]:
    """Real and imaginary part of "4.0 - 7.0i", exactly; ValueError for anything else."""
    match = _COMPLEX.fullmatch("".join(text.split())[:100])
    if match is None:
        raise ValueError("not a complex number")
    imaginary = match["imaginary"] if match["alone"] is None else match["alone"]
    if imaginary is not None and imaginary in ("", "+", "-"):
        imaginary += "1"
    return Fraction(match["real"] or 0), Fraction(imaginary or 0)


def _score(dataset: str, metadata: dict[str, Any], answer: str, response: str) -> float:
    """Rule 2 of this module. May raise anything: the scorers do, on odd text."""
    if dataset == "countdown":
        value, used = evaluate_sum(response)
        return float(value == metadata["target"] and sorted(used) == sorted(metadata["numbers"]))
    if dataset == "puzzle24":
        value, used = evaluate_sum(response)
        return float(value == 24 and sorted(used) == sorted(metadata["numbers"]))
    if dataset == "complex_arithmetic":
        return float(_complex(response) == _complex(answer))
    if dataset == "n_queens":
        return float(response in metadata["valid_answers"])
    form = SCORED[dataset].form
    if form and re.fullmatch(form, response) is None:
        return 0.0
    return float(_judge(dataset).score_answer(response, {"answer": answer, "metadata": metadata}))


# ------------------------------------------------------------------------------------------------------ the task


class ReasoningGym(MintedTask):
    """Datasets of reasoning-gym as the skills of one task: `ReasoningGym("gcd,lcm")` or `ReasoningGym(["gcd"])`.

    `settings` gives a dataset's configuration: constants, or `Rungs` that difficulty climbs instead of the library's
    curriculum. The few datasets without a working curriculum (or rungs) ignore difficulty; their problems then carry
    none. Nothing can be recognised: prompts do not determine answers without the generator.

    Raises MissingDependency without the library, UnknownId for a name it lacks, and InvalidData, when problems are
    asked for, for a dataset that states no reference answers (rush_hour and four others).
    """

    family = "reasoning-gym"

    def __init__(
        self,
        datasets: str | Sequence[str],
        *,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        max_new_tokens: int = 256,
    ) -> None:
        if not (datasets.strip(" ,") if isinstance(datasets, str) else datasets):
            raise InvalidData("reasoning-gym needs the names of its datasets: reasoning-gym:gcd,lcm.")
        known = [name for name in _factory().DATASETS if name != "composite"]
        super().__init__(datasets, {name: _BUILDS_ON.get(name, ()) for name in known})
        self.max_new_tokens = whole("max_new_tokens", max_new_tokens)
        self._settings = dict(settings or {})
        self._made: dict[str, tuple[Any, bool]] = {}
        self._raised: dict[str, dict[str, tuple[str, int]]] = {}

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Judge by the rules at the top of this module; `score` is the library's where it is asked, else 0 or 1.

        Bounded: a response longer than twice the answer plus 100 characters is wrong unread, and no scorer that
        evaluates or parses expressions is ever called.
        """
        if len(response) > 100_000:
            return Verdict(0.0, False, "far longer than an answer", response[:100])
        text = response.strip()
        if same_form(text, problem.answer):
            return Verdict(1.0, True, extracted=text)
        dataset, metadata = problem.data.get("scorer"), problem.data.get("metadata")
        if not isinstance(dataset, str) or dataset not in SCORED or not isinstance(metadata, dict):
            return Verdict(0.0, False, f"expected {problem.answer[:100]}", text[:100])
        if len(text) > 2 * len(problem.answer) + 100:
            return Verdict(0.0, False, "longer than an answer", text[:100])
        try:
            # A copy: knight_swap's scorer writes into the metadata it is given.
            score = _score(dataset, json.loads(json.dumps(metadata)), problem.answer, text)
        except Exception as error:  # the library's scorers raise nearly everything on odd text
            return Verdict(0.0, False, f"not an answer ({type(error).__name__})", text[:100])
        score = min(1.0, max(0.0, score)) if score == score else 0.0
        return Verdict(score, score == 1.0, "" if score == 1.0 else f"scored {score:.2f}", text[:1000])

    def recognise(self, prompt: Prompt) -> Problem | None:
        """Always None: the answer is not in the prompt."""
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
        """`difficulty` climbs the rungs; in a subskill, all but the raised one, and None leaves them at the lowest."""
        random = Random(int(rng.integers(2**63)))
        drawn = draw_texts(lambda: self._write_one(skill, difficulty, random, subskill), split, n)
        return [
            Problem(
                prompt=Prompt(text=question), answer=answer, skill=skill, subskill=subskill, difficulty=d, data=data
            )
            for question, (answer, d, data) in drawn
        ]

    def _write_one(
        self, skill: str, difficulty: float | None, rng: Random, subskill: str | None
    ) -> tuple[str, tuple[str, float | None, dict[str, JsonValue]]]:
        failure: Exception | None = None
        for attempt in range(50):
            # A curriculum whose settings the library itself refuses (knight_swap's) is as good as none.
            config, d = (
                self._config(skill, difficulty, rng, subskill) if attempt < 25 else self._config(skill, None, rng)
            )
            try:
                # Item i+1 at seed s is item i at seed s+1, so every draw takes item 0 at a seed of its own.
                item = self._item(skill, config, rng.getrandbits(31))
            except (AssertionError, ValueError, IndexError) as error:  # two rungs that do not go together
                failure = error
                continue
            question, answer = item["question"].strip(), item["answer"]
            if isinstance(answer, str) and answer.strip():
                return question, (answer.strip(), d, _data(skill, item["metadata"]))
        cause = f"none of its settings worked: {failure}" if failure else "its items state no reference answer"
        raise InvalidData(f"reasoning-gym's '{skill}' cannot be used as a skill: {cause}; leave it out.")

    def _config(
        self, skill: str, difficulty: float | None, rng: Random, subskill: str | None = None
    ) -> tuple[Any, float | None]:
        """A configuration at `difficulty`, and the difficulty to record."""
        raised = None if subskill is None else self._raises(skill)[subskill]

        def level(name: str, levels: int) -> int:
            if raised is not None and raised[0] == name:
                return raised[1]
            return _position(difficulty or 0.0, levels, rng)

        factory = _factory()
        if skill in self._settings:
            settings = self._settings[skill]
            if difficulty is None and raised is None:
                difficulty = rng.random()
            chosen = {
                key: value[level(key, len(value))] if isinstance(value, Rungs) else value
                for key, value in settings.items()
            }
            return factory.DATASETS[skill][1](**chosen, size=1, seed=0), difficulty
        if (difficulty is None and raised is None) or not factory.has_curriculum(skill):
            return factory.DATASETS[skill][1](size=1, seed=0), None
        curriculum = factory.create_curriculum(skill)
        for name, attribute in curriculum.attributes.items():
            curriculum.set_attr_level(name, level(name, len(_levels(attribute))))
        return curriculum.generate_configuration({"size": 1, "seed": 0}), difficulty

    def _subskills(self, skill: str) -> tuple[str, ...]:
        """Attributes of the dataset's curriculum (or its rungs), each raised to one of its levels while all others stay
        at the lowest; and "base", where all do. Levels that the library refuses are left out."""
        return tuple(self._raises(skill))

    def _raises(self, skill: str) -> dict[str, tuple[str, int]]:
        """Subskill -> the attribute it raises, and its level."""
        if skill not in self._raised:
            factory = _factory()
            ladders: dict[str, Sequence[Any]] = {}
            if skill in self._settings:
                ladders = {key: value for key, value in self._settings[skill].items() if isinstance(value, Rungs)}
            elif factory.has_curriculum(skill):
                ladders = {k: _levels(a) for k, a in factory.create_curriculum(skill).attributes.items()}
            raised = {"base": ("", 0)}
            self._raised[skill] = raised
            for name, levels in ladders.items():
                for i, value in enumerate(levels):
                    if value in levels[:i] or i == 0:
                        continue
                    raised[f"{name} {value}"] = name, i
                    try:
                        config, _ = self._config(skill, None, Random(0), f"{name} {value}")
                        config.validate()
                    except (AssertionError, ValueError):
                        del raised[f"{name} {value}"]
        return self._raised[skill]

    def _item(self, skill: str, config: Any, seed: int) -> dict[str, Any]:
        """Item 0 of the dataset at `seed`. Datasets are kept: making one can read a word list, up to 0.35 s."""
        make = _factory().DATASETS[skill][0]
        key = f"{skill} {config!r}"
        if key not in self._made:
            if len(self._made) >= 256:
                self._made.clear()
            self._made[key] = (make(config=config), _reseeds(skill))
        dataset, reseeds = self._made[key]
        if not reseeds:
            config.seed = seed
            dataset = make(config=config)
        dataset.seed = dataset.config.seed = seed
        item: dict[str, Any] = dataset[0]
        return item


def _levels(attribute: Any) -> list[Any]:
    """Values that an attribute climbs. A range that must be an interval ends one level up already: so does its list."""
    return list(attribute.levels[1:] if getattr(attribute, "ensure_interval", False) else ()) or list(attribute.levels)


def _position(difficulty: float, levels: int, rng: Random) -> int:
    """A level at `difficulty`; between two levels, either, with the odds that make the mean right."""
    return min(int(difficulty * (levels - 1) + rng.random()), levels - 1)


def _data(dataset: str, metadata: dict[str, Any]) -> dict[str, JsonValue]:
    """What the scorer needs, as JSON: dates and other objects become text, tuples lists."""
    if dataset not in SCORED:
        return {}
    kept = {key: metadata[key] for key in SCORED[dataset].reads if key in metadata}
    return {"scorer": dataset, "metadata": json.loads(json.dumps(kept, default=str))}


@cache
def _factory() -> ModuleType:
    """reasoning-gym's factory module; the import takes 0.7 s, so it happens on first use."""
    try:
        import reasoning_gym.factory
    except ImportError as error:
        raise MissingDependency('reasoning-gym is not installed: pip install "dataenv[tasks]".') from error
    factory: ModuleType = reasoning_gym.factory
    return factory


@cache
def _judge(dataset: str) -> Any:
    """A dataset object to score with; scorers read the item they are given, not its settings."""
    make, config = _factory().DATASETS[dataset]
    return make(config=config(size=1, seed=0, **_SCORER_SETTINGS.get(dataset, {})))


@cache
def _reseeds(skill: str) -> bool:
    """Whether setting the seed of an existing dataset gives what making it anew with that seed gives."""
    make, config = _factory().DATASETS[skill]
    kept = make(config=config(size=1, seed=0))
    for seed in (1_000_003, 2_000_003):
        kept.seed = kept.config.seed = seed
        if kept[0]["question"] != make(config=config(size=1, seed=seed))[0]["question"]:
            return False
    return True
