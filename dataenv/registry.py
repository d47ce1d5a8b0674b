"""Names for parts: `Registry.make("id:argument", **options)` finds a factory by id and builds the part.

Built-in parts are one line each, `id -> "module:attribute"`, imported only when used. Other packages add theirs
through the entry-point group `dataenv.<kind>s`, or at run time with `register`.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from dataenv.errors import InvalidData, UnknownId


@dataclass(frozen=True)
class Entry:
    """One registered part: where it is, and one line on what it is."""

    target: str | Callable[..., Any]
    summary: str = ""

    def load(self) -> Callable[..., Any]:
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        found: Callable[..., Any] = getattr(import_module(module), attribute)
        return found


def nearest(id: str, names: Iterable[str]) -> list[str]:
    """Up to three of `names` that `id` may be a slip of, the likeliest first: compared as a whole, and with the words
    of each, so that "eror" finds "error-proportional"."""

    def likeness(name: str) -> tuple[float, float]:
        whole, *parts = (difflib.SequenceMatcher(None, id, part).ratio() for part in (name, *name.split("-")))
        return max(whole, *parts), whole

    found = sorted(((*likeness(name), name) for name in names), key=lambda one: (-one[0], -one[1]))[:3]
    return [name for like, _, name in found if like >= 0.5 and like > found[0][0] - 0.25]


def meant(id: str, names: Iterable[str]) -> str:
    """The end of a clause that asks which of `names` was meant; empty where none is near."""
    near = " or ".join(f"'{name}'" for name in nearest(id, names))
    return f"; did you mean {near}?" if near else ""


def no_option(
    kind: str,
    id: str,
    error: TypeError,
    options: Iterable[str],
    *factories: Callable[..., Any],
    own: Iterable[str] = (),
) -> str | None:
    """What to say where `error` is that of an option that the part does not have; None where it is another.

    A factory may pass options on, so they are looked for in each call on the way to the one that refused it. Those
    that are the caller's `own` are not for others to set.
    """
    found = re.search(r"([\w.<>]+?)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if found is None or found[2] not in options:
        return None
    has, called = list[str](), list(factories)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        near = (*frame.f_locals.values(), *frame.f_globals.values())
        called += [one for one in near if isinstance(one, type) and one.__qualname__ == found[1]]
        code = frame.f_code
        if code.co_flags & inspect.CO_VARKEYWORDS and code is not Registry.make.__code__:
            positional = code.co_argcount
            has += code.co_varnames[positional : positional + code.co_kwonlyargcount]
    for one in called:
        has += _options(one)
    names = [name for name in dict.fromkeys(has) if name not in own]
    listed = f" It has: {', '.join(names)}." if names else ""
    return f"{kind} '{id}' has no option '{found[2]}'{meant(found[2], names) or '.'}{listed}"


def _options(factory: Callable[..., Any]) -> list[str]:
    """The names a factory takes by keyword: those for keywords alone, where it has such, else all with a default."""
    try:
        taken = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # of some built-in ones nothing is known
        return []
    only = [one.name for one in taken if one.kind is one.KEYWORD_ONLY]
    return only or [one.name for one in taken if one.kind is one.POSITIONAL_OR_KEYWORD and one.default is not one.empty]


class Registry:
    """The ids of one kind of part ("task", "student", ...)."""

    def __init__(self, kind: str, entries: Mapping[str, tuple[str, str]]) -> None:
        self.kind = kind
        self.plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
        self._entries = {id: Entry(*entry) for id, entry in entries.items()}
        self._plugins_read = False

    def register(self, id: str, target: str | Callable[..., Any], summary: str = "") -> None:
        """Add a part: `target` is a factory or "module:attribute"."""
        if id in self._entries:
            raise InvalidData(f"{self.kind} id '{id}' is already taken by {self._entries[id].target}; choose another.")
        self._entries[id] = Entry(target, summary)

    def entries(self) -> dict[str, Entry]:
        """Every id, plug-ins included, in order."""
        if not self._plugins_read:
            self._plugins_read = True
            for point in entry_points(group=f"dataenv.{self.plural}"):
                self._entries.setdefault(point.name, Entry(point.value, f"from {point.module}"))
        return dict(sorted(self._entries.items()))

    def _from_file(self, path: Path, name: str) -> Callable[..., Any]:
        """What is called `name` in the Python file at `path`."""
        if not path.is_file():
            raise InvalidData(f"There is no file {path}; '{self.kind}' FILE.py:NAME takes what has that name in it.")
        # Data classes look their module up; by its path, a file called random.py hides nothing of that name.
        module = sys.modules[str(path.resolve())] = ModuleType(str(path.resolve()))
        module.__file__ = str(path)
        try:
            exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
        except (Exception, SystemExit) as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
            line = getattr(error, "lineno", None) or (lines[-1] if lines else "?")
            raise InvalidData(f"{path}, line {line}: {type(error).__name__}: {error}.") from error
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
        if name not in own:
            known = ", ".join(own) or "nothing of its own"
            raise UnknownId(f"{path} has no '{name}'; it has {known}: write {path}:NAME.")
        found: Callable[..., Any] = getattr(module, name)
        return found

    def make(self, spec: str, **options: Any) -> Any:
        """Build the part that `spec` ("id" or "id:argument") names; the argument goes first, options by keyword.

        "file.py:Name" is a part of the user's own: what has that name in that file, called with the options.
        """
        id, colon, argument = spec.partition(":")
        if id.endswith(".py"):
            factory, id, colon, usage = self._from_file(Path(id), argument), spec, "", None
        else:
            entries = self.entries()
            if id not in entries:
                raise UnknownId(
                    f"No {self.kind} is called '{id}'{meant(id, entries) or ';'} 'dataenv list {self.plural}' shows "
                    "all of them."
                )
            factory, usage = entries[id].load(), re.search(rf"\b{re.escape(id)}:\S*\w", entries[id].summary)
        try:
            return factory(argument, **options) if colon else factory(**options)
        except TypeError as error:
            if told := no_option(self.kind, id, error, options, factory, own=("argument",)):
                raise InvalidData(told) from error
            # A signature error is here or where the factory passes options on; any other is a bug and keeps its
            # traceback.
            own = error.__traceback__ is not None and error.__traceback__.tb_next is None
            if own and usage and not colon and "required positional" in str(error):
                raise InvalidData(f"{self.kind} '{id}' needs an argument: write {usage[0]}.") from error
            if own:
                raise InvalidData(f"{self.kind} '{id}' cannot be built: {error}.") from error
            raise
