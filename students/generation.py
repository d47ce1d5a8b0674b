"""Batched decoding with a key-value cache: sorted by length, shared prefix computed once, finished rows leave early."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dataenv.errors import GenerationFailed
from dataenv.progress import report
from dataenv.students.memory import out_of_memory, replies_at_once


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    stop: set[int],
    temperature: float = 0.0,
    seed: int = 0,
    batch: int = 64,
) -> list[list[int]]:
    """New tokens for each prompt (a non-empty list of ids), in order, each ending at a stop token, at the limit, or
    where the model's context ends.

    The stop token is kept, so that a reply that ended can be told from one that was cut. Temperature 0 is greedy.
    Up to `batch` are decoded together: fewer where their keys and values would take too much memory.

    Raises GenerationFailed where memory does not suffice for one, or runs out.
    """
    device = next(model.parameters()).device
    context = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    generator = torch.Generator(device=device).manual_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    replies: list[list[int]] = [[] for _ in prompts]
    stops = torch.tensor(sorted(stop), device=device)
    shared = _shared_prefix(prompts) if prompts else 0
    done = 0
    while done < len(order):
        longest = len(prompts[order[done]])
        new = min(max_new_tokens, context - len(prompts[order[-1]]))
        chosen = order[done : done + replies_at_once(model, longest=longest, shared=shared, new=new, most=batch)]
        limits = [min(max_new_tokens, context - len(prompts[i])) for i in chosen]
        try:
            _decode(
                model,
                [prompts[i] for i in chosen],
                [replies[i] for i in chosen],
                limits,
                stops,
                temperature,
                generator,
            )
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


def _decode(
    model: Any,
    prompts: list[list[int]],
    replies: list[list[int]],
    limits: list[int],
    stops: Tensor,
    temperature: float,
    generator: torch.Generator,
) -> None:
    """Decode one batch, appending each row's new tokens, up to its own limit, to its list in `replies`."""
    device = stops.device
    logits, cache, mask = _prefill(model, prompts, device)
    alive, limit = torch.arange(len(prompts), device=device), torch.tensor(limits, device=device)
    position = mask.sum(1, keepdim=True)
    for made in range(1, max(limits) + 1):
        token = _choose(logits, temperature, generator)
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
            input_ids=token[:, None], attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True
        )
        logits, position = out.logits[:, -1], position + 1


def _prefill(model: Any, prompts: list[list[int]], device: torch.device) -> tuple[Tensor, Any, Tensor]:
    """Logits after each prompt, the cache, and its mask (rows, tokens).

    The prefix that all prompts share goes through the model once and is repeated; the rest is padded on its left.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    # A sliding window would count the padding between prefix and rest as tokens: such models share no prefix.
    shared = _shared_prefix(prompts) if len(prompts) > 1 and not any(cache.is_sliding) else 0
    if shared:
        head = torch.tensor([prompts[0][:shared]], device=device)
        model(input_ids=head, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.batch_repeat_interleave(len(prompts))
    longest = max(len(p) for p in prompts) - shared
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), shared + longest, dtype=torch.long)
    mask[:, :shared] = 1
    for row, prompt in enumerate(prompts):
        rest = prompt[shared:]
        ids[row, longest - len(rest) :] = torch.tensor(rest)
        mask[row, shared + longest - len(rest) :] = 1
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    out = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=position.to(device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return out.logits[:, -1], cache, mask.to(device)


def _shared_prefix(prompts: Sequence[list[int]]) -> int:
    """How many first tokens all prompts share, leaving each at least one of its own to have logits to go on from."""
    first, last = min(prompts), max(prompts)  # what these two share, everything between them shares
    most = min(len(p) for p in prompts) - 1
    return next((i for i in range(min(most, len(first))) if first[i] != last[i]), most)


def _choose(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """One token per row of logits (rows, vocabulary)."""
    if temperature <= 0:
        return logits.argmax(-1)
    shares = (logits.float() / temperature).softmax(-1)
    return torch.multinomial(shares, 1, generator=generator)[:, 0]
