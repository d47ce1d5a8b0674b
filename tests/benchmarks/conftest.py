"""A small finished comparison, with real students, that tests copy before they change anything."""

import shutil

import pytest

from dataenv.benchmarks.bench import bench
from dataenv.benchmarks.local import Done, carry_out
from dataenv.benchmarks.suite import load

SUITE = """
about = "for the tests"
seeds = 2
teachers = ["random", "uniform", "no-state:error-proportional", "error-proportional"]
envs = ["skill-list"]
[run]
task = "drills:addition,copying"
student = "micro"
steps = 2
rows = 6
feedback = 2
exam = 5
"""


class InProcess:
    """An executor without processes; `broken` are numbers of runs that fail, and it remembers what it was given."""

    def __init__(self, broken=()):
        self.broken, self.given = set(broken), []

    def run(self, work):
        for one in work:
            self.given.append(one)
            fault = "it broke" if one.number in self.broken else carry_out(one.config, one.folder)
            yield Done(one.number, fault)


@pytest.fixture(scope="session")
def suite_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("suite") / "small.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="session")
def _finished(suite_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "small"
    over = bench(load(str(suite_file)), folder, InProcess())
    assert set(over.values()) == {None}
    return folder


@pytest.fixture
def finished(_finished, tmp_path):
    return shutil.copytree(_finished, tmp_path / "small")


@pytest.fixture
def in_process():
    return InProcess
