"""Seconds that `import dataenv` takes in a fresh process, beside an empty one: median of nine, interleaved.

    python -m dataenv.benchmarks.speed.import_time

Target: at most 0.5 s, and no torch.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time


def _seconds(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begin


def main() -> None:
    """Print one JSON object."""
    pairs = [(_seconds("pass"), _seconds("import dataenv, sys; assert 'torch' not in sys.modules")) for _ in range(9)]
    empty, loaded = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(json.dumps({"import_seconds": round(loaded - empty, 3), "whole_process_seconds": round(loaded, 3)}))


if __name__ == "__main__":
    main()
