"""Skills from a fixed file of labels, made by hand or by another program.

JSON lines (a name that ends in `.jsonl`): one object a line, with `skill` and either `prompt` (its text) or `id`
(`Problem.id`). JSON: an object from prompt text or problem id to skill.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from dataenv.errors import InvalidData
from dataenv.protocols import Discovery
from dataenv.records import Problem, Prompt
from dataenv.skills.discovery import NearestSkill, need_sklearn


def from_file(path: str) -> NearestSkill:
    """The labels in the file at `path`, which must hold every feedback problem; a prompt or id it lacks is mapped by
    the rule of `NearestSkill`, so that problems minted later have a skill too.

    Fitting raises InvalidData for a file that cannot be read, a row without a label, two labels for one problem, and,
    with their number and an example, for feedback problems that have none.
    """
    need_sklearn()

    def label(problems: Sequence[Problem]) -> Mapping[str, str]:
        labels = read_labels(Path(path))
        missing = [problem for problem in problems if not {problem.prompt.key, problem.id} & labels.keys()]
        if missing:
            raise InvalidData(
                f"{path}: {len(missing)} of the {len(problems)} feedback problems have no skill in it, for example "
                f"{missing[0].prompt.text[:80]!r}; add them (dataenv skills --out FILE writes all of them)."
            )
        return labels

    return NearestSkill(f"file:{path}", label)


def read_labels(path: Path) -> dict[str, str]:
    """Prompt key or problem id -> skill. A text could be either, so it is entered as both."""
    labels: dict[str, str] = {}
    for where, name, skill in _rows(path):
        if not all(isinstance(text, str) and text.strip() for text in (name, skill)):
            raise InvalidData(f"{where}: a label needs a prompt (or id) and a skill, both texts and not empty.")
        for key in (name, Prompt.model_construct(text=name).key):
            if labels.setdefault(key, skill.strip()) != skill.strip():
                raise InvalidData(f"{where}: {name[:60]!r} is '{skill.strip()}' here and '{labels[key]}' above.")
    return labels


def write_labels(path: Path, discovery: Discovery, problems: Sequence[Problem]) -> None:
    """Write the skill that a fitted `discovery` gives to each prompt, as JSON lines for `read_labels`."""
    distinct = list({problem.prompt.key: problem for problem in problems}.values())
    rows = zip(distinct, discovery.skills_of(distinct), strict=True)
    try:
        with path.open("wb") as lines:
            for problem, skill in rows:
                lines.write(orjson.dumps({"skill": skill, "prompt": problem.prompt.text}) + b"\n")
    except OSError as error:
        raise InvalidData(f"{path}: cannot be written ({error}).") from error


def _rows(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """(where, prompt text or problem id, skill), as the file has them."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"{path}: cannot be read ({error}).") from error
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                where = f"{path}, line {number}"
                row = _parsed(where, line)
                row = row if isinstance(row, dict) else {}
                yield where, row.get("prompt", row.get("id")), row.get("skill")
    else:
        found = _parsed(str(path), text, object_pairs_hook=tuple)  # a dict would hide a prompt that stands twice
        if not isinstance(found, tuple):
            raise InvalidData(f"{path}: not a JSON object from prompt text or problem id to skill.")
        yield from ((f"{path}, entry {i}", *entry) for i, entry in enumerate(found, 1))


def _parsed(where: str, text: str, **options: Any) -> Any:
    try:
        return json.loads(text, **options)
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"{where}: not JSON ({error}).") from error
