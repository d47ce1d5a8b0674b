import json
import sys
from types import SimpleNamespace

import pytest

from dataenv.errors import InvalidData, MissingDependency
from dataenv.records import Example, Problem
from dataenv.tasks.math import LEVELS, MATH, REVISION, TOPICS
from dataenv.tasks.splits import SHARES

pytest.importorskip("math_verify")

ANSWERS = [
    "5", "-3", "1,\\!000", "2{,}400", "10,000", "\\frac{3}{4}", "\\frac43", "-\\dfrac{1}{2}", "\\tfrac{1}{6}", "2.75",
    ".5", "0.\\overline{36}", "50\\%", "\\$12.50", "\\$32,\\!348", "90^\\circ", "135^{\\circ}", "2\\frac{1}{2}",
    "\\sqrt{13}", "3\\sqrt{2}", "\\frac{3\\sqrt{3}}{4}", "\\sqrt[3]{2}", "12\\pi", "\\frac{\\pi}{6}", "6 - 5i", "e^{2}",
    "x^2+2x+1", "(x-3)(x+5)", "-2x^3 + 4y", "y = 2x + 3", "x=5", "3x^2-7=0", "x \\le 4", "\\frac{x+2}{7}", "2^{10}",
    "1,-2", "3, 5, 7", "-1, \\frac{1}{2}", "1 \\pm \\sqrt{19}", "\\pm 3", "x=1 \\text{ or } x=2", "(2,-3)",
    "\\left(\\frac{3}{2}, -13\\right)", "(6,31,-1)", "\\left( 3, \\frac{\\pi}{2} \\right)", "[0,9)", "(-\\infty,5]",
    "\\left[-1,\\frac12\\right]", "(-\\infty,-2)\\cup(-2,3)", "(-\\infty, 2) \\cup (3, \\infty)", "\\{1,2,3\\}",
    "\\left\\{\\frac{1}{2}, 2\\right\\}", "\\emptyset", "\\infty", "\\text{(C)}", "\\text{E}", "\\textbf{(B)}",
    "\\text{Evelyn}", "\\text{ellipse}", "\\text{east}", "\\text{Tuesday}", "5\\text{ cm}", "24\\mbox{ cm}^2",
    "10 \\text{ units}", "12\\text{ square inches}", "3.5\\text{ feet}", "6:35\\text{ p.m.}", "0.6\\text{ miles}",
    "1011_2", "2413_{5}", "B4_{16}", "\\begin{pmatrix} -2 \\\\ 16 \\end{pmatrix}", "\\mathbf{0}",
    "\\begin{pmatrix} 1/3 & 0 \\\\ 0 & \\sqrt{2} \\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}",
    "\\binom{12}{3}", "10!", "\\log_2 6", "\\sin 2x", "\\tan^{-1} x", "\\cot x", "7 \\cdot 10^{5}", "3:2", "1\\!:\\!9",
    "f(x) = 3x+2", "p^2 - 2q", "a+b\\sqrt{2}", "x \\in [-2,7]", "\\overline{AB}", "\\angle A", "70 \\text{ or } 110",
    "\\text{odd}", "\\text{Yes}", "\\text{No, it is not}", "11\\text{ R }3", "(x+y+z)(xy+yz+zx)", "r=\\frac{1}{2}",
    "9\\sqrt{3}\\text{ square units}", "\\frac{1}{x^{2}y^{3}}", "|x|", "\\lfloor x \\rfloor", "2k\\pi", "\\mathbb{R}",
]  # fmt: skip
"""Answers of every form that stands in the data set, written for this test."""


def row(i, topic=0, level=1, answer=None):
    answer = str(i) if answer is None else answer
    return {
        "problem": f"What is the value of ${i} + 0$, on page {i}?\n\n[asy]\ndraw((0,0)--(1,1));\n[/asy]",
        "level": f"Level {level}",
        "type": TOPICS[topic],
        "solution": f"Adding nothing to ${i}$ leaves it as it is, so the answer is $\\boxed{{{answer}}}$.",
    }


def rows(start, n):
    return [row(i, i % 7, 1 + i // 7 % 5) for i in range(start, start + n)]


def write(folder, part, data):
    (folder / f"{part}.jsonl").write_text("\n".join(map(json.dumps, data)))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "test", rows(0, 70))
    write(tmp_path, "train", rows(35, 700))
    return tmp_path


def everything(task):
    return {split: task.problems(split, None, 0) for split in SHARES}


def test_test_is_the_exam_and_wins_duplicates(folder):
    found = everything(MATH(str(folder)))
    assert sorted(p.prompt.text for p in found["exam"]) == sorted(r["problem"] for r in rows(0, 70))
    keys = [problem.prompt.key for problems in found.values() for problem in problems]
    assert len(keys) == len(set(keys)) == 735
    assert all(found.values())


def test_skills_are_topics_by_levels_and_build_on_each_other(folder):
    task = MATH(str(folder))
    assert len(task.skills) == 35 == len({p.skill for p in task.problems("pool", None, 0)})
    assert set(task.prerequisites) == {f"{topic} {level}" for topic in TOPICS for level in LEVELS if level > 1}
    assert task.prerequisites["Counting & Probability 4"] == ("Counting & Probability 3",)
    (problem,) = [p for p in task.problems("exam", None, 0) if "page 31?" in p.prompt.text]
    assert (problem.skill, problem.difficulty) == (f"{TOPICS[31 % 7]} 5", 1.0)


def test_the_original_folder_is_read_too(folder, tmp_path):
    for part, data in (("test", rows(0, 70)), ("train", rows(35, 700))):
        for i, one in enumerate(data):
            place = tmp_path / "MATH" / part / one["type"].lower().replace(" & ", "_and_").replace(" ", "_")
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{i}.json").write_text(json.dumps(one, indent=4))
    original, lines = everything(MATH(str(tmp_path / "MATH"))), everything(MATH(str(folder)))
    assert {s: {p.id for p in found} for s, found in original.items()} == {
        s: {p.id for p in found} for s, found in lines.items()
    }


def test_a_level_that_is_not_known_is_the_middle_without_a_difficulty(folder):
    write(folder, "train", [{**row(9999), "level": "Level ?"}])
    task = MATH(str(folder))
    (problem,) = [p for found in everything(task).values() for p in found if "9999" in p.prompt.text]
    assert (problem.skill, problem.difficulty) == ("Algebra 3", None)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"problem": None}, "a row needs problem, level, type, solution"),
        ({"problem": " "}, "a row needs"),
        ({"level": 3}, "a row needs"),
        ({"solution": ["x"]}, "a row needs"),
        ({"level": "Level 6"}, "the level must be"),
        ({"type": "Alchemy"}, "the type must be one of Algebra, .*'Alchemy'"),
        ({"type": None}, "the type must be one of"),
        ({"solution": "It is 5."}, r"in \\boxed"),
        ({"solution": r"It is \boxed{}."}, r"in \\boxed"),
        ({"solution": r"It is \boxed{5."}, r"in \\boxed"),
    ],
)
def test_rows_that_cannot_be_used_are_named(folder, change, what):
    write(folder, "train", [row(1), {**row(2), **change}])
    with pytest.raises(InvalidData, match=rf"train\.jsonl, line 2: .*{what}"):
        MATH(str(folder)).held_out()


