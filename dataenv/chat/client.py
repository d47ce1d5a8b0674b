"""The one way to ask a language model: many questions at once, every one answered or accounted for.

    client = Client("openai:gpt-5-mini", cache="runs/first/chat")
    for answer in client.ask(["What is 2 + 2?", Question.of("Three fruits.", json_schema=FRUITS)]):
        ...  # an Answer, or a Failure that says why there is none

A question goes through these hands, each of which can be read by itself: `tape` and `cache` (is it known?), `budget`
(may it be asked?), `breaker` (is the server well?), the model (one try, within its time limit), and `structured` (has
the answer the form that was asked for?).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from weakref import WeakValueDictionary

from dataenv.chat import make_model, structured
from dataenv.chat.breaker import Breaker
from dataenv.chat.budget import ChatBudget, Prices
from dataenv.chat.cache import Cache
from dataenv.chat.ledger import Journal, Ledger
from dataenv.chat.loop import run
from dataenv.chat.question import Answer, Completion, Failure, Model, Question, Trouble
from dataenv.chat.structured import Mismatch
from dataenv.chat.tape import Tape
from dataenv.errors import BadAnswer, CallFailed, ChatError, InvalidData
from dataenv.progress import report

T = TypeVar("T")


class Client:
    """Asks one model.

    Args:
        model: an id of `dataenv.chat.models` ("openai:gpt-5-mini", "local:smollm2-135m"), or a `Model`.
        concurrency: calls under way at a time.
        tries: how often a call is tried, where trying again may help.
        wait, longest_wait: seconds before the second try and the most before any later one. The n-th wait is drawn
            from 0 to min(longest_wait, wait * 2^(n-1)): exponential back-off with full jitter, so that calls that
            failed together do not come back together. A server's own Retry-After counts instead, up to `patience`.
        patience: seconds of nothing but failures after which the server is given up; see `Breaker`.
        budget, prices: the most tokens and dollars to use, and what a million tokens cost.
        cache: a folder for completions by question, shared by any number of runs; None keeps none.
        usage: a file in which what was used is kept, and goes on where it ended; None keeps it in memory only.
        tape: a `Tape` that records what is asked and answered, or replays it in place of the model.

    The constructor opens nothing. `ledger` counts what was used.
    """

    def __init__(
        self,
        model: str | Model,
        *,
        concurrency: int = 16,
        tries: int = 8,
        wait: float = 0.5,
        longest_wait: float = 30.0,
        patience: float = 45.0,
        budget: ChatBudget | None = None,
        prices: Prices | None = None,
        cache: Path | str | None = None,
        usage: Path | str | None = None,
        tape: Tape | None = None,
    ) -> None:
        if min(concurrency, tries) < 1 or not all(seconds >= 0 for seconds in (wait, longest_wait, patience)):
            raise InvalidData("A client's concurrency and tries must be at least 1, its waits and patience at least 0.")
        self.model = make_model(model) if isinstance(model, str) else model
        self.budget = budget or ChatBudget()
        self.prices = prices or Prices()
        if self.budget.dollars is not None and self.prices == Prices():
            raise InvalidData(
                "A budget of dollars needs to know what tokens cost: give prices=Prices(prompt, completion)."
            )
        self.tries, self.wait, self.longest_wait, self.patience = tries, wait, longest_wait, patience
        self.cache = None if cache is None else Cache(cache)
        self.tape = tape
        self.journal = None if usage is None else Journal(usage)
        self.ledger = Ledger() if self.journal is None else Ledger(**self.journal.read())
        self.breaker = Breaker(self.model.where, patience)
        self._slots = asyncio.Semaphore(concurrency)
        self._twins: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._process: int | None = None
        self._jitter = random.Random()  # of no stream: waits change no result, and must differ between processes

    def ask(self, questions: Sequence[Question | str]) -> list[Answer | Failure]:
        """What came of each question, in order: its answer, or the failure that stands in its place.

        Raises ServerFailing, ModelRefused or NotOnTape where no call can succeed, once everything under way has ended:
        their `results` are the list as far as it came. Raises InvalidData for a form that is no JSON Schema, before
        anything is asked.
        """
        asked = [Question.of(question) if isinstance(question, str) else question for question in questions]
        for schema in (question.json_schema for question in asked if question.json_schema is not None):
            structured.check(schema)
        begun = time.perf_counter()
        try:
            results = self._run(self._ask(asked))
        finally:
            self.ledger.seconds += time.perf_counter() - begun
        for result in results:
            if isinstance(result, Failure) and result.error.general:
                raise type(result.error)(str(result.error), results)
        return results

    def check(self) -> None:
        """Find out whether the model answers, before anything depends on it; a replayed tape always does.

        Raises ServerFailing (with the address that was tried), ModelRefused (with the server's own words), or whatever
        a first short question comes to.
        """
        if (self.tape is None or self.tape.recording) and not self._run(self.model.check()):
            (result,) = self._run(self._ask([Question.of("Say: yes.", max_tokens=16)], stored=False))
            if isinstance(result, Failure):
                raise result.error

    def close(self) -> None:
        """Free connections, engine and tape; safe to call twice."""
        self._run(self.model.close())
        for file in (self.tape, self.journal):
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        self._process = self._process or os.getpid()
        if self._process != os.getpid():
            work.close()
            raise ChatError("This client was used before its process was forked; make one in the process that asks.")
        return run(work)

    async def _ask(self, questions: Sequence[Question], stored: bool = True) -> list[Answer | Failure]:
        done = 0

        async def one(question: Question) -> Answer | Failure:
            nonlocal done
            async with self._slots:
                result = await self._answer(question, stored)
            done += 1
            report("ask", done, len(questions))
            return result

        tasks = [asyncio.ensure_future(one(question)) for question in questions]
        try:
            with self.breaker.asking():
                return await asyncio.gather(*tasks)
        except BaseException:  # an interrupt, or what is no failure of a call: a full disk, a bug
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _answer(self, question: Question, stored: bool) -> Answer | Failure:
        used = _Used(self.ledger, self.journal if stored else None)
        try:
            completion = await self._complete(question, used, stored)
            data, repaired = None, False
            if question.json_schema is not None:
                try:
                    data = structured.read(completion.text, question.json_schema)
                except Mismatch as wrong:
                    self.ledger.repairs += 1
                    repaired = True
                    again = structured.repair(question, completion.text, str(wrong))
                    completion = await self._complete(again, used, stored)
                    data = structured.read(completion.text, question.json_schema)
        except Mismatch as wrong:
            return self._failure(
                BadAnswer(f"The answer has not the form asked for, and its repair has not: {wrong}."), used
            )
        except ChatError as error:
            return self._failure(error, used)
        self.ledger.answers += 1
        return Answer(
            text=completion.text,
            data=data,
            finish=completion.finish,
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            dollars=self.prices.of(used.prompt_tokens, used.completion_tokens),
            retries=used.retries,
            repaired=repaired,
            cached=used.calls == 0,
        )

    def _failure(self, error: ChatError, used: _Used) -> Failure:
        self.ledger.failed(error)
        return Failure(error, used.retries)

    async def _complete(self, question: Question, used: _Used, stored: bool) -> Completion:
        """From tape or cache, else from the model; equal questions asked at once are asked one after the other."""
        if not stored or (self.tape is None and self.cache is None):
            return await self._call(question, used)
        key = question.key(self.model.id)
        lock = self._twins.setdefault(key, asyncio.Lock())
        async with lock:
            if self.tape is not None and (found := self.tape.get(key, question)) is not None:
                self.ledger.cached += 1
                return found
            found = None if self.cache is None else self.cache.get(key)
            if found is not None:
                self.ledger.cached += 1
            else:
                try:
                    found = await self._call(question, used)
                except ChatError as error:
                    if self.tape is not None and not error.general:
                        self.tape.put(key, question, error)
                    raise
                if self.cache is not None:
                    self.cache.put(key, question, found)
            if self.tape is not None:
                self.tape.put(key, question, found)
            return found

    async def _call(self, question: Question, used: _Used) -> Completion:
        """One call of the model, with as many tries as it takes and may have."""
        for tried in range(1, self.tries + 1):
            try:
                return await self._try(question, used)
            except Trouble as trouble:
                if trouble.wait is not None and trouble.wait > self.patience:
                    raise CallFailed(
                        f"{self.model.where} asks to wait {trouble.wait:,.0f} s, longer than the client's patience of "
                        f"{self.patience:g} s ({trouble.reason})."
                    ) from trouble
                if tried == self.tries:
                    raise CallFailed(
                        f"{self.model.where} failed {tried} times; at last: {trouble.reason}."
                    ) from trouble
                most = min(self.longest_wait, self.wait * 2 ** (tried - 1))
                async with self.breaker.watch():  # which waits out a Retry-After, and ends the wait when it opens
                    await asyncio.sleep(self._jitter.uniform(0, most))
            used.add(retries=1)
        raise AssertionError("unreachable")

    async def _try(self, question: Question, used: _Used) -> Completion:
        async with self.budget.call(question, self.prices) as charge, self.breaker.watch():
            charge.in_full()  # also if this is cancelled
            begun = time.monotonic()
            used.add(calls=1)
            try:
                completion = await self.model.complete(question)
            except Trouble as trouble:
                if trouble.lost:
                    used.add(lost=1)
                else:
                    charge.nothing()
                self.breaker.failed(trouble, begun)
                raise
            except ChatError as error:
                charge.nothing()
                if error.general:
                    self.breaker.open(error)
                else:
                    self.breaker.succeeded()  # refused, but by a server that is well
                raise
            charge.exactly(completion)
            self.breaker.succeeded()
        used.add(
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            dollars=charge.dollars,
        )
        return completion


@dataclass
class _Used:
    """What one question has used so far, which ledger and journal are told, too."""

    ledger: Ledger
    journal: Journal | None
    calls: int = 0
    retries: int = 0
    lost: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0

    def add(self, **used: float) -> None:
        for name, n in used.items():
            setattr(self, name, getattr(self, name) + n)
            setattr(self.ledger, name, getattr(self.ledger, name) + n)
        if self.journal is not None:
            self.journal.write(used)
