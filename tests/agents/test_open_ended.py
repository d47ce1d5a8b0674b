import json

import numpy as np
import pytest

from dataenv.agents import teachers
from dataenv.envs.open_ended import OpenEndedEnv
from dataenv.errors import InvalidData
from dataenv.protocols import Teacher
from dataenv.records import Budget, Feedback, Plan, SkillScore

SKILLS = ("alpha", "beta", "gamma")


@pytest.fixture
def teacher():
    made = teachers.make("rows-like-failures")
    made.reset(7)
    return made


def shown(*problems):
    return {"failures": tuple({"problem": p, "response": "?", "answer": "!"} for p in problems)}


def state(rows_left=1000, rows_per_step=20):
    return {
        "feedback": Feedback(
            step=0,
            skills=tuple(SkillScore(skill=skill, n=8, correct=4) for skill in SKILLS),
            budget=Budget(rows_left=rows_left, rows_per_step=rows_per_step, steps_left=5),
        )
    }


@pytest.fixture
def env(fakes):
    student = fakes.Scripted({"alpha": 0.0, "beta": 1.0, "gamma": 0.5}, half_way=10)
    return OpenEndedEnv(fakes.Toy(SKILLS), student, steps=4, rows=20, feedback=8)


def test_it_keeps_the_protocol(teacher):
    assert isinstance(teacher, Teacher)
    again = teachers.make(teacher.name)
    again.restore(json.loads(json.dumps(teacher.state())))
    assert again.act(shown("alpha 1"), state()) == teacher.act(shown("alpha 1"), state())


def test_it_deals_all_rows_to_the_failures_shown(teacher):
    action = teacher.act(shown("alpha 1", "gamma 2", "alpha 3"), state())
    assert action == (
        {"exemplar": "alpha 1", "rows": 7},
        {"exemplar": "gamma 2", "rows": 7},
        {"exemplar": "alpha 3", "rows": 6},
    )


def test_fewer_rows_than_failures_go_to_the_first(teacher):
    assert [p["exemplar"] for p in teacher.act(shown("alpha 1", "beta 2", "beta 3"), state(rows_left=2))] == [
        "alpha 1",
        "beta 2",
    ]
    assert teacher.act(shown("alpha 1"), state(rows_left=0)) == ()


@pytest.mark.parametrize("observation", [shown(), shown("", " \n")])
def test_where_nothing_failed_it_deals_uniformly(teacher, observation):
    plan = teacher.act(observation, state())
    assert isinstance(plan, Plan)
    assert {request.skill: request.rows for request in plan.requests} == {"alpha": 7, "beta": 7, "gamma": 6}


@pytest.mark.parametrize("observation", [None, {"accuracy": np.ones(3)}])
def test_where_no_failures_are_shown_it_says_so(teacher, observation):
    with pytest.raises(InvalidData, match="open-ended"):
        teacher.act(observation, state())


def test_it_teaches_what_failed_and_never_a_feedback_problem(teacher, env):
    observation, info = env.reset(seed=0)
    start, over = info["feedback"].accuracy, False
    while not over:
        failed = {problem["problem"].split()[0] for problem in observation["failures"]}
        action = teacher.act(observation, info)
        assert action in env.action_space
        observation, _, terminated, truncated, info = env.step(action)
        assert info["unmatched"] == []
        assert set(info["rows"]["taught"]) == failed
        assert info["rows"]["accepted"] == 20
        over = terminated or truncated
    assert info["feedback"].accuracy > start + 0.2
    protected = {problem.prompt.key for problem in env.problems}
    assert not protected & {row.prompt.key for row in env.situation.taught}


def test_a_long_failure_still_makes_an_action(teacher, fakes):
    env = OpenEndedEnv(fakes.Toy(SKILLS), fakes.Scripted({}), rows=20, feedback=8, text_bytes=4)
    observation, info = env.reset(seed=0)
    action = teacher.act(observation, info)
    assert action in env.action_space
    *_, info = env.step(action)
    assert len(info["unmatched"]) == len(action)  # cut too short to be recognised: reported, not guessed
