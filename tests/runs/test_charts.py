"""Charts are well-formed for any numbers and labels, and stay inside their frame."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import pytest

from dataenv.runs.charts import Bar, Change, Point, Series, Tick, dumbbells, finite, level, line_chart, stacked_bars

NAN = float("nan")


def parse(svg: str) -> ElementTree.Element:
    """The chart as XML; fails when it is not well-formed or holds a number that is none."""
    root = ElementTree.fromstring(svg)
    assert root.tag == "svg" and root.get("role") == "img" and root.get("aria-label")
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for element in root.iter():
        for name, value in element.attrib.items():
            assert "nan" not in value and "inf" not in value
            if name in ("x", "x1", "x2", "cx"):
                assert -1 <= float(value) <= width + 1
            if name in ("y", "y1", "y2", "cy"):
                assert -1 <= float(value) <= height + 1
    return root


def curve(values: list[float | None], width: int = 820, **series: object) -> ElementTree.Element:
    points = [Point(x, y, 0.03, about=f"<{x}>") for x, y in enumerate(values)]
    ticks = [Tick(x, str(x), f"{x * 200:,}") for x in range(len(values))]
    return parse(line_chart([Series("feedback", points, **series)], ticks, title="A & B", width=width))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [330, 820])
@pytest.mark.parametrize("values", [[], [0.2], [0.0, 0.0], [0.1, None, 0.4], [0.0, 1.0], [0.5] * 300])
def test_line_chart_draws_what_there_is(values: list[float | None], width: int) -> None:
    root = curve(values, width)
    assert len(root.findall(".//circle")) == sum(value is not None for value in values)


def test_line_chart_error_bars_reach_one_standard_error() -> None:
    root = curve([0.2, 0.2])
    bar = root.findall(".//line[@class='error']")[0]
    mark = root.findall(".//circle")[0]
    up, down = float(mark.attrib["cy"]) - float(bar.attrib["y2"]), float(bar.attrib["y1"]) - float(mark.attrib["cy"])
    assert up == pytest.approx(down, abs=0.2) and up > 5


def test_line_chart_labels_do_not_overlap() -> None:
    root = curve([0.1] * 50, 330)
    labels = [element for element in root.findall("text") if element.get("class") == "tick soft"]
    places = [(float(e.attrib["x"]), len(e.text or "")) for e in labels if e.get("text-anchor") == "middle"]
    assert "9,800" in [element.text for element in labels], "the last step is labelled"
    for (x, size), (next_x, next_size) in pairwise(places):
        assert next_x - x > 6 * (size + next_size) / 2


def test_exam_marks_are_diamonds_without_a_dot() -> None:
    root = curve([0.1, 0.3], diamond=True)
    assert len(root.findall(".//path")) == 2 and not root.findall(".//circle")


@pytest.mark.parametrize("width", [330, 820])
def test_dumbbells_take_any_pair(width: int) -> None:
    pairs = [(0.1, 0.4), (0.4, 0.1), (0.2, 0.2), (None, 0.3), (0.3, None), (None, None), (NAN, 1.0), (0.0, 1.0)]
    changes = [Change("skill <&> " + "long" * 20, before, after, "+30") for before, after in pairs]
    root = parse(dumbbells(changes, title='"Exam" <1>', width=width))
    styles = [group.get("class") for group in root.findall("g")]
    assert styles[:4] == ["up", "down", "flat", "flat"]
    assert len(root.findall(".//circle[@class='ring']")) == 5 and len(root.findall(".//circle[@class='dot']")) == 6
    parse(dumbbells([], title="none", width=width))


def test_stacked_bars_are_to_one_scale() -> None:
    bars = [Bar("a", [1.0, 3.0], "4 s"), Bar("b", [2.0, None], "2 s"), Bar("c", [NAN, -1.0], "–")]
    root = parse(stacked_bars(bars, ["<write>", "teach"], title="Time"))
    widths = [float(rect.attrib["width"]) for rect in root.findall("rect")]
    assert len(widths) == 3
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01) and widths[2] == pytest.approx(2 * widths[0], rel=0.01)
    parse(stacked_bars([], [], title="none"))
    parse(stacked_bars([Bar("x" * 99, [0.0], "0 s")], ["a"], title="zero", width=330))


def test_levels_and_finite_numbers() -> None:
    assert [level(value) for value in (0.0, 0.5, 1.0, 7.0, -1.0, None, NAN)] == [0, 5, 10, 10, 0, None, None]
    assert level(3, 0) == 0
    assert [finite(value) for value in (1, 0.5, True, "1", None, NAN, math.inf, 10**400)] == [1.0, 0.5] + [None] * 6
