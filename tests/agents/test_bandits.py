"""lp-bandit, sec, dump-ucb, exp3s, thompson, paprika-ucb, cma-mix, es-mix: the properties that the catalogue lists."""

import json

import numpy as np
import pytest

from dataenv.agents import teachers
from dataenv.agents.allocation import Arms, Step
from dataenv.agents.evolution import CMA, CMAMix, ESMix
from dataenv.agents.formulas import softmax
from dataenv.agents.paprika import PaprikaUCB
from dataenv.errors import InvalidData
from dataenv.records import Budget, Feedback, SkillScore, Transition


def feedback(k=3, step=0):
    return Feedback(
        step=step,
        skills=tuple(SkillScore(skill=f"s{i}", n=0, correct=0) for i in range(k)),
        budget=Budget(rows_left=800, rows_per_step=80, steps_left=10 - step),
    )


def arms(correct, n=100, taught=None):
    k = len(correct)
    names = [f"s{i}" for i in range(k)]
    taught = np.zeros(k) if taught is None else np.array(taught, float)
    return Arms(names, names, np.full(k, float(n)), np.array(correct, float), taught, feedback(k))


def step(change, error=0.02, rows=10.0, **options):
    k = len(change)
    a = arms(options.pop("correct", [50] * k), **options)
    return Step(a, np.full(k, rows), np.ones(k, bool), np.array(change, float), np.full(k, error))


def made(id, **options):
    teacher = teachers.make(id, **options)
    teacher.reset(0)
    return teacher


# -- lp-bandit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["corrected", "online", "window", "linreg", "sampling"])
def test_lp_bandit_begins_evenly_and_then_follows_what_moves_up_or_down(estimator):
    for sign in (1, -1):
        teacher = made("lp-bandit", estimator=estimator)
        assert np.allclose(teacher.shares(arms([50] * 4)), 0.25)
        for _ in range(3):
            teacher.learn(step([0.2 * sign, 0.0, 0.0, 0.0]))
        shares = teacher.shares(arms([50] * 4))
        assert shares[0] == pytest.approx(0.85)  # (1 - 0.2) + 0.2 / 4
        assert np.allclose(shares[1:], 0.05)


def test_lp_bandit_takes_a_change_within_its_error_for_none_and_notices_forgetting():
    teacher = made("lp-bandit")
    for _ in range(2):
        teacher.learn(step([0.02, 0.01, 0.0]))
    assert np.allclose(teacher.shares(arms([50] * 3)), 1 / 3)
    teacher.learn(step([0.0, -0.3, 0.0], rows=0.0))
    assert teacher.shares(arms([50] * 3)).argmax() == 1


@pytest.mark.parametrize("estimator", ["online", "window", "linreg"])
def test_lp_bandit_averages_what_goes_down_as_what_goes_up(estimator):
    up, down = (made("lp-bandit", estimator=estimator) for _ in range(2))
    for late in (0, 0, 0, 1):  # one skill moves in every step, another in the last one only
        up.learn(step([0.1, 0.1 * late, 0.0]))
        down.learn(step([-0.1, -0.1 * late, 0.0]))
    assert np.allclose(up.shares(arms([50] * 3)), down.shares(arms([50] * 3)))
    assert down.shares(arms([50] * 3)).argmax() == 0


def test_lp_bandit_refuses_an_estimator_that_is_none():
    with pytest.raises(InvalidData, match="estimator must be one of corrected"):
        teachers.make("lp-bandit:naive")


# -- sec, dump-ucb ----------------------------------------------------------------------------------------------------


class Rated:
    """In the place of exercises: these pass rates."""

    def __init__(self, teacher, *rates):
        teacher.rates = lambda arms: [np.array(p, float) for p in rates]


def test_sec_moves_half_way_to_the_gain_of_what_got_rows():
    teacher = made("sec")
    Rated(teacher, [0.5, 0.0], [1.0, 1.0], [0.25, 0.25])
    teacher.learn(step([0.0] * 3)._replace(rows=np.array([5.0, 5.0, 0.0])))
    assert teacher.q.tolist() == pytest.approx([0.25, 0, 0])
    assert np.allclose(teacher.shares(arms([50] * 3)), softmax([0.25, 0, 0], 0.2))


def test_the_category_form_overstates_where_half_of_the_items_are_always_right():
    item, category = made("sec"), made("sec", answers=1)
    Rated(item, [1.0, 0.0] * 4)
    one = step([0.0], correct=[50])
    item.learn(one)
    category.learn(one)
    assert item.q.tolist() == [0.0]
    assert category.q.tolist() == pytest.approx([0.5], abs=1e-3)


def test_dump_ucb_tends_to_equal_shares_where_gains_are_equal_and_to_what_was_left_alone():
    teacher = made("dump-ucb")
    Rated(teacher, [0.5] * 3, [0.5] * 3)
    taught = np.array([10.0, 10.0])
    for _ in range(4):
        teacher.learn(step([0.0, 0.0], taught=taught))
        taught += 10
    assert np.allclose(teacher.shares(arms([50, 50], taught=taught)), 0.5)
    alone = [teacher.shares(arms([50, 50], taught=[40 + 40 * t, 40])) for t in range(20)]
    assert (np.diff([shares[1] for shares in alone]) > 0).all()


