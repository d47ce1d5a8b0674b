"""docs/your-own-teacher.md as a newcomer follows it: its teacher, its command, its page."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dataenv.benchmarks.suite import load
from dataenv.registry import Registry

PAGE = (Path(__file__).parents[2] / "docs/your-own-teacher.md").read_text()
(TEACHER,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_the_pages_teacher_is_short_and_fits_its_suite(tmp_path, monkeypatch):
    assert len(TEACHER.splitlines()) <= 30
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(TEACHER)
    suite = load("quick", ["mine.py:HalfKnown", "no-state:mine.py:HalfKnown"])
    assert "mine.HalfKnown" in suite.labels and "no-state:mine.HalfKnown" in suite.labels
    made = Registry("teacher", {}).make("mine.py:HalfKnown")
    made.reset(0)
    assert made.state()["seen"] == {}


@pytest.mark.slow
def test_the_walk(tmp_path):
    (tmp_path / "mine.py").write_text(TEACHER)
    first, more = COMMANDS
    assert more.startswith(first.partition(" --out")[0]), "the second command adds seeds to the first"
    for command, runs in ((f"{first} --seeds 1", 7), (f"{first} --seeds 2", 14)):
        words = [sys.executable, "-m", "dataenv", *command.split()[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"{runs} of {runs} runs" in (tmp_path / "bench/mine/report/index.html").read_text()
    assert "7 of them finished before" in done.stdout
    assert "`mine.HalfKnown`" in (tmp_path / "bench/mine/report/board.md").read_text()
