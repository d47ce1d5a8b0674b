import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataenv.verifiers.short_answer import first_choice, same_short, short


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Yes.", "yes"),
        ("  YES!  ", "yes"),
        ("The red circle", "red circle"),
        ("a red circle.", "the red circle"),
        ("two", "2"),
        ("Two.", "2"),
        ("none", "0"),
        ("zero", "0"),
        ("A", "a"),
        ("A.", "A"),
        ('"left"', "left"),
        ("t-shirt", "t shirt"),
        ("ｙｅｓ", "yes"),
        ("o'clock", "O'clock"),
        ("?", "?"),
    ],
)
def test_the_same_answer_written_otherwise(response, answer):
    assert same_short(response, answer) and same_short(answer, response)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("yes or no", "yes"),
        ("no", "yes"),
        ("no", "0"),
        ("1,2", "1,3"),
        ("5", "5,10"),
        ("12", "1 2"),
        ("-5", "5"),
        ("3.5", "35"),
        ("east", "seat"),
        ("circles", "circle"),
        ("the circle is red", "red"),
        ("", ""),
        ("", "a"),
        ("?", "!"),
        ("the", "a"),
        ("yes " * 200, "yes " * 200),
        ("red\nblue", "red"),
    ],
)
def test_other_answers(response, answer):
    assert not same_short(response, answer) and not same_short(answer, response)


@given(st.text(max_size=60), st.text(max_size=60))
def test_it_is_an_equivalence_that_forgets_nothing_but_form(a, b):
    assert same_short(a, b) == same_short(b, a)
    if a.strip():
        assert same_short(a, a)
    if same_short(a, b) and short(a):
        assert short(a) == short(b) and short(short(a)) == short(a)


@given(st.text(), st.sampled_from([("Yes", "No"), ("A", "B"), ()]), st.booleans())
def test_the_first_choice_is_one_of_them(text, choices, cased):
    assert first_choice(text, choices, cased=cased) in (*choices, None)


def test_a_choice_is_a_whole_word():
    assert first_choice("eyes, NO.", ("Yes", "No")) == "No"
    assert first_choice("no_ yes", ("Yes", "No")) == "Yes"
    assert first_choice("a B", ("A", "B"), cased=True) == "B"
    assert first_choice("a B", ("A", "B")) == "A"
