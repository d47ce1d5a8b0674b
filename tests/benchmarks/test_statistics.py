"""Statistics of comparisons: against published formulas, scipy, and simulated leaderboards with a known truth."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dataenv.benchmarks import statistics
from dataenv.benchmarks.statistics import GAIN, GAP, holm, paired

RNG = np.random.default_rng
cells = st.lists(st.lists(st.floats(-1, 1), min_size=1, max_size=12), min_size=1, max_size=4)


@given(cells)
def test_aggregates_are_those_of_scipy_and_numpy(scores):
    runs = np.concatenate(scores)
    found = statistics.aggregates([np.array(cell) for cell in scores])
    assert found["iqm"] == pytest.approx(stats.trim_mean(runs, 0.25), abs=1e-12)
    assert found["mean"] == pytest.approx(runs.mean(), abs=1e-12)
    assert found["median"] == pytest.approx(np.mean([np.median(cell) for cell in scores]), abs=1e-12)
    gap = statistics.aggregates([np.array(cell) for cell in scores], GAP, target=0.5)["gap"]
    assert gap == pytest.approx(np.mean([max(0.5 - run, 0) for run in runs]), abs=1e-12)


def test_nothing_to_aggregate_is_no_number():
    assert all(math.isnan(value) for value in statistics.aggregates([]).values())
    assert all(math.isnan(value) for value in statistics.aggregates([np.array([])]).values())
    for estimate in statistics.intervals([np.array([0.2])], RNG(0), resamples=10).values():
        assert estimate.value == pytest.approx(0.2) and math.isnan(estimate.low)


def test_seeds_that_happen_to_agree_give_no_interval():
    for estimate in statistics.intervals([np.array([0.146, 0.146])], RNG(0), resamples=10).values():
        assert estimate.value == pytest.approx(0.146) and math.isnan(estimate.low) and math.isnan(estimate.high)


@pytest.mark.parametrize("n", [5, 30])
def test_the_bootstrap_of_a_mean_is_students_interval(n):
    values = RNG(1).normal(size=n)
    found = statistics.intervals([values], RNG(2), ("mean",), resamples=20_000)["mean"]
    reach = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    assert found.high - found.low == pytest.approx(2 * reach, rel=0.03)


@pytest.mark.parametrize(
    ("seeds", "strata", "draw"),
    [
        (10, 4, lambda rng, mean, n: rng.normal(mean, 0.03, n)),
        (10, 3, lambda rng, mean, n: rng.normal(mean, 0.02 + mean / 5, n)),
        (5, 3, lambda rng, mean, n: rng.binomial(200, mean, n) / 200),
    ],
    ids=["normal", "unlike spreads", "five seeds, counts"],
)
def test_intervals_of_95_percent_cover_the_truth_93_to_97_times_in_100(seeds, strata, draw):
    means, rng, boards = np.linspace(0.1, 0.3, strata), RNG(7), 2000
    truth = statistics.aggregates([draw(rng, mean, 200_000) for mean in means], ("iqm", "mean"))
    hits = dict.fromkeys(truth, 0)
    for _ in range(boards):
        scores = [draw(rng, mean, seeds) for mean in means]
        for name, (_, low, high) in statistics.intervals(scores, rng, ("iqm", "mean"), resamples=300).items():
            hits[name] += low <= truth[name] <= high
    assert all(0.93 <= hit / boards <= 0.97 for hit in hits.values()), hits


def test_teachers_that_are_the_same_are_called_different_at_most_once_in_twenty_tables():
    """Five teachers, three cells, ten seeds; one table is wrong if any of the four comparisons in it is."""
    rng, wrong, tables = RNG(3), 0, 1000
    for _ in range(tables):
        reference = rng.normal(0.2, 0.03, (3, 10))
        tests = {str(i): paired(list(rng.normal(0.2, 0.03, (3, 10)) - reference)).p for i in range(4)}
        wrong += min(holm(tests).values()) < 0.05
    assert wrong / tables <= 0.05


def test_a_difference_that_can_be_detected_is_found_four_times_in_five():
    spread, cells_, seeds = 0.03, 3, 10
    size = statistics.detectable(cells_, seeds, spread, comparisons=4)
    rng = RNG(5)
    found = [paired(list(rng.normal(size, spread, (cells_, seeds)))).p < 0.05 / 4 for _ in range(2000)]
    assert 0.76 < np.mean(found) < 0.84
    assert math.isinf(statistics.detectable(3, 1, spread))


def test_paired_is_the_t_test_of_one_cell():
    differences = RNG(0).normal(0.01, 0.02, 12)
    found, wanted = paired([differences]), stats.ttest_1samp(differences, 0)
    assert found.p == pytest.approx(wanted.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval(0.95)))
    assert found.pairs == 12


@pytest.mark.parametrize(
    ("differences", "value", "p"),
    [([[0.0, 0.0]], 0.0, 1.0), ([[0.1, 0.1]], 0.1, 0.0), ([[0.1]], 0.1, math.nan), ([], math.nan, math.nan)],
)
def test_paired_without_spread_or_without_pairs(differences, value, p):
    found = paired([np.array(cell) for cell in differences])
    assert (found.difference, found.p) == pytest.approx((value, p), nan_ok=True)


def test_holm_is_holms_example():
    # Holm 1979: sorted p times (m, m - 1, ...), never falling
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.9, "b": 0.8})["a"] == 1.0
    assert math.isnan(holm({"a": math.nan, "b": 0.04})["a"]) and holm({"a": math.nan, "b": 0.04})["b"] == 0.04


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=8))
def test_holm_never_helps_and_never_changes_the_order(ps):
    adjusted = holm(ps)
    assert all(adjusted[name] >= p for name, p in ps.items())
    order = sorted(ps, key=ps.__getitem__)
    assert all(adjusted[a] <= adjusted[b] for a, b in pairwise(order))


def test_the_probability_of_improvement_is_mann_whitneys():
    x, y = RNG(1).normal(0.2, 1, 9), RNG(2).normal(0, 1, 11)
    found = statistics.improvement([x], [y], RNG(0), resamples=5000)
    assert found.value == pytest.approx(stats.mannwhitneyu(x, y).statistic / 99)
    assert 0 <= found.low < found.value < found.high <= 1
    same = statistics.improvement([x], [x], RNG(0), resamples=100)
    assert same.value == 0.5
    assert math.isnan(statistics.improvement([np.array([])], [y], RNG(0), resamples=10).value)


def test_a_profile_falls_from_one_to_nothing():
    scores = [np.array([0.1, 0.2]), np.array([0.3, 0.4])]
    assert statistics.profile(scores, np.array([0.0, 0.1, 0.25, 0.4])).tolist() == [1.0, 0.75, 0.5, 0.0]
    assert np.isnan(statistics.profile([], np.array([0.0]))).all()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_nobody_beats_the_front_and_the_front_beats_everybody_else(points):
    costs, gains = [p[0] for p in points], [p[1] for p in points]
    front = statistics.front(costs, gains)
    for i, on in enumerate(front):
        beaten = any(
            c <= costs[i] and g >= gains[i] and (c, g) != (costs[i], gains[i])
            for c, g in zip(costs, gains, strict=True)
        )
        assert on != beaten


def test_no_number_is_on_no_front():
    assert statistics.front([math.nan, 1.0], [1.0, math.nan]) == [False, False]


def test_rank_correlation_is_kendalls():
    assert statistics.rank_correlation([1, 2, 3], [1, 2, 3]) == 1.0
    assert statistics.rank_correlation([1, 2, 3], [3, 2, 1]) == -1.0
    assert math.isnan(statistics.rank_correlation([1.0], [1.0]))


@settings(max_examples=20)
@given(cells, st.integers(0, 5))
def test_the_same_seed_gives_the_same_interval(scores, seed):
    arrays = [np.array(cell) for cell in scores]
    first, second = (statistics.intervals(arrays, RNG(seed), GAIN, resamples=50) for _ in range(2))
    assert repr(first) == repr(second)
