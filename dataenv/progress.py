"""Who is doing what, and how far: parts report their phase here, whoever listens (a progress bar, a clock) hears it.

A context variable carries the listener, so that no function passes a callback along.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Listener(Protocol):
    def __call__(self, phase: str, done: int, total: int) -> None:
        """`done` of `total` units of `phase` are finished; total 0 means the amount is not known."""


_listener: ContextVar[Listener | None] = ContextVar("dataenv_progress", default=None)


def report(phase: str, done: int, total: int) -> None:
    """Tell the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(phase, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send reports made inside the block to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def called(name: str) -> Iterator[None]:
    """Pass reports made inside the block on as of the phase `name`, whatever they call themselves."""
    outer = _listener.get()
    if outer is None:
        yield
        return

    def rename(phase: str, done: int, total: int) -> None:
        outer(name, done, total)

    with listening(rename):
        yield


class Clock(dict[str, float]):
    """Seconds spent per phase: `with clock("teach"): ...` adds to `clock["teach"]`."""

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        report(phase, 0, 0)
        start = time.perf_counter()
        try:
            yield
        finally:
            self[phase] = self.get(phase, 0.0) + time.perf_counter() - start
