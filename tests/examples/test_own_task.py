"""A package from outside that brings a task: installed for good, found by its entry point, run by the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dataenv.protocols import ProceduralTask
from dataenv.records import Problem
from dataenv.tasks.splits import SHARES, split_of

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_task"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which pip put a copy of the example."""
    place = tmp_path_factory.mktemp("own_task")
    source = shutil.copytree(
        EXAMPLE, place / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", place / "site", source], check=True, capture_output=True)
    return place / "site"


@pytest.fixture
def outside(installed, tmp_path):
    """Runs Python where the installed package can be imported, and the example's own folder cannot."""
    path = os.pathsep.join([str(installed), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def run(*arguments):
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_it_is_listed_made_and_stepped(outside):
    pytest.importorskip("torch")
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import gymnasium, numpy, dataenv\n"
        "env = gymnasium.make('dataenv/SkillList-v0', task='ciphers', student='micro', steps=1, rows=60, feedback=5)\n"
        "print(env.unwrapped.task.skills)\n"
        "env.reset(seed=0)\n"
        "step = env.step({'rows': numpy.array([20, 20, 20]), 'difficulty': numpy.full(3, -1.0)})\n"
        "print(step[4]['rows'])\n"
    )
    printed = outside("-c", code)
    assert "('double', 'next', 'swap')" in printed and "'accepted': 60" in printed
    assert "ciphers" in outside("-m", "dataenv", "list", "tasks")


def test_the_command_line_runs_it(outside, tmp_path):
    pytest.importorskip("torch")
    where = ["--task", "ciphers", "--student", "micro", "--out", "run"]
    outside("-m", "dataenv", "run", *where, "--steps", "1", "--rows", "60", "--feedback", "5", "--exam", "5")
    last = json.loads((tmp_path / "run/events.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "end"


def test_the_example_keeps_its_promises(installed, monkeypatch):
    monkeypatch.syspath_prepend(str(installed))
    from ciphers import Ciphers

    task = Ciphers()
    assert isinstance(task, ProceduralTask)
    seen = {}
    for split in SHARES:
        problems = task.problems(split, 5, 0)
        assert problems == task.problems(split, 5, 0)
        for problem in problems:
            assert split_of(problem.prompt) == split and seen.setdefault(problem.prompt.key, split) == split
            assert task.verify(problem, f" {problem.answer}\n").correct
            assert not task.verify(problem, problem.answer + "a").correct
            assert task.recognise(problem.prompt).answer == problem.answer
    written = task.write("next", 10, 1.0, np.random.default_rng(0))
    assert {len(problem.answer) for problem in written} == {6}
    assert task.verify(Problem(prompt="next ah=", answer="ba"), "ba").correct


def test_it_is_short():
    assert len((EXAMPLE / "ciphers.py").read_text().splitlines()) < 60


def test_the_page_shows_the_example_as_it_is():
    page = (ROOT / "docs/your-own-task.md").read_text()
    for name in ("ciphers.py", "pyproject.toml"):
        assert (EXAMPLE / name).read_text().strip() in page
