"""Training a causal LM on rows of tokens: cross-entropy of the completion, and preference between two completions.

Rows are grouped by length, so that little is padded, or packed; the output layer, which is most of a small model's
work, is computed for completion positions alone. The order of rows depends on the seed and on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dataenv.errors import InvalidData, TrainingFailed
from dataenv.progress import report
from dataenv.students.memory import Plan, out_of_memory, plan
from dataenv.students.packing import Inputs, Row, can_pack, lay_out, length, split, variable_length
from dataenv.students.preference import dpo_loss, log_probabilities, references
from dataenv.students.recipe import Recipe

_MICRO_BATCH = {"cuda": 16_384, "cpu": 1024}
_UNCHANGED = "The student is as it was before this step."


def train(
    model: Any,
    rows: Sequence[Row],
    recipe: Recipe,
    *,
    seed: int,
    way: Plan | None = None,
    losses: type[_CompletionLosses] | None = None,
) -> float:
    """Update `model`'s trainable weights on `rows`; returns the mean loss over the call.

    A row (prompt, completion) is learnt by cross-entropy, the mean over the completion tokens of an update. A pair
    (prompt, preferred, rejected) is learnt by the preference loss, the mean over the pairs of an update, against the
    model as it is when the call begins. In an update with both, and in the loss returned, each kind counts by its
    share of the rows. `way` None is found out from the memory there is; `losses` computes the losses of tokens in
    place of `_CompletionLosses`.

    Raises TrainingFailed on a non-finite loss or weight, and where memory runs out or would; the caller puts the
    weights back.
    """
    device = next(model.parameters()).device
    most, packed = layout(model, recipe)
    rng = np.random.Generator(np.random.PCG64(seed))
    lengths = [length(row) for row in rows]
    batches = [
        _by_kind(b, rows)
        for _ in range(recipe.epochs)
        for b in grouped_batches(lengths, recipe.batch, recipe.window, rng)
    ]
    if way is None:
        groups = [group for batch in batches for group in batch]
        way = plan(model, rows, groups, most, recipe.checkpointing, packed=packed)
    try:
        with (
            torch.random.fork_rng([device] if device.type == "cuda" else []),
            variable_length(model, packed=packed),
            _compiled(model, recipe.compile),
            _checkpointed(model, way.checkpointing),
            (losses or _CompletionLosses)(model) as token_losses,
        ):
            torch.manual_seed(seed)  # dropout, where a model has it
            return _updates(model, rows, batches, recipe, way, token_losses, packed=packed)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingFailed(
            f"Memory ran out while teaching {len(rows)} rows of up to {max(lengths)} tokens, {way.micro_batch} tokens "
            f"at a time {'with' if way.checkpointing else 'without'} checkpointing; lower micro_batch, max_length or "
            f"rank{'' if way.checkpointing else ', or set checkpointing to true'}. {_UNCHANGED}"
        ) from error.with_traceback(None)  # its frames would hold on to what filled the memory
    finally:
        model.eval()


def layout(model: Any, recipe: Recipe) -> tuple[int, bool]:
    """Most tokens in one forward pass, padding included, and whether rows are packed.

    Raises InvalidData where they should be, and the model cannot keep them apart.
    """
    device = next(model.parameters()).device.type
    packed = recipe.packing if recipe.packing is not None else device == "cuda" and can_pack(model)
    if packed and not can_pack(model):
        raise InvalidData(f"{type(model).__name__} cannot keep packed rows apart; set the student's packing to false.")
    return recipe.micro_batch or _MICRO_BATCH.get(device, 1024), packed


def _updates(
    model: Any,
    rows: Sequence[Row],
    batches: Sequence[Sequence[list[int]]],
    recipe: Recipe,
    way: Plan,
    losses: _CompletionLosses,
    *,
    packed: bool,
) -> float:
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    reference = references(rows, losses, device, most=way.micro_batch, packed=packed)
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    summed, counted = {2: 0.0, 3: 0.0}, {2: 0, 3: 0}  # loss and what it is the mean of, for rows and for pairs
    done = 0
    model.train()
    for update, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(update, len(batches), recipe)
        size, before = sum(map(len, batch)), sum(summed.values())
        for alike in batch:
            kind = len(rows[alike[0]])
            count = len(alike) if kind == 3 else sum(len(rows[i][1]) for i in alike)
            for part in split(alike, rows, way.micro_batch, packed=packed):
                inputs = lay_out([rows[i] for i in part], device, packed=packed)
                if kind == 3:
                    policy = log_probabilities(losses(inputs), inputs)
                    loss = dpo_loss(policy, torch.stack([reference[i] for i in part]), recipe.beta).sum()
                else:
                    loss = losses(inputs, "sum")
                (loss / count * (len(alike) / size)).backward()  # type: ignore[no-untyped-call]
                summed[kind] += loss.item()
            counted[kind] += count
        if not math.isfinite(sum(summed.values())):
            raise TrainingFailed(
                f"The loss became {sum(summed.values()) - before} at update {update + 1} of {len(batches)}; lower the "
                f"learning rate (it is {recipe.learning_rate:g}). {_UNCHANGED}"
            )
        nn.utils.clip_grad_norm_(parameters, recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += size
        report("teach", done, len(rows) * recipe.epochs)
    if not all(bool(p.isfinite().all()) for p in parameters):  # the last update has no loss after it to show the damage
        raise TrainingFailed(
            f"The weights overflowed at the last update; lower the learning rate (it is {recipe.learning_rate:g}). "
            f"{_UNCHANGED}"
        )
    share = {kind: sum(len(row) == kind for row in rows) / len(rows) for kind in summed}
    return sum(share[kind] * summed[kind] / counted[kind] for kind in summed if counted[kind])


def _by_kind(batch: Sequence[int], rows: Sequence[Row]) -> list[list[int]]:
    """The batch's single rows and its pairs, each in order; without a kind that it does not hold."""
    kinds = ([i for i in batch if len(rows[i]) == size] for size in (2, 3))
    return [alike for alike in kinds if alike]


