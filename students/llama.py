"""Training K small Llamas at once, in full, on a CPU: forward and backward written out, without autograd.

The tokens of all students lie behind each other in one flat (tokens, hidden) tensor. What is done to each number by
itself runs over all of it in one call; a matrix product runs student by student on that student's slice, so that no
student sees another's padding, and its figures do not depend on its company. Against `transformers` and autograd this
saves, besides the calls, the gradients nobody needs: after the last attention only positions before a completion
token go on, and each norm's scale is folded into the weights that follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, silu

from dataenv.students.packing import Row

_aten = torch.ops.aten


def written_out(model: Any) -> bool:
    """Whether `model` is a Llama that this file trains: in full, float32 on the CPU, SiLU, no biases, no dropout."""
    config = model.config
    return (
        type(model).__name__ == "LlamaForCausalLM"
        and config.hidden_act == "silu"
        and not (config.attention_bias or config.mlp_bias or config.attention_dropout)
        and config.rope_parameters["rope_type"] == "default"
        and all(p.requires_grad and p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters())
    )


class Batch(NamedTuple):
    """One update's rows of one student, padded on the right: B rows of T input tokens."""

    ids: Tensor
    """(B * T), flat."""
    shape: tuple[int, int]
    """(B, T)."""
    picked: Tensor
    """Flat places whose next token is completion."""
    targets: Tensor
    """Those tokens."""


