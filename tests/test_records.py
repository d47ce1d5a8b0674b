import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dataenv.records import (
    Attempt,
    Budget,
    Example,
    Feedback,
    Image,
    Plan,
    Problem,
    Prompt,
    Request,
    SkillScore,
    content_hash,
    count_by_skill,
    normalise,
    smoothed_error,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=30)
DATA = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**80), 2**80) | TEXT, max_size=3)
PROMPTS = st.builds(
    Prompt, text=TEXT, images=st.lists(st.binary(max_size=8).map(lambda data: Image(data=data)), max_size=2).map(tuple)
)
PROBLEMS = st.builds(
    Problem, prompt=PROMPTS, answer=TEXT, skill=TEXT, difficulty=st.none() | st.floats(0, 1), data=DATA
)
EXAMPLES = st.builds(Example, prompt=PROMPTS, completion=TEXT, answer=st.none() | TEXT, data=DATA, provenance=DATA)


@given(PROBLEMS | EXAMPLES | PROMPTS)
def test_json_round_trip_keeps_content_and_id(record):
    again = type(record).model_validate_json(record.model_dump_json())
    assert again == record
    assert hash(again) == hash(record)
    assert type(record).model_validate(record.model_dump()) == record


def test_plan_and_feedback_round_trip():
    problem = Problem(prompt="q", answer="a", skill="s")
    plan = Plan(
        requests=(Request(skill="s", rows=3, difficulty=0.5, exemplar=problem),),
        examples=(Example(prompt="p", completion="c"),),
    )
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert plan.rows == 4
    attempt = Attempt(problem=problem, response="b", score=0.0, correct=False)
    feedback = Feedback(
        step=1,
        skills=(SkillScore(skill="s", n=1, correct=0),),
        failures=(attempt,),
        taught={"s": 3},
        budget=Budget(rows_left=7, rows_per_step=5, steps_left=2),
    )
    assert Feedback.model_validate_json(feedback.model_dump_json()) == feedback


def test_a_changed_copy_gets_its_own_identity():
    """pydantic copies cached properties along, which once gave a changed problem the old one's id."""
    problem = Problem(prompt="one", answer="1")
    example = Example(prompt="one", completion="1")
    assert problem.id and example.id and problem.prompt.key  # cached from here on
    assert problem.model_copy(update={"answer": "2"}).id == Problem(prompt="one", answer="2").id
    assert example.model_copy(update={"completion": "2"}).id == Example(prompt="one", completion="2").id
    assert problem.prompt.model_copy(update={"text": "two"}).key == Prompt(text="two").key
    assert problem.model_copy().id == problem.id
    assert problem.model_copy(deep=True).id == problem.id


def test_ids_say_what_is_asked_and_taught_and_nothing_else():
    problem = Problem(prompt="q", answer="a")
    assert problem.id == Problem(prompt="q", answer="a", skill="other", difficulty=0.3).id
    assert len({problem.id, Problem(prompt="Q", answer="a").id, Problem(prompt="q", answer="b").id}) == 3
    assert problem.id != Problem(prompt="q", answer="a", data={"tests": "x"}).id
    row = Example(prompt="q", completion="a")
    assert row.id == Example(prompt="q", completion="a", provenance={"step": 1}).id
    assert row.id != Example(prompt="q", completion="a", rejected="b").id


def test_prompt_key_ignores_case_and_space_but_neither_signs_nor_images():
    key = Prompt(text="What is 3 - 2?").key
    assert Prompt(text="  what\n is 3 -  2? ").key == key
    assert Prompt(text="What is 3 + 2?").key != key
    assert Prompt(text="What is 3 - 2?", images=(Image(data=b"x"),)).key != key
    assert Prompt(text="What is 3 - 2?", tools=({"name": "add"},)).key != key


def test_content_hash_does_not_depend_on_the_order_of_keys_and_takes_any_json():
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash({"n": 2**70}) != content_hash({"n": 2**70 + 1})
    assert content_hash("\ud800") != content_hash("\ud801")
    assert len(content_hash()) == 32


def test_id_is_the_same_on_every_machine():
    assert Problem(prompt="1+1=", answer="2").id == "c4696c8f3e8d3e3771beef5ebd173a1f"


