import time

import numpy as np
import pytest

from dataenv.records import Image, Prompt
from dataenv.tasks.drills import LONGEST_ANSWER, SKILLS, Drills

TASK = Drills()


@pytest.mark.parametrize("skill", SKILLS)
def test_prompts_are_short_ascii_and_recognised(skill):
    assert len(SKILLS) >= 12
    for difficulty in (0.0, 0.5, 1.0, None):
        for problem in TASK.write(skill, 100, difficulty, np.random.default_rng(5)):
            text = problem.prompt.text
            assert text.isascii() and text.endswith("=") and len(text + problem.answer) <= 40
            assert 0 < len(problem.answer) <= LONGEST_ANSWER < TASK.max_new_tokens
            found = TASK.recognise(problem.prompt)
            assert found is not None and (found.skill, found.answer) == (skill, problem.answer)


@pytest.mark.parametrize(
    ("prompt", "skill", "answer"),
    [
        ("12+7=", "addition", "19"),
        ("12-7=", "subtraction", "5"),
        ("12*7=", "multiplication", "84"),
        ("47%5=", "modulo", "2"),
        ("cmp 12 7=", "comparison", ">"),
        ("cmp 7 7=", "comparison", "="),
        ("max 3 9 4=", "maximum", "9"),
        ("copy abca=", "copying", "abca"),
        ("rev abcd=", "reversal", "dcba"),
        ("sort dbca=", "sorting", "abcd"),
        ("desc dbca=", "descending", "dcba"),
        ("shift aij=", "shifting", "bja"),
        ("count a abca=", "counting", "2"),
        ("next 3 5 7=", "sequence", "9"),
        ("12+7-4=", "chain", "15"),
    ],
)
def test_answers_are_the_truth(prompt, skill, answer):
    problem = TASK.recognise(Prompt(text=prompt))
    assert problem is not None and (problem.skill, problem.answer) == (skill, answer)


@pytest.mark.parametrize(
    "prompt", ["12+7", "7%0=", "max 3=", "rev ABC=", "next 1 2 4=", "1+2+3=", "1" * 90 + "+1=", "٣+٤=", "what is 1+1="]
)
def test_other_prompts_are_not_recognised(prompt):
    assert TASK.recognise(Prompt(text=prompt)) is None
    assert TASK.recognise(Prompt(text="1+1=", images=(Image(data=b"x"),))) is None


def test_only_the_exact_answer_counts():
    problem = TASK.recognise(Prompt(text="12+7="))
    assert problem is not None and TASK.verify(problem, " 19\n").correct
    for wrong in ("19.0", "019", "+19", "19 or 20", "the answer is 19", "1 9"):
        assert not TASK.verify(problem, wrong).correct


def test_a_selection_keeps_its_problems():
    few = Drills("sorting, reversal")
    assert few.skills == ("sorting", "reversal") and few.name == "drills:sorting,reversal" and not few.prerequisites
    whole = [p.id for p in TASK.problems("feedback", 5, 1) if p.skill == "sorting"]
    assert whole == [p.id for p in few.problems("feedback", 5, 1) if p.skill == "sorting"]
    assert few.recognise(Prompt(text="1+1=")) is None
    assert Drills().prerequisites["descending"] == ("sorting", "reversal")


def test_writing_costs_microseconds():
    rng, best = np.random.default_rng(0), 1.0
    for _ in range(3):  # the best of three: other work on the machine only ever adds time
        start = time.perf_counter()
        rows = [row for skill in TASK.skills for row in TASK.write(skill, 37, None, rng)]
        best = min(best, time.perf_counter() - start)
    assert len(rows) >= 512 and best < 0.06  # 6 ms where it was measured; room for slow machines
