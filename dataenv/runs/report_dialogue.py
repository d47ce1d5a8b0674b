"""The dialogue of a report: per step what the teacher saw, thought and planned, what was written, what was rejected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from dataenv.engines.drops import Dropped
from dataenv.records import Example
from dataenv.runs.report_answers import Row, shown_row
from dataenv.runs.report_log import RunLog, json_lines, mapping, rows_taught, whole
from dataenv.runs.report_words import Text

_ROWS = 3
_REQUESTS = 60


@dataclass(frozen=True)
class Exchange:
    """One question to the language model, as the page shows it."""

    about: str
    saw: Text
    wrote: Text
    reasoning: Text
    mended: list[str]
    refused: Text


@dataclass(frozen=True)
class Step:
    """What was said in one step, and what came of it."""

    step: int
    exchanges: list[Exchange]
    requests: list[dict[str, Any]]
    left_out: int
    """Requests beyond those shown."""
    written: list[Row]
    asked: int | None
    taught: int
    dropped: dict[str, int]
    rejected: list[tuple[str, Row]]
    """Rows that were not taught, a few of each reason, with the reason."""
    calls: int
    tokens: int
    dollars: float | None


def dialogue(log: RunLog) -> list[Step]:
    """The steps of a run in which a language model had a say; none of any other run."""
    steps = [event for event in log.steps if isinstance(event.get("chat"), dict) or event.get("dialogue")]
    return [_step(log.folder / "steps" / f"{event['step']:03d}", event) for event in steps]


def _step(folder: Path, event: dict[str, Any]) -> Step:
    chat = mapping(event.get("chat"))
    requests = [mapping(request) for request in _list(event.get("requests"))]
    dropped = {str(reason): whole(n) or 0 for reason, n in mapping(event.get("dropped")).items()}
    dollars = chat.get("dollars")
    return Step(
        step=event["step"],
        exchanges=list(_exchanges(folder)),
        requests=[_request(request) for request in requests[:_REQUESTS]],
        left_out=max(len(requests) - _REQUESTS, 0),
        written=list(_written(folder)),
        asked=whole(event.get("asked")),
        taught=rows_taught(event),
        dropped={reason: n for reason, n in dropped.items() if n},
        rejected=list(_rejected(folder)),
        calls=whole(chat.get("calls")) or 0,
        tokens=(whole(chat.get("prompt_tokens")) or 0) + (whole(chat.get("completion_tokens")) or 0),
        dollars=float(dollars) if isinstance(dollars, int | float) and dollars > 0 else None,
    )


def _exchanges(folder: Path) -> Iterator[Exchange]:
    for line in json_lines(folder / "dialogue.jsonl"):
        try:
            said = mapping(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue
        texts = {name: Text.of(str(said.get(name, ""))) for name in ("saw", "wrote", "reasoning", "refused")}
        mended = [Text.of(str(words)).full for words in _list(said.get("mended"))]
        yield Exchange(about=Text.of(str(said.get("about", ""))).full, mended=mended, **texts)


def _request(request: dict[str, Any]) -> dict[str, Any]:
    words = {name: Text.of(str(request.get(name) or "")) for name in ("skill", "subskill", "instruction")}
    return {**words, "rows": request.get("rows"), "difficulty": request.get("difficulty")}


def _written(folder: Path) -> Iterator[Row]:
    """The first rows of the step that were accepted, each of another request where there are so many."""
    seen: set[Any] = set()
    later: list[Example] = []
    for line in json_lines(folder / "rows.jsonl"):
        try:
            example = Example.model_validate_json(line)
        except ValidationError:
            continue
        if example.provenance.get("request") in seen:
            later.append(example)
            continue
        seen.add(example.provenance.get("request"))
        yield shown_row(example)
        if len(seen) == _ROWS:
            return
    yield from (shown_row(example) for example in later[: _ROWS - len(seen)])


def _rejected(folder: Path) -> Iterator[tuple[str, Row]]:
    for line in json_lines(folder / "rejected.jsonl"):
        try:
            one = Dropped.model_validate_json(line)
        except ValidationError:
            continue
        yield Text.of(one.reason).full, shown_row(one.row)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
