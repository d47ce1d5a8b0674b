"""Batched decoding with a key-value cache: sorted by length, shared prefix computed once, finished rows leave early."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache

from dataenv.errors import GenerationFailed
from dataenv.progress import report
from dataenv.students.generators import Sampling
from dataenv.students.memory import out_of_memory, replies_at_once
from dataenv.students.prefix import can_share, sharing
from dataenv.students.seen import Looks, Seen, gather, pixels


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    *,
    seeds: Sequence[int] | None = None,
    batch: int = 64,
) -> list[list[int]]:
    """New tokens for each prompt (a non-empty list of ids), in order, each ending at a stop token, at the limit, or
    where the model's context ends.

    The stop token is kept, so that a reply that ended can be told from one that was cut. Up to `batch` are decoded
    together: fewer where their keys and values would take too much memory. A reply follows from its prompt and, where
    it is sampled, its seed, whoever shares the batch, up to rounding. `seeds` None are `sampling.seeds(prompts)`.

    Raises GenerationFailed where memory does not suffice for one, or runs out.
    """
    device = next(model.parameters()).device
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    limits = [min(sampling.max_new_tokens, context - len(prompt)) for prompt in prompts]
    seeds = sampling.seeds(prompts) if seeds is None else seeds
    replies: list[list[int]] = [[] for _ in prompts]
    stops = torch.tensor(sorted(sampling.stop), device=device)
    shared = _shared_prefix(prompts) if prompts else 0
    done = 0
    while done < len(order):
        longest, new = len(prompts[order[done]]), limits[order[-1]]
        shown = max(pixels([prompts[i]]) for i in order[done : done + batch])
        most = replies_at_once(model, longest=longest, shared=shared, new=new, most=batch, pixels=shown)
        chosen = order[done : done + most]
        limit = [limits[i] for i in chosen]
        choose = _Choice(sampling.temperature, [seeds[i] for i in chosen], max(limit), device)
        try:
            _decode(model, [prompts[i] for i in chosen], [replies[i] for i in chosen], limit, stops, choose)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise GenerationFailed(
                f"Memory ran out while {len(chosen)} replies to prompts of up to {longest} tokens were decoded; lower "
                "answer_batch, max_new_tokens or shots. The student is unchanged."
            ) from error.with_traceback(None)  # its frames would hold on to what filled the memory
        done += len(chosen)
        report("answer", done, len(order))
    return replies


class _Choice:
    """One token for each row: the likeliest, or one drawn with a number that belongs to the row and the place."""

    def __init__(self, temperature: float, seeds: Sequence[int], limit: int, device: torch.device) -> None:
        self.temperature = temperature
        if temperature > 0:
            drawn = [np.random.Generator(np.random.PCG64(seed)).random(limit) for seed in seeds]
            self.drawn = torch.from_numpy(np.stack(drawn)).to(device)

    def __call__(self, logits: Tensor, rows: Tensor, place: int) -> Tensor:
        """(n,) from logits (n, vocabulary) of the rows (n,) for their tokens number `place`."""
        if self.temperature <= 0:
            return logits.argmax(-1)
        sums = (logits.double() / self.temperature).softmax(-1).cumsum(-1)
        at = torch.searchsorted(sums, self.drawn[rows, place, None] * sums[:, -1:], right=True)
        return at[:, 0].clamp(max=logits.shape[-1] - 1)


def _decode(
    model: Any,
    prompts: list[list[int]],
    replies: list[list[int]],
    limits: list[int],
    stops: Tensor,
    choose: _Choice,
) -> None:
    """Decode one batch, appending each row's new tokens, up to its own limit, to its list in `replies`."""
    device = stops.device
    with _prefilled(model, prompts, device) as (logits, cache, mask, position):
        alive, limit = torch.arange(len(prompts), device=device), torch.tensor(limits, device=device)
        for made in range(1, max(limits) + 1):
            token = choose(logits, alive, made - 1)
            for row, id in zip(alive.tolist(), token.tolist(), strict=True):
                replies[row].append(id)
            going = ~torch.isin(token, stops) & (limit > made)
            if not going.any():
                return
            if not going.all():
                keep = going.nonzero()[:, 0]
                alive, limit, token, mask, position = (x[keep] for x in (alive, limit, token, mask, position))
                cache.batch_select_indices(keep)
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            out = model(
                input_ids=token[:, None],
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            )
            logits, position = out.logits[:, -1], position + 1


@contextmanager
def _prefilled(
    model: Any, prompts: list[list[int]], device: torch.device
) -> Iterator[tuple[Tensor, DynamicCache, Tensor, Tensor]]:
    """Logits after each prompt, the cache, its mask (rows, tokens), and the next token's position (rows, 1).

    The prefix that all prompts share goes through the model once. Where the model can attend to it apart, it is in
    neither cache nor mask; else it is repeated for every row. What follows it is padded on its left.
    """
    cache = DynamicCache(config=model.config)
    # A sliding window would count the padding between prefix and rest as tokens: such models share no prefix.
    shared = _shared_prefix(prompts) if len(prompts) > 1 and not any(cache.is_sliding) else 0
    apart = shared > 0 and can_share(model)
    with sharing(model) if apart else nullcontext():
        if shared:
            head = torch.tensor([prompts[0][:shared]], device=device)
            model(input_ids=head, past_key_values=cache, use_cache=True, logits_to_keep=1)
            if apart:
                cache = DynamicCache(config=model.config)
            else:
                cache.batch_repeat_interleave(len(prompts))
        longest = max(len(p) for p in prompts) - shared
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)
        mask = torch.zeros(len(prompts), longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            rest = prompt[shared:]
            ids[row, longest - len(rest) :] = torch.tensor(rest)
            mask[row, longest - len(rest) :] = 1
        position = shared + (mask.cumsum(1) - 1).clamp(min=0)
        if shared and not apart:
            mask = torch.cat([mask.new_ones(len(prompts), shared), mask], 1)
        mask, looks = mask.to(device), gather(prompts, longest, device, left=True)
        position = _places(model, ids.to(device), mask, looks) if looks else position.to(device)
        out = model(
            input_ids=ids.to(device),
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **looks,
        )
        yield out.logits[:, -1], cache, mask, position[..., -1:].view(-1, len(prompts), 1)[0] + 1


def _places(model: Any, ids: Tensor, mask: Tensor, looks: Looks) -> Tensor:
    """Positions of the tokens of prompts with pictures: (rows, tokens), or (3, rows, tokens) in a model that counts
    time, height and width (Qwen2-VL, arXiv 2409.12191); after the pictures the three are equal."""
    place = getattr(model.base_model, "get_rope_index", None)
    if place is None:
        return (mask.cumsum(1) - 1).clamp(min=0)
    takes = inspect.signature(place).parameters
    found: Tensor = place(ids, attention_mask=mask, **{name: looks[name] for name in looks if name in takes})[0]
    return found


def _shared_prefix(prompts: Sequence[list[int]]) -> int:
    """How many first tokens all prompts share, leaving each at least one of its own to have logits to go on from.

    None with pictures: their places look alike whatever they show.
    """
    if any(isinstance(prompt, Seen) for prompt in prompts):
        return 0
    first, last = min(prompts), max(prompts)  # what these two share, everything between them shares
    most = min(len(p) for p in prompts) - 1
    return next((i for i in range(min(most, len(first))) if first[i] != last[i]), most)
