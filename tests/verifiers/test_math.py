import time
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.verifiers import math as maths
from dataenv.verifiers.latex import boxed, final_answer, tidy
from dataenv.verifiers.math import compare, judge, same_maths
from dataenv.verifiers.workers import LimitExceeded

pytest.importorskip("math_verify")

SAME = [
    ("1/2", "0.5"), (r"\frac12", ".5"), (r"\dfrac{-1}{2}", r"-\frac{1}{2}"), ("1,234", "1234"), (r"10,\!000", "10000"),
    (r"10{,}000", "10000"), (r"10\,000", "10000"), (r"2\frac{1}{2}", "2.5"), (r"-2\frac13", "-7/3"), ("−3", "-3"),
    (r"0.\overline{3}", "1/3"), (r"0.1\overline{6}", r"\frac16"), (r"3\cdot10^5", "300000"), ("2^{10}", "1024"),
    (r"50\%", "50"), (r"50\%", "0.5"), (r"\$5.00", "5"), (r"90^\circ", "90"), (r"90^{\circ}", "90°"), ("5.", "5"),
    ("5", "$5$"), ("(5)", "5"), (r"\(5\)", "5"), ("10!", "3628800"), (r"\binom{5}{2}", "10"),
    (r"5\text{ cm}", "5"), (r"5\text{ cm}^2", "5 cm^2"), ("5 inches", "5 in"), ("3/4 dollars", "0.75"),
    (r"6\pi", r"6 \pi\text{ square units}"), ("5 m", "5 meters"),
    ("2,1", "1,2"), (r"\{1,2\}", "2,1"), (r"\left\{1,2\right\}", r"\lbrace 2,1\rbrace"), ("1 or 2", "1,2"),
    (r"x=1\text{ or }x=2", "1,2"), (r"1\pm\sqrt{2}", r"1-\sqrt2,1+\sqrt2"), (r"\pm 3", "-3,3"), (r"\{5\}", "5"),
    ("(1,2)", r"(1,\frac42)"), (r"\left(\frac12,3\right)", "(0.5, 3)"), (r"[1,\infty)", r"\left[1,\infty\right)"),
    (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)"), (r"x\in[1,2]", "[1,2]"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1 \\ \frac{4}{2}\end{bmatrix}"),
    (r"\begin{pmatrix} 1 & 0 \\ 0 & x+x \end{pmatrix}", r"\begin{pmatrix} 1 & 0 \\ 0 & 2x \end{pmatrix}"),
    ("x=5", "5"), ("5", "x = 5"), ("x=5", "x=5.0"), ("f(x)=x+1", "1+x"), ("y=2x+1", "2x+1"), ("2+3=5", "5"),
    ("x=1,y=2", "y=2,x=1"), (r"\angle ABC=50^\circ", "50"), (r"\text{Area}=5", "5"), ("x_1=3", "3"),
    ("x^2+y^2=4", "y^2+x^2=4"),
    (r"\text{(C)}", "C"), (r"\text{east}", "East."), ("Yes.", "yes"), (r"\text{the east}", r"\mbox{East}"),
    (r"1011_2", "1011_{2}"), ("1011_2", "1011"),
    (r"\sqrt{12}", r"2\sqrt3"), ("x^2+2x+1", "(x+1)^2"), ("6-5i", "-5i+6"), (r"\emptyset", r"\{\}"),
    (r"\frac{\sqrt{3}}{2}", r"\sqrt3/2"), (r"\frac{3\sqrt{2}}{4}", r"\frac{3}{2\sqrt2}"), (r"\log_2 8", "3"),
]  # fmt: skip

