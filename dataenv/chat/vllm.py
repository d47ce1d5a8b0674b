"""A model behind vLLM: a server that runs somewhere, or an engine started here, for this process only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataenv.chat.openai import OpenAI
from dataenv.chat.question import Completion, Question
from dataenv.errors import GenerationFailed, InvalidData, ServerFailing

if TYPE_CHECKING:
    from dataenv.students.vllm_engine import Engine


def vllm(source: str = "", **options: Any) -> Server | Started:
    """`Server` for an address, `Started` for a student's id, a Hub id or a folder; else what $VLLM_BASE_URL says."""
    source = source or os.environ.get("VLLM_BASE_URL") or "smollm2-135m"
    return Server(source, **options) if "://" in source else Started(source, **options)


class Server(OpenAI):
    """`vllm serve`, wherever it runs: vllm:http://HOST:PORT. `name` is for servers of several models.

    Further options are those of `openai.OpenAI`, with $VLLM_MODEL and $VLLM_API_KEY.
    """

    kind = "vllm"
    variables: Mapping[str, str] = {"name": "VLLM_MODEL", "base_url": "VLLM_BASE_URL", "key": "VLLM_API_KEY"}

    def __init__(self, url: str, *, name: str = "", **options: Any) -> None:
        super().__init__(name, base_url=f"{url.rstrip('/').removesuffix('/v1')}/v1", **options)


class Started(Server):
    """An engine started at the first question, which ends with `close` and with this process.

    Args:
        source: what it serves, as `dataenv.students.make_student` takes it.
        arguments: further ones of `vllm serve`.
        start_seconds: the longest it may take to be ready.
        options: those of `openai.OpenAI`.
    """

    def __init__(
        self, source: str, *, arguments: Sequence[str] = (), start_seconds: float = 600.0, **options: Any
    ) -> None:
        from dataenv.students import make_student

        base = getattr(make_student(source), "base", None)
        if base is None:
            raise InvalidData(f"Student '{source}' has no model that vLLM could serve; choose another.")
        super().__init__("http://localhost", name=base.id, **options)
        self.arguments, self.start_seconds = tuple(arguments), start_seconds
        self._base = base
        self._engine: Engine | None = None
        self._starting = asyncio.Lock()

    @property
    def where(self) -> str:
        return f"The vLLM engine with model '{self.name}'"

    async def complete(self, question: Question) -> Completion:
        await self._ready()
        return await super().complete(question)

    async def check(self) -> bool:
        await self._ready()
        return True

    async def close(self) -> None:
        await super().close()
        if self._engine is not None:
            engine, self._engine = self._engine, None
            await asyncio.to_thread(engine.close)

    async def _ready(self) -> None:
        async with self._starting:
            if self._engine is not None and self._engine.dead:
                await self.close()
            if self._engine is None:
                await asyncio.to_thread(self._start)

    def _start(self) -> None:
        import torch

        from dataenv.students.vllm_engine import start
        from dataenv.students.weights import best_device

        place = self._base.place()
        model = str(Path(place).absolute()) if Path(place).is_dir() else place
        try:
            # Kept from in here: whoever waits may be interrupted, and the engine must not be forgotten then.
            self._engine = start(
                ["--model", model, "--served-model-name", self.name, *self.arguments],
                torch.device(best_device()),
                start_seconds=self.start_seconds,
                reply_seconds=self.seconds,
            )
        except GenerationFailed as error:
            raise ServerFailing(str(error)) from error

    def _open(self, socket: str | None = None) -> Any:
        assert self._engine is not None
        return super()._open(self._engine.url.removeprefix("unix:"))
