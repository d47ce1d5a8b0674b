"""What tests of the command line share."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dataenv import cli
from dataenv.registry import Entry
from dataenv.tasks import tasks


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    """Run a command in this process, in an empty working directory: `call("list", "tasks")`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["dataenv", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=out, err=err)

    return call


@pytest.fixture
def toy(fakes, registered, monkeypatch):
    """The fakes with an exam, as "exam-toy"."""

    class ExamToy(fakes.Toy):
        def problems(self, split, per_skill, seed):
            return super().problems("selection" if split == "exam" else split, per_skill, seed)

    monkeypatch.setitem(tasks._entries, "exam-toy", Entry(ExamToy))


def _refused(done, *words):
    """One sentence on stderr, nothing on stdout, exit code 1, no traceback."""
    assert done.code == 1, done.err
    assert done.out == ""
    lines = done.err.strip().splitlines()
    assert len(lines) == 1, done.err
    assert re.match(r"error: .+\.$|error: .* shows all of them\.$", lines[0]), lines
    assert "Traceback" not in done.err
    for word in words:
        assert str(word) in lines[0], lines
    return True


def _process(*arguments, code="from dataenv.__main__ import main; main()", columns=300, env=None, **options):
    """The command in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": str(columns), **(env or {})}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, env=environment, **options)


@pytest.fixture
def refused():
    """`refused(done, *words)`: see `_refused`."""
    return _refused


@pytest.fixture
def process():
    """`process(*arguments)`: the command in a process of its own."""
    return _process
