"""How many bytes a training or a batch of replies needs, found before it starts, and how many there are.

On a CPU nothing else would stop it: the system kills a process that takes too much, without an error to catch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dataenv.errors import GenerationFailed, TrainingFailed
from dataenv.students.packing import Row, length, split
from dataenv.students.seen import Looks, Seen, gather, pixels

GIB = 2**30
SLACK = 1.35
"""What allocators lose between the blocks."""
PIXEL = 64
"""Bytes for each pixel that a prompt shows, while its picture is looked at and nothing is kept: a layer's activations
of a vision transformer over patches of 14 to 16 pixels."""

_measured: WeakKeyDictionary[Any, Footprint] = WeakKeyDictionary()


REPLIES = GIB
"""Most bytes that replies decoded together take on a CPU; the same on every machine, as batches round differently."""


class Footprint(NamedTuple):
    """Bytes that training one model needs, by what they grow with."""

    fixed: float
    """Gradients, AdamW's two averages, and copies of adapters in the model's type."""
    token: float
    """Per token of a forward pass: what the backward pass will read."""
    square: float
    """Per token of a forward pass and token that it sees: attention scores, where the kernel keeps them."""
    completion: float
    """Per completion token: its logits, their logarithms and gradients."""
    layers: int
    """How many layers share `token` and `square`."""
    hidden: float
    """Per token and layer, what checkpointing keeps."""

    def bytes(self, sequences: int, longest: int, completion: int, *, checkpointing: bool) -> float:
        """Need of an update whose largest forward pass is `sequences` x `longest` tokens (packed: 1 x all)."""
        tokens = sequences * longest
        layers = tokens * (self.token + self.square * longest)
        if checkpointing:
            layers = layers / self.layers + tokens * self.layers * self.hidden
        return self.fixed + SLACK * (layers * (1 + 1 / self.layers) + completion * self.completion)


class Plan(NamedTuple):
    """How to cut a training so that it fits: most padded tokens in a forward pass, and whether to checkpoint."""

    micro_batch: int
    checkpointing: bool


def plan(
    model: Any,
    rows: Sequence[Row],
    batches: Sequence[Sequence[int]],
    most: int,
    checkpointing: bool | None,
    packed: bool,
) -> Plan:
    """The fastest way to train on `batches` of `rows` within free memory: whole, else accumulated, else checkpointed.

    Raises TrainingFailed where even single rows with checkpointing do not fit.
    """
    free = available(next(model.parameters()).device)
    able = getattr(model, "supports_gradient_checkpointing", False)
    ways = [False, *[True] * able] if checkpointing is None else [checkpointing]
    if free is None:
        return Plan(most, ways[0])
    cost, pixel, need = footprint(model), pixel_bytes(model, rows), 0.0
    for way in ways:
        size = most
        while True:
            parts = [part for batch in batches for part in split(batch, rows, size, packed=packed)]
            need = max(_need(cost, pixel, [rows[i] for i in part], way, packed) for part in parts)
            if need <= free:
                return Plan(size, way)
            if max(map(len, parts)) == 1:
                break
            size //= 2
    longest = max(map(length, rows))
    raise TrainingFailed(
        f"Teaching needs about {need / GIB:.2g} GiB for a single row of {longest} tokens"
        f"{' with checkpointing' if ways[-1] else ''}, {cost.fixed / GIB:.2g} of them for gradients and optimiser, "
        f"and {free / GIB:.2g} GiB are free; lower max_length or rank, use method='lora'"
        f"{'' if ways[-1] else ', allow checkpointing'} or choose a smaller student. The student is as it was before "
        "this step."
    )


def _need(cost: Footprint, pixel: float, rows: Sequence[Row], checkpointing: bool, packed: bool) -> float:
    sequences = sum(len(row) - 1 for row in rows)
    longest = max(map(length, rows))
    if packed:
        longest, sequences = sum(len(row[0]) + len(answer) for row in rows for answer in row[1:]), 1
    completion = sum(len(answer) for row in rows for answer in row[1:])
    shown = pixel * pixels([row[0] for row in rows for _ in row[1:]])
    return cost.bytes(sequences, longest, completion, checkpointing=checkpointing) + SLACK * shown


def footprint(model: Any) -> Footprint:
    """Measured by three short forward passes, so that it holds for every architecture, attention kernel and type."""
    if model not in _measured:
        sizes = 16, 32, 64  # bytes = constant + token * n + square * n^2 through three points
        one, two, three = (_saved(model, [3] * n) for n in sizes)
        low, high = (two - one) / (sizes[1] - sizes[0]), (three - two) / (sizes[2] - sizes[1])
        square = max(0.0, (high - low) / (sizes[2] - sizes[0]))
        token = low - square * (sizes[0] + sizes[1])
        config = model.config.get_text_config()
        size = model.dtype.itemsize
        _measured[model] = Footprint(
            fixed=sum(3 * p.nbytes for p in model.parameters() if p.requires_grad)
            + max(0.0, one - sizes[0] * (token + square * sizes[0])),
            token=token,
            square=square,
            completion=config.vocab_size * (2 * size + 3 * 4),  # in the model's type, and in float32 for the loss
            layers=config.num_hidden_layers,
            hidden=config.hidden_size * size,
        )
    return _measured[model]


def pixel_bytes(model: Any, rows: Sequence[Row]) -> float:
    """Bytes that the backward pass needs for each pixel of the rows' pictures, besides those of their tokens: measured
    on the first picture's row; 0 where there is none. Checkpointing, which saves of them too, is not counted on."""
    seen = next((row[0] for row in rows if isinstance(row[0], Seen) and row[0].pixels), None)
    if seen is None:
        return 0.0
    looks = gather([seen], len(seen), next(model.parameters()).device)
    return max(0, _saved(model, seen, looks) - _saved(model, [3] * len(seen))) / seen.pixels


