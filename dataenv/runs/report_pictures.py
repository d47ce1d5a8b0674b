"""Pictures as a report shows them: inside the page, so that it needs no other file and no network."""

from __future__ import annotations

import base64

from dataenv.records import Image

LARGEST = 150_000
"""Bytes of the largest picture that is put into a page. The page itself bounds how many."""

_STARTS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}


def source(image: Image) -> str:
    """The picture as a `data:` address; "" for one that is too large, or that browsers may not know."""
    kind = next((kind for start, kind in _STARTS.items() if image.data.startswith(start)), None)
    if kind is None or len(image.data) > LARGEST:
        return ""
    return f"data:image/{kind};base64,{base64.b64encode(image.data).decode()}"
