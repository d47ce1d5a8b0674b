"""Numbers that the catalogue works out, and what must hold for any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dataenv.agents.formulas import (
    CONVERTERS,
    bernoulli_variance,
    beyond_noise,
    category_gain,
    divergence,
    ema,
    entropy,
    floored,
    importance_weighted,
    learning_gain,
    slope,
    slope_error,
    smoothed,
    softmax,
    standard_error,
    ucb_bonus,
    variation,
    wilson,
    with_unknown,
)
from dataenv.spaces import allocate

scores = arrays.arrays(np.float64, st.integers(1, 12), elements=st.floats(-1e6, 1e6))
weights = arrays.arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1e6))
counts = st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(sorted)


@given(counts)
def test_smoothed_accuracies_are_never_certain_and_their_errors_never_zero(pair):
    correct, n = pair
    assert 0 < smoothed(correct, n) < 1
    assert 0 < standard_error(correct, n) <= 0.5
    low, high = wilson(correct, n)
    assert 0 <= low <= (correct / n if n else 0.5) + 1e-9 <= high + 2e-9 <= 1 + 3e-9


def test_what_is_unseen_is_a_half_with_an_error_of_a_half():
    assert smoothed(0, 0) == standard_error(0, 0) == 0.5
    assert wilson(0, 0) == (0.0, 1.0)
    assert np.allclose(wilson(8, 10), (0.4902, 0.9433), atol=1e-4)


@given(st.integers(2, 40), st.data())
def test_the_learning_gain_is_the_mean_absolute_advantage_of_the_answers(k, data):
    right = data.draw(st.integers(1, k - 1))
    answers = np.array([1.0] * right + [0.0] * (k - right))
    advantages = (answers - answers.mean()) / answers.std()
    assert np.isclose(np.abs(advantages).mean(), learning_gain(right / k))
    assert np.isclose(answers.var(ddof=1), bernoulli_variance(right / k, k))


def test_gain_and_variance_are_zero_where_nothing_can_be_told_apart():
    assert learning_gain([0.0, 1.0]).tolist() == [0, 0]
    assert bernoulli_variance(0.5, 1) == 0
    assert category_gain([0, 8, 0, 4], [8, 8, 0, 8]).tolist() == pytest.approx([0, 0, 0, 1])


@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=20))
def test_variation_is_that_of_the_numbers(values):
    n, mean, sd = len(values), np.mean(values), np.std(values, ddof=1)
    assert np.isclose(variation(mean, sd, n), (1 + 1 / (4 * n)) * sd / mean)
    assert variation(mean, sd, 1) == variation(0, sd, n) == 0


def test_bonuses_grow_with_the_total_and_shrink_with_the_count():
    assert ucb_bonus([0], 0) == pytest.approx(np.sqrt(2 * np.log(2)))
    assert (np.diff(ucb_bonus(np.arange(5), 100)) < 0).all()
    assert (np.diff([ucb_bonus([3], total)[0] for total in range(1, 30)]) > 0).all()


def test_half_lives_and_slopes_are_those_of_the_catalogue():
    for rate, life in ((0.3, 1.9), (0.5, 1.0), (0.1, 6.6)):
        assert np.log(0.5) / np.log(1 - rate) == pytest.approx(life, abs=0.05)
        x = 1.0
        for _ in range(round(life * 100)):
            x = ema(x, 0.0, 1 - (1 - rate) ** 0.01)
        assert x == pytest.approx(0.5, abs=0.02)
    assert slope_error(0.05, 6) == pytest.approx(0.012, abs=1e-3)
    assert slope([1.0]) == 0 and slope_error(0.05, 1) == float("inf")


@given(st.floats(-5, 5), st.floats(-5, 5), st.integers(2, 20))
def test_the_slope_of_a_line_is_its_slope(a, b, w):
    assert slope(a + b * np.arange(w)) == pytest.approx(b, abs=1e-8)


@given(scores, st.floats(1e-3, 1e3))
def test_a_softmax_is_shares_that_keep_the_order_and_does_not_see_a_constant(x, temperature):
    w = softmax(x, temperature)
    assert w.sum() == pytest.approx(1) and (w >= 0).all()
    assert w.max() == w[int(np.argmax(x))]
    assert np.allclose(w, softmax(x + 5.0, temperature), atol=1e-6)
    assert np.isfinite(w).all()


def test_a_softmax_leads_by_what_the_catalogue_says():
    for k, lead, temperature in ((8, 1.0, 0.2), (5, 0.3, 0.1)):
        w = softmax([lead] + [0.0] * (k - 1), temperature)
        assert w[0] == pytest.approx(1 / (1 + (k - 1) * np.exp(-lead / temperature)))
    assert softmax([1.0] + [0.0] * 7, 1.0)[0] == pytest.approx(0.28, abs=2e-3)
    assert softmax([np.nan, 1.0], 1.0).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("name", CONVERTERS)
@given(x=weights)
def test_every_way_to_shares_gives_shares(name, x):
    w = CONVERTERS[name](x)
    assert w.sum() == pytest.approx(1) and (w >= 0).all() and w.shape == x.shape


def test_equal_scores_give_equal_shares_and_ties_go_to_the_lower_index():
    assert (
        CONVERTERS["proportional"](np.zeros(4)).tolist() == CONVERTERS["scale-free"](np.ones(4)).tolist() == [0.25] * 4
    )
    assert CONVERTERS["greedy"]([1.0, 2.0, 2.0]).tolist() == [0, 1, 0]


@given(weights, st.floats(0, 1))
def test_a_floor_is_kept_and_shares_stay_shares(x, floor):
    w = floored(CONVERTERS["proportional"](x), floor)
    assert w.sum() == pytest.approx(1) and w.min() >= floor / len(w) - 1e-12


@given(scores, st.data())
def test_unknown_arms_have_the_mean_or_the_most_of_the_others(x, data):
    known = np.array(data.draw(st.lists(st.booleans(), min_size=len(x), max_size=len(x))))
    mean, most = with_unknown(x, known), with_unknown(x, known, optimistic=True)
    if not known.any():
        assert not mean.any()
        return
    assert (mean[known] == x[known]).all()
    assert np.allclose(mean[~known], x[known].mean()) and np.allclose(most[~known], x[known].max())


@given(weights)
def test_entropy_is_most_for_equal_shares_and_a_mix_does_not_diverge_from_itself(x):
    w = CONVERTERS["proportional"](x)
    assert -1e-9 <= entropy(w) <= np.log(len(w)) + 1e-9
    assert divergence(w, w) == pytest.approx(0, abs=1e-9)
    assert divergence(w, np.full(len(w), 1 / len(w))) == pytest.approx(np.log(len(w)) - entropy(w), abs=1e-6)


def test_noise_is_taken_off_either_way():
    assert beyond_noise([0.3, -0.3, 0.1], [0.1, 0.1, 0.2]).tolist() == pytest.approx([0.2, 0.2, 0])


def test_the_estimate_from_slots_is_unbiased():
    draws, p, x = np.random.default_rng(0), np.array([0.5, 0.3, 0.2]), np.array([1.0, 0.4, 0.0])
    found = np.mean([importance_weighted(x, draws.multinomial(8, p), p) for _ in range(4000)], axis=0)
    assert np.allclose(found, x, atol=0.03)


@given(weights, st.integers(0, 500))
def test_rows_are_dealt_to_the_last_one_and_never_more_than_one_off(w, rows):
    dealt = allocate(w, rows)
    assert dealt.sum() == rows
    assert (np.abs(dealt - rows * CONVERTERS["proportional"](w)) < 1 + 1e-6).all()