def _saved(model: Any, tokens: list[int], looks: Looks | None = None) -> int:
    """Bytes that a forward pass over `tokens` keeps for its backward pass, weights aside."""
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.tensor([tokens], device=next(model.parameters()).device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # The name keeps the graph alive.
        out = model(input_ids=ids, use_cache=False, logits_to_keep=1, **(looks or {})).logits  # noqa: F841
        return sum(kept.values())


def replies_at_once(model: Any, *, longest: int, shared: int, new: int, most: int, pixels: int = 0) -> int:
    """How many replies, up to `most`, to decode together: prompts of up to `longest` tokens, of which all share the
    first `shared`, and up to `pixels` pixels, and `new` tokens each. At least one.

    Raises GenerationFailed where not even one fits.
    """
    device = next(model.parameters()).device
    free = available(device)
    one = (longest + new) * cache_bytes(model) + pixels * PIXEL
    if model.config._attn_implementation == "eager":  # its scores, in the model's type and in float32
        heads = model.config.get_text_config().num_attention_heads
        one += heads * (longest - shared) * longest * (2 * model.dtype.itemsize + 4)
    if free is None:
        return min(most, max(1, REPLIES // one))
    if one > free:
        raise GenerationFailed(
            f"A reply of {new} tokens to a prompt of {longest} needs about {one / GIB:.2g} GiB, and {free / GIB:.2g} "
            "GiB are free; lower max_new_tokens or shots, or choose a smaller student. The student is unchanged."
        )
    share = free / 2 if device.type == "cuda" else min(REPLIES, free / 2)
    return min(most, max(1, int(share // one)))


def cache_bytes(model: Any) -> int:
    """Bytes of keys and values that one token keeps in every layer while a reply is decoded."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * head * model.dtype.itemsize)


def available(device: torch.device) -> float | None:
    """Bytes that this process may still take on `device`; None where there is no way to know."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    return min(_free_ram(), default=None) if device.type == "cpu" else None


def _free_ram(root: Path = Path("/")) -> Iterator[float]:
    """What Linux says is free: of the machine, and of the control group (a container's limit), where there is one."""
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        yield 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
        name = (root / "proc/self/cgroup").read_text().strip().rpartition("::")[2].strip("/")
        group = root / "sys/fs/cgroup" / name
        for folder in (group, *group.parents[: len(Path(name).parts)]):
            limit = (folder / "memory.max").read_text().strip()
            if limit != "max":
                stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                # Cached files count as used, but make room when asked to.
                yield int(limit) - int((folder / "memory.current").read_text()) + float(stat["inactive_file"])
    except (OSError, StopIteration, ValueError, KeyError):  # not Linux, or another kind of group
        return


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on whatever device."""
    words = str(error).lower()
    told = any(sign in words for sign in ("out of memory", "not enough memory", "can't allocate memory"))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and told)
