"""How many tokens and dollars a client may use: an upper bound is set aside before each call, the truth kept after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dataenv.chat.question import Completion, Question
from dataenv.errors import BudgetSpent, InvalidData


@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Dollars."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


class ChatBudget:
    """The most tokens (prompt and completion together) and dollars that may be used; None for no limit.

    A call is made only if its upper bound (the prompt's bytes, and all of `max_tokens`) fits beside what is used and
    what the calls under way have set aside; where theirs may turn out smaller it waits. So the limit is passed only by
    what a server takes above its own bound, at most one call per slot. Used dollars and tokens can be given, to go on
    from an earlier ledger.
    """

    def __init__(
        self,
        tokens: int | None = None,
        dollars: float | None = None,
        *,
        used_tokens: int = 0,
        used_dollars: float = 0.0,
    ) -> None:
        for name, value in (("tokens", tokens), ("dollars", dollars)):
            if value is not None and not value >= 0:
                raise InvalidData(f"A budget's {name} must be 0 or more; it is {value}.")
        self.tokens, self.dollars = tokens, dollars
        self.used_tokens, self.used_dollars = used_tokens, used_dollars
        self._aside_tokens, self._aside_dollars, self._calls = 0, 0.0, 0
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def call(self, question: Question, prices: Prices) -> AsyncIterator[Charge]:
        """Holds room for one call; leaving it charges what the block has set, nothing if it has set nothing.

        Raises BudgetSpent when there is no room, and nothing under way that could make some.
        """
        tokens = question.prompt_bound + question.max_tokens
        bound = tokens, prices.of(question.prompt_bound, question.max_tokens)
        charge = Charge(prices, bound)
        while short := self._short(*bound):
            if not self._calls:
                raise BudgetSpent(short)
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self._set_aside(1, *bound)
        try:
            yield charge
        finally:
            self._set_aside(-1, -bound[0], -bound[1])
            self.used_tokens += charge.tokens
            self.used_dollars += charge.dollars
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():  # its task was cancelled
                    waiter.set_result(None)

    def _set_aside(self, calls: int, tokens: int, dollars: float) -> None:
        self._calls += calls
        self._aside_tokens += tokens
        self._aside_dollars = self._aside_dollars + dollars if self._calls else 0.0  # no rounding error stays

    def _short(self, tokens: int, dollars: float) -> str:
        """Why there is no room for a call, "" where there is."""
        if self.tokens is not None and self.used_tokens + self._aside_tokens + tokens > self.tokens:
            return (
                f"The budget has {self.tokens - self.used_tokens:,} of {self.tokens:,} tokens left, and the next call "
                f"may need {tokens:,}: raise it, or lower max_tokens."
            )
        if self.dollars is not None and self.used_dollars + self._aside_dollars + dollars > self.dollars:
            return (
                f"The budget has ${self.dollars - self.used_dollars:.4f} of ${self.dollars:.2f} left, and the next "
                f"call may cost ${dollars:.4f}: raise it, or lower max_tokens."
            )
        return ""


@dataclass
class Charge:
    """What one call is charged: nothing before it is made, then its upper bound, until something better is known."""

    prices: Prices
    bound: tuple[int, float]
    tokens: int = 0
    dollars: float = 0.0

    def nothing(self) -> None:
        """The server did no work for this call."""
        self.tokens, self.dollars = 0, 0.0

    def in_full(self) -> None:
        """The call may take all that was set aside."""
        self.tokens, self.dollars = self.bound

    def exactly(self, completion: Completion) -> None:
        """What the call took."""
        self.tokens = completion.prompt_tokens + completion.completion_tokens
        self.dollars = self.prices.of(completion.prompt_tokens, completion.completion_tokens)
