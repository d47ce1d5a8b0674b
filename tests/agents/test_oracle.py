import json

import pytest

from dataenv.agents import teachers
from dataenv.errors import InvalidData
from dataenv.protocols import Privileged, Teacher
from dataenv.runs import episode
from dataenv.runs.config import RunConfig
from dataenv.runs.report import write_report


def taught_by(fakes, teacher, **options):
    env = fakes.make_env(**options)
    _, info = env.reset(seed=3)
    teacher.reset(0)
    teacher.attach(env)
    return env, info


def test_it_is_marked_as_privileged_and_the_others_are_not():
    assert isinstance(teachers.make("oracle-greedy"), Privileged)
    assert isinstance(teachers.make("oracle-greedy"), Teacher)
    assert not isinstance(teachers.make("uniform"), Privileged)


def test_it_finds_the_one_skill_that_can_be_learnt(fakes):
    student = fakes.Scripted(prior={"a": 0.1, "b": 0.3, "c": 1.0}, unlearnable=("b",))
    teacher = teachers.make("oracle-greedy")
    env, info = taught_by(fakes, teacher, student=student, feedback=40, steps=3)
    while not env.situation.over:
        plan = teacher.act(None, info)
        assert {request.skill: request.rows for request in plan.requests} == {"a": 20}
        *_, info = env.step(env.action(plan))
        assert teacher.expected > 0


@pytest.mark.parametrize("options", [{}, {"redraw": True}, {"error": 0.05, "feedback": 32}, {"regime": "retrain"}])
def test_looking_ahead_changes_nothing(fakes, options):
    teacher = teachers.make("oracle-greedy")
    env, info = taught_by(fakes, teacher, **options)
    twin = fakes.make_env(**options)
    twin.reset(seed=3)
    for _ in range(3):
        situation, version = env.situation, env.student.version
        plan = teacher.act(None, info)
        assert env.situation == situation
        assert env.student.version == version
        *real, info = env.step(env.action(plan))
        *alone, _ = twin.step(twin.action(plan))
        assert json.dumps(real, default=lambda a: a.tolist()) == json.dumps(alone, default=lambda a: a.tolist())


def test_it_puts_the_environment_back_when_a_try_fails(fakes):
    teacher = teachers.make("oracle-greedy")
    env, info = taught_by(fakes, teacher)
    situation = env.situation
    env.student.break_in = {"teach": RuntimeError("broken")}
    with pytest.raises(RuntimeError, match="broken"):
        teacher.act(None, info)
    assert env.situation == situation
    assert env.student.rows == {}


def test_without_any_gain_it_asks_for_the_same_rows_everywhere(fakes):
    teacher = teachers.make("oracle-greedy")
    _, info = taught_by(fakes, teacher, student=fakes.Scripted(unlearnable="abc"), rows=21)
    plan = teacher.act(None, info)
    assert {request.skill: request.rows for request in plan.requests} == {"a": 7, "b": 7, "c": 7}


def test_chunks_add_up_to_the_steps_rows(fakes):
    teacher = teachers.make("oracle-greedy", chunks=4)
    _, info = taught_by(fakes, teacher, rows=21, student=fakes.Scripted(half_way=10, prior={}), feedback=40)
    assert teacher.act(None, info).rows == 21


def test_what_it_cannot_do_it_says(fakes):
    with pytest.raises(InvalidData, match="chunks must be a whole number of at least 1"):
        teachers.make("oracle-greedy", chunks=0)
    teacher = teachers.make("oracle-greedy")
    teacher.reset(0)
    with pytest.raises(InvalidData, match="attach"):
        teacher.act(None, {})


def test_its_runs_say_that_it_is_privileged_and_resume(tmp_path):
    config = RunConfig(task="drills", student="micro", teacher="oracle-greedy", steps=2, rows=14, feedback=1, exam=1,
                       options={"task": {"skills": ["copying", "addition"]}, "student": {"epochs": 1}})  # fmt: skip
    result = episode.start(config, tmp_path / "run")
    page = write_report(tmp_path / "run").read_text()
    assert "privileged" in page
    events = (tmp_path / "run/events.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run/events.jsonl").write_bytes(b"".join(events[:3]))
    assert episode.resume(tmp_path / "run")["hash"] == result["hash"]


def test_its_state_is_json_and_holds_no_environment(fakes):
    teacher = teachers.make("oracle-greedy")
    taught_by(fakes, teacher)
    assert "_env" not in json.loads(json.dumps(teacher.state()))
