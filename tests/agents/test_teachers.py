import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from dataenv.agents import teachers
from dataenv.agents.teacher import BaseTeacher
from dataenv.errors import InvalidData, Note
from dataenv.protocols import Teacher
from dataenv.records import Budget, Feedback, SkillScore, Transition
from dataenv.spaces import allocate

IDS = ["random", "uniform", "error-proportional"]


def feedback(*scores, rows_left=1000, rows_per_step=50):
    """`scores` are (correct, n) per skill."""
    return Feedback(
        step=0,
        skills=tuple(SkillScore(skill=f"s{i}", n=n, correct=c) for i, (c, n) in enumerate(scores)),
        taught={f"s{i}": 0 for i in range(len(scores))},
        budget=Budget(rows_left=rows_left, rows_per_step=rows_per_step, steps_left=5),
    )


def rows(plan):
    return {request.skill: request.rows for request in plan.requests}


@pytest.fixture(params=IDS)
def teacher(request):
    made = teachers.make(request.param)
    made.reset(7)
    return made


def episode(teacher, steps=4, k=4):
    return [teacher.act(None, {"feedback": feedback(*[(i, 8) for i in range(k)])}) for _ in range(steps)]


def test_it_keeps_the_protocol(teacher):
    assert isinstance(teacher, Teacher)
    assert teachers.make(teacher.name).name == teacher.name


@pytest.mark.parametrize("k", [1, 2, 13])
@pytest.mark.parametrize("left", [0, 1, 7, 1000])
def test_it_asks_for_exactly_the_rows_there_are(teacher, k, left):
    state = feedback(*[(1, 4)] * k, rows_left=left)
    for _ in range(3):
        plan = teacher.act(None, {"feedback": state})
        assert plan.rows == min(left, 50)
        assert set(rows(plan)) <= {score.skill for score in state.skills}
        assert all(request.rows > 0 for request in plan.requests)


@pytest.mark.parametrize("scores", [[(0, 0)] * 3, [(8, 8)] * 3, [(0, 8)] * 3, [(0, 0), (8, 8), (0, 8)]])
def test_it_takes_any_scores(teacher, scores):
    assert teacher.act(None, {"feedback": feedback(*scores)}).rows == 50


def test_the_same_seed_gives_the_same_plans_after_any_past(teacher):
    first = episode(teacher)
    episode(teacher)
    teacher.reset(7)
    assert episode(teacher) == first


def test_a_killed_run_goes_on_the_same(teacher):
    episode(teacher, 2)
    state = json.loads(json.dumps(teacher.state()))
    rest = episode(teacher, 5)
    again = teachers.make(teacher.name)
    again.restore(state)
    assert episode(again, 5) == rest
    fresh = teachers.make(teacher.name)
    fresh.reset(99)
    fresh.restore(state)
    assert episode(fresh, 5) == rest


def test_it_never_needs_the_observation_or_the_exam(teacher):
    transition = Transition(None, None, 0.1, None, False, False, {"feedback": feedback((1, 2))})
    assert teacher.observe(transition) is None


def test_it_plays_an_episode(teacher, fakes):
    env = fakes.make_env(steps=3, max_rows=50)
    observation, info = env.reset(seed=0)
    total, over = 0, False
    while not over:
        action = env.action(teacher.act(observation, info))
        assert action in env.action_space
        observation, _, terminated, truncated, info = env.step(action)
        total += info["rows"]["accepted"]
        over = terminated or truncated
    assert total == 50


def test_random_draws_differ_between_steps_and_seeds():
    teacher = teachers.make("random")
    teacher.reset(1)
    one, two = episode(teacher, 2)
    teacher.reset(2)
    assert one != two
    assert episode(teacher, 1) != [one]
    assert all(0 <= request.difficulty <= 1 for request in one.requests)


