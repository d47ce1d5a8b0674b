"""Tasks whose problems hold pictures, in every environment: rows pass the gate, and texts say where a picture is."""

import gymnasium as gym
import pytest

from dataenv.envs import ENVS, env_id
from dataenv.envs.open_ended import OpenEndedEnv
from dataenv.errors import InvalidAction, InvalidData
from dataenv.records import Example, Plan, Request
from dataenv.tasks.scenes import Scenes

TASK = Scenes("colour,counting,logic")


@pytest.fixture
def student(fakes):
    return fakes.Scripted({"colour": 0.0, "counting": 0.5, "logic": 0.5})


@pytest.mark.parametrize("name", ENVS)
def test_a_plan_is_filled_whole(name, student):
    env = gym.make(env_id(name), task=TASK, student=student, rows=60, feedback=10, disable_env_checker=True).unwrapped
    env.reset(seed=0)
    env.action_space.seed(2)
    plan = Plan(requests=tuple(Request(skill=skill, rows=20) for skill in TASK.skills))
    _, _, _, _, info = env.step(env.action_space.sample() if name == "skill-tree" else env.action(plan))
    assert info["rows"]["accepted"] == info["rows"]["asked"] > 0 and not info["rows"]["dropped"]
    assert all(len(example.prompt.images) == 1 for example in env.situation.taught)


def test_texts_say_where_a_picture_is(student):
    env = OpenEndedEnv(TASK, student, rows=20, feedback=10)
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space and observation["failures"]
    assert all(failure["problem"].startswith("[picture]\n") for failure in observation["failures"])
    assert all(len(attempt.problem.prompt.images) == 1 for attempt in info["feedback"].failures)
    # What it shows can be asked for again, as it stands.
    action = [{"exemplar": failure["problem"], "rows": 2} for failure in observation["failures"][:3]]
    _, _, _, _, info = env.step(action)
    assert info["rows"]["accepted"] == 6 and not info["unmatched"]


def test_an_exemplar_is_said_in_words_and_a_row_cannot_be(student):
    env = OpenEndedEnv(TASK, student, rows=20, feedback=10)
    env.reset(seed=0)
    problem = TASK.problems("exemplar", 1, 0)[0]
    (part,) = env.action(Plan(requests=(Request(skill=problem.skill, rows=3, exemplar=problem),)))
    assert part["exemplar"] == f"[picture]\n{problem.prompt.text}" == problem.prompt.in_words
    with pytest.raises(InvalidAction, match="images"):
        env.action(Plan(examples=(Example.from_problem(problem),)))


@pytest.mark.parametrize("name", ENVS)
@pytest.mark.parametrize(
    ("task", "student", "what"),
    [
        ("scenes:colour", "micro", "'micro' reads text only, .* task 'scenes:colour' .* a student that sees"),
        ("easy-vqa", "hf:org/name", "'org/name' reads text only, .* task 'easy-vqa' .* a task without pictures"),
        ("drills", "micro-vision", "'micro-vision' needs a picture .* task 'drills' hold none; choose a student that"),
        ("bfcl", "micro-vision", "'micro-vision' needs a picture .* task 'bfcl' .* or a task with pictures"),
    ],
)
def test_a_student_that_cannot_take_the_prompts_is_refused_at_once(name, task, student, what, monkeypatch):
    def load(*_):
        raise AssertionError("something was loaded")

    monkeypatch.setattr("dataenv.students.causal_lm.CausalLM._load", load)
    monkeypatch.setattr("dataenv.tasks.fixed.FixedTask._by_key", property(load))
    with pytest.raises(InvalidData, match=what) as refused:
        gym.make(env_id(name), task=task, student=student, skills="cluster:2")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("task", ["scenes", "drills"])
def test_one_that_takes_both_or_does_not_say_is_not_refused(task, student, fakes):
    gym.make(env_id("skill-list"), task=task, student="vlm:org/name")
    gym.make(env_id("skill-list"), task=task, student=student)
    for taught in ("micro", "micro-vision"):
        gym.make(env_id("skill-list"), task=fakes.Toy(), student=taught)
