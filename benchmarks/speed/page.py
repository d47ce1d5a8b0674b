"""The tables of docs/performance.md, from the figures that the comparisons have written.

    python -m dataenv.benchmarks.speed.page [--figures docs/figures] [--page docs/performance.md]

A table stands between `<!-- figures: NAME -->` and `<!-- end -->`, and shows NAME.json.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataenv.errors import InvalidData


def table(figures: Mapping[str, Any]) -> str:
    """One comparison as Markdown, with the machine it ran on."""
    first = next(iter(figures["cases"]))
    lines = [
        f"| | {figures['unit']}, median | range | {first} is faster by | outcome |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, case in figures["cases"].items():
        low, high = case["range"]
        outcome = "" if case["outcome"] is None else case["outcome"]
        lines.append(f"| {name} | {case['median']} | {low} to {high} | {case[f'{first}_is_faster_by']} × | {outcome} |")
    machine = figures["machine"]
    packages = ", ".join(f"{package} {version}" for package, version in machine["packages"].items())
    where = (
        machine["gpu"] or f"{machine['cores']} cores of {machine['cpu']} ({', '.join(machine['bf16']) or 'no bf16'})"
    )
    lines += ["", f"{figures['repeats']} rounds, interleaved, on {where}; {packages}; peak {figures['peak_gib']} GiB."]
    return "\n".join(lines)


def main() -> None:
    """Rewrite the page's tables in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"))
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    given = parser.parse_args()

    def written(match: re.Match[str]) -> str:
        file = given.figures / f"{match[1]}.json"
        if not file.exists():
            raise InvalidData(
                f"{file} is not there; write it with: python -m dataenv.benchmarks.speed.{match[1]} --out {file}"
            )
        return f"<!-- figures: {match[1]} -->\n{table(json.loads(file.read_text()))}\n<!-- end -->"

    text = given.page.read_text()
    given.page.write_text(re.sub(r"<!-- figures: (\w+) -->.*?<!-- end -->", written, text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
