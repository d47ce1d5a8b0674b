"""The text student: one resident base model of `transformers`, trained by LoRA or in full, answering in batches."""

from __future__ import annotations

import copy
import gc
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson

from dataenv.errors import InvalidData
from dataenv.records import Example, Prompt, Reply, TeachReport
from dataenv.students.generators import Generator, Sampling, generators
from dataenv.students.recipe import Recipe
from dataenv.students.weights import Base, threads

if TYPE_CHECKING:
    from dataenv.students.encoding import Encoder

FULL_WEIGHTS, FULL_CONFIG = "model.safetensors", "student.json"


class CausalLM:
    """Any causal language model of `transformers`, by Hub id or local folder.

    Args:
        source: Hub id ("org/name"), local folder, or a `Base` that says how the weights come about.
        method: "lora" trains low-rank adapters on all linear layers; "full" trains every weight.
        rank, alpha: size and scale of the adapters (scale alpha / rank).
        learning_rate, epochs, batch, window, micro_batch, schedule, beta, checkpointing, packing, compile: see
            `recipe.Recipe`; learning_rate None is 1e-3 for LoRA, 1e-4 for full.
        template, system: see `encoding.Encoder`.
        max_length: tokens a training row may have, prompt and completion; longer rows are dropped and counted.
        shots: exemplars before each problem in the few-shot examination of the untaught student.
        generator: who computes the replies: an id of `generators` ("batched", "vllm", "vllm:http://HOST:PORT"), or a
            `Generator`.
        answer_batch: replies that the batched generator decodes at a time.
        device, dtype: e.g. "cuda", "bfloat16"; None chooses the fastest this machine has.
        threads: processor threads to compute with; None is torch's own choice.
        seed: of the adapters' starting values.

    The constructor opens nothing; weights load at first use and only once per process.
    """

    images: bool | None = False

    def __init__(
        self,
        source: str | Base,
        *,
        name: str | None = None,
        method: Literal["lora", "full"] = "lora",
        rank: int = 16,
        alpha: float = 32.0,
        learning_rate: float | None = None,
        epochs: int = 1,
        batch: int = 8,
        window: int = 4,
        micro_batch: int | None = None,
        schedule: Literal["cosine", "constant"] = "cosine",
        beta: float = 0.1,
        checkpointing: bool | None = None,
        packing: bool | None = None,
        compile: bool = False,
        template: str | None = None,
        system: str | None = None,
        max_length: int = 1024,
        shots: int = 4,
        generator: str | Generator = "batched",
        answer_batch: int = 64,
        device: str | None = None,
        dtype: str | None = None,
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        if method not in ("lora", "full"):
            raise InvalidData(f"Student method must be 'lora' or 'full'; it is '{method}'.")
        if min(rank, max_length, answer_batch) < 1 or shots < 0:
            raise InvalidData(
                "Student settings rank, max_length and answer_batch must be at least 1, shots at least 0."
            )
        self.base = source if isinstance(source, Base) else Base(source)
        self.name = name or self.base.id
        self.shots = shots
        self.generator: Generator = generators.make(generator) if isinstance(generator, str) else generator
        self.trainer: Callable[..., float] = train_alone
        """Who trains; `stacked.stack` sets another."""
        self.method, self.rank, self.answer_batch, self.threads = method, rank, answer_batch, threads
        self._alpha, self._seed = alpha, seed
        rate = learning_rate if learning_rate is not None else (1e-3 if method == "lora" else 1e-4)
        self.recipe = Recipe(
            learning_rate=rate,
            schedule=schedule,
            epochs=epochs,
            batch=batch,
            window=window,
            micro_batch=micro_batch,
            checkpointing=checkpointing,
            packing=packing,
            compile=compile,
            beta=beta,
        )
        self._template, self._system = template, system
        self._max_length = max_length
        self._device, self._dtype = device, dtype
        self._model: Any = None

    # -- weights ---------------------------------------------------------------------------------------------------

    def _load(self) -> Any:
        """The model with its trainable weights, built at first use over the base that the process holds once."""
        if self._model is None:
            from dataenv.students import lora

            dtype = self._dtype or ("float32" if self.method == "full" else None)
            base, reads = self.base.load(self._device, dtype)
            self._encoder = self._encoder_around(reads)
            shared = {id(t): t for t in (*base.parameters(), *base.buffers())}
            if self.method == "lora":
                model = copy.deepcopy(base, shared)  # a skeleton of its own over the same tensors
                lora.add_lora(model, rank=self.rank, alpha=self._alpha, seed=self._seed)
            else:
                model = copy.deepcopy(base).requires_grad_(True)
            self._trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
            text = model.config.get_text_config()
            self.context = int(getattr(text, "max_position_embeddings", self._max_length))
            self._untaught = {name: p.detach().clone() for name, p in self._trainable.items()}
            self._version: str | None = None
            # A slice of hidden states is not contiguous, and torch would then copy the output weights for every row.
            model.get_output_embeddings().register_forward_pre_hook(lambda _, args: (args[0].contiguous(), *args[1:]))
            self._model = model.eval()
        return self._model

    def _encoder_around(self, tokenizer: Any) -> Encoder:
        """What turns prompts and rows into token ids with the base's tokenizer."""
        from dataenv.students.encoding import Encoder

        return Encoder(tokenizer, name=self.name, template=self._template, system=self._system)

    @property
    def model(self) -> Any:
        """The model of `transformers` with its trainable weights."""
        return self._load()

    @property
    def encoder(self) -> Encoder:
        """What turns prompts and rows into token ids."""
        self._load()
        return self._encoder

    @property
    def taught(self) -> bool:
        """Whether any weight differs from the untaught student's."""
        import torch

        self._load()
        return any(not torch.equal(weight, self._untaught[name]) for name, weight in self._trainable.items())

    @property
    def version(self) -> str:
        """32 hex digits: hash of the base's id and every trainable weight."""
        import torch

        self._load()
        if self._version is None:
            digest = hashlib.blake2b(self.base.id.encode(), digest_size=16)
            for name, weight in self._trainable.items():
                digest.update(name.encode())
                digest.update(memoryview(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()))
            self._version = digest.hexdigest()
        return self._version

    def reset(self) -> None:
        """Back to the untaught student; the base model stays where it is."""
        if self._model is not None:
            self.restore_state(self._untaught)

    def clone_state(self) -> dict[str, Any]:
        """A copy of every trainable weight."""
        self._load()
        return {name: weight.detach().clone() for name, weight in self._trainable.items()}

    def restore_state(self, state: dict[str, Any]) -> None:
        import torch

        self._load()
        with torch.no_grad():
            for name, weight in self._trainable.items():
                weight.copy_(state[name])
        self._version = None

    def save(self, folder: Path) -> None:
        """LoRA: PEFT's adapter files. Full: `model.safetensors` and `student.json`."""
        from safetensors.torch import save_file

        from dataenv.students import lora

        self._load()
        if self.method == "lora":
            lora.save_lora(self.clone_state(), folder, base=self.base.id, rank=self.rank, alpha=self._alpha)
            return
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: w.detach().cpu().contiguous() for name, w in self._trainable.items()}, folder / FULL_WEIGHTS)
        (folder / FULL_CONFIG).write_bytes(orjson.dumps({"base": self.base.id}))

    def load(self, folder: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from dataenv.students import lora

        self._load()
        if self.method == "lora":
            state = lora.load_lora(folder, base=self.base.id, alpha=self._alpha)
        else:
            try:
                base = orjson.loads((folder / FULL_CONFIG).read_bytes())["base"]
                state = load_file(folder / FULL_WEIGHTS)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                raise InvalidData(f"{folder} holds no readable student: {error}.") from error
            if base != self.base.id:
                raise InvalidData(f"The weights in {folder} belong to '{base}', not to '{self.base.id}'.")
        wrong = [n for n, w in self._trainable.items() if n not in state or state[n].shape != w.shape]
        if wrong or len(state) != len(self._trainable):
            raise InvalidData(
                f"The weights in {folder} do not fit student '{self.name}': {next(iter(wrong), 'there are more')}."
            )
        self.restore_state(state)

    def close(self) -> None:
        """Let go of the model and the generator; a later call loads them again, untaught."""
        self.generator.close()
        self._model = None
        self._trainable, self._untaught = {}, {}
        gc.collect()

    # -- teaching --------------------------------------------------------------------------------------------------

    def teach(self, examples: Sequence[Example], *, seed: int) -> TeachReport:
        self._load()
        encoder = self._encoder
        rows = [encoder.row(e) if e.rejected is None else encoder.pair(e) for e in examples]
        longest = min(self._max_length, self.context)
        fitting = [row for row in rows if len(row[0]) + max(map(len, row[1:])) <= longest]
        overlong = len(rows) - len(fitting)
        if not fitting:
            return TeachReport(rows=0, tokens=0, loss=None, overlong=overlong)
        self.generator.rest()
        before = self.clone_state()
        try:
            loss = self.trainer(self, fitting, seed=seed)
        except BaseException:  # an interrupt too must not leave half-trained weights
            for weight in self._trainable.values():
                weight.grad = None
            self.restore_state(before)
            raise
        self._version = None
        tokens = self.recipe.epochs * sum(len(row[0]) + len(answer) for row in fitting for answer in row[1:])
        return TeachReport(rows=len(fitting), tokens=int(tokens), loss=loss, overlong=overlong)

    # -- answering -------------------------------------------------------------------------------------------------

    def answer(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int,
        shots: Sequence[Example] = (),
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[Reply]]:
        model = self._load()
        encoded = [self._encoder.prompt(prompt, shots) for prompt in prompts]
        # The limit is an upper bound that few replies need, so a prompt is asked if it leaves room for any reply.
        fits = [i for i, ids in enumerate(encoded) if len(ids) < self.context]
        stop = frozenset({self._encoder.end, *_end_ids(model)})
        made = self.generator.generate(
            self,
            [encoded[i] for i in fits for _ in range(samples)],
            Sampling(max_new_tokens, stop, temperature, seed),
        )
        replies = [[Reply("", "overlong")] * samples for _ in prompts]
        for at, i in enumerate(fits):
            replies[i] = [self._reply(ids, stop) for ids in made[at * samples : (at + 1) * samples]]
        return replies

    def _reply(self, ids: list[int], stop: frozenset[int]) -> Reply:
        ended = bool(ids) and ids[-1] in stop
        return Reply(self._encoder.decode(ids[:-1] if ended else ids), "stop" if ended else "length", len(ids))


def train_alone(student: CausalLM, rows: Sequence[tuple[list[int], ...]], *, seed: int) -> float:
    """Update the student's trainable weights on rows of tokens; returns the mean loss, see `training.train`."""
    from dataenv.students.training import train

    with threads(student.threads):
        return train(student.model, rows, student.recipe, seed=seed)


def _end_ids(model: Any) -> list[int]:
    """End-of-sequence ids the model's own generation config names."""
    ids = model.generation_config.eos_token_id
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)
