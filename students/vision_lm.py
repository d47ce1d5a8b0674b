"""The image student: any image-text-to-text model of `transformers`, taught and asked as the text student is.

What differs is here: how a prompt with images becomes tokens and tensors. Lessons, adapters, states, files and
decoding are `CausalLM`'s.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any

import torch

from dataenv.errors import InvalidData
from dataenv.images import opened
from dataenv.records import Example, Image, Prompt
from dataenv.students.causal_lm import CausalLM
from dataenv.students.encoding import Encoder
from dataenv.students.generators import Batched
from dataenv.students.seen import Looks, Seen
from dataenv.students.weights import Base

HELD = 2**30
"""Most bytes of looks that an encoder keeps, so that pictures asked about again need not be read again."""

_READING = Lock()
"""Students over one base share its processor and may decode side by side, and no two threads may use a tokenizer."""


class VisionLM(CausalLM):
    """Any image-text-to-text model of `transformers` (LLaVA, SmolVLM, PaliGemma, Qwen-VL ...), by Hub id or folder.

    Args:
        source: as of `CausalLM`; a `Base` must say that it takes images.
        template: None uses the processor's chat template. In a string such as "{images}{prompt}\\nAnswer: " the images
            stand where "{images}" does, else before the prompt.
        max_length: tokens of a training row, those that stand for images included.
        options: as of `CausalLM`. Adapters lie on every linear layer, those that look at the images included. Rows are
            padded, never packed, and the student answers by itself, not through vLLM.

    An image that cannot be read is InvalidData, before anything is taught or answered; the gate drops such rows.
    """

    images: bool | None = None

    def __init__(
        self, source: str | Base, *, packing: bool | None = None, max_length: int = 2048, **options: Any
    ) -> None:
        if packing:
            raise InvalidData("An image student cannot pack rows; leave its packing out.")
        base = source if isinstance(source, Base) else Base(source, images=True)
        super().__init__(base, **{"answer_batch": 16, "packing": False, "max_length": max_length, **options})
        if not isinstance(self.generator, Batched):
            raise InvalidData("An image student answers by itself; its generator must be 'batched'.")

    def _encoder_around(self, tokenizer: Any) -> Encoder:
        return ImageEncoder(tokenizer, name=self.name, template=self._template, system=self._system)


class ImageEncoder(Encoder):
    """An `Encoder` around a processor of `transformers`, for prompts with images or without."""

    takes_images = True

    def __init__(self, processor: Any, **options: Any) -> None:
        if getattr(processor, "image_processor", None) is None:
            raise InvalidData(f"Student '{options['name']}' reads text only; choose an image-text-to-text model.")
        super().__init__(processor.tokenizer, writer=processor, **options)
        self.processor = processor
        self._mark: str = getattr(processor, "image_token", "<image>")
        self._held: OrderedDict[tuple[str, ...], tuple[list[int], Looks]] = OrderedDict()
        self._bytes = 0

    def prompt(self, prompt: Prompt, shots: Sequence[Example] = ()) -> list[int]:
        """As `Encoder.prompt`; with images a `Seen`.

        Raises InvalidData for an image that cannot be read, and for a prompt that the model cannot take: some take
        none without an image.
        """
        images = [image for said in (*(shot.prompt for shot in shots), prompt) for image in said.images]
        text = self.render(prompt, shots)
        ids, looks = self._processed(text, images)
        if self._begin and self._begin[0] not in ids:  # some processors put it behind the images
            text = self.tokenizer.bos_token + text
            ids, looks = self._processed(text, images)
        if not images:
            return ids or [self.end]
        pixels = sum(tensor.numel() for tensor in looks.values() if tensor.is_floating_point())
        return Seen(ids, partial(self._look, text, images), pixels, " ".join(image.sha256 for image in images))

    def _look(self, text: str, images: Sequence[Image]) -> Looks:
        return self._processed(text, images)[1]

    def _processed(self, text: str, images: Sequence[Image]) -> tuple[list[int], Looks]:
        """Token ids and looks, from those held where they are of the latest."""
        if not images:
            return self._process(text, images)
        key = (text, *(image.sha256 for image in images))
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        self._held[key] = made = self._process(text, images)
        self._bytes += _bytes(made[1])
        while self._bytes > HELD and len(self._held) > 1:
            self._bytes -= _bytes(self._held.popitem(last=False)[1][1])
        return made

    def _process(self, text: str, images: Sequence[Image]) -> tuple[list[int], Looks]:
        pictures = [opened(image) for image in images]
        try:
            with _READING:
                made = self.processor(
                    text=[text], images=[pictures] if pictures else None, return_tensors="pt", add_special_tokens=False
                )
        except (ValueError, IndexError, StopIteration) as error:
            why = str(error).strip() or "images and their places do not match"
            words = f"{text[:60]}..." if len(text) > 60 else text
            raise InvalidData(
                f"Student '{self.name}' cannot take the prompt {words!r} with {len(images)} images ({why})."
            ) from error
        looks = {name: made[name] for name in made if name not in ("input_ids", "attention_mask", "labels")}
        return made["input_ids"][0].tolist(), {n: t for n, t in looks.items() if isinstance(t, torch.Tensor)}

    def _fill(self, prompt: Prompt) -> str:
        assert self.template is not None
        marks = self._mark * len(prompt.images)
        template = self.template if "{images}" in self.template else "{images}" + self.template
        return template.replace("{images}", marks).replace("{prompt}", prompt.text)

    def _message(self, role: str, said: Prompt) -> dict[str, Any]:
        parts = [{"type": "image"} for _ in said.images]
        return {"role": role, "content": [*parts, {"type": "text", "text": said.text}]}


def _bytes(looks: Looks) -> int:
    return sum(tensor.nbytes for tensor in looks.values())
