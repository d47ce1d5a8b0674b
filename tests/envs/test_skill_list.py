import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dataenv.errors import InvalidAction
from dataenv.records import Example, Plan, Problem, Request

NAN, INF = float("nan"), float("inf")
NO_FRESH_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def env(fakes):
    env = fakes.make_env(steps=10**9, max_rows=10**9)
    env.reset(seed=0)
    return env


def test_the_observation_says_what_the_examination_found(fakes):
    env = fakes.make_env(fakes.Toy(unexamined=["b"]), fakes.Scripted(prior={"a": 0.0, "c": 1.0}))
    observation, info = env.reset(seed=0)
    assert observation in env.observation_space
    assert observation["accuracy"].tolist() == [0.0, 0.5, 1.0]
    assert observation["examined"].tolist() == [8, 0, 8]  # 0 masks the 0.5
    assert info["feedback"].skills[1].accuracy is None
    assert observation["error"].tolist() == pytest.approx([score.error for score in info["feedback"].skills])
    assert (observation["error"] > 0).all()
    assert observation["taught"].tolist() == [0, 0, 0]
    assert observation["budget"].tolist() == [200, 10]
    observation, *_, info = env.step(fakes.deal(env, 3, 0, 5))
    assert observation in env.observation_space
    assert observation["taught"].tolist() == [3, 0, 5]
    assert observation["budget"].tolist() == [192, 9]
    assert set(info["skill_gain"]) == {"a", "c"}  # no gain is claimed where nothing was asked


def test_an_action_becomes_one_request_per_skill_with_rows(env):
    plan = env.plan({"rows": np.array([3, 0, 5]), "difficulty": np.array([0.25, 0.5, -0.01])})
    assert plan == Plan(requests=(Request(skill="a", rows=3, difficulty=0.25), Request(skill="c", rows=5)))


def test_whole_floats_and_plain_lists_are_taken(env):
    assert env.plan({"rows": [1.0, 2.0, 3.0], "difficulty": [0, 1, -1]}).rows == 6


@given(seed=st.integers(0, 2**32 - 1))
@NO_FRESH_FIXTURE
def test_any_sampled_action_is_carried_out(env, seed):
    env.action_space.seed(seed)
    action = env.action_space.sample()
    observation, reward, terminated, truncated, info = env.step(action)
    assert observation in env.observation_space
    assert info["rows"]["asked"] == info["rows"]["accepted"] == env.rows
    assert type(reward) is float and np.isfinite(reward)
    assert not terminated and not truncated


@given(seed=st.integers(0, 2**32 - 1))
@NO_FRESH_FIXTURE
def test_an_action_survives_being_a_plan(env, seed):
    env.action_space.seed(seed)
    action = env.action_space.sample()
    again = env.action(env.plan(action))
    assert again in env.action_space
    assert again["rows"].tolist() == action["rows"].tolist()
    asked = (action["rows"] > 0) & (action["difficulty"] >= 0)
    assert again["difficulty"][asked].tolist() == pytest.approx(action["difficulty"][asked].tolist())
    assert (again["difficulty"][~asked] < 0).all()


def test_requests_for_one_skill_are_added_up(env):
    plan = Plan(requests=[Request(skill="b", rows=1, difficulty=0.0), Request(skill="b", rows=3, difficulty=1.0)])
    action = env.action(plan)
    assert action["rows"].tolist() == [0, 4, 0]
    assert action["difficulty"][1] == 0.75
    mixed = Plan(requests=[Request(skill="b", rows=1), Request(skill="b", rows=3, difficulty=1.0)])
    assert env.action(mixed)["difficulty"][1] < 0
    assert env.action(Plan()) in env.action_space


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(examples=[Example(prompt="q", completion="c")]), r"plan\.examples"),
        (Plan(requests=[Request(skill="a", rows=1), Request(skill="zz", rows=1)]), r"plan\.requests\[1\]\.skill: 'zz'"),
        (Plan(requests=[Request(skill="a", rows=1, instruction="please")]), r"plan\.requests\[0\]"),
        (Plan(requests=[Request(skill="a", rows=1, subskill="x")]), r"plan\.requests\[0\]"),
        (Plan(requests=[Request(skill="a", rows=1, exemplar=Problem(prompt="q", answer="a"))]), r"plan\.requests\[0\]"),
    ],
)
def test_plans_it_cannot_say_are_refused_by_field(env, plan, words):
    with pytest.raises(InvalidAction, match=words):
        env.action(plan)


