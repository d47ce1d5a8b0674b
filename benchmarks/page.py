"""The pages of a comparison: a folder with `index.html`, `board.md` and `board.csv`, which need no network."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

import dataenv.runs
from dataenv.benchmarks import statistics
from dataenv.benchmarks.bench import RUNS, write
from dataenv.benchmarks.board import COSTS, Board, Row, board
from dataenv.benchmarks.plots import Curve, Dot, curves, forest, pareto
from dataenv.benchmarks.scores import Results, read
from dataenv.benchmarks.statistics import Estimate
from dataenv.benchmarks.suite import REFERENCE, slug
from dataenv.runs import report_words
from dataenv.runs.report_words import percent, plural, points

SHOWN = 5
"""Teachers, the best, that curves show in colour, besides the reference; the others are drawn faintly."""


def write_pages(folder: Path, resamples: int = statistics.RESAMPLES) -> Path:
    """Write the pages of the comparison in `folder` into its `report`; returns the path of the page."""
    results = read(folder)
    made = board(results, resamples)
    place = folder / "report"
    write(place / "board.csv", table_csv(made).encode())
    write(place / "board.md", table_markdown(made, results.suite.name).encode())
    write(place / "index.html", page_html(made, results, folder).encode(errors="replace"))
    return place / "index.html"


def table_csv(made: Board) -> str:
    """One line a teacher; shares as fractions, empty where there is no number."""
    names = [
        *("place", "teacher", "runs", "planned", "privileged", "control"),
        *(f"{name}{end}" for name in statistics.GAIN for end in ("", "_low", "_high")),
        *("gap", "gap_low", "gap_high", "difference", "difference_low", "difference_high", "p_corrected"),
        *("better", "better_low", "better_high", "forgotten"),
        *(f"{cost}_per_run" for cost in COSTS),
        *(f"front_{cost}" for cost in COSTS),
        *(f"gain in {cell}" for cell in made.cells),
    ]
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(names)
    for row in made.rows:
        values = [
            *(row.place, row.teacher, row.runs, row.planned, row.privileged, row.control),
            *(value for name in statistics.GAIN for value in row.gains[name]),
            *(*row.gap, *row.against[:3], row.p, *row.better, row.forgotten),
            *(row.costs[cost] for cost in COSTS),
            *(row.front[cost] for cost in COSTS),
            *(row.cells[cell].value if cell in row.cells else math.nan for cell in made.cells),
        ]
        lines.writerow(["" if v is None or (isinstance(v, float) and math.isnan(v)) else v for v in values])
    return out.getvalue()


def table_markdown(made: Board, name: str) -> str:
    """The table for a README: gains in percentage points with 95 % intervals."""
    lines = [
        f"| | teacher | against `{REFERENCE}` [95 %] | p | gain, IQM [95 %] | better than `{REFERENCE}` | runs |",
        "|--:|:--|--:|--:|--:|--:|--:|",
    ]
    for row in made.rows:
        mark = " (looks ahead)" if row.privileged else " (control)" if row.control else ""
        against = interval(row.against) if row.against.pairs else "–"
        lines.append(
            f"| {row.place or '–'} | `{row.teacher}`{mark} | {against} | {p_value(row.p)} | "
            f"{interval(row.gains['iqm'])} | {percent(row.better.value)} | {row.runs} of {row.planned} |"
        )
    lines += [
        "",
        f"Suite `{name}`: {plural(made.seeds, 'seed')}, {plural(len(made.cells), 'cell')} "
        f"({', '.join(f'`{cell}`' for cell in made.cells)}); gains in percentage points on the sealed exam, p "
        f"corrected for {plural(len(made.rows) - 1, 'comparison')} (Holm). "
        f"{made.finished} of {made.planned} runs finished. {_found(made)}",
    ]
    return "\n".join(lines) + "\n"


def _found(made: Board) -> str:
    """What the comparison could have found."""
    if made.detectable > 1:
        are = "is" if made.seeds == 1 else "are"
        return f"{plural(made.seeds, 'seed')} {are} too few to find any difference; take more."
    return f"A true difference of {points(made.detectable).lstrip('+')} points would be found four times in five."


def interval(estimate: Sequence[float]) -> str:
    """ "+3.1 [+1.0, +5.2]", in percentage points."""
    value, low, high = estimate[:3]
    return points(value) + (f" [{points(low)}, {points(high)}]" if math.isfinite(low) else "")


def p_value(p: float) -> str:
    """A p-value in few digits; an en dash for none."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def page_html(made: Board, results: Results, folder: Path) -> str:
    """The page, whose links to runs go out from `folder`."""
    loader = jinja2.FileSystemLoader([Path(__file__).parent, Path(dataenv.runs.__file__).parent])
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "percent": percent,
        "points": points,
        "interval": interval,
        "p": p_value,
        "count": report_words.count,
        "decimal": report_words.decimal,
        "style": _style,
    }
    return environment.get_template("page.html.jinja").render(view(made, results, folder))


def view(made: Board, results: Results, folder: Path) -> dict[str, Any]:
    """Everything the template needs, worked out."""
    colours = _colours(made.rows)
    best = next((row for row in made.rows if row.place == 1), None)
    return {
        "suite": results.suite,
        "board": made,
        "verdict": _verdict(made, best),
        "reference": REFERENCE,
        "colours": colours,
        "ranking": _pair(
            lambda width: forest(
                [(_shown(row), _style(row), Estimate(*row.against[:3])) for row in made.rows],
                title=f"Difference in exam gain from {REFERENCE}, in percentage points",
                width=width,
            )
        ),
        "profiles": _pair(lambda width: _profiles(made, results, colours, width)),
        "fronts": {
            cost: _pair(lambda width, cost=cost: _front(made, cost, width))
            for cost in COSTS
            if len({round(row.costs[cost], 3) for row in made.rows if row.runs}) > 1
        },
        "learning": {
            cell: _pair(lambda width, cell=cell: _learning(cell, results, colours, width)) for cell in made.cells
        },
        "links": {row.teacher: _links(row.teacher, results, folder) for row in made.rows},
        "spread": made.spread,
    }


