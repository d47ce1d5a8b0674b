"""The table of a comparison: every teacher's scores, differences from the reference, chances, costs, and its place."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dataenv.benchmarks import statistics
from dataenv.benchmarks.scores import Results, Score
from dataenv.benchmarks.statistics import Estimate, Paired
from dataenv.benchmarks.suite import CONTROLS, NO_STATE, REFERENCE
from dataenv.errors import InvalidData
from dataenv.seeding import stream

ALPHA = 0.05
COSTS = ("rows", "tokens", "seconds")


@dataclass(frozen=True)
class Row:
    """One teacher's line. All gains are exam gains, counted from the better of the untaught student's two baselines.

    `against` is the paired difference from the reference on equal seeds and problems; `p` is its p-value corrected for
    all the teachers compared (Holm), `different` whether that is below 0.05. `better` is the probability that a run
    scores higher than one of the reference. `cells` holds the mean gain in each cell. `costs` are means of a run.
    """

    teacher: str
    place: int | None
    runs: int
    planned: int
    privileged: bool
    control: bool
    gains: Mapping[str, Estimate]
    gap: Estimate
    against: Paired
    p: float
    better: Estimate
    forgotten: float
    cells: Mapping[str, Estimate]
    costs: Mapping[str, float]
    front: Mapping[str, bool] = field(default_factory=dict)

    @property
    def different(self) -> bool:
        return self.p < ALPHA


@dataclass(frozen=True)
class Board:
    """All lines, best first, and what the comparison could have seen: `detectable` at the spread that was found,
    infinite where none was.

    The order is by the difference from the reference in the cells where a teacher competes: gains in unlike cells say
    nothing of each other. Teachers that look ahead and those with missing runs have no place of their own.
    """

    rows: tuple[Row, ...]
    cells: tuple[str, ...]
    seeds: int
    spread: float
    detectable: float
    failed: Mapping[str, str]
    finished: int
    planned: int


def board(results: Results, resamples: int = statistics.RESAMPLES) -> Board:
    """The table. Raises InvalidData where a control has no finished run: without one, a gain says nothing."""
    suite = results.suite
    cells = [cell.name for cell in suite.cells]
    _must_have_controls(results)
    by_teacher = {label: _of(results, label, cells) for label in suite.labels}
    reference = by_teacher[REFERENCE]
    against = {label: _differences(runs, reference) for label, runs in by_teacher.items() if label != REFERENCE}
    tests = {label: statistics.paired(list(found.values())) for label, found in against.items()}
    ps = statistics.holm({label: test.p for label, test in tests.items()})

    def row(label: str) -> Row:
        runs = by_teacher[label]
        there = [cell for cell in cells if (cell, label) in results.planned]
        gains = [np.array([score.gain for score in runs[cell].values()]) for cell in there]
        afters = [np.array([score.after for score in runs[cell].values()]) for cell in there]
        scores = [score for cell in there for score in runs[cell].values()]
        rivals = [np.array([score.gain for score in reference[cell].values()]) for cell in there]
        rng = stream(0, "board", label)  # a table made again is the same table
        return Row(
            teacher=label,
            place=None,
            runs=len(scores),
            planned=sum(results.planned[cell, label] for cell in there),
            privileged=any(score.privileged for score in scores),
            control=label in CONTROLS or label.startswith(NO_STATE),
            gains=statistics.intervals(gains, rng, resamples=resamples),
            gap=statistics.intervals(afters, rng, statistics.GAP, suite.target, resamples=resamples)["gap"],
            against=tests.get(label, Paired(0.0, math.nan, math.nan, math.nan, 0)),
            p=ps.get(label, math.nan),
            better=Estimate(0.5, 0.5, 0.5)
            if label == REFERENCE
            else statistics.improvement(gains, rivals, rng, resamples=resamples),
            forgotten=_mean([score.forgotten for score in scores if score.forgotten is not None]),
            cells={cell: _mean_gain(gain) for cell, gain in zip(there, gains, strict=True)},
            costs={cost: _mean([getattr(score, cost) for score in scores]) for cost in COSTS},
        )

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy leaves the interpreter to others while it draws and sorts
        rows = list(pool.map(row, by_teacher))
    spread = _spread([*against.values()])
    return Board(
        rows=_placed(rows, len(cells)),
        cells=tuple(cells),
        seeds=len(suite.seeds),
        spread=spread,
        detectable=statistics.detectable(len(cells), len(suite.seeds), spread, len(tests)) if spread else math.inf,
        failed={" / ".join(map(str, key)): reason for key, reason in results.failed.items()},
        finished=len(results.scores),
        planned=sum(results.planned.values()),
    )


Runs = Mapping[str, Mapping[int, Score]]
"""cell -> seed -> the run's score"""


