"""K students over one frozen base at once: every pass takes rows of all, and each row goes through its own adapter.

The base's matrix products, and everything else that holds no weights of a student's, run over all rows in one call;
only the low-rank corrections run student by student, on that student's slice of the tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from dataenv.students.lora import LoraLinear
from dataenv.students.packing import Row, lay_out, length, split, variable_length
from dataenv.students.training import _CompletionLosses


class Adapters:
    """The adapters of K models over one base, and their gradients: one row of `weights` and `grads` each.

    A copy: `models` stay as they are until `write_back`.

    Args:
        models: with equal layers (`lora.add_lora`), which share their base's weights.
        most: tokens in one pass, padding included.
        packed: rows behind each other instead of padded, see `packing`.
    """

    def __init__(self, models: Sequence[Any], *, most: int, packed: bool) -> None:
        self._models, self._most, self._packed = models, most, packed
        self.weights = torch.stack([torch.cat([p.detach().flatten() for p in _trainable(m)]) for m in models])
        self.grads = torch.zeros_like(self.weights)
        self.sizes: list[int] = []
        """How many tokens of the pass under way are each student's; they lie in order."""
        own, at = {}, 0
        for parameter in _trainable(models[0]):
            part = slice(at, at := at + parameter.numel())
            own[id(parameter)] = [self._leaf(k, part, parameter.shape) for k in range(len(models))]
        keep: dict[int, Any] = {id(t): t for t in (*models[0].parameters(), *models[0].buffers())}
        for layer in models[0].modules():
            if isinstance(layer, LoraLinear):
                keep[id(layer)] = _Apart(layer.base, own[id(layer.lora_A)], own[id(layer.lora_B)], layer.scale, self)
        self.model = copy.deepcopy(models[0], keep)

    def _leaf(self, k: int, part: slice, shape: torch.Size) -> nn.Parameter:
        """A view of the weights, whose gradient is summed up in a view of `grads`."""
        leaf = nn.Parameter(self.weights[k, part].view(shape))
        leaf.grad = self.grads[k, part].view(shape)
        return leaf

    @torch.no_grad()
    def write_back(self, k: int) -> None:
        """Give model `k` its row of `weights`."""
        parameters = _trainable(self._models[k])
        for parameter, new in zip(
            parameters, torch.split(self.weights[k], [p.numel() for p in parameters]), strict=True
        ):
            parameter.copy_(new.view(parameter.shape))

    def loss_and_grads(self, batches: Sequence[Sequence[Row]]) -> list[float]:
        """Each student's summed loss over its batch; `grads` becomes the gradient of its mean per completion token.

        Rows of like length share a pass, whoever's they are.
        """
        self.grads.zero_()
        rows = [row for batch in batches for row in batch]
        whose = [k for k, batch in enumerate(batches) for _ in batch]
        device = self.weights.device
        counts = torch.tensor([sum(len(answer) for _, answer in batch) for batch in batches], device=device)
        summed = torch.zeros(len(batches), device=device)
        by_length = sorted(range(len(rows)), key=lambda i: length(rows[i]))
        with variable_length(self.model, packed=self._packed), _CompletionLosses(self.model) as losses:
            for part in split(by_length, rows, self._most, packed=self._packed):
                part.sort()  # by student
                inputs = lay_out([rows[i] for i in part], device, packed=self._packed)
                self.sizes = [0] * len(batches)
                for i in part:
                    self.sizes[whose[i]] += length(rows[i]) - 1 if self._packed else inputs.ids.shape[1]
                owner = torch.tensor([whose[i] for i in part], device=device)[inputs.owner]
                each = losses(inputs)
                (each / counts[owner]).sum().backward()  # type: ignore[no-untyped-call]
                summed.index_add_(0, owner, each.detach())
        return summed.tolist()


class _Apart(nn.Module):
    """In place of a `LoraLinear`: the base layer on all tokens, and on each student's its own correction."""

    def __init__(
        self, base: nn.Linear, down: Sequence[Tensor], up: Sequence[Tensor], scale: float, of: Adapters
    ) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.down, self.up, self.of = down, up, of

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in) -> (..., out)."""
        y: Tensor = self.base(x)
        parts = [
            linear(linear(part, down.to(x.dtype)), (up * self.scale).to(x.dtype))
            for part, down, up in zip(torch.split(x.flatten(0, -2), self.of.sizes), self.down, self.up, strict=True)
            if len(part)
        ]
        return y + torch.cat(parts).view(y.shape)


def _trainable(model: Any) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]
