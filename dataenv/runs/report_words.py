"""How a report writes numbers, durations and text that it does not trust."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dataenv.runs.charts import finite
from dataenv.runs.config import RunConfig
from dataenv.runs.report_log import RunLog, mapping

SPACE = "\u00a0"
SHORT, LONGEST = 280, 20_000
"""Text longer than SHORT characters folds; characters beyond LONGEST are left out."""

_SECRET = re.compile(r"api_?key|secret|password|passwd|credential|authorization|(^|_)token$", re.IGNORECASE)


@dataclass(frozen=True)
class Text:
    """Text of a student, teacher or task, fit to print. `short` is all of it unless it is `long`."""

    short: str
    full: str
    long: bool
    size: int
    cut: bool

    @classmethod
    def of(cls, text: str) -> Text:
        """`text` with control and direction characters made visible and its length capped."""
        shown = visible(text[:LONGEST])
        tall = shown.count("\n") > 14
        short = "\n".join(shown[:SHORT].split("\n")[:6])[: SHORT - 40] if len(shown) > SHORT or tall else shown
        return cls(short, shown, short != shown, len(text), len(text) > LONGEST)


def visible(text: str) -> str:
    """`text` with characters that print nothing, or that reorder what is read, replaced by a sign."""
    hidden = {"Cc", "Cs", "Co"}
    return "".join(
        "\ufffd"
        if (unicodedata.category(character) in hidden and character not in "\n\t")
        or character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
        else character
        for character in text.replace("\r\n", "\n")
    )


def percent(value: object) -> str:
    """0.1612 as "16.1 %"; an en dash where there is no number."""
    number = finite(value)
    return "–" if number is None else f"{number * 100:.1f}{SPACE}%".replace("-", "−")


def points(value: object, digits: int = 1) -> str:
    """A difference of shares in percentage points with its sign: 0.153 as "+15.3", and never "-0.0"."""
    number = finite(value)
    if number is None:
        return "–"
    text = f"{number * 100:+.{digits}f}".replace("-", "−")
    return text[1:] if text.strip("+−0.") == "" else text


def plus_minus(value: object) -> str:
    """A standard error as " ± 3.2", or nothing where there is none."""
    number = finite(value)
    return "" if number is None else f"{SPACE}±{SPACE}{number * 100:.1f}"


def count(value: object) -> str:
    """A whole number with thousands separated."""
    number = finite(value)
    return "–" if number is None else f"{number:,.0f}".replace("-", "−")


def plural(number: int, noun: str) -> str:
    """ "1 row", "1,000 rows"."""
    return f"{number:,}{SPACE}{noun}{'' if number == 1 else 's'}"


def decimal(value: object, digits: int = 2) -> str:
    """A number with a fixed count of digits."""
    number = finite(value)
    return "–" if number is None else f"{number:,.{digits}f}".replace("-", "−")


def duration(value: object) -> str:
    """Seconds as "0.4 s", "42 s", "4 min 05 s" or "1 h 05 min"."""
    number = finite(value)
    if number is None:
        return "–"
    if number < 9.95:
        return f"{number:.1f}{SPACE}s"
    total = round(number)
    if total < 60:
        return f"{total}{SPACE}s"
    if total < 3600:
        return f"{total // 60}{SPACE}min {total % 60:02}{SPACE}s"
    return f"{total // 3600:,}{SPACE}h {total % 3600 // 60:02}{SPACE}min"


def memory(value: object) -> str:
    """MiB as "812 MiB" or "3.4 GiB"."""
    number = finite(value)
    if number is None:
        return "–"
    return f"{number:,.0f}{SPACE}MiB" if number < 1024 else f"{number / 1024:,.1f}{SPACE}GiB"


def settings(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Text]]:
    """Settings as flat (name, text) pairs, nested names joined by dots; what looks like a secret is hidden."""
    pairs: list[tuple[str, Text]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        if _SECRET.search(str(key)) and value:
            pairs.append((name, Text.of("(hidden)")))
        elif isinstance(value, dict) and value:
            pairs += settings(value, f"{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            pairs.append((name, Text.of(text)))
    return pairs


def commands(log: RunLog) -> list[tuple[str, str]]:
    """(why, command line) for going on with this run, doing it again, and renewing its report."""
    folder = shlex.quote(str(log.folder))
    again = ["dataenv run", *_flags(log.config)]
    lines = [] if log.end else [("Go on where it stopped", f"dataenv resume {folder}")]
    if len(again) > 1:
        lines.append(("Do it again in a new folder", " ".join(again)))
    return [*lines, ("Write this page anew", f"dataenv report {folder}")]


def _flags(config: Mapping[str, Any]) -> Iterator[str]:
    """A run's settings as flags of `dataenv run`; what looks like a secret is left out."""
    for key in (name for name in RunConfig.model_fields if name in config):
        flag, value = f"--{key.replace('_', '-')}", config[key]
        if key == "options":
            for part, options in mapping(value).items():
                for name, option in mapping(options).items():
                    if not _SECRET.search(name):
                        text = f"{part}.{name}={json.dumps(option, ensure_ascii=False)}"
                        yield f"--set {shlex.quote(visible(text))}"
        elif key == "filters":
            for one in value if isinstance(value, list) else ():
                yield f"--filter {shlex.quote(visible(str(one)))}"
        elif value is True:
            yield flag
        elif value is None and key in ("feedback", "exam"):
            yield f"{flag} 0"  # all problems there are
        elif isinstance(value, str | int | float) and value is not False and value != "":
            yield f"{flag} {shlex.quote(visible(str(value)))}"
