import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataenv import checks
from dataenv.errors import InvalidData
from dataenv.protocols import Engine, Student, Task
from dataenv.records import Example, Problem, Reply, TeachReport, Verdict

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(ANYTHING)
def test_whole_gives_a_count_or_names_the_setting(value):
    try:
        number = checks.whole("rows", value)
    except InvalidData as error:
        assert str(error).startswith("rows must be a whole number of at least 1")
    else:
        assert type(number) is int
        assert 1 <= number <= checks.MOST
        assert number == float(value)


def test_a_count_has_a_bound_that_fits_an_array():
    assert checks.whole("rows", checks.MOST) == checks.whole("rows", "1000000000") == 10**9
    with pytest.raises(InvalidData, match=r"^rows must be .* and at most 1,000,000,000; it is 10{20}\.$"):
        checks.whole("rows", 10**20)
    assert checks.whole("shots", 0, least=0) == 0


@given(ANYTHING)
def test_real_gives_a_finite_number_or_names_the_setting(value):
    try:
        number = checks.real("power", value, 0, 5)
    except InvalidData as error:
        assert str(error).startswith("power must be a number in [0, 5]; it is ")
    else:
        assert type(number) is float
        assert 0 <= number <= 5
    assert checks.real("power", "1.5", 0) == 1.5
    with pytest.raises(InvalidData, match="of at least 0; it is inf"):
        checks.real("power", math.inf, 0)


@pytest.mark.parametrize("kind", [Task, Student, Engine])
def test_what_is_no_part_is_told_by_what_it_lacks(kind, fakes):
    name = kind.__name__.lower()
    for value in (None, object(), 5, [], "x"):
        with pytest.raises(
            InvalidData, match=rf"^{name} must be an id or an object .*{kind.__name__}; .* has no '\w+'"
        ):
            checks.part(name, value, kind)
    with pytest.raises(InvalidData, match=r"is the class Toy; give an object of it: Toy\(\.\.\.\)"):
        checks.part("task", fakes.Toy, Task)


def test_each_member_of_a_protocol_counts_and_no_property_is_read(fakes):
    class Unread(fakes.Scripted):
        @property
        def version(self):
            raise AssertionError("the weights were loaded")

    class Proxy:
        def __init__(self, inner):
            self._inner = inner

        def __getattr__(self, name):
            return getattr(self._inner, name)

    checks.part("student", Unread(), Student)
    checks.part("student", Proxy(fakes.Scripted()), Student)
    checks.part("task", fakes.Toy(), Task)
    methods = ("teach", "answer", "reset", "clone_state", "restore_state", "save", "load", "close", "version", "shots")
    for name in methods:
        lacking = type("Mine", (), {"name": "", "shots": 0, **dict.fromkeys(methods, print)})
        delattr(lacking, name)
        with pytest.raises(InvalidData, match=f"this Mine has no '{name}'"):
            checks.part("student", lacking(), Student)


@pytest.mark.parametrize(
    ("skills", "word"),
    [
        ((), "at least one name"),
        ("abc", "at least one name"),
        (None, "at least one name"),
        ({"a", "b"}, "at least one name"),
        (("a", ""), r"skills\[1\] must be a name"),
        (("a", 3), r"skills\[1\] must be a name; it is 3"),
        (("a", "b", "a"), "the skill 'a' twice"),
    ],
)
def test_skills_are_distinct_names(fakes, skills, word):
    task = fakes.Toy()
    task.skills = skills
    with pytest.raises(InvalidData, match=f"^Task 'toy'.*{word}"):
        checks.skills(task)


@pytest.mark.parametrize("tokens", [0, -4, "abc", None])
def test_a_task_leaves_room_for_a_reply(fakes, tokens):
    task = fakes.Toy()
    task.max_new_tokens = tokens
    with pytest.raises(InvalidData, match=r"^max_new_tokens of task 'toy' must be a whole number"):
        checks.skills(task)


@given(ANYTHING)
def test_whatever_a_part_returns_is_sound_or_one_sentence_that_names_the_method(value):
    class Part:
        name, skills = "mine", ("a",)

    for check, method, rest in (
        (checks.problems, "problems", ()),
        (checks.verdict, "verify", ()),
        (checks.replies, "answer", (2,)),
        (checks.report, "teach", ()),
        (checks.written, "write", (2,)),
    ):
        if check is checks.problems and value in ([], b"", ""):
            continue  # none at all, which others say
        if check is checks.written and value == [[], []]:
            continue  # an engine may have no row for either request
        with pytest.raises(InvalidData, match=rf"^{method}\(\) of \w+ 'mine' (must|returned)") as caught:
            check(Part(), value, *rest)
        assert len(str(caught.value)) < 400


def test_sound_returns_pass(fakes):
    task, student = fakes.Toy(), fakes.Scripted()
    checks.problems(task, task.problems("feedback", 2, 0))
    checks.verdict(task, Verdict(1, True))
    checks.replies(student, [[Reply("x")], ([Reply("y", "length", 3)])], 2)
    checks.report(student, TeachReport(0, 0, None))
    checks.written(student, [[], [Example(prompt="p", completion="c")]], 2)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (["a", "b"], "for one it returned 'a'"),
        ([["a"], ["b"]], r"for one it returned \['a'\]"),
        ([[Reply("a")]], "for each of 2 prompts; it returned 1 of them"),
        ([[Reply("a")], []], r"for one it returned \[\]"),
        (None, "it returned None"),
        ([[Reply("a", "done")], [Reply("b")]], "a reply that is none: Reply"),
        ([[Reply(None)], [Reply("b")]], "a reply that is none: Reply"),
    ],
)
def test_replies_that_are_none(fakes, found, word):
    with pytest.raises(InvalidData, match=rf"^answer\(\) of student 'scripted'.*{word}"):
        checks.replies(fakes.Scripted(), found, 2)


@pytest.mark.parametrize("found", [True, (1.0, True), Verdict(2.0, True), Verdict(1.0, 1), Verdict("1", True)])
def test_verdicts_that_are_none(fakes, found):
    with pytest.raises(InvalidData, match=r"^verify\(\) of task 'toy' must"):
        checks.verdict(fakes.Toy(), found)


def test_problems_of_a_skill_the_task_does_not_name(fakes):
    with pytest.raises(InvalidData, match="of the skill 'z', which is not in its skills"):
        checks.problems(fakes.Toy(), [Problem(prompt="p", answer="a", skill="z")])
