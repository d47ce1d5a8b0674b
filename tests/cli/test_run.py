"""Runs by command: what they print, and where they go."""

import errno
import json
import os
import sys

import pytest

from dataenv.students import students

KEYS = {"exam_before", "exam_after", "gain", "gain_se", "selected_step", "steps", "rows", "seconds", "run", "hash"}
SMALL = ["--steps", "2", "--rows", "12", "--feedback", "4", "--exam", "5", "--teacher", "random"]
TOY = ["--task", "exam-toy", "--student", "scripted"]
MICRO = ["--task", "drills", "--student", "micro", "--rows", "32", "--feedback", "2", "--exam", "2"]


def test_the_last_line_of_a_run_is_one_json_object(tmp_path, process):
    """The micro student, in a process of its own."""
    pytest.importorskip("torch")
    arguments = ["run", *MICRO, "--steps", "1", "--set", "student.epochs=1", "--out", "first", "--json"]
    done = process(*arguments, cwd=tmp_path)
    out, err = done.communicate()
    assert done.returncode == 0, err
    assert out.count("\n") == 1
    result = json.loads(out)
    assert set(result) == KEYS
    assert (result["steps"], result["rows"], result["run"]) == (1, 32, "first")
    assert 0 <= result["exam_before"] <= 1
    assert result["gain"] == pytest.approx(result["exam_after"] - result["exam_before"])
    assert result["gain_se"] > 0
    for line in ("random" not in err and "error-proportional teaches micro drills", "step 1/1: 32 rows", "exam (28 "):
        assert line in err
    assert (tmp_path / "first" / "report.html").stat().st_size > 5000


def test_a_run_tells_its_story_on_stdout_without_json(call, toy):
    done = call("run", *TOY, *SMALL)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "random teaches scripted exam-toy, 2 steps of up to 12 rows"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "untaught", "step 1/2", "step 2/2", "the sealed exam", "exam (15 problems)", "report",
    ]  # fmt: skip
    assert lines[-1] == "report: runs/exam-toy-scripted-random-0/report.html"


def test_the_same_command_again_gives_the_same_answer(call, toy):
    first = call("run", *TOY, *SMALL, "--json")
    second = call("run", *TOY, *SMALL, "--json")
    third = call("resume", "runs/exam-toy-scripted-random-0", "--json")
    assert json.loads(first.out) == json.loads(second.out) == json.loads(third.out)
    assert second.code == third.code == 0
    assert "step 1" not in second.err
    assert [line.split(" (")[0] for line in second.err.splitlines()][:1] == ["exam"]


@pytest.mark.parametrize(
    ("task", "student", "name"),
    [
        ("gsm8k:/nope", "micro", "gsm8k-nope-micro-random-0"),
        ("jsonl:deep/my problems.jsonl", "hf:org/Name-0.6B", "jsonl-my-problems.jsonl-hf-Name-0.6B-random-0"),
        ("reasoning-gym:gcd,lcm", "Qwen/Qwen3-0.6B", "reasoning-gym-gcd-lcm-Qwen3-0.6B-random-0"),
        ("drills", "./models/mine/", "drills-mine-random-0"),
    ],
)
def test_the_folder_of_a_run_is_named_by_all_its_parts(call, monkeypatch, task, student, name):
    from dataenv.runs import episode

    seen = []
    monkeypatch.setattr(episode, "start", lambda config, folder, watcher: seen.append(folder) or sys.exit(0))
    call("run", "--task", task, "--student", student, "--teacher", "random")
    assert [str(folder) for folder in seen] == [f"runs/{name}"]


def test_a_finished_run_is_told_where_nothing_can_be_written(call, toy, monkeypatch, tmp_path):
    """The report stays as it is; the result is what was asked for."""
    first = call("run", *TOY, *SMALL, "--out", "here", "--json")

    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    from pathlib import Path

    monkeypatch.setattr(Path, "write_bytes", refuse)
    done = call("resume", "here", "--json")
    assert (done.code, json.loads(done.out)) == (0, json.loads(first.out))
    assert "note: The report cannot be written to here/report.html: Read-only file system" in done.err


def test_options_reach_the_parts(call, toy, tmp_path):
    options = ["--seed", "3", "--regime", "retrain", "--replay", "0.5", "--max-rows", "20", "--select", "best"]
    settings = ["--set", "student.half_way=7", "--set", 'task.skills=["a","b"]', "--set", "task.empty=false"]
    assert call("run", *TOY, *SMALL, *options, *settings, "--exam", 0 + 3, "--out", "here").code == 0
    config = json.loads((tmp_path / "here/config.json").read_text())
    assert config["options"] == {"student": {"half_way": 7}, "task": {"skills": ["a", "b"], "empty": False}}
    for name, value in {"seed": 3, "regime": "retrain", "replay": 0.5, "max_rows": 20, "select": "best"}.items():
        assert config[name] == value
    events = [json.loads(line) for line in (tmp_path / "here/events.jsonl").read_text().splitlines()]
    assert events[0]["skills"] == ["a", "b"]
    assert events[-2]["n"] == 6
    assert events[-3]["rows_total"] == 20


def test_filters_and_a_mixture_reach_the_run_and_its_report(call, toy, tmp_path):
    engine = ["--engine", "mixture:procedural=0.5,self-sampling=0.5", "--set", "engine.self-sampling.samples=2"]
    filters = ["--filter", "known:0.9", "--filter", "helps:0"]
    assert call("run", *TOY, *SMALL, *engine, *filters, "--out", "here").code == 0
    config = json.loads((tmp_path / "here/config.json").read_text())
    assert config["filters"] == ["known:0.9", "helps:0"]
    assert config["options"] == {"engine": {"self-sampling.samples": 2}}
    assert "--filter known:0.9 --filter helps:0" in (tmp_path / "here/report.html").read_text()
    events = [json.loads(line) for line in (tmp_path / "here/events.jsonl").read_text().splitlines()]
    assert any(event["dropped"] for event in events if event["event"] == "step")


def test_zero_problems_means_all(call, tmp_path):
    rows = [{"prompt": f"What is {i} and {i}?", "answer": str(2 * i)} for i in range(150)]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    students.entries()
    done = call("run", "--task", "jsonl:mine.jsonl", "--student", "micro", "--feedback", 0, "--exam", 0, "--steps", 0)
    assert done.code == 2  # --steps 0 is refused before anything else
    from dataenv.runs.config import RunConfig

    config = RunConfig(task="jsonl:mine.jsonl", feedback=None)
    env = config.model_copy(update={"student": "micro"}).build_env()
    assert env.feedback is None


def test_a_report_is_written_anew(call, toy, tmp_path):
    call("run", *TOY, *SMALL, "--out", "here")
    page = tmp_path / "here/report.html"
    before = page.read_bytes()
    page.unlink()
    done = call("report", "here")
    assert (done.code, done.out) == (0, "here/report.html\n")
    assert page.read_bytes() == before


def test_a_report_of_an_unfinished_run(call, toy, tmp_path):
    call("run", *TOY, *SMALL, "--out", "here")
    log = tmp_path / "here/events.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]) + b'{"event"')
    assert call("report", "here").code == 0
    assert "unfinished" in (tmp_path / "here/report.html").read_text()
