"""The real thing: a run of the micro student is killed, interrupted or out of disk, and ends as if it had not been."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from signal import SIGINT, SIGKILL
from types import SimpleNamespace

import pytest

from dataenv.runs.folder import RunFolder

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROUNDS = 20
SERVER = """
import json, os, resource, signal, sys, time, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
import dataenv.runs.report
from dataenv.errors import RunError
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import resume, start
from dataenv.students.micro import micro

micro()._load()  # the base; children inherit it

def work(folder, select, room):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, unlimited[1]))
    try:
        if (folder / "config.json").exists():
            resume(folder)
        else:  # stopped before the run was even written down
            start(RunConfig(task="drills", student="micro", teacher="random", steps=3, rows=32, feedback=1, exam=1,
                            select=select, options={"student": {"epochs": 1}}), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

def child(folder, select, room):
    try:
        os.setsid()
        work(Path(folder), select, room)
    except KeyboardInterrupt:
        os._exit(130)
    except RunError as error:
        print(error, file=sys.stderr, flush=True)
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(2)
    os._exit(0)

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child(order["folder"], order["select"], order["room"])
    done = False
    while not done and time.monotonic() - began < order["delay"]:
        time.sleep(0.001)
        done, code = os.waitpid(pid, os.WNOHANG)
    if not done:
        os.kill(pid, order["signal"])
        done, code = os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    try:
        os.killpg(pid, 0)
        stray = True
    except ProcessLookupError:
        stray = False
    print(json.dumps([os.waitstatus_to_exitcode(code), stray, seconds]), flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`work(folder, select)` in a process of its own that has all modules and weights loaded already: begins the run,
    or resumes it, in a fork of it that gets `signal` after `delay` seconds and can write `room` bytes to a file; gives
    exit status, seconds and what was said last."""
    log = tmp_path_factory.mktemp("server") / "stderr"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )

    def work(folder, select, delay=300.0, signal=SIGKILL, room=None):
        order = {"folder": str(folder), "select": select, "delay": delay, "signal": signal, "room": room}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, log.read_text()
        status, stray, seconds = json.loads(answer)
        assert not stray
        assert status in (0, 1, 130, -SIGKILL), log.read_text()
        return SimpleNamespace(status=status, seconds=seconds, said=log.read_text().strip().rpartition("\n")[2])

    try:
        assert process.stdout.readline() == "ready\n", log.read_text()
        yield work
    finally:
        process.stdin.close()
        process.wait(10)


def outcome(folder):
    """Hash, number of events and all files but the log, of a finished run."""
    with RunFolder(folder) as files:  # and so the lock is free
        assert files.events[-1]["event"] == "end"
        written = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        del written["events.jsonl"]
        return files.hash, len(files.events), written


@pytest.fixture(scope="module")
def undisturbed(server, tmp_path_factory):
    """By rule of selection: the outcome of a run nobody kills, and how long it took."""
    found = {}
    for select in ("last", "best"):
        folder = tmp_path_factory.mktemp("undisturbed") / select
        seconds = server(folder, select).seconds
        found[select] = (outcome(folder), seconds)
    return found


def moments(n, seconds, seed):
    """`n` random moments spread over the whole run: its start, every phase of every step, its exam and its end."""
    chance = random.Random(seed)
    found = [seconds * (i + chance.random()) / n for i in range(n)]
    chance.shuffle(found)
    return found


def stop(server, folder, select, moment, signal=SIGKILL):
    """Begin a run and stop it by `signal` at `moment`; earlier where it was done already."""
    ended = {SIGKILL: -SIGKILL, SIGINT: 130}[signal]
    for _ in range(20):
        if server(folder, select, moment, signal).status == ended:
            return
        shutil.rmtree(folder)
        moment *= 0.7
    pytest.fail(f"No {signal!r} came before the run's end, however early.")


def events(folder):
    """Whole events in the log; -1 where there is no log yet."""
    log = folder / "events.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else -1


def test_two_undisturbed_runs_are_equal(server, undisturbed, tmp_path):
    server(tmp_path / "run", "last")
    assert outcome(tmp_path / "run") == undisturbed["last"][0]
    assert undisturbed["last"][0][1] == 1 + 1 + 3 + 2
    assert undisturbed["last"][0][0] != undisturbed["best"][0][0]


@pytest.mark.parametrize("select", ["last", "best"])
def test_a_run_killed_at_a_random_moment_ends_as_if_it_had_not_been(server, undisturbed, tmp_path, select):
    expected, seconds = undisturbed[select]
    stood = set()
    for round_, moment in enumerate(moments(ROUNDS // 2, seconds, select)):
        folder = tmp_path / str(round_)
        stop(server, folder, select, moment)
        stood.add(events(folder))
        assert server(folder, select).status == 0
        assert outcome(folder) == expected, moment
    assert len(stood) >= 3, stood  # it was killed at many places


def test_a_run_killed_again_and_again_still_arrives_and_does_nothing_finished_twice(server, undisturbed, tmp_path):
    """The files of a finished step keep their time of writing, however often the run is killed after it."""
    expected, seconds = undisturbed["last"]
    folder, written = tmp_path / "run", {}
    killed = 0
    for moment in moments(8, 0.5 * seconds, 3):
        killed += server(folder, "last", moment).status == -SIGKILL
        for step in range(1, events(folder) - 1):
            path = folder / f"steps/{step:03d}/rows.jsonl"
            if path.exists():
                assert written.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    server(folder, "last")
    assert killed >= 1
    assert written
    assert outcome(folder) == expected


def test_an_interrupted_run_ends_as_if_it_had_not_been_and_leaves_no_draft(server, undisturbed, tmp_path):
    """Ctrl-C; that no process stays is checked of every run here."""
    expected, seconds = undisturbed["last"]
    for round_, moment in enumerate(moments(6, seconds, 4)):
        folder = tmp_path / str(round_)
        stop(server, folder, "last", moment, SIGINT)
        assert list(folder.rglob("*.part")) == []
        assert server(folder, "last").status == 0
        assert outcome(folder) == expected, moment


@pytest.mark.parametrize(
    ("room", "named"), [(0, "config.json"), (600, ""), (2000, ""), (5000, ""), (100_000, "student")]
)
def test_a_run_that_fills_the_disk_says_which_file_and_goes_on(server, undisturbed, tmp_path, room, named):
    """The kernel itself refuses, in the middle of a write; the student's weights are written by another library."""
    folder = tmp_path / "run"
    full = server(folder, "last", room=room)
    assert full.status == 1
    assert re.fullmatch(
        rf"{folder}/\S*{named} cannot be written \(.*File too large.*\); free or allow the place"
        + (
            rf", then 'dataenv resume {folder}' goes on from the last finished step\."
            if room
            else r" and give the same command again, or choose another --out\."
        ),
        full.said,
    ), full.said
    assert list(folder.rglob("*.part")) == []
    assert server(folder, "last").status == 0
    assert outcome(folder) == undisturbed["last"][0]
