"""Parts of the user's own that raise: one sentence, the traceback in a file, and the run goes on when mended."""

import json
import re
from pathlib import Path

import pytest

from dataenv.registry import Entry
from dataenv.students import students

TOY = ["--task", "exam-toy", "--student", "scripted"]
SMALL = [*TOY, "--steps", "2", "--rows", "12", "--feedback", "4", "--exam", "5"]
MINE = """from dataenv.agents.controls import Uniform


class Mine(Uniform):
    name = "mine"
    seen = 0

    def __init__(self):
        {init}
        super().__init__()

    def reset(self, seed):
        {reset}
        super().reset(seed)

    def act(self, observation, info):
        {act}
        return super().act(observation, info)

    def observe(self, transition):
        {observe}
        self.seen += 1

    def state(self):
        {state}
        return self.seen

    def restore(self, state):
        {restore}
        self.seen = state
"""
LINES = {"init": 9, "reset": 13, "act": 17, "observe": 21, "state": 25, "restore": 29}
BUG = "raise ValueError('two\\n  lines.')"


def write(name="mine.py", **bugs):
    Path(name).write_text(MINE.format(**(dict.fromkeys(LINES, "pass") | bugs)))


@pytest.fixture
def whole(call, toy):
    """The result of the run without a bug."""
    write()
    return json.loads(call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "whole", "--json").out)


@pytest.mark.parametrize(
    ("method", "bug", "step"),
    [
        ("act", BUG, 1),
        ("act", f"if self.seen: {BUG}", 2),
        ("observe", f"if self.seen: {BUG}", 2),
        ("state", f"if self.seen: {BUG}", 1),
    ],
)
def test_a_teacher_that_raises_is_told_in_one_sentence_and_goes_on_when_mended(call, whole, refused, method, bug, step):
    write(**{method: bug})
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here", "--json")
    where = f"at step {step} (mine.py, line {LINES[method]}: ValueError: two lines)"
    assert refused(
        type(done)(code=done.code, out=done.out, err=done.err.splitlines()[-1]),
        f"error: Teacher 'mine.py:Mine' failed {where}",
        "traceback is in here/traceback.txt",
        "'dataenv resume here' goes on from the last finished step.",
    )
    assert "Traceback" not in done.err
    kept = Path("here/traceback.txt").read_text()
    assert kept.startswith("Traceback (most recent call last):")
    assert kept.endswith("ValueError: two\n  lines.\n")
    assert f'File "mine.py", line {LINES[method]}, in {method}' in kept
    write()
    done = call("resume", "here", "--json")
    assert done.code == 0, done.err
    assert {**json.loads(done.out), "seconds": 0} == {**whole, "run": "here", "seconds": 0}


@pytest.mark.parametrize(
    ("bug", "words"),
    [
        ("return None", "An action is a dict with 'rows' and 'difficulty'; got NoneType; mend"),
        ("return 'more'", "got str; mend"),
        ("return {'rows': [float('nan')] * 3, 'difficulty': [0] * 3}", "action['rows'][0] is nan; it must be a whole"),
        ("return {'rows': [-3, 0, 0], 'difficulty': [0] * 3}", "action['rows'][0] is -3; it must be at least 0; mend"),
        ("return {'rows': [99, 0, 0], 'difficulty': [0] * 3}", "action['rows'] adds up to 99"),
        (
            "from dataenv.records import Plan, Request; return Plan(requests=(Request(skill='bb', rows=1),))",
            "'bb' is no skill of 'toy'; did you mean 'b'? It has: a, b, c; mend",
        ),
        ("import numpy as np; return self.deal(np.ones(5), info['feedback'])", "weights"),
    ],
)
def test_an_action_that_is_none_names_teacher_step_and_what_to_do(call, whole, refused, bug, words):
    write(act=f"if self.seen: {bug}")
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here", "--json")
    last = type(done)(code=done.code, out=done.out, err=done.err.splitlines()[-1])
    assert refused(
        last, "Teacher 'mine' at step 2: ", words, "; mend it, then 'dataenv resume here' goes on from the last"
    )
    write()
    assert json.loads(call("resume", "here", "--json").out)["hash"] == whole["hash"]


@pytest.mark.parametrize("method", ["reset", "act"])
def test_a_part_that_ends_the_process_is_told_like_any_error(call, toy, method):
    write(**{method: "raise SystemExit(3)"})
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here")
    assert done.code == 1
    assert f"(mine.py, line {LINES[method]}: SystemExit: 3); the traceback is in" in done.err
    assert Path("here").exists() == (method == "act")
    Path("mine.py").write_text("import sys\nsys.exit(2)\n")
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "there")
    assert done.err == "error: mine.py, line 2: SystemExit: 2.\n"


