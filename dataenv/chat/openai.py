"""A model behind any server that speaks OpenAI's chat completions, reached with the `openai` package."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from importlib import import_module
from time import time
from typing import Any
from urllib.parse import urlsplit

import orjson

from dataenv.chat.question import Completion, Question, Trouble
from dataenv.chat.structured import in_words
from dataenv.errors import CallFailed, ChatError, InvalidData, MissingDependency, ModelRefused, ServerFailing
from dataenv.records import content_hash

HOME = "https://api.openai.com/v1"
LINE = 16
"""Calls that share a connection pool: the pool's own work grows with its square, and doubles a call's cost at 256."""
SIGN = 8.0
"""Seconds a silent server has for a sign of life."""


class OpenAI:
    """One model of an OpenAI-compatible server (OpenAI, vLLM, llama.cpp, Ollama, a gateway ...).

    Args:
        name: the model's name there; else $OPENAI_MODEL, else the one that the server has.
        base_url: of the server, with its "/v1"; else $OPENAI_BASE_URL, else OpenAI's own.
        key: sent with each call; else $OPENAI_API_KEY. It is never shown: the server's words are cleaned of it.
        seconds: the longest one try may take.
        silence: seconds without an answer after which the server must give a sign of life (its list of models), or
            the try has failed; so a slow model has all of `seconds`, and a dead server is noticed soon. None for
            servers that do nothing else while they write.
        extra: further fields of every call, {"reasoning_effort": "low"} or {"top_p": 0.9}.

    Nothing is opened before the first call.
    """

    variables: Mapping[str, str] = {"name": "OPENAI_MODEL", "base_url": "OPENAI_BASE_URL", "key": "OPENAI_API_KEY"}
    kind = "openai"

    def __init__(
        self,
        name: str = "",
        *,
        base_url: str | None = None,
        key: str | None = None,
        seconds: float = 120.0,
        silence: float | None = 12.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not seconds > 0 or (silence is not None and not silence > 0):
            raise InvalidData("A model's limits seconds and silence must be above 0.")
        self.name = name or os.environ.get(self.variables["name"], "")
        self.base_url = (base_url or os.environ.get(self.variables["base_url"]) or HOME).rstrip("/")
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname or address.username is not None:
            raise InvalidData(
                f"A server's address reads http://HOST:PORT/v1, without a user's name; {self._setting('base_url')} is "
                "something else."
            )
        self._key = (key if key is not None else os.environ.get(self.variables["key"], "")).strip()
        if not (self._key.isascii() and (self._key.isprintable())):
            raise InvalidData(f"{self._setting('key')} holds characters that no key has; copy it again.")
        self.seconds, self.silence, self.extra = seconds, silence, dict(extra or {})
        self._lines: list[_Line] = []
        self._context: ssl.SSLContext | None = None
        self._sign: asyncio.Task[bool] | None = None
        self._no_grammar: set[str] = set()
        self._only: str | None = None

    @property
    def id(self) -> str:
        return f"{self.kind}:{self.name or self.base_url}" + (f" {content_hash(self.extra)}" if self.extra else "")

    @property
    def where(self) -> str:
        return f"Model '{self.name}' at {self.base_url}" if self.name else f"The model at {self.base_url}"

    def _setting(self, what: str) -> str:
        return f"{what} ({self.variables[what]})"

    # -- one try ------------------------------------------------------------------------------------------------------

    async def complete(self, question: Question) -> Completion:
        form = None if question.json_schema is None else content_hash(question.json_schema)
        if form is None or form in self._no_grammar:
            return await self._complete(question, grammar=False)
        try:
            return await self._complete(question, grammar=True)
        except CallFailed:  # a server without grammars, or whose grammars have no such form, says so with a 400
            completion = await self._complete(question, grammar=False)
            self._no_grammar.add(form)
            return completion

    async def _complete(self, question: Question, *, grammar: bool) -> Completion:
        messages = question.messages if grammar or question.json_schema is None else in_words(question)
        limit = "max_completion_tokens" if self.base_url == HOME else "max_tokens"  # each knows but one of the names
        body: dict[str, Any] = {
            "model": await self._model_name(),
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            limit: question.max_tokens,
        }
        if question.temperature is not None:
            body["temperature"] = question.temperature
        if question.seed is not None:
            body["seed"] = question.seed
        if grammar:
            form = {"name": "answer", "schema": question.json_schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return _completion(await self._within(self._post(body)), question)

    async def _model_name(self) -> str:
        """The name given, else that of the only model there is."""
        if not self.name and self._only is None:
            names = await self._names()
            if len(names) != 1:
                has = f"the models {', '.join(names)}" if names else "no model"
                raise ModelRefused(f"The server at {self.base_url} has {has}; say which with {self._setting('name')}.")
            self._only = names[0]
        return self.name or self._only or ""

    async def check(self) -> bool:
        """As `Model.check`: whether the server has the model in its list, which some servers do not keep."""
        try:
            name = await self._model_name()
            return name in await self._names()
        except CallFailed:
            return False
        except Trouble as trouble:
            raise ServerFailing(f"{self.where} cannot be reached: {trouble.reason}.") from trouble

    async def close(self) -> None:
        lines, self._lines = self._lines, []
        for line in lines:
            await line.client.close()

    async def _names(self) -> list[str]:
        """The models the server has."""
        content = await self._within(self._get())
        try:
            models = orjson.loads(content)["data"]
            return [model["id"] for model in models if model.get("parent") is None]  # vLLM's adapters have a parent
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CallFailed(f"The server at {self.base_url} has no list of models.") from error

    # -- HTTP ---------------------------------------------------------------------------------------------------------

    async def _post(self, body: dict[str, Any]) -> bytes:
        async with self._line() as client:
            create = client.chat.completions.with_raw_response.create
            content: bytes = (await create(**body, extra_body=self.extra or None)).http_response.content
            return content

    async def _get(self, **options: Any) -> bytes:
        async with self._line() as client:
            content: bytes = (await client.models.with_raw_response.list(**options)).http_response.content
            return content

    async def _within(self, call: Coroutine[Any, Any, bytes]) -> bytes:
        """What `call` returns, within the time limits; its errors as the client knows them."""
        try:
            openai = _package()
        except MissingDependency:
            call.close()
            raise
        task = asyncio.ensure_future(call)
        try:
            async with asyncio.timeout(self.seconds):
                while not (await asyncio.wait({task}, timeout=self.silence))[0]:
                    if not await self._alive():
                        raise Trouble(f"silent for {self.silence:g} s, and no sign of life after", lost=True)
                return task.result()
        except TimeoutError:
            raise Trouble(f"no answer within {self.seconds:g} s", lost=True) from None
        except openai.APITimeoutError as error:
            raise Trouble("the connection timed out", lost=True) from error
        except openai.APIStatusError as error:
            raise self._refusal(error) from None  # the response that it holds has the key in its request
        except openai.APIConnectionError as error:
            cause = error.__cause__
            unreachable = type(cause).__name__ == "ConnectError"
            reason = self._clean(str(cause) or type(cause).__name__)
            if unreachable:
                reason = f"no server answers there ({reason}); start it, or set {self._setting('base_url')}"
            raise Trouble(reason, lost=not unreachable, unreachable=unreachable) from None
        finally:
            task.cancel()

    async def _alive(self) -> bool:
        """Whether the server says anything at all; calls that ask at the same time ask once."""
        if self._sign is None or self._sign.done():
            self._sign = asyncio.ensure_future(self._life())
        return await asyncio.shield(self._sign)

    async def _life(self) -> bool:
        openai = _package()
        try:
            await self._get(timeout=SIGN)
        except openai.APIConnectionError:
            return False
        except openai.OpenAIError:
            return True
        return True

    def _refusal(self, error: Any) -> ChatError | Trouble:
        """What a status above 399 means."""
        status = error.status_code
        said = f"{status} {self._clean(_words(error.response.content))}"
        if status in (401, 403):
            return ModelRefused(f"{self.where} refused the key: {said} Set {self._setting('key')}.")
        if status in (404, 405):
            return ModelRefused(
                f"{self.where} was not found: {said} Check {self._setting('name')} and {self._setting('base_url')}."
            )
        if status == 429 and error.code == "insufficient_quota":
            return ModelRefused(f"{self.where} refuses to work on: {said}")
        if status in (408, 409, 425, 429) or status >= 500:
            return Trouble(said.rstrip("."), wait=retry_after(error.response.headers))
        return CallFailed(f"{self.where} refused the call: {said}")

    def _clean(self, words: str) -> str:
        """Words of others on one line, without the key."""
        words = " ".join(words.split())
        return words.replace(self._key, "***") if self._key else words

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[Any]:
        """A client of `openai` with room for one more call."""
        line = next((line for line in self._lines if line.busy < LINE), None)
        if line is None:
            line = _Line(self._open())
            self._lines.append(line)
        line.busy += 1
        try:
            yield line.client
        finally:
            line.busy -= 1

    def _open(self, socket: str | None = None) -> Any:
        """A client of `openai`; `socket` is the file of a server that has no port."""
        openai = _package()
        if not self._key and self.base_url == HOME:
            raise ModelRefused(
                f"OpenAI's own server needs a key: set {self._setting('key')}, or {self._setting('base_url')} to a "
                "server that needs none."
            )
        http = import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0])  # httpx or httpx2
        if self._context is None:
            self._context = ssl.create_default_context()
        reach: dict[str, Any] = {
            "limits": http.Limits(max_connections=LINE, max_keepalive_connections=LINE),
            "verify": self._context,
        }
        if socket is not None:
            reach = {"transport": http.AsyncHTTPTransport(uds=socket, **reach)}
        return openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.base_url,
            max_retries=0,  # the client tries again by itself, within its budget
            timeout=http.Timeout(self.seconds + 1, connect=10.0),
            http_client=openai.DefaultAsyncHttpxClient(**reach),
        )


def _package() -> Any:
    """The package `openai`, which takes a second to import."""
    try:
        return import_module("openai")
    except ImportError as error:
        raise MissingDependency('Reaching a server needs openai: pip install "dataenv[chat]".') from error


class _Line:
    """A client of `openai` with a connection pool of its own."""

    def __init__(self, client: Any) -> None:
        self.client, self.busy = client, 0


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait: `Retry-After` in seconds or as a date, or OpenAI's `retry-after-ms`."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time()
            except (ValueError, TypeError, OverflowError):
                continue
        if seconds == seconds:
            return max(seconds, 0.0)
    return None


def _completion(content: bytes, question: Question) -> Completion:
    """A response's completion; the model's words where it declined. Raises Trouble where it is none."""
    try:
        reply = orjson.loads(content)
        choice = reply["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = message.get("content")
        if isinstance(text, list):  # parts, as some servers answer
            text = "".join(part.get("text", "") for part in text)
        usage = reply.get("usage") or {}
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        # A server that does not say what it used is taken to have used the most.
        return Completion(
            text=text or message.get("refusal") or "",
            finish="length" if finish == "length" else "stop",
            prompt_tokens=question.prompt_bound if prompt is None else prompt,
            completion_tokens=question.max_tokens if completion is None else completion,
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Trouble("its response is unreadable, or cut short", lost=True) from error


def _words(content: bytes) -> str:
    """The server's own words for a refusal, a sentence of at most 400 characters."""
    try:
        reply = orjson.loads(content)
        inner = reply.get("error", reply)
        words = inner if isinstance(inner, str) else inner.get("message") or inner.get("detail") or inner
    except (ValueError, AttributeError):
        words = content.decode(errors="replace")
    text = " ".join(str(words).split())[:400].rstrip(".")
    return f"{text or 'without a word'}."
