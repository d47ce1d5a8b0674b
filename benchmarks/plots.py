"""The pictures of a comparison's page: pure functions from numbers to SVG text, in the manner of `runs.charts`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from dataenv.benchmarks.statistics import Estimate
from dataenv.runs.charts import label, label_width, line, svg, text


class Curve(NamedTuple):
    """A line through points, with a band around it where `low` and `high` say so. `style` is its class name."""

    name: str
    style: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Dot(NamedTuple):
    """A teacher's cost and gain; `front` when no other is both cheaper and better."""

    name: str
    x: float
    y: float
    front: bool


def forest(rows: Sequence[tuple[str, str, Estimate]], *, title: str, width: int = 820) -> str:
    """A line for each (label, class, estimate): its interval, a dot at the value, both in words at the end."""
    row, top, bottom = 26, 26, 8
    left, right = label_width([name for name, _, _ in rows], width), 150
    ends = [v for _, _, e in rows for v in e if math.isfinite(v)]
    low, high, step = _axis(min([0.0, *ends]), max([0.0, *ends]), (width - left - right) // 60)
    height = top + row * len(rows) + bottom

    def across(x: float) -> float:
        return left + (width - left - right) * (x - low) / (high - low)

    parts = []
    for x in _grid(low, high, step):
        parts.append(line(across(x), top - 6, across(x), height - bottom, "axis" if abs(x) < step / 9 else "grid"))
        parts.append(text(across(x), top - 13, _points(x, step), "middle", "tick soft"))
    for index, (name, style, (value, least, most)) in enumerate(rows):
        y = top + row * (index + 0.5)
        inner = [label(name, left, y)]
        words = "no finished run"
        if math.isfinite(value):
            words = _points(value, 0.001)
            if math.isfinite(least):
                inner.append(line(across(least), y, across(most), y, "link"))
                words += f" [{_points(least, 0.001)}, {_points(most, 0.001)}]"
            inner.append(f'<circle class="dot" cx="{across(value):.1f}" cy="{y:.1f}" r="4.5"/>')
        inner.append(text(width - 2, y + 4, words, "end", "value"))
        parts.append(f'<g class="{escape(style)}"><title>{escape(f"{name}: {words}")}</title>{"".join(inner)}</g>')
    return svg(width, height, title, parts)


def curves(
    lines: Sequence[Curve], *, title: str, below: str, percent_x: bool = False, width: int = 820, height: int = 330
) -> str:
    """Curves of shares over x, the later ones on top, each with its name in the title it shows when pointed at."""
    left, right, top, bottom = 48, 14, 14, 44
    xs = [x for one in lines for x in one.x] or [0.0, 1.0]
    ys = [y for one in lines for y in (*one.y, *one.low, *one.high) if math.isfinite(y)] or [0.0, 1.0]
    x0, x1 = min(xs), max(xs)
    low, high, step = _axis(min(ys), max(ys), 6)
    span = (x1 - x0) or 1.0

    def across(x: float) -> float:
        return left + (width - left - right) * (x - x0) / span

    def up(y: float) -> float:
        return top + (height - top - bottom) * (high - y) / (high - low)

    parts = []
    for y in _grid(low, high, step):
        parts.append(line(left - 6, up(y), width - right, up(y), "axis" if abs(y) < step / 9 else "grid"))
        parts.append(text(left - 10, up(y) + 4, f"{100 * y:.0f} %", "end", "tick"))
    for x in _grid(*_axis(x0, x1, width // 110), inside=(x0, x1)):
        words = _points(x, 0.01) if percent_x else f"{x:,.0f}"
        parts.append(text(across(x), height - bottom + 20, words, "middle", "tick"))
    parts.append(text(width - right, height - 4, below, "end", "tick soft"))
    for one in lines:
        path = _path(one.x, one.y, across, up)
        band = ""
        if one.low:
            edge = f"{_path(one.x, one.high, across, up)} {_path(one.x[::-1], one.low[::-1], across, up)}"
            band = f'<polygon class="band" points="{edge}"/>'
        parts.append(
            f'<g class="{escape(one.style)}"><title>{escape(one.name)}</title>{band}'
            f'<polyline class="curve" points="{path}"/></g>'
        )
    return svg(width, height, title, parts)


def pareto(dots: Sequence[Dot], *, title: str, below: str, width: int = 820, height: int = 330) -> str:
    """Gain over cost: a dot a teacher, those on the front named and joined."""
    left, right, top, bottom = 56, 20, 22, 44
    shown = [dot for dot in dots if math.isfinite(dot.x) and math.isfinite(dot.y)]
    x0, x1, across_step = _axis(min([d.x for d in shown] or [0]), max([d.x for d in shown] or [1]), width // 110)
    low, high, step = _axis(min([0.0, *[d.y for d in shown]]), max([0.0, *[d.y for d in shown]]), 6)

    def across(x: float) -> float:
        return left + (width - left - right) * (x - x0) / (x1 - x0)

    def up(y: float) -> float:
        return top + (height - top - bottom) * (high - y) / (high - low)

    parts = []
    for y in _grid(low, high, step):
        parts.append(line(left - 6, up(y), width - right, up(y), "axis" if abs(y) < step / 9 else "grid"))
        parts.append(text(left - 10, up(y) + 4, _points(y, step), "end", "tick"))
    for x in _grid(x0, x1, across_step):
        words = f"{x:,.0f}" if across_step >= 1 else f"{x:,.2f}"
        parts.append(text(across(x), height - bottom + 20, words, "middle", "tick"))
    parts.append(text(width - right, height - 4, below, "end", "tick soft"))
    front = sorted((dot for dot in shown if dot.front), key=lambda dot: dot.x)
    path = _path([dot.x for dot in front], [dot.y for dot in front], across, up)
    parts.append(f'<polyline class="front" points="{path}"/>')
    parts += [
        f'<g class="{"f2" if dot.front else "faint"}"><title>{escape(dot.name)}</title>'
        f'<circle class="spot" cx="{across(dot.x):.1f}" cy="{up(dot.y):.1f}" r="5"/></g>'
        for dot in shown
    ]
    for dot in front:
        left_half = across(dot.x) < width / 2
        at = across(dot.x) + (8 if left_half else -8)
        parts.append(text(at, up(dot.y) - 8, dot.name, "start" if left_half else "end", "label"))
    return svg(width, height, title, parts)


def _path(
    x: Sequence[float], y: Sequence[float], across: Callable[[float], float], up: Callable[[float], float]
) -> str:
    pairs = zip(x, y, strict=True)
    return " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in pairs if math.isfinite(a) and math.isfinite(b))


def _axis(low: float, high: float, most: int) -> tuple[float, float, float]:
    """Ends of an axis that holds both numbers, and a round distance for at most about `most` grid lines."""
    span = (high - low) or max(abs(high), 1e-6)
    rough = span / max(most, 2)
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= rough * 0.999)
    bottom, top = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return bottom * step, max(top, bottom + 1) * step, step


def _grid(low: float, high: float, step: float, inside: tuple[float, float] | None = None) -> list[float]:
    places = [low + i * step for i in range(round((high - low) / step) + 1)]
    return [x for x in places if inside is None or inside[0] <= x <= inside[1]]


def _points(value: float, step: float) -> str:
    """A share as signed percentage points, with as many digits as the step asks for."""
    digits = 1 if step < 0.01 else 0
    number = f"{100 * value:+.{digits}f}".replace("-", "−")
    return number[1:] if number.strip("+−0.") == "" else number
