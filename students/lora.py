"""Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): y = W x + (alpha/r) B A x, with W frozen.

The adapter's weights are kept in float32 and computed with in the base model's type. On disk they are PEFT's format
(`adapter_config.json`, `adapter_model.safetensors`), so that PEFT and vLLM load them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import linear

from dataenv.errors import InvalidData

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."


class LoraLinear(nn.Module):
    """A frozen linear layer with a trainable low-rank correction; B starts at 0, so it starts as the base layer."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        bound = 1 / math.sqrt(base.in_features)  # Kaiming-uniform with a = sqrt(5), as PEFT and nn.Linear start
        start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = nn.Parameter(start.to(base.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))
        self._merged: Tensor | None = None
        self._room: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., in) -> (..., out)."""
        if self._merged is not None:
            return linear(x, self._merged, self.base.bias)
        low = linear(x, self.lora_A.to(x.dtype))
        y: Tensor = self.base(x)
        return y + linear(low, (self.lora_B * self.scale).to(x.dtype))

    @torch.no_grad()
    def merge(self) -> None:
        """Add the correction to a copy of the base weight and compute with that, until `unmerge`."""
        weight = self.base.weight
        if self._room is None:
            self._room = torch.empty_like(weight)
        low, up = self.lora_A.to(weight.dtype), (self.lora_B * self.scale).to(weight.dtype)
        self._merged = torch.addmm(weight, up, low, out=self._room)  # one rounding for product and sum

    def unmerge(self) -> None:
        """Compute with base and correction again."""
        self._merged = None
        if self.base.weight.device.type != "cpu":  # there new memory costs more than the merging; a GPU's is needed
            self._room = None


def add_lora(model: Any, *, rank: int, alpha: float, seed: int) -> list[str]:
    """Freeze `model` and give every linear layer except the output layer an adapter; returns the adapted names."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    targets = [
        (name, layer) for name, layer in model.named_modules() if type(layer) is nn.Linear and layer is not output
    ]
    if not targets:
        raise InvalidData("This model has no linear layers to adapt; use method='full' instead of 'lora'.")
    for name, layer in targets:
        parent, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(parent), attribute, LoraLinear(layer, rank, alpha, generator))
    return [name for name, _ in targets]


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Inside the block each adapted layer is one matrix product instead of three; the base weights are untouched.

    Costs one pass over the weights. Whatever happens, the layers are as before afterwards.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLinear)]
    try:
        for layer in layers:
            layer.merge()
        yield
    finally:
        for layer in layers:
            layer.unmerge()


def save_lora(weights: dict[str, Tensor], folder: Path, *, base: str, rank: int, alpha: float) -> None:
    """Write adapter `weights` (names as in the adapted model) to `folder` in PEFT's format."""
    named = {_PREFIX + name + ".weight": value.detach().cpu().contiguous() for name, value in weights.items()}
    targets = sorted({name.rpartition(".lora_")[0].rpartition(".")[2] for name in weights})
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": targets,
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(named, folder / WEIGHTS)
    (folder / CONFIG).write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))


def load_lora(folder: Path, *, base: str, alpha: float) -> dict[str, Tensor]:
    """Read what `save_lora` wrote, refusing an adapter of another base model or scale."""
    try:
        config = dict(orjson.loads((folder / CONFIG).read_bytes()))
        named = load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise InvalidData(f"{folder} holds no readable adapter: {error}.") from error
    if config.get("base_model_name_or_path") != base:
        raise InvalidData(
            f"The adapter in {folder} belongs to '{config.get('base_model_name_or_path')}', not to '{base}'; "
            "load it into a student with that base."
        )
    if config.get("lora_alpha") != alpha or config.get("use_rslora"):
        raise InvalidData(
            f"The adapter in {folder} has lora_alpha={config.get('lora_alpha')} and use_rslora="
            f"{config.get('use_rslora', False)}; the student, with alpha {alpha:g} and without rslora, would scale it "
            "wrongly: give the student the adapter's alpha."
        )
    return {name.removeprefix(_PREFIX).removesuffix(".weight"): value for name, value in named.items()}
