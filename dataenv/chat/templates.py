"""Prompts as jinja2 templates in files, one folder per teacher or engine; what a student wrote enters only as data.

A student's answer, a task's text or another model's words may say anything, also "ignore the above". No text can be
made that a model is sure not to obey, but three things can be ruled out, and are:

* It cannot leave its quotes. `quote` puts "| " before every line of it, whatever a line may end with, so there is no
  closing mark to forge; `inline` writes it as one JSON string.
* It cannot become a turn of the conversation. Marks such as <|im_end|>, </s> or [INST] are part of a model's own
  vocabulary, and a server's tokenizer reads them as such wherever they stand; a backslash behind their first
  character makes them plain text. Control, invisible and direction-changing characters are made visible.
* It cannot be printed by mistake: `{{ text }}` is an error unless it says `quote`, `inline` or, for words of our own,
  `plain`.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta

from dataenv.errors import InvalidData

_MARK = re.compile(r"[<＜](?=[|｜])|[<＜](?=[/!]?[\w▁:.-]{1,60}[>＞])|[\[［](?=/?g?[A-Z][A-Z0-9_]{1,30}[\]］])")
_BREAK = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")


class Text(str):
    """Text that a template may print as it is."""

    __slots__ = ()


def quote(text: object, most: int = 4_000) -> Text:
    """Text of other hands as a block: "| " before each line, and no more than `most` characters of it."""
    return Text("\n".join(f"| {line}" for line in _BREAK.split(harmless(str(text), most))))


def inline(text: object, most: int = 400) -> Text:
    """Text of other hands within a line: one JSON string, quotation marks included."""
    written = json.dumps(harmless(str(text), most), ensure_ascii=False)
    return Text(_BREAK.sub(lambda end: f"\\u{ord(end[0]):04x}", written))  # those that JSON does not count as such


def harmless(text: str, most: int) -> str:
    """The text with special marks broken, odd characters made visible, and its middle left out where it is long."""
    if len(text) > most:
        text = f"{text[: most - most // 4]}\n[… {len(text) - most:,} characters left out …]\n{text[-(most // 4) :]}"
    text = _MARK.sub(lambda mark: mark[0] + "\\", text)
    return "".join(map(_visible, text)) if not (text.isascii() and text.isprintable()) else text


def _visible(character: str) -> str:
    if character in "\n\t\r" or character.isprintable() or _BREAK.match(character):
        return character
    return f"\\u{ord(character):04x}" if unicodedata.category(character)[0] == "C" else character


class Prompts:
    """The templates below a folder: `render("owner/name", ...)` fills `owner/name.jinja`.

    Undefined variables are errors (StrictUndefined), known before anything is filled in; so are values that no
    template asks for, because a misspelt one would otherwise vanish.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(self.folder),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_refuse_bare_text,
        )
        self._environment.filters |= {"quote": quote, "inline": inline, "plain": Text}
        self._needs = cache(lambda name: frozenset(self._variables(name)))

    def render(self, name: str, /, **values: Any) -> str:
        """The filled template, without the line break at its end. Raises InvalidData, naming file and variable."""
        path = self.folder / f"{name}.jinja"
        try:
            needs = self._needs(f"{name}.jinja")
            if missing := sorted(needs - values.keys()):
                raise InvalidData(f"The prompt {path} needs {' and '.join(missing)}, which it was not given.")
            if unused := sorted(values.keys() - needs):
                raise InvalidData(f"The prompt {path} was given {' and '.join(unused)}, which it does not ask for.")
            return self._environment.get_template(f"{name}.jinja").render(values)
        except jinja2.TemplateNotFound as error:
            raise InvalidData(f"There is no prompt {self.folder / str(error.name)}.") from error
        except jinja2.TemplateSyntaxError as error:
            raise InvalidData(
                f"Line {error.lineno} of the prompt {error.filename or path}: {error.message}."
            ) from error
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            if isinstance(error, InvalidData):
                raise
            file, line = _place(error) or (str(path), 0)
            raise InvalidData(f"Line {line} of the prompt {file}: {str(error).rstrip('.')}.") from error

    def _variables(self, name: str) -> Iterator[str]:
        """Those the template, and every template it includes by name, must be given."""
        assert self._environment.loader is not None
        source, _, _ = self._environment.loader.get_source(self._environment, name)
        parsed = self._environment.parse(source, filename=str(self.folder / name))
        yield from meta.find_undeclared_variables(parsed) - self._environment.globals.keys()
        for other in meta.find_referenced_templates(parsed):
            if other is not None:
                yield from self._variables(other)


def _refuse_bare_text(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Text):
        raise TypeError("text is printed bare; say '| quote' or '| inline' (or '| plain', for words of our own)")
    return value


def _place(error: BaseException) -> tuple[str, int] | None:
    """File and line of the template that an error came from."""
    found, at = None, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename.endswith(".jinja"):
            found = at.tb_frame.f_code.co_filename, at.tb_lineno
        at = at.tb_next
    return found


prompts = Prompts(Path(__file__).parent / "prompts")
"""Those that come with dataenv."""
