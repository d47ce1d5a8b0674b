"""Pictures in records, from and to Pillow: the one place that knows how an `Image` is encoded."""

from __future__ import annotations

import io
import warnings
from typing import Any

from dataenv.errors import InvalidData, MissingDependency
from dataenv.records import Image, Prompt

FORMATS = ("PNG", "JPEG", "WEBP")
UNREADABLE = "unreadable"
"""Why a row with an image that cannot be read is dropped."""


def opened(image: Image) -> Any:
    """The picture as a Pillow image in RGB; of an animation, the first.

    Raises InvalidData, naming the image by its hash, where the bytes are no whole picture of `FORMATS` or too large.
    """
    pillow = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            return pillow.open(io.BytesIO(image.data), formats=FORMATS).convert("RGB")
    except Exception as error:  # Pillow's readers raise whatever the bytes lead them to
        why = str(error).partition("<")[0].strip(" .'") or type(error).__name__
        raise InvalidData(
            f"The image {image.sha256[:12]} ({len(image.data)} bytes) cannot be read ({why}); an image must be a whole "
            "PNG, JPEG or WebP file."
        ) from error


def encoded(picture: Any) -> Image:
    """A Pillow image as a PNG."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return Image(data=file.getvalue())


def readable(prompt: Prompt) -> bool:
    """Whether all images of `prompt` can be read."""
    try:
        for image in prompt.images:
            opened(image)
    except InvalidData:
        return False
    return True


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingDependency('Images need Pillow: pip install "dataenv[students]".') from error
    return PIL.Image
