import pytest

from dataenv.errors import InvalidData
from dataenv.exercises import Exercises
from dataenv.records import Reply


def test_they_are_of_the_pool_and_the_student_stays_as_it_was(fakes):
    task, student = fakes.Toy(), fakes.Scripted()
    exercises, before = Exercises(task, student), student.version
    problems = exercises.problems(5, 3)
    assert task.asked == [("pool", 5, 3)] and len(problems) == 15
    tried = exercises.tried(problems, samples=2)
    assert [[attempt.problem for attempt in few] for few in tried] == [[problem] * 2 for problem in problems]
    assert {attempt.correct for few in tried for attempt in few} == {True, False}
    assert all(attempt.correct == task.verify(attempt.problem, attempt.response).correct for (attempt, _) in tried)
    assert student.version == before and not student.lessons


def test_what_they_took_is_read_once(fakes):
    exercises = Exercises(fakes.Toy(), fakes.Scripted())
    exercises.tried(exercises.problems(2, 0), samples=3)
    assert exercises.read() == {"answers": 18, "tokens": 54}
    assert exercises.read() == {"answers": 0, "tokens": 0}


def test_without_state_nobody_is_asked(fakes):
    student = fakes.Scripted()
    exercises = Exercises(fakes.Toy(), student).untried()
    assert exercises.tried(exercises.problems(2, 0)) == [] and not student.calls


def test_nothing_to_try_asks_nobody(fakes):
    student = fakes.Scripted()
    assert Exercises(fakes.Toy(), student).tried([]) == [] and not student.calls


@pytest.mark.parametrize("replies", [[], [[Reply("x")]] * 2, None])
def test_a_student_that_answers_something_else_is_named(fakes, replies):
    student = fakes.Scripted()
    student.answer = lambda prompts, **options: replies
    exercises = Exercises(fakes.Toy(), student)
    with pytest.raises(InvalidData, match="scripted"):
        exercises.tried(exercises.problems(1, 0))
