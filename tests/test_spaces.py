import json
import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given
from hypothesis import strategies as st

from dataenv.spaces import Prose, Requests, Shares, allocate, plain

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


@pytest.mark.parametrize("inside", [lambda space: space, lambda space: gym.spaces.Dict(rows=space, level=LEVEL)])
@given(size=st.integers(1, 9), budget=st.integers(0, 10**9), seed=st.integers(0, 100))
def test_gymnasium_flattens_and_unflattens_it_alone_and_in_a_dict(inside, size, budget, seed):
    space = inside(Shares(size, budget))
    assert space.is_np_flattenable
    space.seed(seed)
    sample, box = space.sample(), gym.spaces.utils.flatten_space(space)
    flat = gym.spaces.utils.flatten(space, sample)
    assert isinstance(box, gym.spaces.Box)
    assert flat in box
    assert gym.spaces.utils.flatdim(space) == len(flat) == box.shape[0]
    again = gym.spaces.utils.unflatten(space, flat)
    assert again in space
    assert data_equivalence(again, sample)


LEVEL = gym.spaces.Box(-1.0, 1.0, (2,), np.float64)


def test_a_flattened_sample_is_a_copy():
    sample = Shares(3, 10, seed=1).sample()
    flat = gym.spaces.utils.flatten(Shares(3, 10), sample)
    flat[:] = 99
    assert sample.sum() == 10


@given(st.lists(st.integers(0, 1), min_size=1, max_size=9), st.integers(0, 50), st.integers(0, 20))
def test_a_masked_sample_deals_only_where_rows_may_go(mask, budget, seed):
    space = Shares(len(mask), budget, seed=seed)
    sample = space.sample(mask=np.array(mask, np.int8))
    assert sample in space
    assert sample.sum() == (budget if any(mask) else 0)
    assert (sample[np.array(mask) == 0] == 0).all()
    assert data_equivalence(
        gym.spaces.Dict(rows=space).sample(mask={"rows": np.zeros(len(mask), np.int8)})["rows"], 0 * sample
    )


@pytest.mark.parametrize("mask", [[1, 0], [1, 2, 0], [[1, 0, 1]], [0.5, 1, 1], 1])
def test_a_mask_without_a_meaning_is_refused(mask):
    with pytest.raises(ValueError, match=r"mask of Shares\(3, budget=10\) must be 3 numbers"):
        Shares(3, 10).sample(mask=mask)


@pytest.mark.parametrize("space", [Shares(3, 10), Prose(5), Requests(5, 5)], ids=lambda s: type(s).__name__)
def test_what_sample_cannot_heed_it_refuses(space):
    with pytest.raises(ValueError, match=r"sample takes n.* probability"):
        space.sample(probability=np.ones(3) / 3)
    if not isinstance(space, Shares):
        with pytest.raises(ValueError, match="neither a mask"):
            space.sample(mask=np.ones(3, np.int8))


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


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters="\n\t"), max_size=40)


@given(st.integers(0, 200), SEEDS)
def test_sampled_prose_lies_inside(max_bytes, seed):
    space = Prose(max_bytes, seed=seed)
    for _ in range(5):
        assert space.sample() in space


def test_prose_samples_are_seeded_varied_and_more_than_ascii():
    space, again = Prose(100, seed=3), Prose(100, seed=3)
    texts = [space.sample() for _ in range(200)]
    assert [again.sample() for _ in range(200)] == texts
    assert len(set(texts)) > 150
    assert not "".join(texts).isascii()
    assert "\n" in "".join(texts)
    assert max(len(text.encode()) for text in texts) <= 64


@given(TEXTS)
def test_prose_counts_bytes_not_characters(text):
    size = len(text.encode())
    assert text in Prose(size)
    assert size == 0 or text not in Prose(size - 1)


@pytest.mark.parametrize(
    ("x", "word"),
    [
        (None, "NoneType"),
        (b"abc", "bytes"),
        (["a"], "list"),
        ("x" * 11, "11 characters"),
        ("漢字漢字", "12 bytes"),
        ("ab\ud800", "position 2"),
        ("ab\x00", r"U\+0000 at position 2"),
        ("\x1b[31m", r"U\+001B"),
        ("a\r\nb", r"U\+000D"),
        ("\x7f", r"U\+007F"),
        ("\x85", r"U\+0085"),
    ],
)
def test_what_is_no_prose_is_told_in_words(x, word):
    space = Prose(10)
    assert x not in space
    assert re.search(word, space.fault(x))


def test_prose_in_json_and_equality():
    space = Prose(50, seed=1)
    samples = [space.sample() for _ in range(20)]
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples)))) == samples
    assert Prose(3) == Prose(3) != Prose(4)
    assert eval(repr(space)) == space


@given(st.text(max_size=60) | st.text(st.sampled_from("\r\n\x00\x1b\ud800é漢a"), max_size=60), st.integers(0, 80))
def test_plain_brings_any_text_inside_and_leaves_what_is_inside_alone(text, max_bytes):
    space = Prose(max_bytes)
    assert plain(text, max_bytes) in space
    if text in space:
        assert plain(text, max_bytes) == text


def test_plain_marks_a_cut_and_never_splits_a_character():
    assert plain("a\r\nb\rc\x1b[0m\x00", 100) == "a\nb\nc[0m"
    assert plain("\ud800", 10) == "?"
    assert plain("abcdefgh", 6) == "abc…"
    assert plain("漢漢漢", 8) == "漢…"
    assert plain("abcdefgh", 2) == "ab"
    assert plain("漢", 2) == ""


