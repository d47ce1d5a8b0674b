import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st

from dataenv.spaces import Shares, allocate

SIZES, BUDGETS, SEEDS = st.integers(1, 8), st.integers(0, 10**6), st.integers(0, 2**32 - 1)


@given(SIZES, BUDGETS, SEEDS)
def test_a_sample_lies_inside_and_deals_the_whole_budget(size, budget, seed):
    space = Shares(size, budget, seed=seed)
    sample = space.sample()
    assert sample in space
    assert sample.sum() == budget
    assert sample.dtype == space.dtype
    assert sample.shape == space.shape


def test_samples_are_seeded():
    space = Shares(4, 100)
    space.seed(3)
    first = [space.sample().tolist() for _ in range(3)]
    space.seed(3)
    assert [space.sample().tolist() for _ in range(3)] == first
    assert len(set(map(tuple, first))) > 1


@pytest.mark.parametrize(
    ("x", "word"),
    [
        ([1, 2], "shape"),
        ([[1, 2, 3]], "shape"),
        (5, "shape"),
        (None, "shape"),
        ([[1], [2, 3], 4], "not an array"),
        (["1", "2", "3"], "whole numbers"),
        ([True, False, True], "whole numbers"),
        ([1j, 0, 0], "whole numbers"),
        ([10**30, 0, 0], "whole numbers"),
        ([0.5, 0, 0], r"\[0\] is 0.5"),
        ([0, float("nan"), 0], r"\[1\] is nan"),
        ([0, 0, float("inf")], r"\[2\] is inf"),
        ([0, -1, 0], r"\[1\] is -1"),
        ([4, 4, 3], "adds up to 11"),
        ([2**62, 2**62, 2**62], "adds up to"),
        (np.array([2**64 - 1, 1, 1], dtype=np.uint64), "adds up to"),
        ([1e300, 0, 0], "adds up to"),
    ],
)
def test_what_is_outside_is_told_in_words(x, word):
    import re

    space = Shares(3, 10)
    assert x not in space
    assert re.search(word, space.fault(x))


@pytest.mark.parametrize("x", [[0, 0, 0], [10, 0, 0], [3.0, 3.0, 4.0], (1, 2, 3), np.array([1, 2, 3], dtype=np.uint8)])
def test_whole_numbers_within_the_budget_are_inside(x):
    assert x in Shares(3, 10)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists, max_leaves=8
    )
)
def test_contains_never_raises(x):
    assert isinstance(Shares(2, 5).contains(x), bool)


def test_json_and_equality():
    space = Shares(3, 10, seed=1)
    samples = [space.sample() for _ in range(3)]
    again = space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples))))
    assert data_equivalence(samples, again)
    assert space == Shares(3, 10) != Shares(3, 11)
    assert repr(space) == "Shares(3, budget=10)"


def test_it_claims_to_be_flattenable_only_if_gymnasium_can_flatten_it():
    space = Shares(3, 10, seed=1)
    if space.is_np_flattenable:
        flat = gym.spaces.utils.flatten(space, space.sample())
        assert flat in gym.spaces.utils.flatten_space(space)
        assert gym.spaces.utils.flatdim(space) == len(flat)
    assert gym.spaces.Dict(rows=space).is_np_flattenable == space.is_np_flattenable


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.integers(0, 10**6))
def test_allocate_deals_exactly_and_never_far_from_proportion(weights, rows):
    dealt = allocate(weights, rows)
    assert dealt.sum() == rows
    assert (dealt >= 0).all()
    if sum(weights) > 1e-9:
        assert np.abs(dealt - rows * np.array(weights) / sum(weights)).max() < 1 + 1e-6


@given(st.lists(st.floats(), min_size=1, max_size=10), st.integers(0, 1000))
def test_allocate_takes_any_weights(weights, rows):
    with np.errstate(all="ignore"):
        dealt = allocate(weights, rows)
    assert dealt.sum() == rows
    assert (dealt >= 0).all()


@pytest.mark.parametrize("weights", [[0, 0, 0], [float("nan"), 1, 1], [-1, 2, 5], [float("inf"), 1, 1]])
def test_weights_without_a_meaning_count_as_equal(weights):
    assert allocate(weights, 7).tolist() == [3, 2, 2]


def test_ties_go_to_the_lower_index():
    assert allocate([1, 1, 1, 1], 2).tolist() == [1, 1, 0, 0]
    assert allocate([1, 2, 1], 4).tolist() == [1, 2, 1]


@given(st.lists(st.integers(0, 500), min_size=1, max_size=8), st.data())
def test_cutting_down_never_gives_anyone_more_than_asked(asked, data):
    left = data.draw(st.integers(0, sum(asked)))
    if sum(asked):
        assert (allocate(asked, left) <= np.array(asked)).all()
