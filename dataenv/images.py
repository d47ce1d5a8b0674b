"""Pictures in records, from and to Pillow: the one place that knows how an `Image` is encoded."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
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
        with _no_bombs(pillow):
            return pillow.open(io.BytesIO(image.data), formats=FORMATS).convert("RGB")
    except Exception as error:  # Pillow's readers raise whatever the bytes lead them to
        raise InvalidData(
            f"The image {image.sha256[:12]} ({len(image.data)} bytes) cannot be read ({_why(error)}); an image must be "
            "a whole PNG, JPEG or WebP file."
        ) from error


def fault(image: Image) -> str | None:
    """Why an image cannot be read, in few words; None when it can. Cheaper than `opened`: a JPEG is decoded small."""
    pillow = _pillow()
    if not image.data:
        return "it is empty"
    try:
        with _no_bombs(pillow), pillow.open(io.BytesIO(image.data), formats=FORMATS) as picture:
            picture.draft("RGB", (32, 32))
            picture.load()
    except Exception as error:
        return _why(error)
    return None


def encoded(picture: Any) -> Image:
    """A Pillow image as a PNG."""
    file = io.BytesIO()
    picture.save(file, format="PNG")
    return Image(data=file.getvalue())


def readable(prompt: Prompt) -> bool:
    """Whether all images of `prompt` can be read."""
    return not any(map(fault, prompt.images))


def _why(error: Exception) -> str:
    return str(error).partition("<")[0].strip(" .'") or type(error).__name__


@contextmanager
def _no_bombs(pillow: Any) -> Iterator[None]:
    """Within, an image of absurd size is an error, where Pillow would only warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", pillow.DecompressionBombWarning)
        yield


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingDependency('Images need Pillow: pip install "dataenv[students]".') from error
    return PIL.Image
