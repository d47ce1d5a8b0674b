"""Engines whose rows are wrong, or not what was asked for: noisy-engine, deceive, response-only, off-domain."""

from collections import Counter

import numpy as np
import pytest

from dataenv.engines import engines
from dataenv.engines.corrupting import misled
from dataenv.engines.drops import Drops
from dataenv.errors import InvalidData
from dataenv.protocols import Engine
from dataenv.records import Example, Request
from dataenv.tasks import tasks
from dataenv.tasks.unverified import Unverified

ASKED = [Request(skill="a", rows=150), Request(skill="b", rows=150)]


class Worked:
    """Rows with a working, over any task."""

    name = "worked"

    def write(self, requests, rng, taught=frozenset()):
        return [
            [
                Example(
                    prompt=f"{r.skill} {n}",
                    completion=f"first 12 then 7\nso {r.skill}:{n}",
                    answer=f"{r.skill}:{n}",
                    skill=r.skill,
                )
                for n in rng.integers(10**6, size=r.rows).tolist()
            ]
            for r in requests
        ]


class Rows:
    """These rows, whatever is asked."""

    name = "rows"

    def __init__(self, rows):
        self.rows, self.dropped = rows, Drops()

    def write(self, requests, rng, taught=frozenset()):
        return [list(self.rows) for _ in requests]


class Ending:
    """A task that accepts any response whose last word is the answer."""

    def __init__(self, task):
        self.task = task

    def verify(self, problem, response):
        return self.task.verify(problem, response.split()[-1] if response.split() else "")

    def __getattr__(self, name):
        return getattr(self.task, name)


@pytest.fixture
def task(fakes):
    return Ending(fakes.Toy())


def rng(seed=0):
    return np.random.default_rng(seed)


def right(task, row):
    return task.verify(task.recognise(row.prompt), row.completion).correct


def test_measured_rates_are_those_that_were_set(task):
    engine = engines.make("noisy-engine:0.3", task=task, step=0.2, shirk=0.1, source=Worked())
    rows = [row for few in engine.write(ASKED, rng()) for row in few]
    kinds = Counter(row.provenance.get("corrupted") for row in rows)
    for kind, rate in (("outcome", 0.3), ("step", 0.2), ("shirk", 0.1)):
        assert abs(kinds[kind] / 300 - rate) < 2 * (rate * (1 - rate) / 300) ** 0.5 + 1e-9
    assert all(right(task, row) == (row.provenance.get("corrupted") != "outcome") for row in rows)
    for row in rows:
        if row.provenance.get("corrupted") == "step":
            assert row.completion not in (f"first 12 then 7\nso {row.answer}",)
        if row.provenance.get("corrupted") == "shirk":
            assert row.completion == f"so {row.answer}"
    assert not engine.spared


def test_what_has_no_working_is_spared_and_counted(fakes):
    engine = engines.make("noisy-engine", task=fakes.Toy(), outcome=0.0, step=1.0)
    rows = engine.write([Request(skill="a", rows=9)], rng())[0]
    assert all("corrupted" not in row.provenance for row in rows) or engine.spared["step"] < 9


@pytest.mark.parametrize("options", [{"outcome": 0.7, "step": 0.4}, {"outcome": -1}, {"shirk": 2}])
def test_rates_without_a_meaning_are_refused(options, fakes):
    with pytest.raises(InvalidData, match="noisy-engine"):
        engines.make("noisy-engine", task=fakes.Toy(), **options)


@pytest.mark.parametrize("id", ["noisy-engine:1.0", "deceive"])
def test_the_gate_lets_no_wrong_row_pass_where_the_task_knows_the_truth(id, fakes):
    task, student = fakes.Toy(), fakes.Scripted()
    for checked in (True, False):
        env = fakes.make_env(task if checked else Unverified(task), student, engine=id)
        env.reset(seed=1)
        *_, info = env.step(fakes.deal(env, 10, 5, 5))
        if checked:
            assert info["rows"]["accepted"] <= 1  # an answer that is alone has no other at hand, and is spared
            assert info["rows"]["dropped"]["wrong"] > 20
        else:
            assert info["rows"]["accepted"] == 20
            assert not any(right(task, row) for row in env.situation.taught)


def test_deceive_takes_the_students_own_mistake_first(fakes):
    task = fakes.Toy()

    class Wrong(fakes.Scripted):
        def answer(self, prompts, **options):
            return [[type(reply[0])("nonsense", "stop", 1)] for reply in super().answer(prompts, **options)]

    engine = engines.make("deceive", task=task)
    engine.attach(Wrong())
    assert {row.completion for row in engine.write([Request(skill="a", rows=5)], rng())[0]} == {"nonsense"}


def test_an_answer_that_is_right_is_no_wrong_answer(fakes):
    row = Example(prompt="a 5", completion="a:5", answer="a:5", skill="a")
    assert misled(fakes.Toy(), row, ["a:5"]) is None
    assert misled(fakes.Toy(), row.model_copy(update={"answer": None}), ["b:1"]) is None
    assert misled(fakes.Toy(), row, ["a:5", "b:1"]).completion == "b:1"


def test_a_row_whose_answer_is_not_in_words_cannot_be_misled(fakes):
    row = Example(prompt="write f", completion="def f(): ...", answer="", skill="a")
    assert misled(fakes.Toy(), row, ["b:1"]) is None
    engine = engines.make("noisy-engine:1.0", task=fakes.Toy(), source=Rows([row]))
    assert engine.write([Request(skill="a", rows=1)], rng()) == [[row]]
    assert engine.spared == {"outcome": 1}


def test_what_is_dropped_can_be_looked_at(fakes):
    row = Example(prompt="a 1", completion="a:1", answer="a:1", skill="a")
    source = Rows([row])
    source.dropped.drop("torn", "half a row")
    noisy, deceive = (engines.make(id, task=fakes.Toy(), source=source) for id in ("noisy-engine", "deceive"))
    deceive.attach(fakes.Scripted({"a": 1.0}))
    for engine, reasons in ((noisy, ["torn"]), (deceive, ["torn", "no wrong answer"])):
        engine.write([Request(skill="a", rows=1)], rng())
        assert [one.reason for one in engine.dropped.samples] == reasons


@pytest.mark.parametrize(("id", "other"), [("response-only", None), ("off-domain", "drills")])
def test_controls_bring_as_many_rows_under_the_skills_that_were_asked_for(id, other, fakes):
    task = fakes.Toy()
    engine = engines.make(f"{id}:{other}" if other else id, task=task)
    assert isinstance(engine, Engine)
    rows = engine.write([Request(skill="a", rows=30), Request(skill="b", rows=7)], rng())
    assert [len(few) for few in rows] == [30, 7]
    assert {row.skill for row in rows[1]} == {"b"}
    assert all(row.answer is None and task.recognise(row.prompt) is None for few in rows for row in few)
    env = fakes.make_env(task, engine=engine)
    env.reset(seed=1)
    *_, info = env.step(fakes.deal(env, 10, 10))
    assert info["rows"]["accepted"] == 20


def test_off_domain_refuses_the_runs_own_task():
    with pytest.raises(InvalidData, match="name another"):
        engines.make("off-domain:drills", task=tasks.make("drills"))


def test_unverified_is_the_task_in_all_but_recognising():
    task = tasks.make("unverified:drills")
    assert task.name == "unverified:drills" and task.skills == tasks.make("drills").skills
    problem = task.write("addition", 1, None, rng())[0]
    assert task.recognise(problem.prompt) is None
    assert task.verify(problem, problem.answer).correct
