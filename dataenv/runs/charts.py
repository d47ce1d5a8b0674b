"""Small charts: pure functions from numbers to SVG text, for a page that brings its own style sheet.

Shapes carry class names, never colours, so one picture serves light, dark and print. Every label is escaped, and
a number that is missing or not finite leaves a gap. Nothing here knows of runs; `report` does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

CHARACTER = 7.1
"""About how wide one character of a 12 px label is at most, in pixels: system fonts differ."""

_CEILINGS = ((0.05, 0.01), (0.1, 0.02), (0.2, 0.05), (0.3, 0.1), (0.4, 0.1), (0.5, 0.1), (0.6, 0.2), (0.8, 0.2))


@dataclass(frozen=True)
class Point:
    """One measurement: where, how much (a share in [0, 1]), its standard error, and words to write beside it."""

    x: float
    y: float | None
    error: float | None = None
    label: str = ""
    about: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one kind. `style` is their class name; `shift` moves them aside so that twins stay apart."""

    style: str
    points: Sequence[Point]
    diamond: bool = False
    shift: float = 0.0


@dataclass(frozen=True)
class Tick:
    """A mark on the x axis with two lines of text."""

    x: float
    upper: str
    lower: str = ""


@dataclass(frozen=True)
class Change:
    """A skill before and after, as shares in [0, 1], and the words at the end of its line."""

    label: str
    before: float | None
    after: float | None
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """One stacked bar: a label, one amount per part, and the words behind it."""

    label: str
    parts: Sequence[float | None]
    note: str = ""


