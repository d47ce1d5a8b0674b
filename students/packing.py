"""From rows to the tensors of one forward pass: padded (a row of tensors each), or packed (all in one row).

Packed rows waste nothing on padding. Each token sees its own row only: its position counts from 0 in each row, from
which the models of `transformers` build the block-diagonal mask, or call attention with variable lengths where flash
attention is installed. `can_pack` finds out whether a model does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from dataenv.students.seen import Looks, gather

Row = tuple[list[int], ...]
"""Token ids of a prompt (with pictures: a `Seen`) and its completion; in a preference pair, of the rejected
completion, too."""

_packable: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class Inputs(NamedTuple):
    """One forward pass over n sequences (a prompt with one completion) with m completion tokens in all."""

    ids: Tensor
    """(n, longest) padded on the right, or (1, tokens) packed."""
    positions: Tensor | None
    """Place of each token within its sequence, (1, tokens); None when padded."""
    picked: Tensor
    """(m,): where in the flattened `ids` stands the token before each completion token."""
    targets: Tensor
    """(m,): the completion tokens."""
    owner: Tensor
    """(m,): which of the n sequences each belongs to."""
    looks: Looks = {}  # noqa: RUF012
    """What the model takes of the sequences' pictures, by name."""


def length(row: Row) -> int:
    """Tokens of the row's longest sequence."""
    return len(row[0]) + max(map(len, row[1:]))


def split(batch: Sequence[int], rows: Sequence[Row], most: int, *, packed: bool) -> list[list[int]]:
    """Cut the rows `batch` so that a part stays within `most` tokens, padding included; a longer row stands alone.

    A preference pair is two sequences, and is not torn.
    """
    parts: list[list[int]] = []
    longest = tokens = sequences = 0
    for i in batch:
        count = len(rows[i]) - 1
        longest, sequences = max(longest, length(rows[i])), sequences + count
        tokens += sum(len(rows[i][0]) + len(answer) for answer in rows[i][1:])
        if parts and (tokens if packed else sequences * longest) <= most:
            parts[-1].append(i)
        else:
            parts.append([i])
            longest, sequences = length(rows[i]), count
            tokens = sum(len(rows[i][0]) + len(answer) for answer in rows[i][1:])
    return parts


def lay_out(rows: Sequence[Row], device: torch.device, *, packed: bool) -> Inputs:
    """The tensors of `rows`; the last token of a sequence has none to predict and is left out.

    Padding on the right needs no mask: causal attention never looks at what comes later.
    """
    sequences = [(row[0], completion) for row in rows for completion in row[1:]]
    lengths = [len(prompt) + len(completion) - 1 for prompt, completion in sequences]
    stride = max(lengths)
    ids = torch.zeros(1 if packed else len(sequences), sum(lengths) if packed else stride, dtype=torch.long)
    flat = ids.view(-1)
    picked: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    start = 0
    for n, (prompt, completion) in enumerate(sequences):
        if not packed:
            start = n * stride
        flat[start : start + lengths[n]] = torch.tensor(prompt + completion[:-1])
        first = start + len(prompt) - 1
        picked += range(first, first + len(completion))
        targets += completion
        owner += [n] * len(completion)
        start += lengths[n]
    positions = torch.cat([torch.arange(n) for n in lengths])[None].to(device) if packed else None

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, device=device)

    looks = gather([prompt for prompt, _ in sequences], stride, device)
    return Inputs(ids.to(device), positions, tensor(picked), tensor(targets), tensor(owner), looks)


@torch.no_grad()
def can_pack(model: Any) -> bool:
    """Whether `model` keeps packed rows apart: what it says of a row must not depend on the row before it, bit by bit.

    A model that carries state from token to token, or that builds its mask otherwise, would mix them without a word.
    """
    if model not in _packable:
        takes = inspect.signature(model.forward).parameters
        training, device = model.training, next(model.parameters()).device
        model.eval()
        try:
            said = []
            for id in (3, 5):
                ids = torch.tensor([[id, id, id, 4, 6, 4]], device=device)
                positions = torch.tensor([[0, 1, 2, 0, 1, 2]], device=device)
                said.append(model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, 3:])
            _packable[model] = "position_ids" in takes and torch.equal(*said)
        except (TypeError, ValueError, RuntimeError):
            _packable[model] = False
        finally:
            model.train(training)
    return _packable[model]


@contextmanager
def variable_length(model: Any, *, packed: bool) -> Iterator[None]:
    """Inside the block packed rows on a GPU go through flash attention, where it is installed, instead of a mask."""
    from transformers.utils import is_flash_attn_2_available

    before = model.config._attn_implementation
    half = model.dtype in (torch.bfloat16, torch.float16)
    swap = packed and half and model.device.type == "cuda" and is_flash_attn_2_available()
    if swap:
        model.set_attn_implementation("flash_attention_2")
    try:
        yield
    finally:
        if swap:
            model.set_attn_implementation(before)