def _verdict(made: Board, best: Row | None) -> str:
    """What the comparison says, in one sentence, and no more than its intervals allow."""
    if best is None:
        return "No teacher has all its runs yet."
    better = [row for row in made.rows if row.different and row.against.difference > 0 and not row.privileged]
    if not better:
        return f"No teacher is shown to be better than {REFERENCE}. {_found(made)}"
    names = ", ".join(row.teacher for row in better)
    are = "is" if len(better) == 1 else "are"
    return f"{names} {are} better than {REFERENCE} (corrected for {len(made.rows) - 1} comparisons)."


def _shown(row: Row) -> str:
    return f"{row.place or '–'}  {row.teacher}"


def _style(row: Row) -> str:
    """The class of a teacher's line: better or worse than the reference beyond chance, or neither."""
    if row.different:
        return "up" if row.against.difference > 0 else "down"
    return "flat"


def _colours(rows: Sequence[Row]) -> Mapping[str, str]:
    """teacher -> class of its curves: the best few and the reference have a colour each."""
    best = [row.teacher for row in rows if row.place and row.teacher != REFERENCE][:SHOWN]
    colours = ["f2", "f0", "f5", "f3", "sealed-line"]
    return {REFERENCE: "ink", **dict(zip(best, colours, strict=False))}


def _profiles(made: Board, results: Results, colours: Mapping[str, str], width: int) -> str:
    gains = {
        row.teacher: [
            np.array([s.gain for (c, t, _), s in results.scores.items() if (c, t) == (cell, row.teacher)])
            for cell in made.cells
        ]
        for row in made.rows
    }
    every = [gain for cells in gains.values() for cell in cells for gain in cell]
    thresholds = np.linspace(min([0.0, *every]), max([0.0, *every]), 121)
    lines = [
        Curve(teacher, colours.get(teacher, "faint"), list(thresholds), list(statistics.profile(cells, thresholds)))
        for teacher, cells in gains.items()
        if any(map(len, cells))
    ]
    return curves(
        _coloured_last(lines),
        title="Share of runs that gain more than so many points",
        below="gain on the exam, percentage points",
        percent_x=True,
        width=width,
    )


def _learning(cell: str, results: Results, colours: Mapping[str, str], width: int) -> str:
    """Mean accuracy on the feedback problems over rows taught, with its 95 % band where there are seeds enough."""
    lines = []
    for teacher in results.suite.labels:
        runs = [s.curve for (c, t, _), s in results.scores.items() if (c, t) == (cell, teacher)]
        steps = min(map(len, runs), default=0)
        if not steps:
            continue
        rows, accuracy = (np.array([[p[i] for p in run[:steps]] for run in runs]) for i in (0, 1))
        mean = accuracy.mean(axis=0)
        bands = [statistics.paired([accuracy[:, i]]) for i in range(steps)] if len(runs) > 1 else []
        style = colours.get(teacher, "faint")
        banded = bool(bands) and style != "faint"
        lines.append(
            Curve(
                teacher,
                style,
                list(rows.mean(axis=0)),
                list(mean),
                [max(band.low, 0.0) for band in bands] if banded else [],
                [min(band.high, 1.0) for band in bands] if banded else [],
            )
        )
    return curves(
        _coloured_last(lines), title=f"Accuracy on the feedback problems, {cell}", below="rows taught", width=width
    )


def _front(made: Board, cost: str, width: int) -> str:
    dots = [
        Dot(row.teacher, row.costs[cost], row.gains["iqm"].value, row.front[cost])
        for row in made.rows
        if not row.privileged and len(row.cells) == len(made.cells)
    ]
    words = {"rows": "rows taught in a run", "tokens": "tokens taught in a run", "seconds": "seconds of a run's steps"}
    return pareto(dots, title=f"Gain over {cost}", below=words[cost], width=width)


def _coloured_last(lines: Sequence[Curve]) -> list[Curve]:
    return sorted(lines, key=lambda one: one.style != "faint")


def _links(teacher: str, results: Results, folder: Path) -> list[tuple[str, list[tuple[int, str | None, str]]]]:
    """Per cell the teacher's runs: (seed, link to its report if there is one, what came of it)."""
    found = []
    for cell in results.suite.cells:
        if (cell.name, teacher) not in results.planned:
            continue
        runs: list[tuple[int, str | None, str]] = []
        for seed in results.suite.seeds:
            place = Path(RUNS) / slug(cell.name) / slug(teacher) / str(seed) / "report.html"
            key = (cell.name, teacher, seed)
            if key in results.scores:
                words = points(results.scores[key].gain)
            else:
                words = f"failed: {results.failed[key]}" if key in results.failed else "not run yet"
            link = os.path.join("..", place) if (folder / place).is_file() else None  # noqa: PTH118
            runs.append((seed, link, words))
        found.append((cell.name, runs))
    return found


def _pair(draw: Callable[..., str]) -> Markup:
    """A picture for wide screens and one for narrow ones."""
    return Markup(
        f'<div class="wide">{draw(width=820)}</div><div class="narrow">{draw(width=430)}</div>'
    )  # escaped there