@given(st.integers(0, 600), st.integers(0, 100), st.lists(st.text(max_size=8), max_size=3), SEEDS)
def test_sampled_requests_lie_inside_and_within_the_budget(budget, max_bytes, topics, seed):
    space = Requests(budget, max_bytes, topics, seed=seed)
    for _ in range(5):
        sample = space.sample()
        assert sample in space, space.fault(sample)
        assert sum(part.get("rows", 1) for part in sample) <= budget
        assert sample or not budget or not max_bytes


def test_sampled_requests_are_of_both_kinds_and_about_topics():
    space = Requests(100, 200, ["addition", "sorting"], seed=0)
    parts = [part for _ in range(100) for part in space.sample()]
    assert {frozenset(part) for part in parts} == {
        frozenset({"prompt", "completion"}),
        frozenset({"instruction", "exemplar", "rows"}),
    }
    assert {"addition", "sorting"} < {part.get("instruction") for part in parts}
    space.seed(0)
    assert [part for _ in range(100) for part in space.sample()] == parts


ROW, ASK = {"prompt": "p", "completion": "c"}, {"instruction": "i", "rows": 1}


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (None, " is a NoneType"),
        ("text", " is a str"),
        (ASK, " is a dict"),
        ([ROW] * 11, " has 11 parts"),
        ([ASK, 3], r"\[1\] is a int"),
        ([{}], r"\[0\] has no known keys"),
        ([{1: 2}], r"\[0\] has no known keys"),
        ([{"instruction": "i"}], r"\[0\] has 'instruction'; a request has 'rows'"),
        ([{**ASK, "skill": "x"}], r"\[0\] has 'instruction', 'rows', 'skill'"),
        ([{"rows": 1}], r"\[0\] says nothing"),
        ([{"rows": 1, "instruction": " \n", "exemplar": ""}], r"\[0\] says nothing"),
        ([{**ASK, "instruction": 5}], r"\[0\]\['instruction'\] is a int"),
        ([{**ASK, "exemplar": "x" * 21}], r"\[0\]\['exemplar'\] has 21 characters"),
        ([{**ASK, "exemplar": None}], r"\[0\]\['exemplar'\] is a NoneType"),
        ([ROW, {**ASK, "rows": 0}], r"\[1\]\['rows'\] must be a whole number from 1 to 10; it is 0"),
        ([{**ASK, "rows": -3}], r"\[0\]\['rows'\].*it is -3"),
        ([{**ASK, "rows": 1.5}], r"\[0\]\['rows'\].*it is 1.5"),
        ([{**ASK, "rows": 11}], r"\[0\]\['rows'\].*it is 11"),
        ([{**ASK, "rows": float("nan")}], r"\[0\]\['rows'\] must be"),
        ([{**ASK, "rows": float("-inf")}], r"\[0\]\['rows'\] must be"),
        ([{**ASK, "rows": 10**5000}], r"\[0\]\['rows'\] must be"),
        ([{**ASK, "rows": True}], r"\[0\]\['rows'\] is a bool"),
        ([{**ASK, "rows": "1"}], r"\[0\]\['rows'\] is a str"),
        ([{**ASK, "rows": [1]}], r"\[0\]\['rows'\] is a list"),
        ([{**ROW, "rows": 1}], r"\[0\] has 'prompt', 'completion', 'rows'"),
        ([{"prompt": "p"}], r"\[0\] has 'prompt'; a written-out row"),
        ([ASK, {**ROW, "completion": " "}], r"\[1\]\['completion'\] is empty"),
        ([{**ROW, "prompt": "\x00"}], r"\[0\]\['prompt'\] holds the control character"),
        ([{**ASK, "rows": 6}, {**ASK, "rows": 5}], " asks for 11 rows"),
        ([{**ASK, "rows": 10}, ROW], " asks for 11 rows"),
    ],
)
def test_requests_that_are_none_are_told_by_part(x, words):
    space = Requests(10, 20)
    assert x not in space
    assert re.match(words, space.fault(x))


@pytest.mark.parametrize(
    "x",
    [
        [],
        (),
        [ASK, ROW],
        [{"exemplar": "e", "rows": 10}],
        [{"instruction": "i", "exemplar": "", "rows": np.int32(2)}],
        [{**ASK, "rows": 3.0}],
        [ROW] * 10,
    ],
)
def test_requests_within_the_budget_are_inside(x):
    assert x in Requests(10, 20)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["instruction", "exemplar", "rows", "prompt", "completion", 1, None]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_requests_judge_anything(x):
    assert isinstance(Requests(5, 100).contains(x), bool)


def test_requests_in_json_and_equality():
    space = Requests(10, 100, ["a"], seed=2)
    samples = [space.sample() for _ in range(20)] + [({"instruction": "i", "rows": np.int64(3)},)]
    assert space.from_jsonable(json.loads(json.dumps(space.to_jsonable(samples)))) == samples
    assert space == Requests(10, 100, ["a"])
    assert Requests(10, 100) not in (space, Requests(11, 100), Requests(10, 99))
    assert eval(repr(space)) == space


@pytest.mark.parametrize("space", [Prose(5, seed=1), Requests(5, 5, seed=1)])
def test_gymnasium_batches_spaces_of_text(space):
    batch = gym.vector.utils.batch_space(space, 3)
    batch.seed(0)
    sample = batch.sample()
    assert sample in batch
    assert list(gym.vector.utils.iterate(batch, sample)) == list(sample)
    assert not space.is_np_flattenable