GOOD_ROWS, GOOD_LEVELS = np.array([1, 1, 1]), np.zeros(3)
BAD = [
    (None, "dict"),
    ([1, 2, 3], "dict"),
    ({}, "dict"),
    ({"rows": GOOD_ROWS}, "rows"),
    ({"rows": GOOD_ROWS, "difficulty": GOOD_LEVELS, "extra": 1}, "extra"),
    ({"rows": np.array([1, 1]), "difficulty": GOOD_LEVELS}, r"action\['rows'\] has shape \(2,\)"),
    ({"rows": np.ones((1, 3)), "difficulty": GOOD_LEVELS}, r"action\['rows'\] has shape"),
    ({"rows": [[1], 2, 3], "difficulty": GOOD_LEVELS}, r"action\['rows'\]"),
    ({"rows": None, "difficulty": GOOD_LEVELS}, r"action\['rows'\]"),
    ({"rows": ["1", "1", "1"], "difficulty": GOOD_LEVELS}, r"action\['rows'\]"),
    ({"rows": [True, True, True], "difficulty": GOOD_LEVELS}, r"action\['rows'\]"),
    ({"rows": [NAN, 1, 1], "difficulty": GOOD_LEVELS}, r"action\['rows'\]\[0\] is nan"),
    ({"rows": [1, INF, 1], "difficulty": GOOD_LEVELS}, r"action\['rows'\]\[1\] is inf"),
    ({"rows": [1, 1, -1], "difficulty": GOOD_LEVELS}, r"action\['rows'\]\[2\] is -1"),
    ({"rows": [1, 0.5, 1], "difficulty": GOOD_LEVELS}, r"action\['rows'\]\[1\] is 0.5"),
    ({"rows": [10, 10, 1], "difficulty": GOOD_LEVELS}, r"action\['rows'\] adds up to 21; a step has at most 20"),
    ({"rows": GOOD_ROWS, "difficulty": np.zeros(2)}, r"action\['difficulty'\] has shape"),
    ({"rows": GOOD_ROWS, "difficulty": 0.5}, r"action\['difficulty'\] has shape"),
    ({"rows": GOOD_ROWS, "difficulty": None}, r"action\['difficulty'\]"),
    ({"rows": GOOD_ROWS, "difficulty": [0, NAN, 0]}, r"action\['difficulty'\]\[1\] is nan"),
    ({"rows": GOOD_ROWS, "difficulty": [0, 0, 1.5]}, r"action\['difficulty'\]\[2\] is 1.5"),
    ({"rows": GOOD_ROWS, "difficulty": [-1.5, 0, 0]}, r"action\['difficulty'\]\[0\] is -1.5"),
    ({"rows": GOOD_ROWS, "difficulty": [10**400, 0, 0]}, r"action\['difficulty'\]"),
    ({"rows": GOOD_ROWS, "difficulty": ["0.5", "0.5", "0.5"]}, r"action\['difficulty'\]"),
    ({"rows": GOOD_ROWS, "difficulty": np.array([1j, 0, 0])}, r"action\['difficulty'\]"),
    ({"rows": GOOD_ROWS, "difficulty": [[0], [0, 0], 0]}, r"action\['difficulty'\]"),
]


@pytest.mark.parametrize(("action", "words"), BAD)
def test_a_bad_action_is_refused_by_field_and_changes_nothing(fakes, action, words):
    env, twin = fakes.make_env(), fakes.make_env()
    for e in (env, twin):
        e.reset(seed=1)
    before, version, calls = env.situation, env.student.version, list(env.student.calls)
    with pytest.raises(InvalidAction, match=words):
        env.step(action)
    assert env.situation is before
    assert (env.student.version, env.student.calls) == (version, calls)
    for _ in range(2):
        (a, ra, *_), (b, rb, *_) = env.step(fakes.deal(env, 9, 1)), twin.step(fakes.deal(twin, 9, 1))
        assert ra == rb
        assert all((a[key] == b[key]).all() for key in a)
    (a, _), (b, _) = env.reset(), twin.reset()
    assert env.situation == twin.situation


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.dates()
    | st.fractions()
    | st.sampled_from([object(), int, np.nan, np.float32(0.5), np.str_("x")])
)
ARRAYS = hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4))
VALUES = (
    SCALARS
    | ARRAYS
    | st.lists(SCALARS, min_size=3, max_size=3)
    | st.recursive(SCALARS, lambda s: st.lists(s, max_size=4), max_leaves=6)
)
GARBAGE = (
    VALUES
    | st.dictionaries(SCALARS.filter(lambda s: s.__hash__ is not None), VALUES, max_size=3)
    | st.fixed_dictionaries({"rows": VALUES | st.just([1, 1, 1]), "difficulty": VALUES | st.just([0, 0, 0])})
)


@given(action=GARBAGE)
@settings(suppress_health_check=list(HealthCheck), max_examples=400, deadline=None)
@pytest.mark.filterwarnings("error")
def test_garbage_is_refused_and_nothing_else_ever_happens(env, action):
    before = env.situation
    try:
        plan = env.plan(action)
    except InvalidAction as error:
        with pytest.raises(InvalidAction):
            env.step(action)
        assert str(error)
        assert "\n" not in str(error)
    else:
        assert plan.rows <= env.rows
    assert env.situation is before