def grouped_batches(lengths: Sequence[int], batch: int, window: int, rng: np.random.Generator) -> list[list[int]]:
    """Indices in batches of similar length, every index once; who shares a batch and the order of batches are drawn.

    Rows are shuffled, sorted by length inside windows of `window` batches, cut, and the batches shuffled.
    """
    order = rng.permutation(len(lengths))
    batches = []
    for start in range(0, len(order), window * batch):
        part = sorted(order[start : start + window * batch], key=lambda i: lengths[i])
        batches += [[int(i) for i in part[at : at + batch]] for at in range(0, len(part), batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _schedule(update: int, updates: int, recipe: Recipe) -> float:
    """Share of the peak learning rate at `update`: linear warm-up, then the peak, or a cosine down to the floor."""
    warm = max(1, round(recipe.warmup * updates))
    if update < warm:
        return (update + 1) / warm
    if recipe.schedule == "constant":
        return 1.0
    progress = (update - warm) / max(1, updates - warm)
    return recipe.floor + (1 - recipe.floor) * 0.5 * (1 + math.cos(math.pi * progress))


class _CompletionLosses:
    """-ln p of completion tokens. Inside the block the model's output layer sees only the positions before those.

    A hook before the output layer, rather than a call to the backbone, keeps whatever a model does to its logits.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, inputs: Inputs, reduction: Literal["none", "sum"] = "none") -> Tensor:
        """(m,) for the m completion tokens of `inputs`, or their sum; float32."""
        self.picked = inputs.picked
        place = {} if inputs.positions is None else {"position_ids": inputs.positions}
        logits = self.model(input_ids=inputs.ids, use_cache=False, **place, **inputs.looks).logits[0]
        return cross_entropy(logits.float(), inputs.targets, reduction=reduction)

    def __enter__(self) -> _CompletionLosses:
        def pick(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (args[0].flatten(0, 1)[self.picked].unsqueeze(0), *args[1:])

        self.handle = self.model.get_output_embeddings().register_forward_pre_hook(pick)
        return self

    def __exit__(self, *_: object) -> None:
        self.handle.remove()


@contextmanager
def _checkpointed(model: Any, wanted: bool) -> Iterator[None]:
    if wanted:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        if wanted:
            model.gradient_checkpointing_disable()


@contextmanager
def _compiled(model: Any, wanted: bool) -> Iterator[None]:
    """Inside the block each layer runs compiled; all share one compilation, which torch keeps for later blocks."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)] if wanted else []
    layers = list(max(stacks, key=len, default=[]))
    for layer in layers:
        layer.forward = torch.compile(layer.forward, dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
