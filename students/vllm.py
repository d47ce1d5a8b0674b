"""vLLM as a generator: an engine that stays up beside the student and is handed each new adapter while it runs.

Both ways are in token ids, so that prompts are encoded and replies judged exactly as with every other generator.

Each version of the student's weights is an adapter with a name and a folder of its own. vLLM's prefix cache keys its
blocks by that name (vllm/v1/core/kv_cache_utils.py), so that what an old version computed is never read by a new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dataenv.errors import GenerationFailed, InvalidData
from dataenv.progress import report
from dataenv.students.generators import Sampling
from dataenv.students.vllm_engine import BROKEN, Engine, Refused, connect, start

if TYPE_CHECKING:
    from dataenv.students.causal_lm import CausalLM

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The adapter sizes vLLM can reserve room for."""
IN_FLIGHT = 256
"""Requests under way at a time."""
TOGETHER = 16
"""Greedy prompts in one request."""


class Vllm:
    """Replies from a vLLM engine, for students of the LoRA method.

    Args:
        url: of a running server, "http://HOST:PORT"; "" starts an engine on this machine at the first answer, which
            ends with this process, however that ends. docs/vllm.md says how to start a server.
        arguments: further arguments of `vllm serve`, for an engine started here.
        start_seconds: the longest an engine may take to be ready.
        reply_seconds: the longest time without any reply.

    Students over one base may share one object. While a student is taught, an engine started here sleeps (on a GPU it
    then holds no memory there). On any failure or interrupt it is ended, and the next answer starts another.
    """

    def __init__(
        self,
        url: str = "",
        *,
        arguments: Sequence[str] = (),
        start_seconds: float = 600.0,
        reply_seconds: float = 600.0,
    ) -> None:
        if url and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
            raise InvalidData(f"A vLLM server's address reads http://HOST:PORT; it is '{url}'.")
        if url and arguments:
            raise InvalidData(f"Arguments are for an engine started here; the server at {url} has its own.")
        if min(start_seconds, reply_seconds) <= 0:
            raise InvalidData("vLLM's limits start_seconds and reply_seconds must be above 0.")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.arguments = tuple(arguments)
        self.start_seconds, self.reply_seconds = start_seconds, reply_seconds
        self._engine: Engine | None = None
        self._settings: tuple[str, ...] = ()

    def generate(self, student: CausalLM, prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        """As `generators.Generator.generate`.

        Raises InvalidData when student, prompt and engine do not fit, MissingDependency without vLLM.
        """
        if student.method != "lora":
            raise InvalidData(
                f"vLLM is handed adapters, and student '{student.name}' trains in full: give it method='lora' or "
                "generator='batched'."
            )
        if not prompts:
            return []
        try:
            engine = self._ready(student)
            limits = [min(sampling.max_new_tokens, student.context - len(prompt)) for prompt in prompts]
            most = max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True))
            if most > engine.context:
                raise InvalidData(
                    f"A prompt with its reply may need {most} tokens and the {engine} has room for {engine.context}; "
                    f"start it with --max-model-len {student.context}."
                )
            request = {
                "model": engine.adapter or student.base.id,
                "temperature": max(sampling.temperature, 0.0),
                "top_p": 1.0,  # a server takes what is not said here from the model's generation config
                "top_k": 0,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "stop_token_ids": sorted(sampling.stop),
                "ignore_eos": True,  # the student says what ends a reply
                "return_token_ids": True,
            }
            seeds = sampling.seeds(prompts) if sampling.temperature > 0 else None
            return self._replies(engine, request, prompts, limits, seeds)
        except (*BROKEN, Refused) as error:
            where = f"The vLLM server at {self.url}" if self.url else "The vLLM engine"
            late = isinstance(error, TimeoutError)
            try:
                cause = self._engine.cause(error) if self._engine is not None else error
            finally:
                self.close()
            raise GenerationFailed(
                f"{where} {f'gave no reply for {self.reply_seconds:g} s' if late else f'broke down ({cause})'}; the "
                f"student is unchanged: try again{', when the server is back.' if self.url else ', with a new engine.'}"
            ) from error
        except BaseException:  # an interrupt leaves requests under way
            self.close()
            raise

    def rest(self) -> None:
        if self._engine is not None and self._engine.here:
            try:
                self._engine.sleep()
            except (*BROKEN, GenerationFailed):  # nobody is waiting for a reply; the next answer starts another
                self.close()

    def close(self) -> None:
        if self._engine is not None:
            engine, self._engine = self._engine, None
            engine.close()

    def _ready(self, student: CausalLM) -> Engine:
        """The engine, awake and holding the student's present weights."""
        settings = _settings(student)
        if self._engine is not None and (self._settings != settings or self._engine.dead):
            self.close()
        if self._engine is None:
            if self.url:
                engine = connect(self.url, reply_seconds=self.reply_seconds)
            else:
                engine = start(
                    [*settings, *self.arguments],
                    student.model.device,
                    start_seconds=self.start_seconds,
                    reply_seconds=self.reply_seconds,
                )
            self._engine, self._settings = engine, settings
            engine.find_base(student.base.id)
        self._engine.wake()
        self._engine.hold(student.version if student.taught else None, student.save)
        return self._engine

    def _replies(
        self,
        engine: Engine,
        request: dict[str, Any],
        prompts: Sequence[list[int]],
        limits: Sequence[int],
        seeds: Sequence[int] | None,
    ) -> list[list[int]]:
        # A request has one limit and one seed, and two prompts with the same seed would draw the same numbers.
        parts: list[list[int]] = []
        for i, limit in enumerate(limits):
            if seeds is None and parts and len(parts[-1]) < TOGETHER and limits[parts[-1][0]] == limit:
                parts[-1].append(i)
            else:
                parts.append([i])
        replies: list[list[int]] = [[] for _ in prompts]
        finished: SimpleQueue[Future[tuple[list[int], Any]]] = SimpleQueue()

        def ask(part: list[int]) -> tuple[list[int], Any]:
            body = {**request, "max_tokens": limits[part[0]], "prompt": [prompts[i] for i in part]}
            if seeds is not None:
                body["seed"] = seeds[part[0]]
            return part, engine.call("POST", "/v1/completions", body)["choices"]

        pool = ThreadPoolExecutor(min(IN_FLIGHT, len(parts)), thread_name_prefix="vllm")
        try:
            for part in parts:
                pool.submit(ask, part).add_done_callback(finished.put)
            done = 0
            while done < len(prompts):
                try:
                    part, choices = finished.get(timeout=self.reply_seconds).result()
                except Empty as error:
                    raise TimeoutError from error
                for choice in choices:
                    replies[part[choice["index"]]] = choice["token_ids"]
                done += len(part)
                report("answer", done, len(prompts))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return replies


def _settings(student: CausalLM) -> tuple[str, ...]:
    """What an engine for this student is started with."""
    rank = next((rank for rank in RANKS if rank >= student.rank), None)
    if rank is None:
        raise InvalidData(f"vLLM takes adapters up to rank {RANKS[-1]}; the student's rank is {student.rank}.")
    place = student.base.place()
    return (
        *("--model", str(Path(place).absolute()) if Path(place).is_dir() else place),
        *("--served-model-name", student.base.id),
        *("--dtype", str(student.model.dtype).removeprefix("torch.")),
        *("--max-model-len", str(student.context)),
        *("--max-lora-rank", str(rank)),
    )