def test_uniform_deals_equally_over_the_steps():
    teacher = teachers.make("uniform")
    teacher.reset(0)
    total = dict.fromkeys((f"s{i}" for i in range(7)), 0)
    for _ in range(11):
        for skill, n in rows(teacher.act(None, {"feedback": feedback(*[(0, 1)] * 7)})).items():
            total[skill] += n
        assert max(total.values()) - min(total.values()) <= 1


@pytest.mark.parametrize("weights", [[1, float("nan"), 1], [1, -1, 1], [1, float("inf"), 1]])
def test_weights_that_say_nothing_are_dealt_evenly_and_not_in_silence(weights):
    teacher = teachers.make("uniform")
    teacher.reset(0)
    state = feedback((0, 1), (0, 1), (0, 1), rows_per_step=9)
    with pytest.warns(Note, match="every skill gets the same rows"):
        assert set(rows(teacher.deal(np.array(weights), state)).values()) == {3}


@pytest.mark.parametrize("weights", [[1, 1], [[1, 1, 1]], 1, []])
def test_weights_that_are_not_one_for_each_skill_are_refused(weights):
    teacher = teachers.make("uniform")
    teacher.reset(0)
    with pytest.raises(InvalidData, match="one for each of the 3 skills"):
        teacher.deal(np.array(weights), feedback((0, 1), (0, 1), (0, 1)))


def test_error_proportional_gives_more_where_more_is_wrong():
    state = feedback((8, 8), (4, 8), (0, 8), rows_per_step=100)
    plan = rows(teachers.make("error-proportional").act(None, {"feedback": state}))
    assert plan == {"s0": 9, "s1": 33, "s2": 58}  # smoothed errors .1 .5 .9 of 1.5, times 0.9, plus 0.1 / 3
    flat = rows(teachers.make("error-proportional", floor=1.0).act(None, {"feedback": state}))
    assert sorted(flat.values()) == [33, 33, 34]
    steep = rows(teachers.make("error-proportional", power=4.0).act(None, {"feedback": state}))
    assert steep["s2"] > plan["s2"]


@pytest.mark.parametrize(
    "options",
    [{"floor": 2}, {"floor": -0.1}, {"power": -1}, {"power": float("nan")}, {"power": "abc"}, {"floor": None}],
)
def test_error_proportional_refuses_settings_without_a_meaning(options):
    with pytest.raises(InvalidData, match=f"error-proportional: {next(iter(options))} must be a number"):
        teachers.make("error-proportional", **options)


@pytest.mark.parametrize("id", ["error-proportional", "oracle-greedy", "tree-alternating", "tree-random"])
def test_the_argument_after_the_colon_is_a_number(id):
    with pytest.raises(InvalidData, match=f"^{id}: .* number .*; it is abc"):
        teachers.make(f"{id}:abc")
    assert 3 in vars(teachers.make(f"{id}:3")).values()


# -- fewer rows than skills -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", ["error-proportional", "uniform"])
def test_no_skill_waits_for_ever(id):
    teacher = teachers.make(id)
    teacher.reset(0)
    asked = [rows(teacher.act(None, {"feedback": feedback(*[(1, 4)] * 150, rows_per_step=20)})) for _ in range(15)]
    assert [sum(step.values()) for step in asked] == [20] * 15
    total = Counter(skill for step in asked for skill in step)
    assert len(total) == 150
    assert max(total.values()) == 2


def test_rounding_takes_nothing_from_a_weak_share():
    """By largest remainders alone, the last nine skills would get no row in any step."""
    teacher = teachers.make("error-proportional", floor=0.0)
    teacher.reset(0)
    state, total = feedback(*[(0, 8)] * 3, *[(7, 8)] * 9, rows_per_step=4), Counter()
    for _ in range(30):
        total.update(rows(teacher.act(None, {"feedback": state})))
    shares = {f"s{i}": (0.9 if i < 3 else 0.2) / 4.5 for i in range(12)}
    assert all(abs(total[skill] - 120 * share) < 1.001 for skill, share in shares.items())