def _of(results: Results, label: str, cells: Sequence[str]) -> Runs:
    return {
        cell: {seed: score for seed in results.suite.seeds if (score := results.scores.get((cell, label, seed)))}
        for cell in cells
    }


def _differences(ours: Runs, theirs: Runs) -> dict[str, NDArray[np.float64]]:
    """Per cell, the differences in exam accuracy on equal seeds, over the problems that both runs were asked."""
    return {
        cell: np.array([_difference(score, theirs[cell][seed]) for seed, score in runs.items() if seed in theirs[cell]])
        for cell, runs in ours.items()
    }


def _difference(ours: Score, theirs: Score) -> float:
    shared = ours.solved.keys() & theirs.solved.keys()
    if not shared:
        return ours.gain - theirs.gain
    return sum(ours.solved[id][1] - theirs.solved[id][1] for id in shared) / len(shared)


def _spread(found: Sequence[Mapping[str, NDArray[np.float64]]]) -> float:
    """Pooled standard deviation of the differences within cells; 0 where no cell has two."""
    cells = [cell for one in found for cell in one.values() if len(cell) > 1]
    freedom = sum(len(cell) - 1 for cell in cells)
    return math.sqrt(sum(cell.var(ddof=1) * (len(cell) - 1) for cell in cells) / freedom) if freedom else 0.0


def _mean_gain(gains: NDArray[np.float64]) -> Estimate:
    """Student's interval of one cell's mean."""
    return (
        Estimate(*statistics.paired([gains])[:3])
        if len(gains) and np.ptp(gains)
        else Estimate(_mean(gains), math.nan, math.nan)
    )


def _placed(rows: Sequence[Row], cells: int) -> tuple[Row, ...]:
    """Best first, with places and the Pareto front of each cost among those that compete in all cells."""
    ranked = sorted(rows, key=lambda row: math.inf if math.isnan(row.against.difference) else -row.against.difference)
    fair = [row for row in ranked if not row.privileged]
    everywhere = [row for row in fair if len(row.cells) == cells]
    places = {row.teacher: place for place, row in enumerate([row for row in fair if row.runs == row.planned], 1)}
    fronts = {
        cost: dict(
            zip(
                [row.teacher for row in everywhere],
                statistics.front(
                    [row.costs[cost] for row in everywhere], [row.gains["iqm"].value for row in everywhere]
                ),
                strict=True,
            )
        )
        for cost in COSTS
    }
    return tuple(
        replace(
            row,
            place=places.get(row.teacher),
            front={cost: front.get(row.teacher, False) for cost, front in fronts.items()},
        )
        for row in ranked
    )


def _must_have_controls(results: Results) -> None:
    there = {label for _, label, _ in results.scores}
    missing = [name for name in CONTROLS if name not in there]
    if not any(label.startswith(NO_STATE) for label in there):
        missing.append("a twin without state")
    if missing:
        raise InvalidData(
            f"No table without its controls: {', '.join(missing)} has no finished run; add it to the suite, or let "
            "'dataenv bench run' finish."
        )


def _mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
