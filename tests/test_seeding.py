import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataenv.seeding import child_seed, stream


def test_streams_are_repeatable_and_differ_by_seed_name_and_order():
    def first(*names):
        return stream(*names).integers(2**63)

    assert first(1, "a") == first(1, "a")
    assert (
        len(
            {
                first(1, "a"),
                first(2, "a"),
                first(1, "b"),
                first(1),
                first(1, "a", "b"),
                first(1, "b", "a"),
                first(1, "ab"),
            }
        )
        == 7
    )


def test_streams_are_the_same_on_every_machine():
    assert child_seed(0, "engine", 1) == 4516028769596365660


def test_drawing_from_one_stream_changes_no_other():
    expected = stream(5, "b").integers(2**63, size=4).tolist()
    stream(5, "a").integers(2**63, size=100)
    assert stream(5, "b").integers(2**63, size=4).tolist() == expected


@given(st.integers(0, 2**63 - 1), st.text(max_size=5))
def test_child_seeds_fit_a_signed_word(seed, name):
    assert 0 <= child_seed(seed, name) < 2**63


def test_global_generators_stay_untouched():
    before = random.getstate(), np.random.get_state()[1].tolist()
    stream(1, "x").random(10)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError):
        stream(-1)
