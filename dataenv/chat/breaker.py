"""A circuit breaker: stops asking a server that does nothing but fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from dataenv.chat.question import Trouble
from dataenv.errors import ChatError, ServerFailing


class Breaker:
    """Opens `patience` seconds after the first of two or more failed tries began, if none has succeeded since.

    It then ends the tries under way, so that silence cannot outlast it. Where a server has asked to wait
    (Retry-After, up to `patience`), every call is held back, and what comes after has up to a quarter of `patience`
    more. A server that could never be reached opens it at the third try. Once open, the next to ask may try again, and
    the first try that fails opens it anew. Time in which nobody asks does not count.
    """

    def __init__(self, where: str, patience: float) -> None:
        self.where, self.patience = where, patience
        self.error: ChatError | None = None
        """Why it is open."""
        self._reached = self._trial = False
        self._since: float | None = None
        self._failures, self._last = 0, ""
        self._quiet_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._watched: set[asyncio.Timeout] = set()
        self._asking, self._rested = 0, 0.0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While somebody asks: time counts, and an open breaker lets calls try again."""
        if self.error is not None:
            self.error, self._trial, self._quiet_until = None, True, 0.0
            self._since, self._failures = None, 0
        elif not self._asking and self._since is not None:
            self._since += time.monotonic() - self._rested
            self._look()
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._rested = time.monotonic()
                if self._timer is not None:
                    self._timer.cancel()

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[None]:
        """Around a try, or a wait: first waits while the server has asked to; raises what opens it meanwhile."""
        try:
            async with asyncio.timeout(None) as limit:
                self._watched.add(limit)
                try:
                    while (wait := self._quiet_until - time.monotonic()) > 0 and self.error is None:
                        await asyncio.sleep(wait)
                    self._refuse()
                    yield
                finally:
                    self._watched.discard(limit)
        except TimeoutError:
            if limit.expired():
                self._refuse()
            raise

    def _refuse(self) -> None:
        """Raise why it is open, a new error each time: they gather the frames that each has come through."""
        if self.error is not None:
            raise type(self.error)(str(self.error)) from None

    def succeeded(self) -> None:
        self._reached, self._trial = True, False
        self._since, self._failures = None, 0

    def failed(self, trouble: Trouble, begun: float) -> None:
        """Note a try that began at `begun` (monotonic seconds) and failed."""
        self._failures += 1
        self._last = trouble.reason
        self._reached |= not trouble.unreachable
        self._since = begun if self._since is None else min(self._since, begun)
        if trouble.wait is not None and trouble.wait <= self.patience:
            self._quiet_until = max(self._quiet_until, time.monotonic() + trouble.wait)
        if self._trial or (not self._reached and self._failures >= 3):
            self._open_failing()
        elif self._failures >= 2:
            self._look()

    def open(self, error: ChatError) -> None:
        """Open for `error`, which concerns every call."""
        if self.error is None:
            self.error = error
            now = asyncio.get_running_loop().time()
            for limit in self._watched:
                limit.reschedule(now)

    def _look(self) -> None:
        """Open if it is time, else look again when it may be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._since is None or self._failures < 2 or self.error is not None:
            return
        due, more = self._since + self.patience, self.patience / 4
        left = min(max(due, self._quiet_until + more), due + more) - time.monotonic()
        if left <= 0:
            self._open_failing()
        else:
            self._timer = asyncio.get_running_loop().call_later(left, self._look)

    def _open_failing(self) -> None:
        assert self._since is not None
        if self._reached:
            seconds = time.monotonic() - self._since
            did = f"has done nothing but fail for {seconds:.0f} s ({self._failures} times; at last: {self._last})"
            self.open(ServerFailing(f"{self.where} {did}; try again when it is well."))
        else:
            self.open(ServerFailing(f"{self.where} cannot be reached: {self._last}."))
