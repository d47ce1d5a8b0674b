"""Filters that choose: by how often the student solves a problem, by a rule fitted on past runs, by what protected
problems look like. `balanced-difficulty`, `instruct-mining`, `decontaminate`."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from dataenv.checks import real, whole
from dataenv.engines.asking import Asking
from dataenv.engines.gate import ngrams
from dataenv.errors import InvalidData
from dataenv.protocols import Task
from dataenv.records import Example, Prompt, normalise

EASY, HARD = "too easy", "too hard"
"""Why `balanced-difficulty` drops a row."""
LOW, HIGH, ANSWERS = 0.25, 0.75, 8
"""Pass rates that are kept, and from how many answers they are counted (ours)."""

KEPT = 0.5
"""Share of rows that `instruct-mining` keeps (ours)."""
UNPROMISING = "below the rule's median"
RIDGE = 0.1
"""Of the fit, on standardised indicators (ours)."""

LIKE = "like a protected problem"
"""Why `decontaminate` drops a row."""
SHORT, OVERLAP, EXACT = 8, 0.6, 8
"""Length of the n-grams of short problems, the share of them that is too much, and words below which only equal texts
count (ours)."""

_WORD = re.compile(r"\w+|[^\w\s]")
_DIGITS = re.compile(r"\d+(?:[.,]\d+)*")


class BalancedDifficulty(Asking):
    """Keeps rows whose problem the student solves in a share of [`low`, `high`] of `samples` sampled answers: where
    pass rates are, what a student can gain is bounded by p(1-p).

    The problem is the true one where the task recognises it, else what the row states; a row without either passes.
    Ours: the limits do not widen when rows get scarce, for a filter does not know; the shortfall says so.

    Source: Online Difficulty Filtering for Reasoning Oriented RL (2025), https://arxiv.org/abs/2504.03380.
    """

    name = "balanced-difficulty"

    def __init__(
        self,
        low: float | str = LOW,
        *,
        task: Task,
        high: float | None = None,
        samples: int = ANSWERS,
        temperature: float = 0.8,
    ) -> None:
        super().__init__(task)
        self.low = real("balanced-difficulty: low", low, 0, 0.5)
        self.high = 1 - self.low if high is None else real("balanced-difficulty: high", high, self.low, 1)
        self.samples = whole("balanced-difficulty: samples", samples, least=2)
        self.temperature = real("balanced-difficulty: temperature", temperature, 0, 10)

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[str | None]:
        problems = [self.task.recognise(example.prompt) or example.as_problem() for example in examples]
        asked = [problem for problem in problems if problem is not None]
        right = iter(self.right_answers(asked, rng, samples=self.samples, temperature=self.temperature))
        return [None if problem is None else self._reason(len(next(right)) / self.samples) for problem in problems]

    def _reason(self, p: float) -> str | None:
        return HARD if p < self.low else EASY if p > self.high else None


class InstructMining:
    """Keeps the better half of the rows by a linear rule of what rows look like, fitted on finished runs:
    `instruct-mining:FOLDER`, where FOLDER holds runs, or is one.

    Each step of those runs is a batch: the means of its rows' indicators, and its reward. The rule is a ridge
    regression of the reward on them. Where it foretells nothing (leave-one-out R^2 of 0 or less), or there are fewer
    batches than indicators + 2, all rows pass.

    Indicators: logarithms of prompt's and completion's length, how well the text compresses, its share of distinct
    words, the stated difficulty. Source: Instruction Mining (2023), https://arxiv.org/abs/2307.06290; there the target
    is the loss of many fine-tunings, and some indicators are ratings of a model. Coefficients are of your runs, never
    of a publication.
    """

    name = "instruct-mining"

    def __init__(self, folder: str | Path, *, task: Task, kept: float = KEPT) -> None:
        self.kept = real("instruct-mining: kept", kept, 0, 1)
        self.rule = Rule.fitted(*_batches(Path(folder)))

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[str | None]:
        if self.rule is None or not examples:
            return [None] * len(examples)
        scores = self.rule.scores(np.array([indicators(example) for example in examples]))
        order = np.argsort(-scores, kind="stable")
        keeps = set(order[: math.ceil(self.kept * len(order))].tolist())
        return [None if i in keeps else UNPROMISING for i in range(len(examples))]


INDICATORS = ("prompt length", "completion length", "compression", "distinct words", "difficulty")


def indicators(example: Example) -> list[float]:
    """What a row looks like, in the order of `INDICATORS`."""
    text = f"{example.prompt.text}\n{example.completion}"
    words, data = _WORD.findall(text), text.encode()
    return [
        math.log1p(len(example.prompt.text)),
        math.log1p(len(example.completion)),
        len(zlib.compress(data, 6)) / max(len(data), 1),
        len(set(words)) / max(len(words), 1),
        0.5 if example.difficulty is None else example.difficulty,
    ]


class Rule:
    """A linear rule of standardised indicators; those that never varied weigh nothing."""

    def __init__(self, mean: NDArray[np.float64], scale: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        self.mean, self.scale, self.weights = mean, scale, weights

    @classmethod
    def fitted(cls, x: NDArray[np.float64], y: NDArray[np.float64]) -> Rule | None:
        """The rule that foretells `y` (batches,) from `x` (batches, indicators); None where there is none."""
        if len(x) < len(INDICATORS) + 2:
            return None
        mean, scale = x.mean(axis=0), x.std(axis=0)
        varies = scale > 1e-9
        z = np.where(varies, (x - mean) / np.where(varies, scale, 1.0), 0.0)
        inverse = np.linalg.inv(z.T @ z + RIDGE * np.eye(z.shape[1]))
        weights = inverse @ z.T @ (y - y.mean())
        hat = np.einsum("ij,jk,ik->i", z, inverse, z) + 1 / len(x)
        left_out = (y - y.mean() - z @ weights) / np.maximum(1 - hat, 1e-9)
        spread = float(((y - y.mean()) ** 2).sum())
        if spread <= 0 or 1 - float((left_out**2).sum()) / spread <= 0:
            return None
        return cls(mean, np.where(varies, scale, np.inf), weights)

    def scores(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,): what the rule says of n rows; larger is better."""
        found: NDArray[np.float64] = (x - self.mean) / self.scale @ self.weights
        return found


