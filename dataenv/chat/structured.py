"""Answers of a given form: reading JSON out of what a model wrote, holding it against its schema, asking once more.

A model may be held to the schema while it writes, by the server's grammar; what it wrote is read and checked here in
either case, for a server can ignore what it is asked, and a limit can cut an answer short.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from dataenv.chat.question import Message, Question
from dataenv.chat.templates import prompts
from dataenv.errors import InvalidData, MissingDependency

_FENCE = re.compile(r"```[\w-]*\s*\n(.*?)```", re.S)
_LONE = re.compile(r"[\ud800-\udfff]")
_STARTS = 200
"""Opening braces in prose at which an answer is looked for."""
_SHOWN = 6_000
"""Characters of a wrong answer that its author is shown again."""


class Mismatch(Exception):
    """What a model wrote has not the form that was asked for; the message says why, for people and for the model."""


def check(schema: Mapping[str, Any]) -> None:
    """Raises InvalidData where `schema` is no JSON Schema of an object."""
    _validator(_text(schema))


def read(text: str, schema: Mapping[str, Any]) -> Any:
    """The JSON in `text` (all of it, or in a fence, or the first that stands in prose) that fits `schema`.

    Raises Mismatch. Never hands on what no file could be written with: NaN, infinities, whole numbers beyond 64 bits,
    halves of surrogate pairs.
    """
    data = _find(text)
    validator = _validator(_text(schema))
    try:
        wrong = min(validator.iter_errors(data), key=lambda error: (len(error.path), str(error.path)), default=None)
    except RecursionError:
        raise Mismatch("it is nested too deeply") from None
    except Exception as error:
        if "Unresolvable" not in [kind.__name__ for kind in type(error).__mro__]:
            raise
        raise InvalidData(f"The form asked for refers to what is not in it: {error}.") from error
    if wrong is not None:
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in wrong.absolute_path)
        reason = wrong.message if len(wrong.message) <= 200 else f"{wrong.message[:100]} … {wrong.message[-90:]}"
        raise Mismatch(f"at ${place}: {reason}")
    return data


def in_words(question: Question) -> tuple[Message, ...]:
    """The messages of a question that asks for a form, with the schema written out: for servers without a grammar."""
    *before, last = question.messages
    form = prompts.render("structured/form", schema=_text(question.json_schema or {}))
    return (*before, Message(role=last.role, content=f"{last.content}\n\n{form}"))


def repair(question: Question, wrong: str, reason: str) -> Question:
    """Asks once more: the conversation, the wrong answer (its start, if it is long), and what is wrong with it."""
    again = prompts.render("structured/repair", reason=reason, schema=_text(question.json_schema or {}))
    turns = (Message(role="assistant", content=wrong[:_SHOWN]), Message(role="user", content=again))
    return question.model_copy(update={"messages": (*question.messages, *turns)})


def _find(text: str) -> Any:
    if not text.strip():
        raise Mismatch("it is empty")
    for part in (text, *_FENCE.findall(text)):
        try:
            return _load(part)
        except ValueError:
            continue
    for start in islice(re.finditer("{", text), _STARTS):
        try:
            return _load(text, start.start())
        except ValueError:
            continue
    raise Mismatch("it is no JSON, or was cut short")


def _load(text: str, start: int | None = None) -> Any:
    """All of `text`, or the first value that stands at `start`. Raises ValueError."""
    try:
        data = _DECODER.decode(text) if start is None else _DECODER.raw_decode(text, start)[0]
        return _mend(data)
    except RecursionError:
        raise Mismatch("it is nested too deeply") from None


def _not_a_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _int(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"{text[:20]} is too large")
    return value


_DECODER = json.JSONDecoder(parse_constant=_not_a_number, parse_float=_float, parse_int=_int)


def _mend(data: Any) -> Any:
    """Halves of surrogate pairs, which no file could be written with, become the replacement character."""
    if isinstance(data, str):
        return _LONE.sub("\ufffd", data)
    if isinstance(data, list):
        return [_mend(value) for value in data]
    if isinstance(data, dict):
        return {_mend(name): _mend(value) for name, value in data.items()}
    return data


def _text(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, ensure_ascii=False)


@lru_cache(256)
def _validator(schema: str) -> Any:
    try:
        from jsonschema import Draft202012Validator, SchemaError
    except ImportError as error:
        raise MissingDependency('Answers of a form need jsonschema: pip install "dataenv[chat]".') from error
    parsed = json.loads(schema)
    try:
        Draft202012Validator.check_schema(parsed)
    except SchemaError as error:
        raise InvalidData(f"The form asked for is no JSON Schema: {error.message}.") from error
    if parsed.get("type") != "object":
        raise InvalidData('The form asked for must be a JSON object ("type": "object" at its top).')
    return Draft202012Validator(parsed)
