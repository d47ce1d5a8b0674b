"""Putting a comparison's results into the repository: small files, and the README's table made from them.

    python -m dataenv.benchmarks.results bench/standard-micro [bench/standard-smollm2 ...]

writes benchmarks/results/NAME/{board.md, board.csv, scores.csv, about.json} for each, and then the table of every
`<!-- results: NAME -->` ... `<!-- end -->` in README.md and docs/leaderboard.md (`<!-- best: NAME N -->`: its first N
lines and the controls), and between `<!-- ranks: A B -->` and `<!-- end -->` how alike suites A and B rank the teachers
they share. Without a folder only the tables are made anew.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
from pathlib import Path

import numpy as np

from dataenv.benchmarks import statistics
from dataenv.benchmarks.bench import RUNS, write
from dataenv.benchmarks.board import board
from dataenv.benchmarks.page import table_csv, table_markdown
from dataenv.benchmarks.scores import Results, read
from dataenv.benchmarks.suite import REFERENCE
from dataenv.errors import InvalidData
from dataenv.runs.report_log import mapping, read_run
from dataenv.seeding import stream

RESULTS = Path("benchmarks/results")
PAGES = (Path("README.md"), Path("docs/leaderboard.md"))
_TABLE = re.compile(r"<!-- (results|best|ranks): ([\w .-]+) -->.*?<!-- end -->", re.DOTALL)


def publish(folder: Path, place: Path) -> None:
    """Write the small files of the comparison in `folder` into `place`."""
    results = read(folder)
    made = board(results)
    write(place / "board.csv", table_csv(made).encode())
    write(place / "board.md", table_markdown(made, results.suite.name).encode())
    write(place / "scores.csv", scores_csv(results).encode())
    job = next(job for job in results.suite.jobs() if (job.cell, job.entrant, job.seed) in results.scores)
    start = read_run(folder / RUNS / job.place).start
    about = {
        "suite": results.suite.name,
        "seeds": list(results.suite.seeds),
        "machine": {key: value for key, value in mapping(start.get("machine")).items() if key != "folder"},
        "versions": start.get("versions"),
        "failed": made.failed,
        "command": f"dataenv bench run {results.suite.name}",
    }
    write(place / "about.json", (json.dumps(about, indent=2) + "\n").encode())


def scores_csv(results: Results) -> str:
    """One line a run."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["cell", "teacher", "seed", "before", "after", "gain", "n", "rows", "tokens", "seconds"])
    for (cell, teacher, seed), one in results.scores.items():
        values = (one.before, one.after, one.gain)
        lines.writerow(
            [cell, teacher, seed, *(round(v, 6) for v in values), one.n, one.rows, one.tokens, round(one.seconds, 2)]
        )
    return out.getvalue()


def ranks(first: str, second: str, root: Path = RESULTS) -> str:
    """How alike two suites rank the teachers they share: Kendall's tau-b of the mean differences from the reference,
    with a bootstrap interval over the runs of both (percentiles, for tau cannot pass 1)."""
    gains = [_gains(root / name / "scores.csv") for name in (first, second)]
    shared = [teacher for teacher in gains[0] if teacher in gains[1]]
    if len(shared) < 3:
        raise InvalidData(f"{first} and {second} share {len(shared)} teachers; a rank correlation takes three or more.")
    rng = stream(0, "ranks", first, second)

    def tau(draw: bool) -> float:
        means = [
            [
                float(np.mean(rng.choice(suite[teacher], len(suite[teacher])) if draw else suite[teacher]))
                for teacher in shared
            ]
            for suite in gains
        ]
        return statistics.rank_correlation(means[0], means[1])

    low, high = np.nanquantile([tau(True) for _ in range(2000)], [0.025, 0.975])
    return (
        f"Kendall's tau-b between the rankings of the {len(shared)} teachers that `{first}` and `{second}` share: "
        f"{tau(False):+.2f} [{low:+.2f}, {high:+.2f}] ({', '.join(f'`{teacher}`' for teacher in shared)})."
    )


def _gains(path: Path) -> dict[str, list[float]]:
    """Of each teacher, what its runs gained more than the reference's in the same cell on the same seed."""
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
    except OSError as error:
        raise InvalidData(f"{path} is not there ({error.strerror}); publish that suite first.") from error
    reference = {(row["cell"], row["seed"]): float(row["gain"]) for row in rows if row["teacher"] == REFERENCE}
    found: dict[str, list[float]] = {}
    for row in rows:
        if (where := (row["cell"], row["seed"])) in reference:
            found.setdefault(row["teacher"], []).append(float(row["gain"]) - reference[where])
    return found


def _best(table: str, n: int) -> str:
    """The first `n` lines of a table, the controls, and what stands below it."""
    lines = table.splitlines()
    end = lines.index("")
    kept = [line for i, line in enumerate(lines[2:end]) if i < n or "(control)" in line]
    return "\n".join([*lines[:2], *kept, *lines[end:]])


def filled(text: str, root: Path = RESULTS) -> str:
    """`text` with its tables made anew from the files in `root`."""

    def made(match: re.Match[str]) -> str:
        first, _, second = match[2].partition(" ")
        try:
            if match[1] == "ranks":
                content = ranks(first, second, root)
            else:
                content = (root / first / "board.md").read_text()
                content = _best(content, int(second)) if match[1] == "best" else content
        except OSError as error:
            raise InvalidData(f"{error.filename} is not there; publish that suite first.") from error
        return f"<!-- {match[1]}: {match[2]} -->\n{content.strip()}\n<!-- end -->"

    return _TABLE.sub(made, text)


def main() -> None:
    """Publish the folders given, then make the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    for folder in parser.parse_args().folders:
        publish(folder, RESULTS / read(folder).suite.name)
    for page in PAGES:
        write(page, filled(page.read_text()).encode())


if __name__ == "__main__":
    main()
