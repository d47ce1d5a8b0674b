import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataenv.errors import InvalidData
from dataenv.examine import Examination, examine, examine_untaught, paired
from dataenv.records import Attempt, Example, Problem, Reply


def examination(results, skills=None):
    skills = skills or ["a"] * len(results)
    return Examination(
        tuple(
            Attempt(problem=Problem(prompt=f"q{i}", answer="a", skill=s), response="", score=float(ok), correct=ok)
            for i, (ok, s) in enumerate(zip(results, skills, strict=True))
        )
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("abc")), min_size=1, max_size=40))
def test_paired_is_the_mean_and_the_standard_error_of_the_differences(rows):
    before = examination([b for b, _, _ in rows], [s for _, _, s in rows])
    after = examination([a for _, a, _ in rows], [s for _, _, s in rows])
    change = paired(before, after)
    differences = [int(a) - int(b) for b, a, _ in rows]
    n = len(rows)
    mean = sum(differences) / n
    assert change.gain == pytest.approx(mean, abs=1e-12)
    assert change.gain == pytest.approx(after.accuracy - before.accuracy, abs=1e-12)
    assert change.n == n
    spread = sum((d - mean) ** 2 for d in differences) / n
    assert change.error > 0
    if spread > 1 / n:
        assert change.error == pytest.approx(math.sqrt(spread / n))
    weighted = sum(change.by_skill[s] * sum(t == s for _, _, t in rows) for s in change.by_skill) / n
    assert weighted == pytest.approx(change.gain, abs=1e-12)


def test_groups_count_where_all_of_them_was_asked():
    def attempt(group, correct, size=2):
        problem = Problem(prompt=f"{group} {correct} {size}", answer="a", data={"group": group, "group_size": size})
        return Attempt(problem=problem, response="", score=float(correct), correct=correct)

    marks = [(1, True), (1, True), (2, True), (2, False), (3, True)]
    assert Examination(tuple(attempt(*mark) for mark in marks)).groups == (1, 2)
    assert Examination((attempt(1, True, size="two"), attempt(None, True, size=1))).groups == (1, 1)
    assert examination([True, False]).groups == (0, 0)


def test_nothing_changed_is_not_certainty():
    same = examination([True] * 50 + [False] * 50)
    change = paired(same, same)
    assert change.gain == 0
    assert change.error == pytest.approx(math.sqrt(1 / 100 / 100))


def test_only_the_same_problems_in_the_same_order_can_be_paired():
    with pytest.raises(ValueError, match="different problems"):
        paired(examination([True]), examination([True, False]))
    ab = examination([True, False])
    with pytest.raises(ValueError, match="different problems"):
        paired(ab, Examination(ab.attempts[::-1]))
    assert paired(Examination(()), Examination(())).n == 0


def test_scores_by_skill_keep_the_given_order_and_show_what_was_not_asked():
    scores = examination([True, False, True], ["b", "b", "a"]).by_skill(["a", "b", "c"])
    assert [(s.skill, s.n, s.correct, s.accuracy) for s in scores] == [
        ("a", 1, 1, 1.0),
        ("b", 2, 1, 0.5),
        ("c", 0, 0, None),
    ]


def test_examine_verifies_each_reply_against_its_own_problem(fakes):
    task, student = fakes.Toy(), fakes.Scripted(prior={"a": 0.0, "b": 1.0})
    problems = task.problems("feedback", 3, 0)
    found = examine(task, student, problems)
    assert [a.problem for a in found.attempts] == problems
    assert [a.correct for a in found.attempts] == [False] * 3 + [True] * 3 + [False] * 3
    assert (found.n, found.correct, found.accuracy, found.tokens) == (9, 3, pytest.approx(1 / 3), 27)
    assert found.attempts[0].response == "?"
    assert found.attempts[0].reason.startswith("expected a:")
    for attempt in found.attempts:  # built without validation, so hold it to the model here
        assert Attempt.model_validate(attempt.model_dump()) == attempt