def _batches(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean indicators and reward of every step of the runs in `folder`."""
    logs = sorted(folder.rglob("events.jsonl"))
    if not logs:
        raise InvalidData(f"instruct-mining: there is no run in '{folder}'; give a folder of finished runs.")
    x: list[NDArray[np.float64]] = []
    y: list[float] = []
    for log in logs:
        for line in log.read_bytes().splitlines():
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:  # the torn last line of a run that was killed
                continue
            rows = log.parent / "steps" / f"{event.get('step', 0):03d}" / "rows.jsonl"
            if event.get("event") == "step" and event["accepted"] and rows.exists():
                lines = rows.read_bytes().splitlines()
                x.append(np.mean([indicators(Example.model_validate_json(line)) for line in lines], axis=0))
                y.append(float(event["reward"]))
    return np.array(x).reshape(len(x), len(INDICATORS)), np.array(y)


class Decontaminate:
    """Drops rows that are too like feedback problems, or problems of a fixed exam: those that share a 13-gram with one,
    or more than 60 % of their own 8-grams with all of them, both also with all numbers made one. The gate's own test is
    the first of these, and knows the problems of the episode; this one is stricter.

    Texts shorter than 8 words count only where they are equal. N-grams of two protected problems are a template's
    wording, and no evidence; so for tasks that write problems from templates it finds what a template does not explain.

    Protected are `task.held_out()` and all feedback problems, of a task without end `per_skill` of each skill. Only
    hashes are kept. Source: Don't Make Your LLM an Evaluation Benchmark Cheater (2023), https://arxiv.org/abs/2311.01964,
    for the need; the limits are ours. Not here: nearness of embeddings.
    """

    name = "decontaminate"

    def __init__(self, per_skill: int | str = 64, *, task: Task) -> None:
        from dataenv.protocols import ProceduralTask

        most = whole("decontaminate: per_skill", per_skill) if isinstance(task, ProceduralTask) else None
        problems = task.problems("feedback", most, 0)
        prompts = {p.key: p for p in (*(problem.prompt for problem in problems), *task.held_out())}
        self._passes = [_Protected(prompts.values(), numbers) for numbers in (True, False)]

    def __call__(self, examples: Sequence[Example], rng: np.random.Generator) -> list[str | None]:
        return [LIKE if any(known.resembles(e.prompt) for known in self._passes) else None for e in examples]


class _Protected:
    """Hashes of protected texts and their n-grams, with their numbers or with all numbers made one."""

    def __init__(self, prompts: Iterable[Prompt], numbers: bool) -> None:
        self.numbers = numbers
        texts = [self._words(prompt.text) for prompt in prompts]
        known = Counter(map(hash, texts))
        self._texts = frozenset(text for text, count in known.items() if numbers or count == 1)
        long, short = (Counter(h for text in texts for h in self._grams(text, n)) for n in (None, SHORT))
        self._long = frozenset(h for h, count in long.items() if count == 1)
        self._short = frozenset(h for h, count in short.items() if count == 1)

    def resembles(self, prompt: Prompt) -> bool:
        text = self._words(prompt.text)
        if hash(text) in self._texts:
            return True
        if len(text) < EXACT:
            return False
        if self._grams(text, None) & self._long:
            return True
        grams = self._grams(text, SHORT)
        return bool(grams) and len(grams & self._short) > OVERLAP * len(grams)

    def _words(self, text: str) -> tuple[str, ...]:
        text = normalise(text)
        return tuple(_WORD.findall(text if self.numbers else _DIGITS.sub("0", text)))

    def _grams(self, words: tuple[str, ...], n: int | None) -> set[int]:
        if n is None:
            return {hash(gram) for gram in ngrams(" ".join(words))}
        return {hash(words[i : i + n]) for i in range(len(words) - n + 1)}
