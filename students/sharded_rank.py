"""One process of a sharded student: `python -m dataenv.students.sharded_rank FOLDER RANK SIZE SECONDS`.

Each holds its shard of every weight and takes part in every call. In a lesson a process computes its share of each
forward pass; in an examination it answers its share of the prompts.
"""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import distribute_tensor

from dataenv.errors import DataEnvError, InvalidData
from dataenv.progress import listening
from dataenv.students.causal_lm import CausalLM
from dataenv.students.generation import generate
from dataenv.students.generators import Sampling
from dataenv.students.lora import LoraLinear, merged
from dataenv.students.memory import GIB, REPLIES, SLACK, Plan, available
from dataenv.students.packing import Inputs, Row
from dataenv.students.recipe import Recipe
from dataenv.students.training import _MICRO_BATCH, _CompletionLosses, train
from dataenv.students.weights import Base, _load, choose, threads


class Skeleton(Base):
    """A base without values, which come when each process knows its shard."""

    def load(self, device: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
        return self.skeleton(device, dtype)


class Rank:
    """This process's part of the student. Every method is called by all processes at once, with equal arguments."""

    def __init__(
        self, student: CausalLM, device: torch.device, gather: bool | None, tell: Callable[[str, Any], None]
    ) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.device, self.gather, self.tell = device, gather, tell
        self.answer_batch = student.answer_batch
        self.model = _shard(student, device)
        self.trainable = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.shards = [module for module in self.model.modules() if isinstance(module, FSDPModule)]

    def put(self, state: bytes | None) -> None:
        """Take over the trainable weights that rank 0 was given."""
        given = load(state) if state is not None else {}
        for name, weight in self.trainable.items():
            _fill(weight, given.get(name))

    def train(self, rows: Sequence[Row], recipe: Recipe, *, seed: int) -> tuple[float, bytes] | None:
        """Mean loss and trained weights, on rank 0."""
        able = getattr(self.model, "supports_gradient_checkpointing", False)
        checkpointing = able if recipe.checkpointing is None else recipe.checkpointing
        most = recipe.micro_batch or _MICRO_BATCH.get(self.device.type, 1024)
        way = Plan(most * self.size, checkpointing)
        with listening(self._progress):
            loss = train(self.model, rows, recipe, seed=seed, way=way, losses=SharedLosses)
        whole = {}
        for name, weight in self.trainable.items():
            full = weight.detach().full_tensor()
            if self.rank == 0:
                whole[name] = full.cpu().contiguous()
        return (loss, save(whole)) if self.rank == 0 else None

    def generate(self, prompts: Sequence[list[int]], sampling: Sampling) -> list[tuple[int, list[int]]]:
        """(index of the prompt, reply) for this process's share: every size-th of the prompts in order of length."""
        mine = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))[self.rank :: self.size]
        share, seeds = [prompts[i] for i in mine], sampling.seeds(prompts)

        def progress(phase: str, done: int, total: int) -> None:
            self._progress(phase, len(prompts) * done // total, len(prompts))

        with listening(progress), self._gathered() if self._whole_fits() else self._in_step():
            replies = generate(self.model, share, sampling, seeds=[seeds[i] for i in mine], batch=self.answer_batch)
        return list(zip(mine, replies, strict=True))

    def _progress(self, phase: str, done: int, total: int) -> None:
        if self.rank == 0:
            self.tell("progress", (phase, done, total))

    # -- where the weights are while replies are computed -----------------------------------------------------------

    def _whole_fits(self) -> bool:
        """Whether every process has room for all weights, twice where adapters are merged into a copy."""
        if self.gather is not None:
            return self.gather
        copies = 1 if all(p.requires_grad for p in self.model.parameters()) else 2
        need = SLACK * copies * sum(p.numel() * p.element_size() for p in self.model.parameters()) + REPLIES
        free = available(self.device)
        if self.device.type == "cpu" and free is not None:
            free /= self.size
        fits = torch.tensor(float(free is None or need < free), device=self.device)
        dist.all_reduce(fits, dist.ReduceOp.MIN)
        return bool(fits)

    @contextmanager
    def _gathered(self) -> Iterator[None]:
        """Inside the block this process holds all weights, adapters merged, and computes on its own."""
        for shard in self.shards:
            shard.set_reshard_after_forward(False, recurse=False)
            shard.unshard()
        try:
            with merged(self.model):
                yield
        finally:
            for shard in self.shards:
                shard.reshard()
                shard.set_reshard_after_forward(True, recurse=False)

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Inside the block each forward pass gathers the weights from all processes, layer by layer.

        So all must make equally many: one that has finished goes on with a token of no use until all have.
        """

        def going_on(*_: object) -> None:
            dist.all_reduce(torch.ones(1, device=self.device))

        hook = self.model.register_forward_pre_hook(going_on, prepend=True)
        try:
            yield
        finally:
            hook.remove()
        token = torch.zeros(1, 1, dtype=torch.long, device=self.device)
        while True:
            others = torch.zeros(1, device=self.device)
            dist.all_reduce(others)
            if not others.item():
                break
            with torch.no_grad():
                self.model(input_ids=token, use_cache=False, logits_to_keep=1)


class SharedLosses(_CompletionLosses):
    """As its parent, each process computing every size-th sequence of a forward pass.

    All get the losses of all; the gradients of those that others computed come from them, when FSDP takes the mean of
    what each has: so one's own count `size` times.
    """

    def __call__(self, inputs: Inputs, reduction: Literal["none", "sum"] = "none") -> Tensor:
        rank, size = dist.get_rank(), dist.get_world_size()
        sequences = int(inputs.owner[-1]) + 1
        idle = rank >= sequences  # then it computes the first, too, as all must, and it counts for nothing
        share, places = take(inputs, [0] if idle else range(rank, sequences, size))
        own = super().__call__(share) * (0.0 if idle else 1.0)
        mine = torch.zeros(len(inputs.targets), device=own.device).index_add(0, places, own)
        whole = mine.detach().clone()
        dist.all_reduce(whole)
        losses = whole + size * (mine - mine.detach())
        return losses.sum() if reduction == "sum" else losses


def take(inputs: Inputs, sequences: Sequence[int]) -> tuple[Inputs, Tensor]:
    """`sequences` of a forward pass as one of their own, and where their completion tokens stand among all."""
    device = inputs.ids.device
    if inputs.positions is None:
        starts = torch.arange(0, inputs.ids.numel(), inputs.ids.shape[1], device=device)
    else:
        starts = (inputs.positions[0] == 0).nonzero()[:, 0]
    ends = torch.cat([starts[1:], starts.new_tensor([inputs.ids.numel()])])
    chosen = torch.cat([torch.arange(int(starts[n]), int(ends[n]), device=device) for n in sequences])
    places = torch.isin(inputs.owner, torch.tensor(list(sequences), device=device)).nonzero()[:, 0]
    ids = inputs.ids.view(-1)[chosen]
    share = Inputs(
        ids=ids.view(len(sequences), -1) if inputs.positions is None else ids[None],
        positions=None if inputs.positions is None else inputs.positions[:, chosen],
        picked=torch.searchsorted(chosen, inputs.picked[places]),
        targets=inputs.targets[places],
        owner=inputs.owner[places],
    )
    return share, places


def _shard(student: CausalLM, device: torch.device) -> Any:
    """The student's model, of which each process holds a part. Rank 0 alone reads the base, and deals it out.

    Weights to be trained have no values yet: the student keeps those.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    base = student.base
    student.base = Skeleton(base.id, base.find)
    model = student.model
    _must_fit(model, device, size)
    mesh = init_device_mesh(device.type, (size,))
    layers = set(model._no_split_modules or ())
    for module in list(model.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    model.to_empty(device=device)
    model.tie_weights()
    real = base.load("cpu", str(model.dtype).removeprefix("torch."))[0] if rank == 0 else None
    values = dict(real.named_parameters()) if real is not None else {}
    adapted = {name for name, module in model.named_modules() if isinstance(module, LoraLinear)}
    for name, weight in model.named_parameters():
        owner, _, leaf = name.rpartition(".")
        plain = owner.removesuffix(".base")
        if not weight.requires_grad:
            _fill(weight, values.get(f"{plain}.{leaf}" if plain in adapted else name))
    buffers = dict(real.named_buffers()) if real is not None else {}
    for name, buffer in model.named_buffers():
        if rank == 0:
            buffer.copy_(buffers[name])
        dist.broadcast(buffer, 0)
    _load.cache_clear()  # nobody asks for the base again
    return model


def _must_fit(model: Any, device: torch.device, size: int) -> None:
    """Raise MemoryError where a process has no room for its shards, gradients and AdamW's averages."""
    need = sum(p.numel() * p.element_size() * (4 if p.requires_grad else 1) for p in model.parameters()) / size
    free = available(device)
    if free is not None and need > (free / size if device.type == "cpu" else free):
        raise MemoryError(
            f"it needs about {need / GIB:.2g} GiB for its shard and {free / GIB:.2g} GiB are free; more processes, a "
            "lower rank or method='lora' need less"
        )


@torch.no_grad()
def _fill(weight: Any, value: Tensor | None) -> None:
    """Give each process its shard of rank 0's `value`."""
    if value is None:  # on the other ranks
        value = torch.empty(weight.shape, dtype=weight.dtype)
    shard = distribute_tensor(value, weight.device_mesh, weight.placements)
    weight.to_local().copy_(shard.to_local())


def _device(student: CausalLM, rank: int, size: int) -> torch.device:
    """This process's: the GPU of its number, or what the student asks for."""
    device = torch.device(choose(student._device, student._dtype)[0])
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise InvalidData(f"A sharded student takes the GPUs in turn: write device='cuda' instead of '{device}'.")
    if size > torch.cuda.device_count():
        raise InvalidData(
            f"A sharded student of {size} processes needs as many GPUs, and there are {torch.cuda.device_count()}; "
            "lower student.processes."
        )
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def main(folder: Path, rank: int, size: int, seconds: float) -> None:
    """Do what is called for, until the student closes the line. After an error: nothing, until it ends this process."""
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(folder / "socket"))
        line = Connection(end.detach())

    def tell(kind: str, content: Any) -> None:
        line.send((kind, content))

    line.send(rank)
    try:
        student, gather = line.recv()
        device = _device(student, rank, size)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            init_method=(folder / "rendezvous").as_uri(),
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=seconds),
        )
        with threads(student.threads or max(1, torch.get_num_threads() // size)):
            crew = Rank(student, device, gather, tell)
            tell("done", None)
            while True:
                work, renewed, state, arguments, options = line.recv()
                if renewed:
                    crew.put(state)
                tell("done", getattr(crew, work)(*arguments, **options))
    except EOFError:
        return
    except Exception as error:
        traceback.print_exc()
        first = (str(error).strip().splitlines() or [""])[0]
        tell("failed", error if isinstance(error, DataEnvError) else f"{type(error).__name__}: {first}")
        line.poll(None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
