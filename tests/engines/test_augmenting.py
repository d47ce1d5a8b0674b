"""The engines that make other rows of pool rows by a language model: `answer-augment` and `rephrase`."""

import numpy as np
import pytest

from dataenv.engines.augmenting import AnswerAugment, Rephrase
from dataenv.records import UNMATCHED, Request, Verdict


def rng(seed=0):
    return np.random.default_rng(seed)


def shown(question, heading):
    return question.messages[0].content.split(f"{heading}\n| ")[1].split("\n")[0]


def made(kind, task, client, **options):
    engine = kind(task, **options)
    engine.converse(client)
    return engine


class Worked:
    """The toy task of fixed data with worked solutions, which knows its own problems and no others."""

    prerequisites, default_engine, max_new_tokens, name = {}, "pool", 8, "worked"

    def __init__(self, toy):
        self.toy, self.skills, self.held_out = toy, toy.skills, toy.held_out

    def problems(self, split, per_skill, seed):
        return [
            p.model_copy(update={"solution": f"plainly\n#### {p.answer}"})
            for p in self.toy.problems(split, per_skill, seed)
        ]

    def verify(self, problem, response):
        right = response.rpartition("#### ")[2] == problem.answer
        return Verdict(float(right), right)

    def recognise(self, prompt):
        known = {p.prompt.key: p for p in self.problems("pool", None, 0)}
        return known.get(prompt.key)


@pytest.fixture
def task(fakes):
    return Worked(fakes.FixedToy(per_skill=12))


class TestAnswerAugment:
    def test_teaches_new_solutions_that_come_to_the_right_answer(self, task, chat):
        wrong = set()

        def answer(question):
            problem = shown(question, "The problem to solve:")
            right = problem.replace(" ", ":")
            if len(wrong) < 3:
                wrong.add(problem)
                return {"solution": "rashly", "answer": "no"}
            return {"solution": "with care", "answer": right}

        engine = made(AnswerAugment, task, chat(answer))
        (rows,) = engine.write([Request(skill="a", rows=5)], rng())
        pool = {p.prompt.text: p for p in task.problems("pool", None, 0)}
        assert len(rows) == 5 and engine.dropped == {"wrong": 3}
        for row in rows:
            problem = pool[row.prompt.text]
            assert row.completion == f"with care\n#### {problem.answer}"
            assert (row.answer, row.skill) == (problem.answer, "a")
        assert not wrong & {row.prompt.text for row in rows}  # a problem is tried once

    def test_the_answer_is_not_in_the_question(self, task, chat):
        engine = made(AnswerAugment, task, chat(lambda question: {"solution": "?", "answer": "?"}), tries=1)
        assert engine.write([Request(skill="a", rows=4)], rng()) == [[]]
        for question in engine.client.model.asked:
            problem = shown(question, "The problem to solve:")
            assert problem.replace(" ", ":") not in question.messages[0].content
        assert engine.dropped == {"wrong": 4}

    def test_ends_with_the_pool_and_leaves_out_what_was_taught(self, task, chat):
        def answer(question):
            return {"solution": "x", "answer": shown(question, "The problem to solve:").replace(" ", ":")}

        engine = made(AnswerAugment, task, chat(answer))
        taught = {p.prompt.key for p in task.problems("pool", None, 0)[:4]}
        (rows,) = engine.write([Request(skill="a", rows=50)], rng(), taught)
        assert len(rows) == 8 and not taught & {row.prompt.key for row in rows}


class TestRephrase:
    def test_keeps_the_answer_where_solutions_confirm_it(self, task, chat):
        asked = []

        def answer(question):
            if "The problem to solve:" in question.messages[0].content:
                problem = shown(question, "The problem to solve:")
                sound = int(problem.split()[-1]) % 2
                return {"solution": "", "answer": ":".join(problem.split()[-2:]) if sound else "?"}
            asked.append(shown(question, "The problem:"))
            return {"problem": f"kindly say {asked[-1]}"}

        engine = made(Rephrase, task, chat(answer))
        (rows,) = engine.write([Request(skill="a", rows=12)], rng())
        sound = {problem for problem in asked if int(problem.split()[-1]) % 2}
        assert {row.prompt.text for row in rows} == {f"kindly say {problem}" for problem in sound}
        assert engine.dropped == {"inconsistent": 12 - len(sound)}
        pool = {p.prompt.text: p for p in task.problems("pool", None, 0)}
        for row in rows:
            problem = pool[row.prompt.text.removeprefix("kindly say ")]
            assert (row.answer, row.completion) == (problem.answer, problem.solution)
            assert row.provenance["model"] == "scripted"

    def test_the_same_words_are_no_other_words(self, task, chat):
        engine = made(Rephrase, task, chat(lambda q: {"problem": shown(q, "The problem:").upper()}), tries=1)
        assert engine.write([Request(skill="a", rows=4)], rng()) == [[]]
        assert engine.dropped == {"copied": 4}

    def test_another_problem_of_the_task_has_another_answer(self, task, chat):
        other = task.problems("pool", None, 0)[0].prompt.text
        engine = made(Rephrase, task, chat(lambda question: {"problem": other}), tries=1)
        assert engine.write([Request(skill="a", rows=12)], rng()) == [[]]
        assert engine.dropped == {"copied": 1, "wrong": 11}


@pytest.mark.parametrize("kind", [AnswerAugment, Rephrase])
def test_the_pool_has_nothing_for_an_unmatched_request(kind, task, chat):
    engine = made(kind, task, chat(lambda question: {}))
    assert engine.write([Request(skill=UNMATCHED, rows=4, instruction="dragons")], rng()) == [[]]
    assert not engine.client.model.asked
