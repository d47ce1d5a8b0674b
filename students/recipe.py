"""The settings of one training, as plain data that needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from dataenv.errors import InvalidData


@dataclass(frozen=True)
class Recipe:
    """How one `teach` trains. The optimiser is AdamW and starts afresh at each call.

    Args:
        learning_rate: peak, reached after `warmup` (a share of the updates), then a cosine down to `floor` times it.
        epochs: passes over the rows of a call.
        batch: rows per update, exactly, but for the last of an epoch.
        micro_batch: most padded tokens in one forward pass; a batch above it is accumulated. Bounds memory.
        clip: largest gradient norm.
    """

    learning_rate: float
    epochs: int = 1
    batch: int = 8
    micro_batch: int = 8192
    warmup: float = 0.1
    floor: float = 0.1
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        for field, low in (("learning_rate", 0.0), ("epochs", 1), ("batch", 1), ("micro_batch", 1), ("clip", 0.0)):
            value = getattr(self, field)
            if not value >= low or (value == 0 and low == 0.0):
                raise InvalidData(
                    f"Training setting {field} must be {'above' if low == 0.0 else 'at least'} {low:g}; it is {value}."
                )