def test_a_pool_of_many_small_skills_is_taught_to_its_end(fakes):
    task = fakes.FixedToy([f"k{i:02}" for i in range(40)], per_skill=2)
    env = fakes.make_env(task, fakes.Scripted(half_way=1e9), rows=10, steps=20, feedback=2, max_rows=80)
    teacher = teachers.make("error-proportional")
    teacher.reset(0)
    observation, info = env.reset(seed=0)
    accepted, over = [], False
    while not over:
        observation, _, over, cut, info = env.step(env.action(teacher.act(observation, info)))
        accepted.append(info["rows"]["accepted"])
        assert not cut
    assert accepted == [10] * 8  # all there are


def test_the_first_plan_is_that_of_the_catalogues_rule():
    for scores in ([(0, 8), (4, 8), (8, 8)], [(1, 3)] * 7):
        teacher = teachers.make("error-proportional")
        teacher.reset(0)
        weights = np.array([1 - (c + 1) / (n + 2) for c, n in scores])
        expected = allocate(0.9 * weights / weights.sum() + 0.1 / len(weights), 50)
        plan = rows(teacher.act(None, {"feedback": feedback(*scores)}))
        assert [plan.get(f"s{i}", 0) for i in range(len(scores))] == expected.tolist()


def test_state_covers_arrays_numbers_and_generators():
    teacher = BaseTeacher()
    teacher.reset(3)
    teacher.weights, teacher.count, teacher.names = np.array([1.5, 2.0], np.float32), np.int64(4), {"a": [1]}
    teacher.rng.random(5)
    again = BaseTeacher()
    again.restore(json.loads(json.dumps(teacher.state())))
    assert again.weights.dtype == np.float32
    assert again.weights.tolist() == [1.5, 2.0]
    assert (again.count, again.names) == (4, {"a": [1]})
    assert again.rng.random() == teacher.rng.random()


def test_a_state_stays_what_it_was_and_is_shared_by_nobody():
    one, other = BaseTeacher(), BaseTeacher()
    one.reset(0)
    one.seen = {"a": [1]}
    state = one.state()
    other.restore(state)
    one.seen["a"].append(2)
    other.seen["a"].append(3)
    assert state["seen"] == {"a": [1]}


def test_arrays_and_generators_are_kept_wherever_they_stand():
    teacher, again = BaseTeacher(), BaseTeacher()
    teacher.reset(0)
    teacher.deep = {"a": [np.arange(3), (np.float32(0.5), None)], "rng": np.random.default_rng(1), "yes": True}
    again.restore(json.loads(json.dumps(teacher.state())))
    assert again.deep["a"][0].tolist() == [0, 1, 2] and again.deep["a"][1] == [0.5, None] and again.deep["yes"] is True
    assert again.deep["rng"].random() == np.random.default_rng(1).random()


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (lambda: 1, "of the type function"),
        ([{1}], "of the type set"),
        ({"a": b"x"}, "of the type bytes"),
        ({1: "a"}, "a dict whose keys are not texts"),
        (np.array([object()]), "of the type ndarray"),
        (np.random.Generator(np.random.MT19937(0)), "of the type Generator"),
    ],
)
def test_an_attribute_that_cannot_be_kept_is_named(value, what):
    teacher = BaseTeacher()
    teacher.log = value
    with pytest.raises(
        InvalidData, match=f"^Teacher 'teacher': attribute 'log' holds something {what}, .*keep numbers"
    ):
        teacher.state()
    with Path(__file__).open() as file:
        teacher.log = file
        with pytest.raises(InvalidData, match="TextIOWrapper"):
            teacher.state()
    teacher._log = teacher.__dict__.pop("log")
    assert teacher.state() == {}


def test_teachers_of_different_names_draw_differently_from_one_seed():
    class Other(BaseTeacher):
        name = "other"

    one, two = BaseTeacher(), Other()
    one.reset(1)
    two.reset(1)
    assert one.rng.random() != two.rng.random()