def test_each_problem_comes_after_the_exemplars_of_its_own_skill(fakes):
    heard = {}

    class Listening(fakes.Scripted):
        def answer(self, prompts, *, shots=(), **options):
            heard.update({prompt.text: [shot.skill for shot in shots] for prompt in prompts})
            return super().answer(prompts, shots=shots, **options)

    task, student = fakes.Toy(), Listening(prior=dict.fromkeys("abc", 1.0))
    problems = task.problems("feedback", 3, 0)[::-1]
    row = {skill: Example(prompt="q", completion="c", skill=skill) for skill in "ab"}
    found = examine(task, student, problems, {"a": [row["a"]], "b": [row["b"]] * 2, "c": []})
    assert [a.problem for a in found.attempts] == problems  # the order stays, though skills are asked apart
    assert found.accuracy == 1.0
    assert found.shots == 3
    expected = {"a": ["a"], "b": ["b", "b"], "c": []}
    assert heard == {p.prompt.text: expected[p.skill] for p in problems}


def test_no_problems_ask_nobody(fakes):
    student = fakes.Scripted()
    found = examine(fakes.Toy(), student, [])
    assert (found.n, found.accuracy, found.error) == (0, 0.0, 0.5)
    assert student.calls == []


def test_an_overlong_prompt_is_not_solved_and_not_verified(fakes):
    class Overlong(fakes.Scripted):
        def answer(self, prompts, **_):
            return [[Reply("", "overlong")] for _ in prompts]

    class Trusting(fakes.Toy):
        def verify(self, problem, response):
            raise AssertionError("nothing was asked")

    task = Trusting()
    found = examine(task, Overlong(), task.problems("feedback", 2, 0))
    assert (found.correct, found.overlong, found.n) == (0, 6, 6)
    assert "context" in found.attempts[0].reason


@pytest.mark.parametrize(("bonus", "used"), [(0.5, "few_shot"), (0.0, "plain"), (-1.0, "plain")])
def test_the_untaught_student_counts_at_its_better_examination(fakes, bonus, used):
    task, student = fakes.Toy(), fakes.Scripted(prior=dict.fromkeys("abc", 0.3), few_shot_bonus=bonus)
    problems = task.problems("feedback", 20, 0)
    shots = {p.skill: [Example.from_problem(p)] for p in task.problems("exemplar", 1, 0)}
    better, baseline = examine_untaught(task, student, problems, shots)
    assert baseline["used"] == used
    assert better.accuracy == max(baseline["plain"], baseline["few_shot"]) == baseline[used]
    assert baseline["shots"] == 1
    assert better.shots == (3 if used == "few_shot" else 0)


def test_without_exemplars_there_is_one_examination(fakes):
    task, student = fakes.Toy(), fakes.Scripted()
    _, baseline = examine_untaught(task, student, task.problems("feedback", 2, 0), {})
    assert baseline["few_shot"] is None
    assert student.calls == ["answer"]


def test_a_student_that_loses_a_reply_is_found_out(fakes):
    class Forgetful(fakes.Scripted):
        def answer(self, prompts, **options):
            return super().answer(prompts, **options)[:-1]

    task = fakes.Toy()
    with pytest.raises(InvalidData, match=r"^answer\(\) of student 'scripted' .* each of 6 prompts; it returned 5"):
        examine(task, Forgetful(), task.problems("feedback", 2, 0))


def test_parts_that_return_something_else_are_named_with_the_method(fakes):
    class Plain(fakes.Scripted):
        def answer(self, prompts, **options):
            return ["text" for _ in prompts]

    class Bare(fakes.Toy):
        def verify(self, problem, response):
            return response == problem.answer

    task = fakes.Toy()
    with pytest.raises(InvalidData, match=r"answer\(\) of student 'scripted' must return a list of Reply"):
        examine(task, Plain(), task.problems("feedback", 2, 0))
    with pytest.raises(InvalidData, match=r"verify\(\) of task 'toy' must return a Verdict; it returned (True|False)"):
        examine(Bare(), fakes.Scripted(), task.problems("feedback", 2, 0))