class Rows:
    """A student's rows as two matrices, from which batches are cut without touching the rows again."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.prompts = np.array([len(prompt) for prompt, _ in rows])
        self.lengths = np.array([len(prompt) + len(completion) for prompt, completion in rows])
        self.ids = np.zeros((len(rows), int(self.lengths.max())), dtype=np.int64)
        for line, (prompt, completion) in zip(self.ids, rows, strict=True):
            line[: len(prompt) + len(completion)] = prompt + completion

    def batch(self, rows: Sequence[int]) -> Batch:
        """The batch of these rows, in their order."""
        if not rows:
            return NO_BATCH
        lengths = self.lengths[rows][:, None]
        longest = int(lengths.max()) - 1
        ids = self.ids[rows, : longest + 1]
        place = np.arange(longest)
        # What stands behind a row's end is never looked at: attention is causal, and no target lies there.
        picked = (place >= self.prompts[rows][:, None] - 1) & (place < lengths - 1)
        return Batch(
            torch.from_numpy(ids[:, :-1].reshape(-1)),
            (len(ids), longest),
            torch.from_numpy(np.flatnonzero(picked)),
            torch.from_numpy(ids[:, 1:][picked]),
        )


_NONE = torch.empty(0, dtype=torch.long)
NO_BATCH = Batch(_NONE, (0, 0), _NONE, _NONE)
"""For a student that sits an update out."""


@dataclass(frozen=True)
class _Norm:
    """x / rms(x), without the scale, and what its backward needs (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    out: Tensor
    scale: Tensor
    """1 / rms(x) (tokens, 1)."""

    @classmethod
    def of(cls, x: Tensor, eps: float) -> _Norm:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = size.square_().div_(x.shape[-1]).add_(eps).sqrt_().reciprocal_()
        return cls(x * scale, scale)

    def back(self, grad: Tensor) -> Tensor:
        """Gradient of x from that of `out`, which it overwrites."""
        return grad.sub_(self.out * (grad * self.out).mean(-1, keepdim=True)).mul_(self.scale)


class _Attended(NamedTuple):
    """One student's attention in one layer: each (B * heads, T, ...)."""

    query: Tensor
    key: Tensor
    value: Tensor
    shares: Tensor


class Llamas:
    """The weights of K Llamas of one shape, and their gradients: one row of `weights` and `grads` each.

    A copy: `models` stay as they are until `write_back`.
    """

    def __init__(self, models: Sequence[Any]) -> None:
        config = models[0].config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps, self.tied, self.layers = config.rms_norm_eps, config.tie_word_embeddings, config.num_hidden_layers
        self._rotary = models[0].model.rotary_emb
        blank = models[0].model.embed_tokens.padding_idx  # a token whose embedding does not learn from its inputs
        self.blank = -1 if blank is None else blank
        self._models = models
        # In the model's own order, where queries, keys and values lie side by side, and gate and up projection.
        self.weights = torch.stack([torch.cat([p.detach().flatten() for p in m.parameters()]) for m in models])
        self.grads = torch.empty_like(self.weights)
        self._at: dict[str, tuple[int, torch.Size]] = {}
        at = 0
        for name, parameter in models[0].named_parameters():
            self._at[name] = (at, parameter.shape)
            at += parameter.numel()

    @torch.no_grad()
    def write_back(self, k: int) -> None:
        """Give model `k` its row of `weights`."""
        for name, parameter in self._models[k].named_parameters():
            parameter.copy_(self._view(self.weights, name)[k])

    def _view(self, flat: Tensor, first: str, last: str | None = None) -> Tensor:
        """(K, out, in) or (K, size): the weights from `first` to `last`, which lie side by side, as one."""
        start, shape = self._at[first]
        end, last_shape = self._at[last or first]
        return flat[:, start : end + last_shape.numel()].view(len(flat), -1, *shape[1:])

    @cached_property
    def _blocks(self) -> list[dict[str, tuple[Tensor, Tensor]]]:
        """(weights, gradients) of each layer, queries, keys and values in one, gate and up projection in one."""
        parts = {
            "norm1": ("input_layernorm",),
            "qkv": ("self_attn.q_proj", "self_attn.v_proj"),
            "o": ("self_attn.o_proj",),
            "norm2": ("post_attention_layernorm",),
            "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
            "down": ("mlp.down_proj",),
        }
        return [
            {
                part: tuple(  # type: ignore[misc]
                    self._view(flat, *(f"model.layers.{i}.{name}.weight" for name in names))
                    for flat in (self.weights, self.grads)
                )
                for part, names in parts.items()
            }
            for i in range(self.layers)
        ]

    @cached_property
    def paired(self) -> Tensor:
        """Order of the rows of the stacked query, key and value weights that puts the two numbers rotated together
        side by side; they are half a head apart. Queries and keys alike, it changes no product of the two."""
        order = torch.arange((self.heads + 2 * self.kv_heads) * self.head)
        turned = order[: (self.heads + self.kv_heads) * self.head]
        turned.copy_(turned.clone().view(-1, 2, self.head // 2).transpose(1, 2).flatten())
        return order

    def turns(self, length: int) -> Tensor:
        """cos + i sin of the rotary angles, (length, head / 2)."""
        cos, sin = self._rotary(self.weights, torch.arange(length)[None])
        return torch.complex(cos, sin)[0, :, : self.head // 2]

    @torch.no_grad()
    def loss_and_grads(self, batches: Sequence[Batch]) -> list[float]:
        """Each student's summed loss over its batch; `grads` becomes the gradient of its mean per completion token.

        Source: the Llama of `transformers` 5 (eager attention), differentiated by hand.
        """
        run = _Pass(self, batches)
        logits = run.forward()
        logits = log_softmax(logits, -1)
        targets = torch.cat([batch.targets for batch in batches])[:, None]
        losses = [float(-part.sum()) for part in _split(logits.gather(1, targets), run.few)]
        grad = logits.exp_()
        grad.scatter_add_(1, targets, grad.new_full(targets.shape, -1.0))
        for part, n in zip(_split(grad, run.few), run.few, strict=True):
            part.div_(n)
        run.backward(grad)
        return losses


class _Pass:
    """One forward and backward pass over a batch of every student."""

    def __init__(self, of: Llamas, batches: Sequence[Batch]) -> None:
        self.of, self.batches = of, batches
        self.all = [len(batch.ids) for batch in batches]
        self.few = [len(batch.picked) for batch in batches]
        starts = np.cumsum([0, *self.all]).tolist()
        self.picked = torch.cat([batch.picked + start for batch, start in zip(batches, starts[:-1], strict=True)])
        longest = max(batch.shape[1] for batch in batches)
        self.past = torch.ones(longest, longest).tril_()
        self.future = torch.full((longest, longest), torch.finfo(torch.float32).min).triu_(1)
        place = torch.cat([torch.arange(length).repeat(rows) for rows, length in (batch.shape for batch in batches)])
        self.turns = of.turns(longest)[place][:, None]
        self.kept: list[dict[str, Any]] = []

    # -- forward ---------------------------------------------------------------------------------------------------

    def forward(self) -> Tensor:
        """Logits (picked places, vocabulary)."""
        of = self.of
        table = of._view(of.weights, "model.embed_tokens.weight")
        x = of.weights.new_empty(sum(self.all), table.shape[-1])
        for part, own, batch in zip(_split(x, self.all), table, self.batches, strict=True):
            torch.index_select(own, 0, batch.ids, out=part)
        for i, block in enumerate(of._blocks):
            last = i == of.layers - 1
            kept: dict[str, Any] = {"norm1": _Norm.of(x, of.eps)}
            kept["w_qkv"] = block["qkv"][0][:, of.paired] * block["norm1"][0][:, None]
            qkv = self._product(kept["norm1"].out, kept["w_qkv"], self.all)
            self._rotate(qkv, self.turns)
            attended, kept["attended"] = self._attend(qkv)
            sizes = self.all
            if last:  # nothing looks at the other positions any more
                attended, x, sizes = attended[self.picked], x[self.picked], self.few
            kept["o"], kept["sizes"] = attended, sizes
            x = self._product(attended, block["o"][0], sizes, plus=x)
            kept["norm2"] = _Norm.of(x, of.eps)
            kept["w_gate_up"] = block["gate_up"][0] * block["norm2"][0][:, None]
            kept["gate_up"] = self._product(kept["norm2"].out, kept["w_gate_up"], sizes)
            gate, up = kept["gate_up"].chunk(2, -1)
            kept["act"] = silu(gate)
            kept["hidden"] = kept["act"] * up
            x = self._product(kept["hidden"], block["down"][0], sizes, plus=x)
            self.kept.append(kept)
        self.norm = _Norm.of(x, of.eps)
        self.w_head = self._head(of.weights) * of._view(of.weights, "model.norm.weight")[:, None]
        return self._product(self.norm.out, self.w_head, self.few)

    def _head(self, flat: Tensor) -> Tensor:
        return self.of._view(flat, "model.embed_tokens.weight" if self.of.tied else "lm_head.weight")

    def _product(self, x: Tensor, weight: Tensor, sizes: list[int], plus: Tensor | None = None) -> Tensor:
        """x W^T (+ plus), each student's tokens with its own W of `weight` (K, out, in)."""
        y = x.new_empty(len(x), weight.shape[1])
        parts = zip(_split(x, sizes), weight, _split(y, sizes), _split(y if plus is None else plus, sizes), strict=True)
        for part, own, out, more in parts:
            if plus is None:
                torch.mm(part, own.t(), out=out)
            else:
                torch.addmm(more, part, own.t(), out=out)
        return y

    def _rotate(self, qkv: Tensor, turns: Tensor) -> None:
        """Rotary positions (Su et al. 2021, arXiv 2104.09864) on queries and keys, in place: pairs times e^(ia)."""
        of = self.of
        pairs = qkv[:, : (of.heads + of.kv_heads) * of.head].view(len(qkv), -1, of.head // 2, 2)
        torch.view_as_complex(pairs).mul_(turns)

    def _attend(self, qkv: Tensor) -> tuple[Tensor, list[_Attended]]:
        of = self.of
        out = qkv.new_empty(len(qkv), of.heads * of.head)
        kept = []
        for part, to, batch in zip(_split(qkv, self.all), _split(out, self.all), self.batches, strict=True):
            rows, length = batch.shape
            if not rows:
                continue
            query, key, value = (self._by_head(t, *batch.shape) for t in self._cut(part))
            scores = torch.baddbmm(self.future[:length, :length], query, key.transpose(1, 2), alpha=of.head**-0.5)
            # Written out: the library's softmax is slow on rows as short as these, and its exp where it underflows.
            shares = scores.sub_(scores.amax(-1, keepdim=True)).clamp_(min=-87.0).exp_()
            shares.mul_(self.past[:length, :length])
            shares.div_(shares.sum(-1, keepdim=True))
            self._by_token(torch.bmm(shares, value), to, *batch.shape)
            kept.append(_Attended(query, key, value, shares))
        return out, kept

    def _cut(self, qkv: Tensor) -> tuple[Tensor, ...]:
        of = self.of
        return _split(qkv, [of.heads * of.head, of.kv_heads * of.head, of.kv_heads * of.head], -1)

    def _by_head(self, x: Tensor, rows: int, length: int) -> Tensor:
        """(rows * length, heads * head) -> (rows * all heads, length, head), a shared key or value repeated."""
        x = x.view(rows, length, -1, self.of.head).transpose(1, 2)
        if x.shape[1] < self.of.heads:
            x = x.repeat_interleave(self.of.heads // x.shape[1], 1)
        return x.reshape(-1, length, self.of.head)

    def _by_token(self, x: Tensor, to: Tensor, rows: int, length: int) -> None:
        """The reverse, into `to`; gradients of a repeated key or value add up."""
        few = to.shape[1] // self.of.head
        x = x.view(rows, few, -1, length, self.of.head)
        x = x[:, :, 0] if x.shape[2] == 1 else x.sum(2)
        to.view(rows, length, few, self.of.head).copy_(x.transpose(1, 2))

    # -- backward --------------------------------------------------------------------------------------------------

    def backward(self, grad: Tensor) -> None:
        """`grad` of the logits -> `of.grads`, every number of it."""
        of = self.of
        head = self._head(of.grads)
        x = self._back_product(grad, self.norm.out, self.w_head, self.few, head)
        self._unfold(head, self._head(of.weights), "model.norm.weight")
        dx = self.norm.back(x)
        for block, kept, i in zip(of._blocks[::-1], self.kept[::-1], range(of.layers - 1, -1, -1), strict=True):
            name, sizes = f"model.layers.{i}.", kept["sizes"]
            d_hidden = self._back_product(dx, kept["hidden"], block["down"][0], sizes, block["down"][1])
            gate, up = kept["gate_up"].chunk(2, -1)
            d_gate_up = torch.empty_like(kept["gate_up"])
            d_gate, d_up = d_gate_up.chunk(2, -1)
            torch.mul(d_hidden, kept["act"], out=d_up)
            _aten.silu_backward(d_hidden.mul_(up), gate, grad_input=d_gate)
            dn = self._back_product(d_gate_up, kept["norm2"].out, kept["w_gate_up"], sizes, block["gate_up"][1])
            self._unfold(block["gate_up"][1], block["gate_up"][0], name + "post_attention_layernorm.weight")
            dx = dx + kept["norm2"].back(dn)
            do = self._back_product(dx, kept["o"], block["o"][0], sizes, block["o"][1])
            if sizes is self.few:
                dx, do = (t.new_zeros(sum(self.all), t.shape[1]).index_copy_(0, self.picked, t) for t in (dx, do))
            d_qkv = self._back_attend(do, kept["attended"])
            self._rotate(d_qkv, self.turns.conj())
            d_paired = torch.empty_like(kept["w_qkv"])
            dn = self._back_product(d_qkv, kept["norm1"].out, kept["w_qkv"], self.all, d_paired)
            block["qkv"][1][:, of.paired] = d_paired
            self._unfold(block["qkv"][1], block["qkv"][0], name + "input_layernorm.weight")
            dx = dx + kept["norm1"].back(dn)
        table = of._view(of.grads, "model.embed_tokens.weight")
        for part, own, batch in zip(_split(dx, self.all), table, self.batches, strict=True):
            seen = _aten.embedding_dense_backward(part, batch.ids, len(own), of.blank, False)
            own.add_(seen) if of.tied else own.copy_(seen)

    def _back_product(self, grad: Tensor, x: Tensor, weight: Tensor, sizes: list[int], into: Tensor) -> Tensor:
        """Gradient of `_product`'s x; that of its weight goes `into` (K, out, in)."""
        dx = torch.empty_like(x)
        parts = zip(_split(grad, sizes), _split(x, sizes), weight, _split(dx, sizes), into, strict=True)
        for g, part, own, out, d_own in parts:
            torch.mm(g, own, out=out)
            torch.mm(g.t(), part, out=d_own)
        return dx

    def _unfold(self, d_folded: Tensor, weight: Tensor, norm: str) -> None:
        """Gradients of a weight and of the norm's scale from that of their product, in place of the latter."""
        of = self.of
        torch.sum(d_folded * weight, 1, out=of._view(of.grads, norm))
        d_folded.mul_(of._view(of.weights, norm)[:, None])

    def _back_attend(self, grad: Tensor, kept: Sequence[_Attended]) -> Tensor:
        of = self.of
        out = grad.new_empty(len(grad), (of.heads + 2 * of.kv_heads) * of.head)
        then = iter(kept)
        for part, to, batch in zip(_split(grad, self.all), _split(out, self.all), self.batches, strict=True):
            if not batch.shape[0]:
                continue
            query, key, value, shares = next(then)
            g = self._by_head(part, *batch.shape)
            d_value = torch.bmm(shares.transpose(1, 2), g)
            d_scores = torch.bmm(g, value.transpose(1, 2)).mul_(shares)
            d_scores.sub_(shares * d_scores.sum(-1, keepdim=True)).mul_(of.head**-0.5)
            d_query, d_key = torch.bmm(d_scores, key), torch.bmm(d_scores.transpose(1, 2), query)
            for t, place in zip((d_query, d_key, d_value), self._cut(to), strict=True):
                self._by_token(t, place, *batch.shape)
        return out


def _split(x: Tensor, sizes: list[int], dim: int = 0) -> tuple[Tensor, ...]:
    return tuple(torch.split_with_sizes(x, sizes, dim))
