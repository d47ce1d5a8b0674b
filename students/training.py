"""Supervised fine-tuning of a causal LM on (prompt, completion) token rows: the loss counts the completion only.

Rows are grouped by length, so that little is padded; the output layer, which is most of a small model's work, is
computed for completion positions alone. The order of rows depends on the seed and on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dataenv.errors import TrainingFailed
from dataenv.progress import report
from dataenv.students.recipe import Recipe

Row = tuple[list[int], list[int]]
"""Token ids of prompt and completion."""


def train(model: Any, rows: Sequence[Row], recipe: Recipe, *, seed: int) -> float:
    """Update `model`'s trainable weights on `rows`; returns the mean loss per completion token over the whole call.

    Raises TrainingFailed on a non-finite loss or weight; the caller puts the weights back.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    rng = np.random.Generator(np.random.PCG64(seed))
    batches = [
        b for _ in range(recipe.epochs) for b in grouped_batches([len(p) + len(c) for p, c in rows], recipe.batch, rng)
    ]
    picked: list[Tensor] = []
    total_loss, total_tokens, done = 0.0, 0, 0
    model.train()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), _completion_logits(model, picked):
        torch.manual_seed(seed)  # dropout, where a model has it
        for update, batch in enumerate(batches):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _schedule(update, len(batches), recipe)
            tokens = sum(len(rows[i][1]) for i in batch)
            loss_sum = 0.0
            for part in _split_by_tokens(batch, rows, recipe.micro_batch):
                inputs, positions, targets = _tensors([rows[i] for i in part], device)
                picked[:] = [positions]
                logits = model(input_ids=inputs, use_cache=False).logits[0]
                loss = cross_entropy(logits.float(), targets, reduction="sum") / tokens
                loss.backward()  # type: ignore[no-untyped-call]
                loss_sum += loss.item()
            if not math.isfinite(loss_sum):
                raise TrainingFailed(
                    f"The loss became {loss_sum} at update {update + 1} of {len(batches)}; lower the learning rate "
                    f"(it is {recipe.learning_rate:g}). The student is as it was before this step."
                )
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total_loss, total_tokens, done = total_loss + loss_sum * tokens, total_tokens + tokens, done + len(batch)
            report("teach", done, len(rows) * recipe.epochs)
    model.eval()
    if not all(bool(p.isfinite().all()) for p in parameters):  # the last update has no loss after it to show the damage
        raise TrainingFailed(
            f"The weights overflowed at the last update; lower the learning rate (it is {recipe.learning_rate:g}). "
            "The student is as it was before this step."
        )
    return total_loss / total_tokens


def grouped_batches(lengths: Sequence[int], batch: int, rng: np.random.Generator) -> list[list[int]]:
    """Indices in batches of similar length, every index once; who shares a batch and the order of batches are drawn.

    Rows are shuffled, sorted by length inside windows of 16 batches, cut, and the batches shuffled.
    """
    order = rng.permutation(len(lengths))
    window = 16 * batch
    batches = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window], key=lambda i: lengths[i])
        batches += [[int(i) for i in part[at : at + batch]] for at in range(0, len(part), batch)]
    return [batches[i] for i in rng.permutation(len(batches))]


def _schedule(update: int, updates: int, recipe: Recipe) -> float:
    """Share of the peak learning rate at `update`: linear warm-up, then a cosine down to the floor."""
    warm = max(1, round(recipe.warmup * updates))
    if update < warm:
        return (update + 1) / warm
    progress = (update - warm) / max(1, updates - warm)
    return recipe.floor + (1 - recipe.floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _split_by_tokens(batch: Sequence[int], rows: Sequence[Row], most: int) -> list[list[int]]:
    """Cut a batch so that rows x longest row stays within `most` tokens (a single longer row stands alone)."""
    parts: list[list[int]] = []
    longest = 0
    for i in batch:
        length = len(rows[i][0]) + len(rows[i][1])
        longest = max(longest, length)
        if parts and (len(parts[-1]) + 1) * longest <= most:
            parts[-1].append(i)
        else:
            parts.append([i])
            longest = length
    return parts


def _tensors(rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (rows, longest) padded on the right, flat positions whose next token is completion, and those tokens.

    Padding on the right needs no mask: causal attention never looks at what comes later.
    """
    longest = max(len(p) + len(c) for p, c in rows) - 1
    inputs = torch.zeros(len(rows), longest, dtype=torch.long)
    positions: list[int] = []
    targets: list[int] = []
    for r, (prompt, completion) in enumerate(rows):
        ids = prompt + completion[:-1]
        inputs[r, : len(ids)] = torch.tensor(ids)
        first = r * longest + len(prompt) - 1
        positions += range(first, first + len(completion))
        targets += completion
    return inputs.to(device), torch.tensor(positions, device=device), torch.tensor(targets, device=device)


class _completion_logits:  # noqa: N801  (used as `with _completion_logits(...)`)
    """Inside the block the output layer sees only the positions in `picked[0]`, as one row of shape (1, n, hidden).

    A hook before the output layer, rather than a call to the backbone, keeps whatever a model does to its logits.
    """

    def __init__(self, model: Any, picked: list[Tensor]) -> None:
        self.layer = model.get_output_embeddings()
        self.picked = picked

    def __enter__(self) -> None:
        def pick(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (args[0].flatten(0, 1)[self.picked[0]].unsqueeze(0), *args[1:])

        self.handle = self.layer.register_forward_pre_hook(pick)

    def __exit__(self, *_: object) -> None:
        self.handle.remove()
