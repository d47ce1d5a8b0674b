import numpy as np
import pytest

from dataenv.engines import filters
from dataenv.engines.consistency import Consistency
from dataenv.errors import CallFailed, InvalidData
from dataenv.records import Example


def rng(seed=0):
    return np.random.default_rng(seed)


def problem(question):
    return question.messages[0].content.split("The problem to solve:\n| ")[1].split("\n")[0]


@pytest.fixture
def blind(fakes):
    return type("Blind", (fakes.Toy,), {"recognise": lambda self, prompt: None})()


def judge(task, client, solutions=3, **options):
    made = filters.make(f"consistent:{solutions}", task=task, **options)
    made.converse(client)
    return made


@pytest.mark.parametrize(
    ("said", "agreement", "reason"),
    [
        (["a:1", "a:1", "x", "y"], 0.5, None),
        (["a:1", "x", "y", "z"], 0.5, "inconsistent"),
        (["a:1", None, None, "a:1"], 0.5, None),  # what did not arrive agrees with nothing
        (["a:1", None, None, None], 0.5, "inconsistent"),
        ([None] * 4, 0.5, "unanswered"),
        ([None] * 4, 0.0, "unanswered"),
        (["", "", "", ""], 0.25, "inconsistent"),
        (["x"] * 4, 0.0, None),
        (["a:1", "a:1", "a:1", "x"], 1.0, "inconsistent"),
    ],
)
def test_so_many_solutions_must_agree(blind, chat, said, agreement, reason):
    answers = iter(said)

    def answer(question):
        text = next(answers)
        return CallFailed("No.") if text is None else {"solution": "", "answer": text}

    check = judge(blind, chat(answer, concurrency=1), 4, agreement=agreement)
    assert check([Example(prompt="a 1", completion="a:1", answer="a:1", skill="a")], rng()) == [reason]


def test_rows_without_a_stated_answer_are_held_against_the_solutions(blind, chat):
    check = judge(blind, chat(lambda question: {"solution": "", "answer": problem(question).replace(" ", ":")}))
    rows = [Example(prompt="a 1", completion="a:1"), Example(prompt="a 2", completion="a:1")]
    assert check(rows, rng()) == [None, "inconsistent"]
    assert len({question.seed for question in check.client.model.asked}) == 6


def test_what_the_task_recognises_and_nothing_cost_no_call(fakes, chat):
    check = judge(fakes.Toy(), chat(lambda question: {}))
    assert check([Example(prompt="a 1", completion="a:2")], rng()) == [None]
    assert check([], rng()) == []
    assert not check.client.model.asked


def test_it_is_a_filter_of_environments(fakes, chat):
    client = chat(lambda question: {"solution": "", "answer": "a:1"})
    env = fakes.make_env(filters=["consistent"], client=client)
    env.reset(seed=0)
    *_, info = env.step(fakes.deal(env, 5))
    assert info["rows"]["accepted"] == 5 and not client.model.asked  # the toy task knows its problems


def test_settings_are_looked_at(fakes):
    with pytest.raises(InvalidData, match="solutions must be a whole number"):
        filters.make("consistent:few", task=fakes.Toy())
    with pytest.raises(InvalidData, match="call converse"):
        Consistency(task=type("B", (fakes.Toy,), {"recognise": lambda s, p: None})())(
            [Example(prompt="a 1", completion="a:1")], rng()
        )