DIFFERENT = [
    ("1,2", "1,3"), ("5", "5,10"), ("5", "5 or 6"), ("1,2,3", "1,2"), ("1,1,2", "1,2,2"), (r"\{1\}", r"\{1,1\}"),
    ("east", "seat"), (r"\text{east}", r"\text{seat}"), ("ABC", "CAB"), ("yes", "no"), ("a=seat", "east"),
    ("", ""), ("$", "$$"), (",", ","), ("x=", "x="), ("", "5"), ("x=", "5"), ("=", "=x"), ("1,", "1,"),
    (r"\foo", r"\bar"), (r"\frac{1}{", r"\frac{1}{2}"), ("1/0", "2/0"), ("1/0", "1/0+1"),
    ("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), ("[1,2)", "(1,2)"), ("(1,2)", "1,2"), ("(1,2)", "(1,2,3)"),
    (r"(1,2)\cup(3,4)", "(1,2)"), (r"(1,2)\cup(3,4)", r"(1,2)\cup(3,5)"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
    ("5 cm", "5 m"), ("3 a.m.", "3 p.m."), ("1011_2", "1011_3"), ("50%", "0.5%"), ("50", "0.5"), ("1 2", "12"),
    ("x=5", "y=5"), ("4=5", "5"), ("1=2=5", "5"), ("x^2+y^2=4", "4"), ("x<2", "x>2"),
    ("1/3", "0.333333"), ("1/3", "0.3333333333333333"), (r"\pi", "3.14"), (r"\pi", "22/7"), ("5", "-5"),
    ("x^2", "x^3"), ("3x", "3y"), ("1:2", "2:1"), ("12:30", "30:12"), ("0", "x-x+1"), ("100", "10^3"),
    ("9" * 501, "9" * 502),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), SAME)
def test_same(a, b):
    assert same_maths(a, b) and same_maths(b, a)


@pytest.mark.parametrize(("a", "b"), [pair for pair in DIFFERENT if pair[0] != pair[1]])
def test_different(a, b):
    assert not same_maths(a, b) and not same_maths(b, a)


@pytest.mark.parametrize("invalid", ["", "$", "$$", " ", ".", r"\boxed{}", r"\boxed{ }", r"so \boxed{", "=", ",,"])
def test_invalid_never_equals_invalid(invalid):
    """Neither itself, nor an answer that is missing."""
    assert not judge(invalid, "5").correct
    assert not judge("", invalid).correct
    assert not judge(f"It is\n{invalid}", "").correct


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"$\boxed{\left\{\frac{1}{\sqrt{2}}, \{x\}\right\}}$ is it", r"\left\{\frac{1}{\sqrt{2}}, \{x\}\right\}"),
        (r"\boxed{1} no: \boxed{2}", "2"),
        (r"\boxed{1} and \boxed{2}", "1,2"),
        (r"$\boxed{1}$, $\boxed{2}$ or $\boxed{3}$", "1,2,3"),
        (r"\boxed{7}, \boxed{7}", "7"),
        (r"\fbox{3}", "3"),
        (r"\boxed 9$", "9"),
        (r"\boxed{1} then \boxed{2", None),
        ("none", None),
    ],
)
def test_boxes(text, held):
    assert boxed(text) == held


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("5", "5"),
        ("#### 5", "5"),
        ("We add.\nThe answer is 5.", "5."),
        ("The final answer is $\\frac{1}{2}$. I hope it is correct.", r"\frac{1}{2}"),
        ("Answer: $x=5$", "x=5"),
        ("the answer is $1$ or $2$", "$1$ or $2$"),
        ("the answer is 4. No, the answer is 6", "6"),
        ("We add 2 and 3.\nThat gives 5.", None),
        ("The answer is", None),
        ("", None),
        ("1, " * 300, None),
    ],
)
def test_final_answers(response, answer):
    assert final_answer(response) == answer


STUFFED = [
    " ".join(rf"\boxed{{{i}}}" for i in range(100)),
    " ".join(rf"The answer could be \boxed{{{i}}}." for i in [*range(100), 7]),
    r"\boxed{" + ",".join(map(str, range(200))) + "}",
    r"\boxed{" + " or ".join(map(str, range(50))) + "}",
    r"\boxed{" + "=".join(map(str, range(50))) + "}",
    r"\boxed{\{" + ",".join(map(str, range(50))) + r"\}}",
    r"\boxed{4} or \boxed{5}",
    "The answer is 1, 2, 3, 4, 5, 6, 7, 8 or 9",
    "the answer is 5 " * 5000 + "the answer is 6",
    "5\n" * 5000,
    r"\boxed{5 \text{ or maybe } 6}",
    r"\boxed{5, \text{ but it could be } 6}",
    r"\boxed{x \in \{4,5\}}",
    r"\boxed{5 \ne 6}",
    r"\boxed{\pm 5}",
    r"\boxed{5 \pm 1}",
]


@pytest.mark.parametrize("response", STUFFED, ids=range(len(STUFFED)))
def test_answers_stuffed_with_candidates_are_wrong(response):
    assert not judge(response, "5").correct


def test_the_verdict_says_what_was_read_and_expected():
    verdict = judge(r"so \boxed{6}", "5")
    assert (verdict.score, verdict.extracted, verdict.reason) == (0.0, "6", "expected 5")
    assert judge(r"so \boxed{\frac{10}{2}}", "5")[:2] == (1.0, True)
    assert "no answer" in judge("I do\nnot know", "5").reason


WORST = ["9^{9^{9^{9}}}x", "(x+1)^{99999}", "100000!!!!", r"\prod_{k=1}^{1000000} k x", r"\int_0^1 x^{x^x} dx"]


