"""The pictures of `scenes`: a few plain figures on a light ground, drawn to a small PNG and read back from its pixels.

A picture is 64x64 pixels of seven colours. Figures keep a pixel of ground between their bounding boxes and no edge is
smoothed, so the pixels say exactly what was drawn: `read` finds the figures again, and needs nothing but the picture.

The same figures give the same bytes on every machine, which is what lets a picture's hash decide its split. zlib does
not promise that (zlib and zlib-ng differ), so `draw` compresses by itself: runs of one byte, in fixed Huffman codes
(RFC 1951, 3.2.6), after PNG's filter "up". A picture takes some 300 bytes and 0.1 ms.
Source: original to this project; PNG as in https://www.w3.org/TR/png-3/.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dataenv.records import Image

SIDE = 64
"""Pixels in each direction."""

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 70),
    "blue": (40, 90, 230),
    "yellow": (245, 205, 40),
    "purple": (160, 60, 190),
    "black": (25, 25, 25),
}
SMALL = (5, 7, 9)
LARGE = (13, 15, 17)
"""Diameters in pixels. Nothing lies between small and large."""

Canvas = npt.NDArray[np.uint8]
"""(SIDE, SIDE) numbers of colours; 0 is the ground."""


class Figure(NamedTuple):
    """One figure: what it looks like, and the pixel of its centre, counted from the top left corner."""

    shape: str
    colour: str
    diameter: int
    x: int
    y: int

    @property
    def size(self) -> str:
        return "small" if self.diameter in SMALL else "large"

    @property
    def inside(self) -> bool:
        """Whether all of it is in the picture."""
        radius = self.diameter // 2
        return radius <= min(self.x, self.y) and max(self.x, self.y) < SIDE - radius

    def clear_of(self, other: Figure) -> bool:
        """Whether a pixel of ground, at least, lies between the bounding boxes."""
        apart = self.diameter // 2 + other.diameter // 2 + 1
        return abs(self.x - other.x) > apart or abs(self.y - other.y) > apart


def _mask(shape: str, diameter: int) -> npt.NDArray[np.bool_]:
    """The pixels of a figure in its bounding box, all four sides of which it touches."""
    radius = diameter // 2
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    match shape:
        case "circle":
            return np.asarray(x * x + y * y <= radius * radius + radius / 2)
        case "triangle":
            return np.asarray(2 * abs(x) <= y + radius)
        case "cross":
            return np.asarray(np.minimum(abs(x), abs(y)) <= diameter // 6)
        case _:
            return np.ones((diameter, diameter), bool)


_MASKS = {(shape, diameter): _mask(shape, diameter) for shape in SHAPES for diameter in (*SMALL, *LARGE)}
_NUMBER = {colour: number for number, colour in enumerate(COLOURS, 1)}
_NAME = dict(enumerate(COLOURS, 1))


def draw(figures: Iterable[Figure]) -> Image:
    """The picture of `figures`, each inside it and clear of the others: see `Figure`."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    for shape, colour, diameter, x, y in figures:
        top, left = y - diameter // 2, x - diameter // 2
        canvas[top : top + diameter, left : left + diameter][_MASKS[shape, diameter]] = _NUMBER[colour]
    return Image(data=_png(canvas))


def read(image: Image) -> tuple[Figure, ...] | None:
    """The figures of a picture, from top to bottom; None when `draw` would not draw these very bytes."""
    canvas = _canvas(image.data)
    if canvas is None:
        return None
    figures: list[Figure] = []
    while (places := np.flatnonzero(canvas)).size:
        figure = _figure_at(canvas, *divmod(int(places[0]), SIDE))
        if figure is None:
            return None
        figures.append(figure)
    return tuple(figures) if draw(figures).data == image.data else None


