import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataenv.engines import filters
from dataenv.engines.likeness import longest_common
from dataenv.errors import InvalidData
from dataenv.records import Example, Image, Prompt

TEXT = "A farmer has twelve cows and sells three of them to a friend who lives near the river ; how many are left ?"


def row(text, image=None):
    return Example(prompt=Prompt(text=text, images=() if image is None else (Image(data=image),)), completion="x")


def judge(*rows, taught=(), limit=0.95):
    made = filters.make(f"unlike:{limit}", task=None)
    made.compare(taught)
    return made(list(rows), np.random.default_rng(0))


def test_near_duplicates_of_earlier_rows_and_of_each_other_are_dropped_once():
    other = TEXT.replace("cows", "goats")
    assert judge(row(TEXT), row(other), row("What is 2 + 2?")) == [None, "near duplicate", None]
    assert judge(row(other), taught=[row(TEXT)]) == ["near duplicate"]
    assert judge(row(other), row(TEXT), limit=1.0) == [None, None]


def test_what_is_short_or_in_another_order_is_not_alike():
    assert judge(row("What is 2 + 2?"), row("What is 2 + 3?")) == [None, None]
    assert judge(row(TEXT), row(" ".join(reversed(TEXT.split())))) == [None, None]
    assert judge(row(""), row("")) == [None, None]


def test_the_same_words_about_another_picture_are_another_problem():
    assert judge(row(TEXT, b"a"), row(TEXT, b"b"), row(TEXT, b"a")) == [None, None, "near duplicate"]


def slow(one, other):
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(st.text("abc", max_size=80), st.text("abcd", max_size=80))
def test_the_longest_common_subsequence_is_that_of_the_table(one, other):
    assert longest_common(one, other) == slow(one, other)


def test_in_an_environment_rows_of_earlier_steps_count(fakes):
    """The engine words each problem almost as the one before."""

    class Engine:
        name, n = "mine", 0

        def write(self, requests, rng, taught=frozenset()):
            rows = []
            for request in requests:
                self.n += 1
                text = f"{TEXT} {TEXT} number {self.n}"
                rows.append([Example(prompt=text, completion="x", answer="x", skill=request.skill)])
            return rows

    env = fakes.make_env(engine=Engine(), filters=["unlike"])
    env.reset(seed=0)
    infos = [env.step(fakes.deal(env, 1))[-1] for _ in range(2)]
    assert [info["rows"]["accepted"] for info in infos] == [1, 0]
    assert infos[1]["rows"]["dropped"]["near duplicate"] > 0


def test_its_limit_is_a_share():
    with pytest.raises(InvalidData, match="unlike: limit must be a number"):
        filters.make("unlike:much", task=None)
