"""How many feedback problems are asked, and which: a fixed number, until a standard error, or other ones each step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.engines.gate import Gate
from dataenv.errors import InvalidData
from dataenv.examine import FIRST_ROUND, rounds
from dataenv.records import Problem


def asked(env):
    return [attempt.problem.id for attempt in env.situation.examination.attempts]


def answers(env):
    return sum(call.startswith("answer") for call in env.student.calls)


@given(st.lists(st.integers(0, 70), min_size=1, max_size=5), st.booleans())
def test_rounds_double_and_lose_nothing(sizes, fixed):
    problems = [Problem(prompt=f"{s} {i}", answer="", skill=str(s)) for s, n in enumerate(sizes) for i in range(n)]
    blocks = rounds(problems, None if fixed else 0.1)
    assert sorted(p.id for block in blocks for p in block) == sorted(p.id for p in problems)
    if not fixed and problems:
        most = max(sizes)
        largest = [max(sum(p.skill == str(s) for p in block) for s in range(len(sizes))) for block in blocks]
        assert largest[0] == min(FIRST_ROUND, most)
        for i, size in enumerate(largest[1:-1], 1):
            assert size == FIRST_ROUND * 2 ** (i - 1)


@settings(max_examples=30, deadline=None)
@given(error=st.floats(0.01, 0.3), seed=st.integers(0, 1000), redraw=st.booleans())
def test_asks_until_the_error_is_small_enough_or_all_were_asked(fakes, error, seed, redraw):
    env = fakes.make_env(error=error, feedback=32, redraw=redraw)
    _, info = env.reset(seed=seed)
    assert info["feedback"].error <= error or info["feedback"].n == 96
    for _ in range(3):
        before = env.situation.examination.n
        *_, info = env.step(fakes.deal(env, 10, 5, 5))
        assert info["reward_error"] <= error or info["reward_n"] == 96
        assert redraw or info["reward_n"] >= before
        assert info["feedback"].n == info["reward_n"] == len(set(asked(env)))


def test_the_earlier_student_answers_what_it_was_not_asked_as_it_was(fakes):
    """The reward is the gain that a fixed policy over the same problems would have found."""
    nothing = {"prior": {}, "half_way": 7}  # it fails all, then solves half: the gain is less certain than the accuracy
    env = fakes.make_env(student=fakes.Scripted(**nothing), error=0.08, feedback=64)
    env.reset(seed=5)
    first = env.situation.examination.n
    _, reward, *_, info = env.step(fakes.deal(env, 6, 7, 7))
    assert info["reward_n"] > first, "this seed should have needed more problems"
    problems = [attempt.problem for attempt in env.situation.examination.attempts]
    untaught, taught = fakes.Scripted(**nothing), env.student
    right = [
        [s.answer([p.prompt], max_new_tokens=8)[0][0].text == p.answer for p in problems] for s in (untaught, taught)
    ]
    assert reward == pytest.approx((sum(right[1]) - sum(right[0])) / len(problems))


def test_more_problems_are_put_to_the_untaught_student_with_its_exemplars(fakes):
    student = fakes.Scripted(prior={}, half_way=2, shots=2, few_shot_bonus=0.1)
    env = fakes.make_env(student=student, error=0.1, feedback=64)
    env.reset(seed=5)
    assert env.situation.baseline["used"] == "few_shot"
    env.student.calls.clear()
    first = env.situation.examination.n
    *_, info = env.step(fakes.deal(env, 2, 2, 2))
    assert info["reward_n"] > first
    assert "answer few" in env.student.calls
    assert env.student.rows == {"a": 2, "b": 2, "c": 2}


def test_fixed_problems_stay_and_the_unchanged_student_is_not_asked_again(fakes):
    for options in ({}, {"error": 0.05, "feedback": 32}, {"redraw": True}):
        env = fakes.make_env(**options)
        env.reset(seed=1)
        before, calls = asked(env), answers(env)
        _, reward, *_, info = env.step(fakes.deal(env))
        assert (reward, info["reward_n"]) == (0.0, len(before))
        assert (asked(env), answers(env)) == (before, calls)
    env = fakes.make_env()
    env.reset(seed=1)
    before, calls = asked(env), answers(env)
    env.step(fakes.deal(env, 20))
    assert asked(env) == before
    assert answers(env) == calls + 1


def test_redrawn_problems_differ_each_step_and_are_paired(fakes):
    env = fakes.make_env(redraw=True, steps=4)
    env.reset(seed=2)
    seen = [frozenset(asked(env))]
    for _ in range(4):
        calls = answers(env)
        _, reward, *_, info = env.step(fakes.deal(env, 20))
        assert answers(env) == calls + 2
        seen.append(frozenset(asked(env)))
        assert info["reward_n"] == 24
        assert reward >= 0  # this student only ever gains on the same problems
    assert all(not (a & b) for i, a in enumerate(seen) for b in seen[:i])


def test_redrawn_problems_follow_from_the_seed_and_survive_a_restore(fakes):
    def play(env, steps):
        return [(reward, tuple(asked(env))) for reward in [env.step(fakes.deal(env, 20))[1] for _ in range(steps)]]

    env, other = fakes.make_env(redraw=True), fakes.make_env(redraw=True)
    env.reset(seed=3)
    other.reset(seed=3)
    assert play(env, 3) == play(other, 3)
    state = env.clone_state()
    first = play(env, 2)
    env.restore_state(state)
    assert play(env, 2) == first
    fresh = fakes.make_env(redraw=True)
    fresh.reset(seed=99)
    fresh.restore_state(state)
    assert play(fresh, 2) == first


def test_the_gate_protects_every_problem_that_was_shown(fakes, monkeypatch):
    protected = []

    def watched(task, prompts, *rest):
        prompts = list(prompts)
        protected.append({prompt.key for prompt in prompts})
        return Gate(task, prompts, *rest)

    monkeypatch.setattr("dataenv.envs.teaching.Gate", watched)
    env = fakes.make_env(redraw=True)
    env.reset(seed=0)
    shown = {a.problem.prompt.key for a in env.situation.examination.attempts}
    for _ in range(3):
        env.step(fakes.deal(env, 20))
        shown |= {a.problem.prompt.key for a in env.situation.examination.attempts}
        assert protected[-1] == shown


def test_a_failed_step_leaves_the_problems_as_they_were(fakes):
    env, other = fakes.make_env(redraw=True), fakes.make_env(redraw=True)
    env.reset(seed=4)
    other.reset(seed=4)
    for method in ("teach", "answer"):
        env.student.break_in = {method: RuntimeError("broken")}
        problems = list(env.problems)
        with pytest.raises(RuntimeError):
            env.step(fakes.deal(env, 20))
        assert env.problems == problems
        env.student.break_in = {}
    assert env.step(fakes.deal(env, 20))[1:3] == other.step(fakes.deal(other, 20))[1:3]
    assert asked(env) == asked(other)


@pytest.mark.parametrize("error", [0, 1, -0.1, float("nan"), 2])
def test_an_impossible_error_is_refused(fakes, error):
    with pytest.raises(InvalidData, match="error must be a standard error"):
        fakes.make_env(error=error)
