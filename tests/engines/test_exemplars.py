import numpy as np
import pytest

from dataenv.engines.exemplars import Exemplars, Form
from dataenv.records import Example


def rows(*pairs):
    return [Example(prompt=f"p {i}", completion=text, answer=answer) for i, (text, answer) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("examples", "form"),
    [
        (rows(("7", "7"), ("8", "8")), Form(worked=False)),
        (rows(("so\n#### 7", "7"), ("and so\non\n#### 8", "8")), Form(True, ("#### ", ""))),
        (rows(("so\nThe answer is 7.", "7"), ("x\nThe answer is 8.", "8")), Form(True, ("The answer is ", "."))),
        (rows(("so\n7", "7"), ("x\n8", "8")), Form(True, ("", ""))),
        (rows(("He has 7 cows.", "7"), ("They are 8.", "8")), Form(True)),  # no ending in common
        (rows(("seven", "7"), ("eight", "8")), Form(True)),  # no answer on the last line
        (rows(("so\n#### 7", "7")), Form(True)),  # one row may end in anything
        (rows(("so\n#### 7", "7"), ("8", "8"), ("9", "9")), Form(worked=False)),
        ([], Form(worked=False)),
    ],
)
def test_the_form_is_what_rows_have_in_common(examples, form):
    assert Form.of(examples) == form


@pytest.mark.parametrize(
    ("form", "solution", "completion"),
    [
        (Form(worked=False), "long thoughts", "7"),
        (Form(True), "so it is 7", "so it is 7"),
        (Form(True, ("#### ", "")), "so", "so\n#### 7"),
        (Form(True, ("#### ", "")), "so\n#### 7", "so\n#### 7"),
        (Form(True, ("#### ", "")), "so\n####7", "so\n####7"),
        (Form(True, ("#### ", "")), "so\n#### 9", "so\n#### 9"),
        (Form(True, ("", "")), "so\n7", "so\n7"),
        (Form(True, ("", "")), "so", "so\n7"),
    ],
)
def test_a_completion_ends_as_the_tasks_do_and_contradictions_stay_visible(form, solution, completion):
    assert form.completion(solution, "7") == completion


def test_the_form_of_the_tasks_that_come_along():
    from dataenv.tasks.drills import Drills

    assert Exemplars(Drills()).form("addition") == Form(worked=False)


def test_gsm8k_ends_in_its_mark(tmp_path):
    import json

    from dataenv.tasks.gsm8k import GSM8K

    lines = [
        json.dumps({"question": f"What is {i} and 1?", "answer": f"It is <<{i}+1={i + 1}>>{i + 1}.\n#### {i + 1}"})
        for i in range(200)
    ]
    for part in ("train", "test"):
        (tmp_path / f"{part}.jsonl").write_text("\n".join(lines if part == "train" else lines[:3]))
    assert Exemplars(GSM8K(str(tmp_path))).form("1-2 steps") == Form(True, ("#### ", ""))


def test_draws_of_the_skill_near_the_difficulty(fakes):
    class Graded(fakes.Toy):
        def problems(self, split, per_skill, seed):
            found = super().problems(split, per_skill, seed)
            return [p.model_copy(update={"difficulty": i % 16 / 15}) for i, p in enumerate(found)]

    exemplars = Exemplars(Graded())
    drawn = exemplars.draw("b", 3, np.random.default_rng(0), 1.0)
    assert {row.skill for row in drawn} == {"b"} and min(row.difficulty for row in drawn) >= 10 / 15
    assert len({row.skill for row in exemplars.of("no such skill")}) == 3
    many = exemplars.draw("b", 99, np.random.default_rng(0))
    assert len(many) == 16
