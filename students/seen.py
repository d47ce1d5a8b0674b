"""Prompts with pictures on their way through lessons and replies: their tokens, and what the model takes besides.

A `Seen` passes wherever a list of token ids does. What a processor makes of the pictures (pixels, their masks, sizes,
a type for each token) is asked for when the tensors of a forward pass are laid out, and not before: the pictures of a
whole lesson may be too many to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

Looks = dict[str, Tensor]
"""Inputs of a model besides token ids, by name. Token types are (1, tokens); in the rest the first dimension counts
pictures, or what they were cut into."""


class Seen(list[int]):
    """Token ids of a prompt with pictures, whose places they hold. `look()` gives the rest of it; `pixels` counts its
    numbers that are no token types; `key` tells it from prompts of the same tokens with other pictures."""

    def __init__(self, ids: Sequence[int], look: Callable[[], Looks], pixels: int, key: str = "") -> None:
        super().__init__(ids)
        self.look = look
        self.pixels = pixels
        self.key = key

    def __str__(self) -> str:
        return f"{super().__str__()} {self.key}"


def pixels(prompts: Sequence[list[int]]) -> int:
    """Of all prompts together."""
    return sum(prompt.pixels for prompt in prompts if isinstance(prompt, Seen))


def gather(prompts: Sequence[list[int]], longest: int, device: torch.device, *, left: bool = False) -> Looks:
    """The looks of several prompts as the inputs of one forward pass of (prompts, `longest`) tokens; none, none.

    Pictures stand behind each other, those of smaller size, or of fewer parts, filled up with zeros, which is how the
    models of `transformers` know padding. Token types are laid as the tokens are, prompts on the right where `left` is
    padded; what follows a prompt is of the type that its pictures are not: models tell apart pictures (1, the rest 0)
    or what is read before an answer (0, the answer 1).
    """
    looks = [prompt.look() if isinstance(prompt, Seen) else {} for prompt in prompts]
    gathered: Looks = {}
    for name in dict.fromkeys(name for look in looks for name in look):
        here = [look.get(name) for look in looks]
        if name.endswith("token_type_ids"):
            gathered[name] = _types(prompts, here, longest, left)
        else:
            gathered[name] = _stacked([tensor for tensor in here if tensor is not None])
    return {name: tensor.to(device) for name, tensor in gathered.items()}


def _types(prompts: Sequence[list[int]], types: Sequence[Tensor | None], longest: int, left: bool) -> Tensor:
    known = [tensor for tensor in types if tensor is not None]
    rest = 0 if any(bool((tensor != 0).any()) for tensor in known) else 1
    laid = torch.full((len(prompts), longest), rest)
    for row, prompt, tensor in zip(laid, prompts, types, strict=True):
        place = slice(longest - len(prompt), longest) if left else slice(0, len(prompt))
        row[place] = 0 if tensor is None else tensor[0]
    return laid


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    sizes = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
    return torch.cat([pad(tensor, list(_room(tensor, sizes))) for tensor in tensors])


def _room(tensor: Tensor, sizes: Sequence[int]) -> Iterator[int]:
    """How many zeros to put before and behind each dimension but the first, the last dimension first."""
    for size, wanted in zip(reversed(tensor.shape[1:]), reversed(sizes), strict=True):
        yield from (0, wanted - size)
