"""One private thread with an event loop, on which every client of this process talks; callers stay synchronous."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_loops: dict[int, asyncio.AbstractEventLoop] = {}
_starting = threading.Lock()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Carry out `work` on the private thread and wait for it; an interrupt (Ctrl-C) cancels it."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    """This process's: a fork takes no thread along, and starts another."""
    process = os.getpid()
    with _starting:
        if process not in _loops:
            _loops[process] = asyncio.new_event_loop()
            threading.Thread(target=_loops[process].run_forever, name="dataenv-chat", daemon=True).start()
        return _loops[process]
