"""The real thing: a run of the micro student is killed at random moments, and ends as if nothing had happened."""

import os
import random
import subprocess
import sys
from types import SimpleNamespace

import orjson
import pytest

from dataenv.runs.folder import RunFolder

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROUNDS = 20
SERVER = """
import os, signal, sys, time, traceback
from pathlib import Path
import torch
torch.set_num_threads(1)
import dataenv.runs.report
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import start
from dataenv.students.micro import micro

micro()._load()  # the base; children inherit it

def work(folder, select):
    config = RunConfig(task="drills", student="micro", teacher="random", steps=4, rows=64, feedback=2, exam=2,
                       select=select, options={"student": {"epochs": 1}})
    start(config, Path(folder))

print("ready", flush=True)
for line in sys.stdin:
    folder, select, delay = line.split()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            work(folder, select)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = None
    while status is None:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        elif time.monotonic() - began > float(delay):
            os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        else:
            time.sleep(0.001)
    try:
        os.killpg(child, 0)
        stray = 1
    except ProcessLookupError:
        stray = 0
    print(status, stray, time.monotonic() - began, flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`work(folder, select, delay)` in a process of its own that has all modules and weights loaded already: carries
    out the run in a fork of it, killed after `delay` seconds; gives exit status and seconds."""
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

    def work(folder, select, delay=1e9):
        process.stdin.write(f"{folder} {select} {delay}\n")
        process.stdin.flush()
        answer = process.stdout.readline().split()
        assert answer, log.read_text()
        status, stray, seconds = int(answer[0]), int(answer[1]), float(answer[2])
        assert status in (0, -9), log.read_text()
        assert not stray
        return SimpleNamespace(killed=status == -9, seconds=seconds)

    assert process.stdout.readline() == "ready\n", log.read_text()
    yield work
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


def test_two_undisturbed_runs_are_equal(server, undisturbed, tmp_path):
    server(tmp_path / "run", "last")
    assert outcome(tmp_path / "run") == undisturbed["last"][0]
    assert undisturbed["last"][0][1] == 1 + 1 + 4 + 2
    assert undisturbed["last"][0][0] != undisturbed["best"][0][0]


def test_a_run_that_is_killed_at_random_moments_ends_as_if_it_had_not_been(server, undisturbed, tmp_path):
    chance = random.Random(20)
    killed, stood = 0, set()
    for round_ in range(ROUNDS):
        select = ("last", "best")[round_ % 2]
        expected, seconds = undisturbed[select]
        folder = tmp_path / str(round_)
        for _ in range(chance.randint(1, 4)):
            # Spread over the whole run: its start, every phase of every step, its exam and its end.
            if not server(folder, select, chance.uniform(0, seconds)).killed:
                break
            killed += 1
            log = folder / "events.jsonl"
            stood.add(log.read_bytes().count(b"\n") if log.exists() else -1)
        server(folder, select)
        assert outcome(folder) == expected, round_
    assert killed >= ROUNDS / 2  # else nothing was tried
    assert len(stood) >= 3, stood


def test_finished_steps_are_not_done_again(server, undisturbed, tmp_path):
    """Their files keep their time of writing, however often the run is killed after them."""
    expected, seconds = undisturbed["last"]
    folder = tmp_path / "run"
    chance = random.Random(3)
    done = {}
    for _ in range(30):
        result = server(folder, "last", chance.uniform(0.3, 0.8) * seconds)
        for path in folder.glob("steps/*/rows.jsonl"):
            steps = [orjson.loads(line).get("step") for line in sound(folder)]
            if int(path.parent.name) in steps:
                assert done.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
        if not result.killed:
            break
    server(folder, "last")
    assert done
    assert outcome(folder) == expected


def sound(folder):
    log = folder / "events.jsonl"
    return [line for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")] if log.exists() else []