def test_a_state_that_cannot_be_written_down_names_the_teacher(call, toy, refused):
    write(state="return {'a': {1}}")
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here", "--json")
    last = type(done)(code=done.code, out=done.out, err=done.err.splitlines()[-1])
    assert refused(last, "Teacher 'mine': state() must return", "type set is not JSON serializable")
    assert not Path("here").exists()


@pytest.mark.parametrize("method", ["init", "reset"])
def test_a_teacher_that_fails_before_anything_was_examined_leaves_no_run(call, toy, refused, method):
    write(**{method: "raise ValueError"})
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here", "--json")
    line = f"Teacher 'mine.py:Mine' failed before the first step (mine.py, line {LINES[method]}: ValueError); "
    last = done.err.splitlines()[-1]
    assert refused(type(done)(code=done.code, out=done.out, err=last), line, "the same command again")
    assert not Path("here").exists()
    trace = Path(re.search("the traceback is in (.*?);", last)[1])
    assert trace.read_text().endswith("\nValueError\n")
    trace.unlink()
    write()
    assert call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here").code == 0


def test_a_teacher_that_cannot_be_put_back_is_told_as_well(call, whole, refused):
    write(act=f"if self.seen: {BUG}", restore=BUG)
    call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here")
    assert refused(call("resume", "here", "--json"), "at step 2 (mine.py, line 29", "'dataenv resume here'")
    write()
    assert json.loads(call("resume", "here", "--json").out)["hash"] == whole["hash"]


def test_the_part_is_the_one_whose_line_it_was(call, toy):
    """The line is the last in the user's file, though the error was raised further on; and where one file holds
    several parts, its class says which."""
    write(act="import json; json.loads('{')")
    done = call("run", *SMALL, "--teacher", "./mine.py:Mine", "--no-state", "--out", "a")
    assert "Teacher './mine.py:Mine' failed at step 1 (mine.py, line 17: JSONDecodeError: " in done.err
    write()
    with Path("mine.py").open("a") as file:
        file.write("\n\nclass Plain:\n    def __init__(self, task):\n        pass\n\n")
        file.write("    def __call__(self, examples, rng):\n        return 1 // 0\n")
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--filter", "mine.py:Plain", "--out", "b")
    assert "Filter 'mine.py:Plain' failed at step 1 (mine.py, line 38: ZeroDivisionError: " in done.err


def test_a_student_of_another_package_is_named_at_the_exam(call, toy, fakes, monkeypatch):
    class Broken(fakes.Scripted):
        asked = 0

        def answer(self, prompts, **options):
            self.asked += 1
            return [] + None if self.asked == 5 else super().answer(prompts, **options)

    monkeypatch.setitem(students._entries, "scripted", Entry(Broken))
    done = call("run", *SMALL, "--teacher", "random", "--out", "here")
    assert re.search(r"Student 'scripted' failed at the exam \(.*test_blame.py, line \d+: TypeError: ", done.err)


def test_a_bug_of_dataenvs_own_keeps_its_traceback(call, toy, monkeypatch):
    from dataenv.runs import episode

    monkeypatch.setattr(episode, "sit_exam", lambda *_: 1 // 0)
    monkeypatch.setattr("sys.argv", ["dataenv", "run", *SMALL, "--teacher", "random", "--out", "here"])
    from dataenv import cli

    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_a_traceback_that_can_be_kept_nowhere_is_shown(call, toy, monkeypatch):
    from dataenv import cli

    write(init="raise ValueError")
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    monkeypatch.setattr("sys.argv", ["dataenv", "run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here"])
    with pytest.raises(ValueError):
        cli.main()


def test_a_type_error_of_a_constructor_with_options_has_its_line(call, toy):
    write(init="self.size = size + 1")
    Path("mine.py").write_text(Path("mine.py").read_text().replace("def __init__(self)", "def __init__(self, size)"))
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--set", "teacher.size=x", "--out", "here")
    assert "before the first step (mine.py, line 9: TypeError: can only concatenate str" in done.err


def test_a_part_that_needs_more_than_it_is_given_is_refused(call, toy, refused):
    write()
    Path("mine.py").write_text(Path("mine.py").read_text().replace("def __init__(self)", "def __init__(self, size)"))
    done = call("run", *SMALL, "--teacher", "mine.py:Mine", "--out", "here", "--json")
    assert refused(done, "teacher 'mine.py:Mine' cannot be built: ", "'size'")
