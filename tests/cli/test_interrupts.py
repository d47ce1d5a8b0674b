"""Ctrl-C at any moment, and outputs that take nothing."""

import importlib.machinery
import json
import os
import re
import signal
import sys
import time
from importlib.util import find_spec

import pytest

from dataenv.registry import Entry
from dataenv.students import students
from dataenv.tasks import tasks

SMALL = ["--steps", "2", "--rows", "12", "--feedback", "4", "--exam", "5", "--teacher", "random"]
TOY = ["--task", "exam-toy", "--student", "scripted"]
MICRO = ["--task", "drills", "--student", "micro", "--rows", "32", "--feedback", "2", "--exam", "2"]


# -- Ctrl-C -----------------------------------------------------------------------------------------------------------


def test_an_interrupt_says_how_to_go_on(call, toy, fakes, monkeypatch):
    lessons = []

    class Interrupted(fakes.Scripted):
        def teach(self, examples, *, seed):
            lessons.append(seed)
            if len(lessons) == 2:
                raise KeyboardInterrupt
            return super().teach(examples, seed=seed)

    whole = json.loads(call("run", *TOY, *SMALL, "--out", "whole", "--json").out)
    monkeypatch.setitem(students._entries, "scripted", Entry(Interrupted))
    done = call("run", *TOY, *SMALL, "--out", "here")
    assert done.code == 130
    assert "'dataenv resume here'" in done.err
    assert len(done.err.splitlines()) == 1
    done = call("resume", "here", "--json")
    assert done.code == 0
    assert {**json.loads(done.out), "seconds": 0} == {**whole, "run": "here", "seconds": 0}
    assert len(lessons) == 3


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_process_with_130_and_the_run_can_go_on(tmp_path, process, sent):
    pytest.importorskip("torch")
    arguments = [*MICRO, "--set", "student.epochs=1", "--steps", "400"]
    child = process("run", *arguments, "--out", "here", cwd=tmp_path, start_new_session=True)
    try:
        log = tmp_path / "here" / "events.jsonl"
        while child.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 3):
            time.sleep(0.02)
        os.killpg(child.pid, sent)  # as a terminal or a batch system does it
        out, err = child.communicate()
    finally:
        if child.poll() is None:
            child.kill()
    assert child.returncode == 130, err
    assert err.splitlines()[-1] == "interrupted; 'dataenv resume here' goes on from the last finished step"
    assert "Traceback" not in out + err
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)

    from dataenv.runs.folder import RunFolder

    with RunFolder(tmp_path / "here") as files:  # free again, and sound
        assert files.events[-1]["event"] == "step"
        done = files.events[-1]["step"]
    assert 1 <= done < 400
    assert list((tmp_path / "here").rglob("*.part")) == []


# -- outputs that take nothing, or not everything ---------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["list", "tasks"], ["run"], ["run", "--json"]], ids=" ".join)
@pytest.mark.parametrize("buffering", [1, -1], ids=["by lines", "in blocks"])
def test_an_output_that_is_full_is_one_sentence_and_the_run_can_go_on(call, toy, monkeypatch, arguments, buffering):
    arguments = [*arguments, *TOY, *SMALL, "--out", "here"] if arguments[0] == "run" else arguments
    with monkeypatch.context() as patch, open("/dev/full", "w", buffering) as full:  # noqa: PTH123
        patch.setattr(sys, "stdout", full)
        done = call(*arguments)
        full.flush()  # nothing is held that would fail when the process ends
    told = done.err.splitlines()[-1]
    assert done.code == 1
    assert told.startswith("error: The output cannot be written (No space left on device); give it a place and repeat")
    if arguments[0] == "run":
        assert call(*arguments).code == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_process_with_a_full_output_ends_with_that_sentence(unbuffered, process):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = process("list", "tasks", stdout=full, env={"PYTHONUNBUFFERED": unbuffered})
        _, err = done.communicate()
    assert (done.returncode, len(err.splitlines())) == (1, 1), err
    assert err.startswith("error: The output cannot be written")


def test_an_output_with_few_characters_still_shows_the_run(call, toy, monkeypatch, tmp_path):
    with monkeypatch.context() as patch, (tmp_path / "told").open("w", encoding="ascii") as plain:
        patch.setattr(sys, "stdout", plain)
        done = call("run", *TOY, *SMALL, "--out", "here")
    told = (tmp_path / "told").read_text()
    assert (done.code, done.err) == (0, "")
    assert re.search(r"untaught: [\d.]+ % \+- [\d.]+ of the feedback problems", told)
    assert "report: here/report.html" in told


# -- Ctrl-C around the work -------------------------------------------------------------------------------------------

EARLY = """
import sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {name!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
from dataenv.__main__ import main
main()
"""
LATE = """
import atexit, os, signal, sys
atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))
from dataenv.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["typer", "dataenv.engines", "dataenv.runs.episode", "dataenv.runs.console"])
def test_an_interrupt_while_the_program_loads_is_quiet(tmp_path, name, process):
    code = EARLY.format(name=name)
    done = process("run", *MICRO, "--out", "here", code=code, cwd=tmp_path)
    out, err = done.communicate()
    assert (done.returncode, out) == (130, ""), err
    assert err in ("", "interrupted; nothing was begun\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_after_the_work_is_done_changes_nothing(tmp_path, process):
    done = process("list", "tasks", code=LATE, cwd=tmp_path)
    out, err = done.communicate()
    assert (done.returncode, err) == (0, "")
    assert out.count("\n") == len(tasks.entries())


def test_a_spec_can_be_found_for_every_extra_without_importing_it():
    """`find_spec` of a name that is no package at all does not raise."""
    from dataenv.doctor import EXTRAS

    for module in (name for names in EXTRAS.values() for name in names):
        assert isinstance(find_spec(module), importlib.machinery.ModuleSpec | None)