def test_the_columns_that_exist_are_said(folder):
    write(folder, "train", [{"question": "?", "answer": "5"}])
    with pytest.raises(InvalidData, match="it has question, answer"):
        MATH(str(folder)).held_out()


def test_nothing_is_read_before_it_is_needed(tmp_path):
    task = MATH(str(tmp_path / "absent"))
    with pytest.raises(InvalidData, match=r"test\.jsonl"):
        task.problems("exam", 1, 0)


class Loaded(list):
    features = {}  # noqa: RUF012


def test_the_hub_is_read_at_a_pinned_revision_and_its_absence_said(monkeypatch):
    asked = []

    def load_dataset(*names, revision, split):
        asked.append((*names, revision, split))
        if split == "train":
            raise ConnectionError("no route")
        return Loaded(rows(0, 5))

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(InvalidData, match=r"check the network, or .* math:FOLDER\.$"):
        MATH().held_out()
    assert asked == [("DigitalLearningGmbH/MATH-lighteval", "default", REVISION, part) for part in ("test", "train")]


def test_without_math_verify_it_says_so_at_once(monkeypatch):
    monkeypatch.setattr("dataenv.verifiers.math.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install"):
        MATH("anywhere")


def test_every_form_of_answer_verifies_against_itself(tmp_path, monkeypatch):
    """Worked solution, bare answer and box alone, and none of them is sent to math-verify for it."""
    monkeypatch.setattr("dataenv.verifiers.math._pool", lambda: pytest.fail("asked math-verify"))
    assert len(set(ANSWERS)) == len(ANSWERS) > 100
    write(tmp_path, "test", [row(i, answer=answer) for i, answer in enumerate(ANSWERS)])
    write(tmp_path, "train", [row(5000)])
    task = MATH(str(tmp_path))
    problems = task.problems("exam", None, 0)
    assert {problem.answer for problem in problems} == set(ANSWERS)
    for problem in problems:
        for response in (problem.solution, problem.answer, f"$\\boxed{{{problem.answer}}}$", f"${problem.answer}$"):
            assert task.verify(problem, response).correct, (problem.answer, response)
        learnt = Example.from_problem(problem)
        assert task.verify(learnt.as_problem(), learnt.completion).correct


def test_answers_of_different_problems_do_not_verify_against_each_other(monkeypatch):
    """Of what is decided without math-verify; it has its own tests."""
    monkeypatch.setattr("dataenv.verifiers.math._ask", lambda *_: False)
    task = MATH("nowhere")
    equal = ({"5", "x=5", r"5\text{ cm}"}, {r"50\%", ".5", r"r=\frac{1}{2}"})
    for a in ANSWERS:
        problem = Problem(prompt="?", answer=a)
        same = [b for b in ANSWERS if a != b and task.verify(problem, rf"\boxed{{{b}}}").correct]
        assert all({a, b} <= group for b in same for group in equal if a in group), (a, same)
        assert not same or any(a in group for group in equal), (a, same)


@pytest.mark.parametrize(
    ("asked", "answer", "said", "right"),
    [
        (r"Simplify $\sqrt{12}$.", r"2\sqrt{3}", r"\boxed{\sqrt{12}}", False),
        (r"Simplify $\sqrt{12}$.", r"2\sqrt{3}", r"\boxed{2 \sqrt 3}", True),
        ("Compute $12 + 30$.", "42", r"\boxed{12+30}", False),
        ("Compute $12 + 30$.", "42", r"\boxed{42}", True),
        (r"Write $\dfrac{1}{2}$ as a decimal.", "0.5", r"\boxed{\frac12}", False),
        ("Expand $(x+1)^2$.", "x^2+2x+1", r"\boxed{(x+1)^2}", False),
        ("Expand $(x+1)^2$.", "x^2+2x+1", r"\boxed{1+x^2+2x}", True),
        ("Which is larger, $2^3$ or $3^2$?", "3^2", r"\boxed{3^2}", True),
        ("What is 6.0 in units?", "6.00", r"\boxed{6.0}", True),
    ],
)
def test_an_expression_of_the_question_is_no_answer(asked, answer, said, right):
    assert MATH("nowhere").verify(Problem(prompt=asked, answer=answer), said).correct is right
