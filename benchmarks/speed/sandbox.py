"""Short programs a second through the sandbox: `python -m dataenv.benchmarks.speed.sandbox [--json FILE]`.

A trial is one function with three assertions. Warm: the fork server has started. Alone: one after the other. Together:
from as many threads as there are processors, and one more, which is how a set of replies is best judged.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dataenv.verifiers.sandbox import Sandbox

CODE = "def f(x):\n    return x * x + {}\n"
TESTS = "assert candidate(2) == 4\nassert candidate(3) == 9\nassert candidate(-1) == 1\n"


def _rate(sandbox: Sandbox, trials: int, threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        passed = list(pool.map(lambda i: sandbox.trial(CODE.format(i % 2), TESTS, entry="f").passed, range(trials)))
        took = time.perf_counter() - start
    assert passed == [i % 2 == 0 for i in range(trials)]
    return trials / took


def measure(trials: int = 300) -> dict[str, Any]:
    """Seconds to start, and trials a second; the best of three, for other work of the machine only slows them down."""
    cores = len(os.sched_getaffinity(0))
    sandbox = Sandbox()
    start = time.perf_counter()
    sandbox.check()
    began = time.perf_counter() - start
    found = {
        "cores": cores,
        "load": os.getloadavg()[0],
        "seconds to start": round(began, 3),
        "trials a second, one after the other": round(max(_rate(sandbox, trials // 3, 1) for _ in range(3))),
        "trials a second, together": round(max(_rate(sandbox, trials, cores + 1) for _ in range(3))),
    }
    sandbox.close()
    return found


def main() -> None:
    """Print the figures, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--trials", type=int, default=300)
    arguments = parser.parse_args()
    found = measure(arguments.trials)
    for name, value in found.items():
        print(f"{name}: {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