def test_dump_ucb_finds_the_one_skill_that_can_be_learnt():
    """Of eight skills three are never solved and four always; the catalogue's own simulation has 0.70 here."""
    draws, shares = np.random.default_rng(0), []
    for _ in range(5):
        teacher, p, taught = made("dump-ucb"), 0.05, np.zeros(8)
        for _ in range(30):
            share = teacher.shares(arms([50] * 8, taught=taught))
            shares += [share[0]] * bool(0.15 < p < 0.85)
            taught = taught + 80 * share
            p = min(p + 0.06 * share[0], 0.98)
            rates = draws.binomial(4, draws.beta(4 * p, 4 * (1 - p), 100)) / 4
            Rated(teacher, rates, *[[0.0] * 100] * 3, *[[1.0] * 100] * 4)
            teacher.learn(step([0.0] * 8)._replace(rows=np.round(80 * share)))
    assert np.mean(shares) == pytest.approx(0.70, abs=0.1)


# -- exp3s, thompson, paprika-ucb -------------------------------------------------------------------------------------


def test_exp3s_keeps_its_floor_and_is_far_too_slow_at_the_usual_rate():
    quick, slow = made("exp3s"), made("exp3s", rate=None)
    for _ in range(20):
        for teacher in (quick, slow):
            teacher.learn(step([0.2] + [0.0] * 7))
            assert teacher.p(8).min() >= 0.2 / 8 - 1e-12
    assert quick.p(8)[0] > 0.35
    assert slow.p(8)[0] < 0.2


def test_exp3s_stays_uniform_while_nothing_moves():
    teacher = made("exp3s")
    for _ in range(10):
        teacher.learn(step([0.0] * 4))
    assert np.allclose(teacher.p(4), 0.25)


def test_thompson_believes_in_what_rises_only_and_forgets():
    teacher = made("thompson")
    for _ in range(10):
        teacher.learn(step([0.2, -0.2, 0.0]))
    shares = np.mean([teacher.shares(arms([50] * 3)) for _ in range(50)], axis=0)
    assert shares[0] > 0.9
    assert teacher.rose[0] < 11 and np.allclose(teacher.fell[1:], teacher.rose[0])
    for _ in range(200):
        teacher.learn(step([0.0] * 3, rows=0.0))
    assert np.allclose([teacher.rose, teacher.fell], 1, atol=0.05)


def test_paprika_is_most_curious_at_0_83_and_tries_all_before_any_twice():
    p = np.arange(1001)
    found = PaprikaUCB().curiosity(arms(p, n=1000))
    assert p[found.argmax()] / 1000 == pytest.approx(0.83, abs=0.005)
    assert p[PaprikaUCB(wrong=2).curiosity(arms(p, n=1000)).argmax()] / 1000 == pytest.approx(0.67, abs=0.005)
    assert found[0] == found[-1] == 0
    assert PaprikaUCB(form="accuracy").curiosity(arms(p, n=1000))[1:].argmax() == 0
    assert PaprikaUCB().curiosity(arms([0, 1], n=1)).tolist() == [0, 0]
    shares = PaprikaUCB(slots=4).shares(arms([50] * 6, taught=[0, 80, 0, 0, 0, 80]))
    assert (shares[[0, 2, 3, 4]] == 0.25).all()


# -- cma-mix, es-mix --------------------------------------------------------------------------------------------------

GAINS = np.array([0.4, 0.1, 0.1, 0.05, 0.05])
BEST = float(np.sqrt((GAINS**2).sum()))


def value(x):
    return float(GAINS @ np.sqrt(softmax(x, 1.0))) / BEST


@pytest.mark.parametrize(("noise", "least"), [(0.0, 0.97), (0.02, 0.94)])
def test_cma_finds_the_best_mix(noise, least):
    draws, search = np.random.default_rng(0), CMA(5)
    assert search.size == 8 and value(np.zeros(5)) == pytest.approx(0.73, abs=0.01)
    for _ in range(15):
        points = np.array([search.ask(draws) for _ in range(8)])
        search.tell(points, np.array([value(x) * BEST + draws.normal(scale=noise) for x in points]))
    assert value(search.mean) >= least


def test_cma_takes_nan_for_the_worst_and_constant_values_shrink_nothing_below_the_floor():
    draws, search = np.random.default_rng(0), CMA(3)
    for _ in range(30):
        points = np.array([search.ask(draws) for _ in range(search.size)])
        search.tell(points, np.full(search.size, np.nan))
    assert np.isfinite(search.mean).all() and search.sigma >= 0.05
    again = CMA.restored(search.state())
    assert again.ask(np.random.default_rng(1)).tolist() == search.ask(np.random.default_rng(1)).tolist()


def test_cma_mix_goes_on_from_the_middle_of_a_generation():
    def go(teacher, steps):
        for t in steps:
            info = {"feedback": feedback(5)}
            teacher.act(None, info)
            teacher.observe(Transition(None, None, 0.1 * np.sin(t), None, False, False, info))
        return teacher.x.tolist()

    whole, half, again = made("cma-mix"), made("cma-mix"), made("cma-mix")
    go(whole, range(11))
    go(half, range(11))
    assert len(half.points) == 3  # of the second generation's eight
    again.restore(json.loads(json.dumps(half.state(), allow_nan=False)))
    assert go(again, range(11, 30)) == go(whole, range(11, 30))
    assert len(half.points) == 3


@pytest.mark.parametrize("kind", [CMAMix, ESMix])
def test_searchers_improve_on_uniform_by_the_reward_alone(kind):
    teacher, late = kind(), []
    teacher.reset(1)
    for t in range(160):
        info = {"feedback": feedback(5)}
        teacher.act(None, info)
        reward = value(teacher.x) * BEST
        teacher.observe(Transition(None, None, reward, None, False, False, info))
        late += [value(teacher.x)] * (t >= 120)
    assert np.mean(late) > 0.75
