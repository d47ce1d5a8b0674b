"""The texts of a report: answers before and after to the same questions, and a sample of the rows taught."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from pydantic import ValidationError

from dataenv.records import Attempt, Example, Prompt
from dataenv.runs.report_log import json_lines, step_folders
from dataenv.runs.report_pictures import source
from dataenv.runs.report_words import Text

GROUPS = ("became right", "became wrong", "still wrong", "still right")
_SHOWN = {"became right": 12, "still wrong": 6, "became wrong": 6}
_ROWS_PER_SKILL = 3


@dataclass(frozen=True)
class Answer:
    """One response as the page shows it."""

    correct: bool
    text: Text
    note: str


@dataclass(frozen=True)
class Comparison:
    """The same question before and after teaching."""

    group: str
    skill: str
    question: Text
    images: tuple[str, ...]
    """Addresses of its pictures, see `report_pictures.source`."""
    reference: Text
    before: Answer
    after: Answer


@dataclass(frozen=True)
class Answers:
    """Which step is compared with the untaught student, how many answers changed, and the ones shown."""

    step: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    shown: list[Comparison] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One taught row."""

    step: int
    difficulty: float | None
    question: Text
    images: tuple[str, ...]
    """Addresses of its pictures, see `report_pictures.source`."""
    completion: Text
    rejected: Text | None


def compare_answers(folder: Path, last: int) -> Answers:
    """Pair the untaught student's answers with those of the last step up to `last`, by problem."""
    steps = {number: path / "attempts.jsonl" for number, path in step_folders(folder) if number <= last}
    later = [number for number, path in steps.items() if number > 0 and path.is_file()]
    if 0 not in steps or not later:
        return Answers()
    before, after = _attempts(steps[0]), _attempts(steps[later[-1]])
    groups: dict[str, list[tuple[Attempt, Attempt]]] = {group: [] for group in GROUPS}
    for key, first in before.items():
        if (second := after.get(key)) is not None:
            groups[_group(first, second)].append((first, second))
    shown = [
        _comparison(group, first, second)
        for group, most in _shares({group: len(pairs) for group, pairs in groups.items()}).items()
        for first, second in _spread(groups[group], most)
    ]
    return Answers(later[-1], {group: len(pairs) for group, pairs in groups.items()}, shown)


def sample_rows(folder: Path, last: int) -> dict[str, list[Row]]:
    """Up to three taught rows of each skill, from its first, a middle and its last step."""
    found: dict[str, dict[int, Example]] = {}
    seen: Counter[tuple[str, int]] = Counter()
    for step, path in step_folders(folder):
        if not 0 < step <= last:
            continue
        for line in json_lines(path / "rows.jsonl"):
            # one row of a skill and step is enough: the rest of a large file is not even parsed as records
            skill = _skill(line)
            if skill is None or seen[skill, step]:
                continue
            try:
                found.setdefault(skill, {})[step] = Example.model_validate_json(line)
            except ValidationError:
                continue
            seen[skill, step] += 1
    return {skill: [shown_row(rows[step], step) for step in _ends(sorted(rows))] for skill, rows in found.items()}


def _skill(line: bytes) -> str | None:
    """The skill of a row, without building the record."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return str(value.get("skill", "general")) if isinstance(value, dict) else None


def _ends(steps: Sequence[int]) -> list[int]:
    """At most three of `steps`: first, middle, last."""
    if len(steps) <= _ROWS_PER_SKILL:
        return list(steps)
    return [steps[0], steps[len(steps) // 2], steps[-1]]


def _attempts(path: Path) -> dict[str, Attempt]:
    """The attempts in a file by problem id; lines that are no attempts are passed over."""
    found = {}
    for line in json_lines(path):
        try:
            attempt = Attempt.model_validate_json(line)
        except ValidationError:
            continue
        found[attempt.problem.id] = attempt
    return found


def _group(before: Attempt, after: Attempt) -> str:
    if before.correct:
        return "still right" if after.correct else "became wrong"
    return "became right" if after.correct else "still wrong"


def _shares(sizes: dict[str, int]) -> dict[str, int]:
    """How many pairs of each group to show; room that one group leaves goes to the others in order."""
    shares = {group: min(most, sizes[group]) for group, most in _SHOWN.items()}
    room = sum(_SHOWN.values()) - sum(shares.values())
    for group in shares:
        more = min(room, sizes[group] - shares[group])
        shares[group] += more
        room -= more
    return shares


def _spread(pairs: Iterable[tuple[Attempt, Attempt]], most: int) -> list[tuple[Attempt, Attempt]]:
    """`most` pairs taken from the skills in turn, so that no skill fills the page."""
    turn: Counter[str] = Counter()
    ranked: list[tuple[int, int, tuple[Attempt, Attempt]]] = []
    for pair in pairs:
        skill = pair[0].problem.skill
        ranked.append((turn[skill], len(ranked), pair))
        turn[skill] += 1
    return [pair for _, _, pair in sorted(ranked, key=lambda entry: entry[:2])[:most]]


def _comparison(group: str, before: Attempt, after: Attempt) -> Comparison:
    problem = before.problem
    return Comparison(
        group=group,
        skill=problem.skill,
        question=Text.of(problem.prompt.text),
        images=tuple(map(source, problem.prompt.images)),
        reference=Text.of(problem.answer),
        before=_answer(before),
        after=_answer(after),
    )


def _answer(attempt: Attempt) -> Answer:
    notes = {"length": "cut at the token limit", "overlong": "not asked: the prompt does not fit the context"}
    note = attempt.reason if attempt.reason and not attempt.correct else notes.get(attempt.finish, "")
    if note == f"expected {attempt.problem.answer[:100]}":
        note = ""  # the page shows the reference beside it
    return Answer(attempt.correct, Text.of(attempt.response.strip()), Text.of(note).short)


def shown_row(example: Example, step: int = 0) -> Row:
    """A row as the page shows it."""
    prompt: Prompt = example.prompt
    return Row(
        step=step,
        difficulty=example.difficulty,
        question=Text.of(prompt.text),
        images=tuple(map(source, prompt.images)),
        completion=Text.of(example.completion),
        rejected=None if example.rejected is None else Text.of(example.rejected),
    )