def test_the_worst_expression_ends_at_its_limit(monkeypatch):
    """Whatever sympy does with it, its process is killed, and the next call is served."""
    pool = maths.Pool("dataenv.verifiers.math:symbolic", seconds=0.3, warm=["x+1", "1+x"])
    monkeypatch.setattr(maths, "_pool", lambda: pool)
    verdict = judge(rf"\boxed{{{WORST[0]}}}", "x+1")
    assert not verdict.correct and verdict.reason == "could not be compared: not done in 0.3 s"
    with pytest.raises(LimitExceeded):
        same_maths(WORST[1], "x+1")
    assert all(not judge(rf"\boxed{{{worst}}}", "x+1").correct for worst in WORST[2:])
    pool.close()


BOMBS = [
    "9**9**9**9", "9^9^9^9", "(" * 5000, "((" * 200 + "))" * 200, r"\frac" * 120, "{" * 499, "-" * 400 + "1",
    "1/" * 249, ",".join("x" * 249), r"\{" * 200, "1^" * 249 + "1", r"\sqrt{" * 80, "[(" * 100, r"\pm" * 100, "=" * 400,
    "9" * 10**6, "\x00", "\ud800", "١٢", "1e999999999", "nan", "inf", r"\text{" * 60, r"\begin{pmatrix}" * 20,
    r"\cup" * 100, "__import__('os').getpid()", "\u2028\n\r\t" * 1000, r"\boxed{" * 10**4, "answer is " * 10**4,
    "$" * 10**5,
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_nothing_on_the_way_to_the_worker_raises_or_takes_long(bomb, monkeypatch):
    monkeypatch.setattr(maths, "_ask", lambda *_: False)
    before = time.process_time()
    assert not judge(bomb, "5").correct
    assert not judge(rf"\boxed{{{bomb}}}", r"(1,\frac{1}{2})").correct
    assert not judge("5", bomb).correct
    assert time.process_time() - before < 10


LATEX = st.text("0123456789xyab+-*/^=,.(){}[]\\ $%|&_!", max_size=40) | st.lists(
    st.sampled_from(
        [r"\frac", r"\sqrt", r"\text", r"\cup", r"\pm", r"\{", r"\}", r"\left(", r"\right)", "{", "}", "1", "2.5", "x",
         "east", ",", "=", r"\%", r"\begin{pmatrix}", r"\\", r"\end{pmatrix}", " or ", "^", "_", r"\overline{3}", "0."]
    ),
    max_size=12,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(LATEX, LATEX)
def test_comparing_is_symmetric_bounded_and_never_raises(a, b):
    a, b = tidy(a), tidy(b)
    assert compare(a, b, lambda *_: None) == compare(b, a, lambda *_: None)
    assert compare(a, a, lambda *_: None) is bool(a)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=4, max_size=4))
def test_pairs_are_found_wherever_there_are_any(possible):
    truth = any(
        all(row[column] for row, column in zip(possible, order, strict=True)) for order in permutations(range(4))
    )
    assert maths._pairs(possible) is truth


@pytest.mark.parametrize(("a", "b"), [(",0", r"\frac\pm"), ("y,(", ",b"), (",+", "x,}")])
def test_a_list_with_an_unknown_and_an_impossible_element_is_wrong_from_either_side(a, b):
    assert compare(a, b, lambda *_: None) is compare(b, a, lambda *_: None) is False


NUMBERS = st.fractions(max_denominator=10**4)


@given(NUMBERS, NUMBERS)
def test_numbers_agree_when_they_are_equal_in_every_form(x, y):
    forms = [str(x), rf"\frac{{{x.numerator}}}{{{x.denominator}}}", f"({x.numerator})/({x.denominator})", f"x = {x}"]
    assert all(compare(tidy(form), tidy(str(x)), lambda *_: False) for form in forms)
    assert compare(tidy(forms[1]), tidy(str(y)), lambda *_: False) is (x == y)


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.lists(NUMBERS, min_size=1, max_size=5), st.randoms())
def test_lists_agree_when_they_hold_the_same_and_tuples_in_order(some, others, random):
    mixed = random.sample(some, len(some))
    assert compare(*(",".join(map(str, values)) for values in (some, mixed)), lambda *_: False)
    assert compare(",".join(map(str, some)), ",".join(map(str, others)), lambda *_: False) is (
        sorted(some) == sorted(others)
    )
    if len(some) > 1:
        a, b = (f"({','.join(map(str, values))})" for values in (some, others))
        assert compare(a, b, lambda *_: False) is (some == others)


def test_threads_compare_at_once():
    pairs = [(f"x+{i}", f"{i}+x") for i in range(6)] + [(f"x+{i}", f"{i}-x") for i in range(6)]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lambda pair: same_maths(*pair), pairs)) == [True] * 6 + [False] * 6
