"""`make run`'s job, timed in a fresh process: seconds, peak memory, exam gain with its standard error.

    python -m dataenv.benchmarks.speed.main_job [--set student.batch=8 ...]

Target: at most 300 s and 4 GiB on 2 cores, gain at least +0.12.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Run the command line as a user would and print one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dataenv", "run", "--json", "--out", str(Path(folder) / "run"), *sys.argv[1:]]
        begin = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - begin
    result = json.loads(done.stdout.splitlines()[-1])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    keys = ("exam_before", "exam_after", "gain", "gain_se", "steps", "rows")
    print(json.dumps({"seconds": round(seconds, 1), "peak_gib": round(peak, 2), **{key: result[key] for key in keys}}))


if __name__ == "__main__":
    main()
