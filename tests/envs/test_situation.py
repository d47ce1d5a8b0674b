"""Whose student it is, and going back to a situation: in this environment, a copy, or another process."""

import copy
import pickle

import pytest

from dataenv.errors import EpisodeOver, InvalidData, UnknownId
from dataenv.records import Example

# -- one student, two environments ------------------------------------------------------------------------------------


@pytest.fixture
def two(fakes):
    """Two environments that share one student, the first of them in mid-episode, taught 5 rows."""
    student = fakes.Scripted()
    first, second = fakes.make_env(student=student), fakes.make_env(student=student)
    first.reset(seed=0)
    first.step(fakes.deal(first, 5))
    return first, second


@pytest.mark.parametrize("what", [lambda env, act: env.step(act), lambda env, act: env.clone_state()])
@pytest.mark.parametrize("closed", [False, True])
def test_a_student_that_another_environment_has_reset_is_refused(fakes, two, what, closed, play):
    first, second = two
    second.reset(seed=1)
    if closed:
        second.close()
    situation = first.situation
    with pytest.raises(InvalidData, match=r"^Another environment has reset or closed student 'scripted' in the middle"):
        what(first, fakes.deal(first, 5))
    assert first.situation == situation
    assert play(first, 3) == play(fakes.make_env(), 3)  # a reset takes the student back
    with pytest.raises((InvalidData, EpisodeOver)):
        second.step(fakes.deal(second, 5))


def test_one_after_the_other_a_student_may_serve_many_environments(fakes, two, play):
    first, second = two
    assert play(second, 3) == play(fakes.make_env(), 3)
    assert play(first, 4) == play(fakes.make_env(), 4)


def test_closing_an_environment_leaves_a_student_alone_that_another_teaches(fakes, two):
    first, second = two
    second.reset(seed=1)
    first.close()
    assert second.student.closed == 0
    second.step(fakes.deal(second, 5))
    second.close()
    second.close()
    assert second.student.closed >= 1


def test_going_back_to_a_state_takes_the_student_back(fakes, two):
    first, second = two
    state = first.clone_state()
    second.reset(seed=1)
    first.restore_state(state)
    told = first.step(fakes.deal(first, 3, 4))[1]
    alone = fakes.make_env()
    alone.reset(seed=0)
    alone.step(fakes.deal(alone, 5))
    assert alone.step(fakes.deal(alone, 3, 4))[1] == told


def test_a_copy_in_mid_episode_has_a_student_of_its_own(fakes, two):
    first, second = two
    again = copy.deepcopy(first)
    second.reset(seed=1)
    first.reset(seed=9)
    alone = fakes.make_env()
    alone.reset(seed=0)
    alone.step(fakes.deal(alone, 5))
    assert again.step(fakes.deal(again, 3, 4))[1] == alone.step(fakes.deal(alone, 3, 4))[1]


def test_whole_floats_are_taken_as_numbers(fakes, play):
    env = fakes.make_env(steps=2.0, rows=20.0, feedback=8.0, max_rows=30.0)
    assert play(env, 0, steps=2) == play(fakes.make_env(steps=2, rows=20, feedback=8, max_rows=30), 0, steps=2)


def test_unknown_parts_are_refused_by_name():
    from dataenv.envs.skill_list import SkillListEnv

    with pytest.raises(UnknownId, match="'drillz'; did you mean 'drills'"):
        SkillListEnv("drillz")
    with pytest.raises(UnknownId, match="No engine is called 'warp'"):
        SkillListEnv("drills", engine="warp")


# -- clone, restore, resume -------------------------------------------------------------------------------------------


def test_a_teacher_can_look_ahead_and_come_back(fakes, play):
    env = fakes.make_env()
    env.reset(seed=0)
    env.step(fakes.deal(env, 5, 5))
    state = env.clone_state()
    future = play(env, None, steps=3, reset=False)
    after = env.reset() and env.situation.seed  # another episode, other problems
    env.step(fakes.deal(env, 20))
    env.restore_state(state)
    assert play(env, None, steps=3, reset=False) == future
    env.restore_state(state)
    assert env.reset() and env.situation.seed == after  # the random streams came back, too


def test_a_clone_does_not_change_with_the_student(fakes):
    env = fakes.make_env()
    env.reset(seed=0)
    state = env.clone_state()
    frozen = copy.deepcopy(state)
    env.step(fakes.deal(env, 20))
    env.reset()
    assert state == frozen


def test_another_process_goes_on_from_a_situation(fakes, play):
    env = fakes.make_env()
    env.reset(seed=0)
    seen, *_, info = env.step(fakes.deal(env, 5, 5))
    situation, student = pickle.loads(pickle.dumps((env.situation, env.student.clone_state())))
    fresh = fakes.make_env()
    fresh.student.restore_state(student)
    observation, fresh_info = fresh.resume(situation)
    assert all((observation[key] == seen[key]).all() for key in seen)
    assert fresh_info["feedback"] == info["feedback"]
    assert fresh_info["student"] == info["student"]
    assert play(fresh, None, steps=3, reset=False) == play(env, None, steps=3, reset=False)


def test_an_episode_that_was_over_is_over_after_resuming(fakes):
    env, fresh = fakes.make_env(steps=1), fakes.make_env(steps=1)
    env.reset(seed=0)
    env.step(fakes.deal(env, 1))
    fresh.resume(env.situation)
    with pytest.raises(EpisodeOver):
        fresh.step(fakes.deal(fresh, 1))


def test_info_names_what_was_carried_out(fakes):
    env = fakes.make_env()
    env.reset(seed=0)
    *_, info = env.step(fakes.deal(env, 3, 2, difficulty=0.5))
    assert [(r.skill, r.rows, r.difficulty) for r in info["plan"].requests] == [("a", 3, 0.5), ("b", 2, 0.5)]
    assert info["rows"] == {
        "asked": 5,
        "accepted": 5,
        "clipped": False,
        "dropped": {},
        "shortfall": {},
        "taught": {"a": 3, "b": 2},
    }
    assert info["teach"]["rows"] == 5
    assert {"prepare", "examine"} <= set(fresh_seconds(fakes))
    assert {"gate", "write", "teach", "examine"} == set(env.seconds)
    assert isinstance(env.situation.taught[0], Example)


def fresh_seconds(fakes):
    env = fakes.make_env()
    env.reset(seed=0)
    return env.seconds
