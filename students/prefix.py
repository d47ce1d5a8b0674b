"""Attention of many rows to one prefix that they share, whose keys and values are kept once instead of for every row.

The scores of a row towards prefix and own tokens go through one softmax, so that the result is that of the ordinary
attention up to rounding (Juravsky et al. 2024, arXiv 2402.05099; Ye et al. 2024, ChunkAttention, arXiv 2402.15220).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import eager_mask
from transformers.models.llama.modeling_llama import eager_attention_forward

NAME = "dataenv_prefix"


def can_share(model: Any) -> bool:
    """Whether `model` attends as Llama does, layer by layer, to a cache of nothing but keys and values.

    On a GPU the fused kernels of the ordinary way are left alone.
    """
    if model.config._attn_implementation != "eager":
        return False
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) is DynamicLayer for layer in layers) and _attends_as_llama(type(model).__module__)


@contextmanager
def sharing(model: Any) -> Iterator[None]:
    """Inside the block the first forward pass, of one row, is the prefix; in those that follow every row comes after
    it, with a cache and a mask that know of its own tokens alone."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        for module in model.modules():
            module.__dict__.pop("prefix", None)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **rest: Any
) -> tuple[Tensor, None]:
    """query (n, heads, q, d), key and value (n, kv heads, t, d), mask (n, 1, q, t) -> (n, q, heads, d)."""
    if "prefix" not in module.__dict__:
        module.prefix = key[0], value[0]
        return eager_attention_forward(module, query, key, value, mask, scaling, **rest)[0], None
    keys, values = module.prefix  # (kv heads, p, d)
    n, heads, q, d = query.shape
    kv, p = keys.shape[:2]
    query = query.reshape(n, kv, -1, d)  # the heads that share keys, side by side
    far = _by_head(query) @ keys.transpose(1, 2)  # (kv heads, n * g * q, p)
    near = query @ key.transpose(2, 3)  # (n, kv heads, g * q, t)
    scores = torch.cat([far.view(kv, n, -1, p).transpose(0, 1), near], -1).mul_(scaling)
    if mask is not None:
        scores[..., p:].view(n, kv, -1, q, near.shape[-1]).add_(mask[:, :, None])
    shares = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    out = (_by_head(shares[..., :p]) @ values).view(kv, n, -1, d).transpose(0, 1) + shares[..., p:] @ value
    return out.reshape(n, heads, q, d).transpose(1, 2).contiguous(), None


def _by_head(x: Tensor) -> Tensor:
    """(n, kv heads, m, d) -> (kv heads, n * m, d)."""
    return x.transpose(0, 1).flatten(1, 2)


@lru_cache
def _attends_as_llama(module: str) -> bool:
    """Whether the attention written out in `module` is Llama's word for word, as `transformers` has it in many models;
    others cap their scores, or have sinks."""
    own = getattr(sys.modules[module], "eager_attention_forward", None)
    return own is not None and inspect.getsource(own) == inspect.getsource(eager_attention_forward)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, eager_mask)