def finite(value: object) -> float | None:
    """`value` as a float, or None when it is no finite number (None, NaN, infinity, text, a truth value)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def level(value: float | None, top: float = 1.0) -> int | None:
    """Which of eleven heat levels (0 to 10) `value` has on a scale from 0 to `top`; None where there is no value."""
    number = finite(value)
    if number is None:
        return None
    return 0 if top <= 0 else round(10 * min(max(number / top, 0.0), 1.0))


def ceiling(values: Iterable[float | None]) -> tuple[float, float]:
    """The top of an axis of shares that holds all `values`, and the distance between its grid lines."""
    highest = max((value for value in values if value is not None), default=1.0)
    return next(((top, step) for top, step in _CEILINGS if highest <= top), (1.0, 0.2))


def line_chart(series: Sequence[Series], ticks: Sequence[Tick], *, title: str, width: int = 820) -> str:
    """Series of shares over x: lines with dots and error bars of one standard error, or diamonds without a line."""
    height = 320 if width > 500 else 260
    left, right, top, bottom = 46, 76, 24, 46
    measured = [(point.y, point.error or 0.0) for one in series for point in one.points if point.y is not None]
    highest, step = ceiling(y + error for y, error in measured)
    last = max([tick.x for tick in ticks] + [point.x for one in series for point in one.points], default=0.0)
    span, rise = width - left - right, height - top - bottom

    def across(x: float) -> float:
        return left + (span * x / last if last > 0 else span / 2)

    def up(y: float) -> float:
        return top + rise * (1 - min(max(y / highest, 0.0), 1.0))

    parts = []
    for index in range(round(highest / step) + 1):
        y = up(index * step)
        parts.append(line(left - 6, y, width - right + 20, y, "grid" if index else "axis"))
        parts.append(text(left - 10, y + 4, f"{index * step * 100:.0f} %", "end", "tick"))
    for tick in _thin(ticks, span, across):
        parts.append(text(across(tick.x), height - bottom + 20, tick.upper, "middle", "tick"))
        parts.append(text(across(tick.x), height - bottom + 36, tick.lower, "middle", "tick soft"))
    if ticks and last > 0:
        parts.append(text(left - 10, height - bottom + 20, "step", "end", "tick"))
        parts.append(text(left - 10, height - bottom + 36, "rows", "end", "tick soft"))
    parts += [_series(one, across, up) for one in series]
    return svg(width, height, title, parts)


def _series(one: Series, across: Callable[[float], float], up: Callable[[float], float]) -> str:
    """The line, error bars, marks and labels of one series, in this order so that marks lie on top."""
    shown = [(across(point.x) + one.shift, up(point.y), point) for point in one.points if point.y is not None]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in shown)
    parts = [f'<polyline class="curve" points="{path}"/>'] if len(shown) > 1 and not one.diamond else []
    radius = 4.5 if len(shown) <= 40 else 2
    for x, _, point in shown:
        error = finite(point.error)
        if error is not None and point.y is not None:
            low, high = up(point.y - error), up(point.y + error)
            parts.append(line(x, low, x, high, "error"))
            if radius > 2:
                parts += [line(x - 4, end, x + 4, end, "error") for end in (low, high)]
    for x, y, point in shown:
        about = f"<title>{escape(point.about)}</title>" if point.about else ""
        if one.diamond:
            mark = f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"
            parts.append(f'<path class="mark" d="{mark}">{about}</path>')
        else:
            parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">{about}</circle>')
    for place, (x, y, point) in enumerate(shown):
        low, high = (up((point.y or 0.0) + sign * (finite(point.error) or 0.0)) for sign in (-1, 1))
        final = place == len(shown) - 1 > 0
        if one.diamond and final:
            at = (x + 11, y + 4)
        elif one.diamond:
            at = (x - 5, max(low, y + 7) + 15)
        else:
            at = (x + (5 if final else -5), min(high, y) - 9)
        anchor = "end" if final and not one.diamond else "start"
        parts.append(text(*at, point.label, anchor, "value"))
    return f'<g class="{escape(one.style)}">{"".join(parts)}</g>'


def _thin(ticks: Sequence[Tick], span: float, across: Callable[[float], float]) -> list[Tick]:
    """The ticks whose labels fit side by side: every k-th, and the last in place of one too near to it."""
    widest = max((len(words) for tick in ticks for words in (tick.upper, tick.lower)), default=1)
    gap = CHARACTER * widest + 12
    stride = max(1, math.ceil(gap * len(ticks) / max(span, 1.0)))
    kept = list(ticks[::stride])
    if kept and kept[-1] is not ticks[-1]:
        if len(kept) > 1 and across(ticks[-1].x) - across(kept[-1].x) < gap:
            kept.pop()
        kept.append(ticks[-1])
    return kept


def dumbbells(changes: Sequence[Change], *, title: str, width: int = 820) -> str:
    """One line per skill from a ring (before) to a dot (after), with the change written at the end."""
    row, top, bottom = 27, 26, 8
    left = label_width([change.label for change in changes], width)
    right = 26 + CHARACTER * max((len(change.note) for change in changes), default=0)
    span = width - left - right
    height = top + row * len(changes) + bottom
    highest, step = ceiling(value for change in changes for value in (finite(change.before), finite(change.after)))
    lines = round(highest / step)
    stride = 1 if span / lines > 50 else lines
    parts = []
    for index in range(0, lines + 1, stride):
        x = left + span * index / lines
        parts.append(line(x, top - 6, x, height - bottom, "grid"))
        parts.append(text(x, top - 13, f"{index * step * 100:.0f} %", "middle", "tick soft"))
    for index, change in enumerate(changes):
        parts.append(_change(change, left, span / highest, top + row * (index + 0.5), width))
    return svg(width, height, title, parts)


def _change(change: Change, left: float, scale: float, y: float, width: int) -> str:
    """One line of `dumbbells`."""
    before, after = finite(change.before), finite(change.after)
    style = "flat"
    if before is not None and after is not None and before != after:
        style = "up" if after > before else "down"
    parts = [label(change.label, left, y)]
    ends = [left + scale * min(max(value, 0.0), 1.0) for value in (before, after) if value is not None]
    if len(ends) == 2 and abs(ends[0] - ends[1]) > 5:
        parts.append(line(ends[0] + math.copysign(5, ends[1] - ends[0]), y, ends[1], y, "link"))
    if before is not None:
        parts.append(f'<circle class="ring" cx="{ends[0]:.1f}" cy="{y:.1f}" r="5"/>')
    if after is not None:
        parts.append(f'<circle class="dot" cx="{ends[-1]:.1f}" cy="{y:.1f}" r="5"/>')
    parts.append(text(width - 2, y + 4, change.note, "end", "value"))
    words = f"{change.label}: {_share(before)} before, {_share(after)} after"
    return f'<g class="{style}"><title>{escape(words)}</title>{"".join(parts)}</g>'


def stacked_bars(bars: Sequence[Bar], names: Sequence[str], *, title: str, width: int = 820) -> str:
    """Horizontal stacked bars to one scale. Part i has the class `f<i>`, as the legend's key i has."""
    row, top = 28, 4
    left = label_width([bar.label for bar in bars], width)
    right = 14 + CHARACTER * max((len(bar.note) for bar in bars), default=0)
    longest = max((sum(max(finite(part) or 0.0, 0.0) for part in bar.parts) for bar in bars), default=0.0)
    scale = (width - left - right) / longest if longest > 0 else 0.0
    parts = []
    for index, bar in enumerate(bars):
        y, x = top + row * index, float(left)
        parts.append(label(bar.label, left, y + row / 2))
        for number, part in enumerate(bar.parts):
            amount = max(finite(part) or 0.0, 0.0)
            if amount * scale > 0.05:
                about = f"{bar.label}, {names[number]}: {amount:,.1f}"
                parts.append(
                    f'<rect class="f{number}" x="{x:.1f}" y="{y + 5:.1f}" width="{amount * scale:.1f}" '
                    f'height="{row - 10}"><title>{escape(about)}</title></rect>'
                )
            x += amount * scale
        parts.append(text(x + 8, y + row / 2 + 4, bar.note, "start", "value"))
    return svg(width, top + row * len(bars) + 4, title, parts)


def shorten(text: str, room: float) -> str:
    """`text` cut with an ellipsis so that it is at most about `room` pixels wide."""
    most = max(int(room / CHARACTER), 2)
    return text if len(text) <= most else text[: most - 1] + "…"


def label_width(labels: Sequence[str], width: int) -> int:
    """Room for the labels at the left: as wide as the widest, at most two fifths of the chart."""
    widest = max((len(label) for label in labels), default=0)
    return int(min(CHARACTER * widest + 18, width * 0.41))


def label(words: str, left: float, y: float) -> str:
    """A label that ends a little left of the chart, cut to the room there."""
    return text(left - 14, y + 4, shorten(words, left - 14), "end", "label")


def _share(value: float | None) -> str:
    return "not examined" if value is None else f"{value * 100:.1f} %"


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line of a class."""
    return f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x: float, y: float, words: str, anchor: str, style: str) -> str:
    """Words at a place, escaped; nothing for none."""
    if not words:
        return ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(width: int, height: float, title: str, parts: Sequence[str]) -> str:
    """The frame: scales with the page, and tells a screen reader its title."""
    name = escape(title, quote=True)
    return (
        f'<svg role="img" aria-label="{name}" viewBox="0 0 {width} {height:.0f}" width="{width}" '
        f'height="{height:.0f}">{"".join(part for part in parts if part)}</svg>'
    )
