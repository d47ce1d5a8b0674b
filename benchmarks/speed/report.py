"""Seconds of a comparison's report: `python -m dataenv.benchmarks.speed.report [--resamples 50000]`.

Made-up scores of 5 teachers x 10 seeds x 4 cells; timed is what comes after the runs' folders are read: statistics,
Markdown, CSV and the page.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from dataenv.benchmarks.board import board
from dataenv.benchmarks.page import page_html, table_csv, table_markdown
from dataenv.benchmarks.scores import Results, Score
from dataenv.benchmarks.suite import Cell, Entrant, Suite
from dataenv.runs.config import RunConfig

TEACHERS = ("random", "uniform", "no-state:error-proportional", "error-proportional", "exp3s")
CELLS = ("a", "b", "c", "d")
SEEDS = 10


def made_up() -> Results:
    """Finished runs whose scores differ by chance alone."""
    rng = np.random.default_rng(0)
    entrants = tuple(Entrant(id=name.removeprefix("no-state:"), no_state=":" in name) for name in TEACHERS)
    suite = Suite(
        name="made-up",
        seeds=tuple(range(SEEDS)),
        cells=tuple(Cell(name=cell, run=RunConfig(), entrants=entrants) for cell in CELLS),
    )

    def one() -> Score:
        solved = {str(i): (bool(old), bool(new)) for i, (old, new) in enumerate(rng.random((140, 2)) < (0.2, 0.4))}
        before, after = (sum(marks) / len(solved) for marks in zip(*solved.values(), strict=True))
        curve = tuple((112 * i, before + i / 6 * (after - before)) for i in range(7))
        return Score(after - before, before, after, len(solved), solved, curve, None, 672, 30_000, 2.0, False, 6)

    scores = {(cell, name, seed): one() for cell in CELLS for name in TEACHERS for seed in range(SEEDS)}
    return Results(suite, scores, {}, {(cell, name): SEEDS for cell in CELLS for name in TEACHERS})


def main() -> None:
    """Print the median and the range of five reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resamples", type=int, default=50_000)
    resamples = parser.parse_args().resamples
    results, seconds = made_up(), []
    for _ in range(6):
        start = time.perf_counter()
        made = board(results, resamples)
        for text in (table_csv(made), table_markdown(made, "made-up"), page_html(made, results, Path())):
            assert text
        seconds.append(time.perf_counter() - start)
    first, *others = seconds
    print(f"first, with its imports: {first:.2f} s; then {statistics.median(others):.2f} s", end="")
    print(f" ({min(others):.2f} to {max(others):.2f})")


if __name__ == "__main__":
    main()
