import json
import os
import subprocess
import sys

import numpy as np
import pytest

from dataenv.errors import InvalidData, MissingDependency
from dataenv.records import Problem
from dataenv.tasks import reasoning_gym
from dataenv.tasks.reasoning_gym import ARITHMETIC, SCORED, ReasoningGym, arithmetic, evaluate_sum, same_form

TASK = arithmetic()


def problem(skill, answer, metadata=None):
    data = {} if metadata is None else {"scorer": skill, "metadata": metadata}
    return Problem(prompt="?", answer=answer, skill=skill, data=data)


def judge(skill, answer, response, metadata=None):
    return TASK.verify(problem(skill, answer, metadata), response)


def test_stuffed_answers_are_wrong():
    for item in TASK.problems("selection", 2, 0):
        for text in ("The answer is {}", "{} or 7", "{}\n{}", "1 2 3 4 5 6 7 8 9 {}", "{} " + "blah " * 50):
            response = text.replace("{}", item.answer)
            verdict = TASK.verify(item, response)
            assert not verdict.correct and verdict.score < 1.0, (item.answer, response)


@pytest.mark.parametrize(
    ("response", "answer", "same"),
    [
        ("1,000", "1000", True),
        ("4.50", "4.5", True),
        ("[1,2]", "[1, 2]", True),
        ("a,b ,c", "a, b, c", True),
        ("FALSE", "False", True),
        ("2×2×107", "2 × 2 × 107", True),
        ("1 2", "12", False),
        ("1 2\n3 4", "1 2 3 4", False),
        ("b a", "B a", False),
        ("6/8", "3/4", False),
        ("1000", "1e3", False),
        ("", "0", False),
    ],
)
def test_rule_one(response, answer, same):
    assert same_form(response, answer) is same


def test_several_answers_can_be_right():
    assert judge("prime_factorization", "2 × 3", "3 × 2", {}).correct
    assert judge("prime_factorization", "2 × 3", "6", {}).score == 0.5
    assert judge("palindrome_generation", "abcba", "bacab", {"letters": list("abcba")}).correct
    assert judge("number_format", "947.1689999", "947.169", {"solution": 947.1689999}).correct
    assert judge("power_function", "8.05544726166417e-06", "8.06e-6", {}).correct
    assert judge("complex_arithmetic", "4.0 - 7.00i", "4-7i", {}).correct
    assert judge("complex_arithmetic", "-1.0i", "-i", {}).correct
    assert not judge("complex_arithmetic", "4.0 - 7.0i", "4-7", {}).correct
    queens = ["_ Q _ _\n_ _ _ Q\nQ _ _ _\n_ _ Q _", "_ _ Q _\nQ _ _ _\n_ _ _ Q\n_ Q _ _"]
    assert judge("n_queens", queens[0], queens[1], {"valid_answers": queens}).correct


def test_sums_are_evaluated_without_running_code():
    data = {"numbers": [1, 2, 3, 4], "target": 10}
    assert judge("countdown", "1 + 2 + 3 + 4", "4+3+(2+1)", data).correct
    assert not judge("countdown", "1 + 2 + 3 + 4", "10", data).correct
    assert judge("puzzle24", "1*2*3*4", "4*3*2/1", data).correct
    for text in ("9**9**9", "__import__('os')", "(" * 150, "1//1", "1 2", "1/0", "1.5", "a"):
        with pytest.raises((ValueError, ZeroDivisionError)):
            evaluate_sum(text)
        assert judge("puzzle24", "1*2*3*4", text, data).score == 0.0


def test_no_student_text_is_ever_run(tmp_path):
    attack = f"open({str(tmp_path / 'owned')!r}, 'w').write('x')"
    for skill in (*SCORED, "string_insertion", "spiral_matrix", "binary_matrix", "simple_integration"):
        for metadata in (None, {}, {"numbers": [1], "target": 1, "valid_answers": []}):
            assert not judge(skill, "x" * 100, attack, metadata).correct
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("raised", [RecursionError(), KeyError("x"), OverflowError(), MemoryError()])
def test_scorers_that_raise_are_wrong_answers(monkeypatch, raised):
    class Judge:
        def score_answer(self, *_):
            raise raised

    monkeypatch.setattr(reasoning_gym, "_judge", lambda _: Judge())
    verdict = judge("jugs", "[]", "[1]", {"puzzle": {}})
    assert verdict.score == 0.0 and type(raised).__name__ in verdict.reason


@pytest.mark.parametrize("score", [float("nan"), -1.0, 7.0, 1])
def test_scores_stay_in_range(monkeypatch, score):
    class Judge:
        def score_answer(self, *_):
            return score

    monkeypatch.setattr(reasoning_gym, "_judge", lambda _: Judge())
    assert 0.0 <= judge("jugs", "[]", "[1]", {"puzzle": {}}).score <= 1.0


@pytest.mark.parametrize("skill", sorted(SCORED))
def test_scorers_agree_with_their_own_gold(skill):
    rows = ReasoningGym(skill).problems("pool", 1, 0)
    for row in rows:
        data = json.loads(row.model_dump_json())["data"]
        assert reasoning_gym._score(skill, data["metadata"], row.answer, row.answer) == 1.0


def test_the_preset_is_fourteen_skills_with_room_for_every_split():
    assert len(ARITHMETIC) == 14 and TASK.name == "arithmetic" and TASK.max_new_tokens == 32
    assert arithmetic("gcd,products").skills == ("gcd", "products")
    for split, n in (("exemplar", 4), ("exam", 20)):
        found = TASK.problems(split, n, 0)
        assert len(found) == n * 14
        assert all(len(item.prompt.text.split()) < 60 and len(item.answer) < 40 for item in found)


def test_problems_do_not_depend_on_string_hashing():
    code = (
        "from dataenv.tasks.reasoning_gym import arithmetic\n"
        "print(*[p.id for p in arithmetic().problems('feedback', 1, 0)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.split() == [item.id for item in TASK.problems("feedback", 1, 0)]


def test_difficulty_climbs_the_librarys_curriculum():
    task = ReasoningGym("gcd,gsm_symbolic,knight_swap")
    numbers = {
        d: [int(n) for row in task.write("gcd", 20, d, np.random.default_rng(0)) for n in row.answer.split()]
        for d in (0.0, 1.0)
    }
    assert max(numbers[1.0]) != max(numbers[0.0])
    assert [row.difficulty for row in task.write("gsm_symbolic", 2, 0.5, np.random.default_rng(0))] == [None, None]
    (row,) = task.write("knight_swap", 1, 0.0, np.random.default_rng(0))  # the library refuses its own first level
    assert row.difficulty is None


def test_datasets_without_answers_are_refused():
    with pytest.raises(InvalidData, match="rubiks_cube"):
        ReasoningGym("rubiks_cube").problems("exam", 1, 0)
    with pytest.raises(InvalidData, match="names"):
        ReasoningGym(" ")


def test_a_missing_library_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    monkeypatch.setattr(reasoning_gym, "_factory", reasoning_gym._factory.__wrapped__)
    with pytest.raises(MissingDependency, match=r"pip install \"dataenv\[tasks\]\""):
        ReasoningGym("gcd")