def _figure_at(canvas: Canvas, row: int, column: int) -> Figure | None:
    """The figure whose first pixel is at (row, column), which is then wiped off the canvas."""
    number = int(canvas[row, column])
    for (shape, diameter), mask in _MASKS.items():
        left = column - int(mask[0].argmax())
        window = canvas[row : row + diameter, max(left, 0) : left + diameter]
        around = canvas[max(row - 1, 0) : row + diameter + 1, max(left - 1, 0) : left + diameter + 1]
        if left < 0 or window.shape != mask.shape or np.count_nonzero(around) != np.count_nonzero(mask):
            continue
        if np.array_equal(window, mask * np.uint8(number)):
            window[:] = 0
            return Figure(shape, _NAME[number], diameter, left + diameter // 2, row + diameter // 2)
    return None


# -- PNG --------------------------------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_GROUND = (240, 240, 235)
_HEAD = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE, SIDE, 4, 3, 0, 0, 0))  # 4 bits a pixel, numbers of a palette
    + _chunk(b"PLTE", b"".join(map(bytes, (_GROUND, *COLOURS.values()))))
)
_TAIL = _chunk(b"IEND", b"")
_LINE = SIDE // 2 + 1
"""Bytes of a line: its filter, then two pixels a byte."""


def _png(canvas: Canvas) -> bytes:
    lines = np.zeros((SIDE, _LINE), np.uint8)
    lines[:, 1:] = canvas[:, ::2] << 4 | canvas[:, 1::2]
    lines[1:, 1:] -= lines[:-1, 1:].copy()  # the filter "up": what differs from the line above, modulo 256
    lines[:, 0] = 2
    flat = lines.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=flat[0] ^ 1))
    runs = zip(flat[starts].tolist(), np.diff(starts, append=flat.size).tolist(), strict=True)
    bits = "110" + "".join([_run(byte, length) for byte, length in runs]) + "0000000"  # last block, fixed codes; end
    packed = int(bits[::-1], 2).to_bytes((len(bits) + 7) // 8, "little")
    return _HEAD + _chunk(b"IDAT", b"\x78\x01" + packed + struct.pack(">I", zlib.adler32(flat.tobytes()))) + _TAIL


def _canvas(data: bytes) -> Canvas | None:
    """The pixels of a picture that `_png` wrote; None for most others."""
    if not data.startswith(_HEAD) or len(data) > 2 * SIDE * SIDE:
        return None
    try:
        flat = zlib.decompressobj().decompress(data[len(_HEAD) + 8 :], SIDE * _LINE + 1)
    except zlib.error:
        return None
    if len(flat) != SIDE * _LINE:
        return None
    lines = np.cumsum(np.frombuffer(flat, np.uint8).reshape(SIDE, _LINE)[:, 1:], axis=0, dtype=np.uint8)
    canvas = np.stack([lines >> 4, lines & 15], axis=-1).reshape(SIDE, SIDE)
    return canvas if canvas.max() <= len(COLOURS) else None


@lru_cache(maxsize=4096)
def _run(byte: int, length: int) -> str:
    """`length` times the same byte as bits in the order of the stream: the byte, then copies of the one before."""
    literal = f"{byte + 0x30:08b}" if byte < 144 else f"{byte - 144 + 0x190:09b}"
    bits, left = literal, length - 1
    while left >= 3:
        copied = min(left, 258)
        code, extra, width = _length_code(copied)
        bits += f"{code - 256:07b}" if code < 280 else f"{code - 280 + 0xC0:08b}"
        bits += (f"{extra:0{width}b}"[::-1] if width else "") + "00000"  # distance 1
        left -= copied
    return bits + literal * left


def _length_code(length: int) -> tuple[int, int, int]:
    """(code, extra bits, how many) of a copy of 3 to 258 bytes: RFC 1951, 3.2.5."""
    if length == 258:
        return 285, 0, 0
    if length < 11:
        return 254 + length, 0, 0
    width = (length - 3).bit_length() - 3
    step, extra = divmod(length - 3, 1 << width)
    return 257 + 4 * width + step, extra, width