@pytest.mark.parametrize(
    ("a", "b"), [("Straße", "STRASSE"), ("１２", "12"), ("a\u00a0b", "A b"), ("a\x1fb", "a b"), ("ﬁne", "Fine")]
)
def test_normalise_equates(a, b):
    assert normalise(a) == normalise(b)


@pytest.mark.parametrize(("a", "b"), [("-1", "1"), ("1,2", "12"), ("ab", "a b"), ("x²y", "xy")])
def test_normalise_tells_apart(a, b):
    assert normalise(a) != normalise(b)


@given(st.text(st.characters(codec="ascii")))
def test_the_fast_path_for_ascii_is_the_slow_path(text):
    assert normalise(text) == normalise(text + "é").removesuffix("é").strip()


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Problem(prompt="q", answer="a", skil="typo"),
        lambda: Problem(prompt="q", answer="a", difficulty=1.5),
        lambda: Problem(prompt="q", answer="a", difficulty=float("nan")),
        lambda: Request(skill="s", rows=-1),
        lambda: Request(skill="s", rows=1.5),
        lambda: Example(prompt="q", completion="same", rejected="same"),
        lambda: Attempt(problem=Problem(prompt="q", answer="a"), response="", score=2.0, correct=False),
        lambda: SkillScore(skill="s", n=-1, correct=0),
    ],
)
def test_bad_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        wrong()


def test_records_are_frozen_hashable_and_picklable():
    problem = Problem(prompt="q", answer="a", data={"x": [1]})
    with pytest.raises(ValidationError):
        problem.answer = "b"
    for record in (problem, problem.prompt, Plan(), Request(skill="s", rows=1), Example(prompt="q", completion="c")):
        assert pickle.loads(pickle.dumps(record)) == record
        assert hash(pickle.loads(pickle.dumps(record))) == hash(record)


def test_a_prompt_of_text_is_written_as_text():
    assert json.loads(Problem(prompt="q", answer="a").model_dump_json())["prompt"] == "q"
    with_image = Prompt(text="q", images=(Image(data=b"\x00\xff"),))
    assert Prompt.model_validate_json(with_image.model_dump_json()).images[0].data == b"\x00\xff"


def test_example_from_problem_teaches_the_solution_and_claims_the_answer():
    worked = Problem(prompt="q", answer="4", solution="2+2=4", skill="s", subskill="t", difficulty=0.2, data={"k": 1})
    row = Example.from_problem(worked, engine="e")
    assert (row.completion, row.answer, row.provenance) == ("2+2=4", "4", {"engine": "e"})
    assert row.as_problem().id == worked.id
    assert Example.from_problem(Problem(prompt="q", answer="4")).completion == "4"
    assert Example(prompt="q", completion="c").as_problem() is None


def test_smoothed_error():
    assert smoothed_error(0, 0) == 0.5
    assert smoothed_error(0, 8) == pytest.approx(math.sqrt(0.1 * 0.9 / 8))
    assert smoothed_error(8, 8) == pytest.approx(smoothed_error(0, 8)) != 0
    assert smoothed_error(50, 100) == pytest.approx(0.05)


def test_a_skill_that_was_not_examined_has_no_accuracy():
    assert SkillScore(skill="s", n=0, correct=0).accuracy is None
    assert SkillScore(skill="s", n=4, correct=1).accuracy == 0.25
    budget = Budget(rows_left=0, rows_per_step=1, steps_left=1)
    feedback = Feedback(
        step=0, skills=(SkillScore(skill="s", n=0, correct=0), SkillScore(skill="t", n=4, correct=3)), budget=budget
    )
    assert (feedback.n, feedback.accuracy) == (4, 0.75)
    assert Feedback(step=0, skills=(), budget=budget).accuracy == 0.0


def test_budget_now_is_the_smaller_of_the_two():
    assert Budget(rows_left=40, rows_per_step=120, steps_left=1).rows_now == 40
    assert Budget(rows_left=400, rows_per_step=120, steps_left=1).rows_now == 120


def test_count_by_skill():
    rows = [Example(prompt=str(i), completion="c", skill=s) for i, s in enumerate("bab")]
    assert list(count_by_skill(rows).items()) == [("b", 2), ("a", 1)]
