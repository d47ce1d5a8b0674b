"""The student's own right answers as rows, with a student whose sampling is a matter of the seed."""

import copy
from itertools import count

import numpy as np
import pytest

from dataenv.engines import engines
from dataenv.engines.filling import ROUNDS, fill
from dataenv.engines.gate import Gate
from dataenv.errors import InvalidData, UnknownId
from dataenv.progress import Clock
from dataenv.protocols import AsksStudent, TryingEngine
from dataenv.records import Example, Plan, Reply, Request
from dataenv.seeding import stream
from dataenv.tasks.splits import split_of


@pytest.fixture
def parts(fakes):
    """A toy task and a student that is right in `plain[skill]` of its samples, `shown[skill]` after exemplars."""

    class Sampling(fakes.Scripted):
        name = "sampling"

        def __init__(self, plain=None, shown=None, finish="stop", **options):
            super().__init__(**options)
            self.plain = {"a": 0.5, "b": 0.5, "c": 0.5} if plain is None else plain
            self.shown = self.plain if shown is None else shown
            self.finish = finish
            self.asked = []

        def answer(self, prompts, *, max_new_tokens, shots=(), samples=1, temperature=0.0, seed=0):
            self.asked.append((len(prompts), len(shots), samples, temperature))
            rng, replies = stream(seed), []
            assert all(shot.skill == prompt.text[0] for shot in shots for prompt in prompts)
            for prompt in prompts:
                skill, _, number = prompt.text.partition(" ")
                right = rng.random(samples) < (self.shown if shots else self.plain).get(skill, 0.0)
                replies.append([Reply(f" {skill}:{number}\n" if r else "?", self.finish, 3) for r in right])
            return replies

    return fakes.Toy(), Sampling


def made(parts, spec="self-sampling", student=None, **options):
    task, sampling = parts
    engine = engines.make(spec, task=task, **options)
    engine.attach(sampling() if student is None else student)
    return engine


def requests(**rows):
    return [Request(skill=skill, rows=n) for skill, n in rows.items()]


def test_it_is_an_engine_that_tries_and_asks_the_student(parts):
    engine = engines.make("self-sampling", task=parts[0])
    assert isinstance(engine, TryingEngine)
    assert isinstance(engine, AsksStudent)


def test_rows_are_what_the_student_said_and_nobody_else(parts):
    rows = made(parts).write(requests(a=20, b=5), stream(0))
    assert [len(few) for few in rows] == [20, 5]
    for skill, few in zip("ab", rows, strict=True):
        assert len({row.prompt.key for row in few}) == len(few)
        for row in few:
            assert row.skill == skill
            assert row.completion == row.prompt.text.replace(" ", ":") == row.answer
            assert split_of(row.prompt) == "pool"
            assert 1 <= row.provenance["solved"] <= row.provenance["samples"] == 4


def test_they_pass_the_gate_and_carry_the_engines_name(parts):
    engine = made(parts)
    plan = Plan(requests=tuple(requests(a=12)))
    filled = fill(plan, engine, Gate(parts[0], ()), set(), Clock(), step=2, seed=0)
    assert len(filled.examples) == 12
    assert {(row.provenance["engine"], row.provenance["step"]) for row in filled.examples} == {("self-sampling", 2)}
    assert set(filled.dropped) <= {"unsolved"}


def test_unsolved_problems_are_counted_and_asked_for_anew(parts):
    student = parts[1](plain={"a": 0.1})
    engine = made(parts, student=student, samples=1, tries=100)
    (rows,) = engine.write(requests(a=10), stream(0))
    assert len(rows) == 10
    asked = sum(n for n, *_ in student.asked)
    assert asked - 10 >= engine.dropped["unsolved"] > 30  # the last wave may bring more than was missing
    engine.write(requests(a=1), stream(1))
    assert engine.dropped["unsolved"] < 30  # of the last call only


@pytest.mark.parametrize("tries", [1, 3])
def test_there_is_a_cap_of_problems_and_it_holds_over_all_rounds(parts, tries):
    student = parts[1](plain={"b": 1.0})
    engine = made(parts, student=student, tries=tries)
    plan = Plan(requests=tuple(requests(a=7, b=5)))
    filled = fill(plan, engine, Gate(parts[0], ()), set(), Clock(), step=1, seed=0)
    assert filled.shortfall == {"a": 7}
    assert filled.dropped == {"unsolved": 7 * tries}
    assert sum(n for n, *_ in student.asked) == 7 * tries + 5


def test_what_the_gate_drops_is_asked_for_again_by_others_than_those_that_fell_short(parts):
    calls = count()

    def every_second(examples, rng):
        return ["odd" if next(calls) % 2 else None for _ in examples]

    student = parts[1](plain={"b": 1.0})
    plan = Plan(requests=tuple(requests(a=3, b=8)))
    filled = fill(
        plan, made(parts, student=student, tries=2), Gate(parts[0], ()), set(), Clock(), step=1, seed=0,
        filters=[every_second],
    )  # fmt: skip
    assert [row.skill for row in filled.examples] == ["b"] * 8
    assert filled.dropped["unsolved"] == 6
    assert 0 < filled.dropped["odd"] <= 8 * ROUNDS


def test_answers_are_sampled_as_asked(parts):
    student = parts[1]()
    made(parts, student=student, samples=3, temperature=1.2).write(requests(a=4), stream(0))
    assert {(samples, temperature) for *_, samples, temperature in student.asked} == {(3, 1.2)}


@pytest.mark.parametrize("better", ["plain", "shown"])
def test_after_a_few_of_both_it_asks_in_the_way_that_brings_more(parts, better):
    student = parts[1](**{"plain": {}, "shown": {}} | {better: {"a": 0.4}}, shots=4)
    (rows,) = made(parts, student=student, samples=1, tries=20).write(requests(a=40), stream(0))
    assert len(rows) == 40
    asked = {after: sum(n for n, shots, *_ in student.asked if bool(shots) == after) for after in (False, True)}
    assert asked[better != "shown"] <= 8 < 80 < asked[better == "shown"]
    assert {row.provenance["shots"] for row in rows} == {4 if better == "shown" else 0}


@pytest.mark.parametrize(("student_has", "option", "expected"), [(4, 0, {0}), (0, None, {0}), (4, 2, {0, 2})])
def test_how_many_exemplars_are_shown(parts, student_has, option, expected):
    student = parts[1](shots=student_has)
    made(parts, student=student, shots=option).write(requests(a=9, b=9), stream(0))
    assert {shots for _, shots, *_ in student.asked} == expected


def test_each_skill_finds_its_own_way(parts):
    student = parts[1](plain={"a": 0.9}, shown={"b": 0.9}, shots=2)
    a, b = made(parts, student=student).write(requests(a=30, b=30), stream(0))
    assert {row.provenance["shots"] for row in a} == {0}
    assert {row.provenance["shots"] for row in b} == {2}


@pytest.mark.parametrize("finish", ["length", "overlong"])
def test_answers_that_were_cut_off_are_not_taught(parts, finish):
    assert made(parts, student=parts[1](plain={"a": 1.0}, finish=finish)).write(requests(a=3), stream(0)) == [[]]


def test_the_same_generator_gives_the_same_rows_whatever_was_written_before(parts):
    used = made(parts, student=parts[1](shots=2))
    used.write(requests(c=5), stream(9))
    fresh = made(parts, student=parts[1](shots=2))
    first = used.write(requests(a=9, b=3), stream(1))
    assert first == fresh.write(requests(a=9, b=3), stream(1))
    assert first != fresh.write(requests(a=9, b=3), stream(2))


def test_what_was_taught_is_not_asked_and_the_set_stays(parts, fakes):
    task = fakes.FixedToy(per_skill=12)
    taught = {p.prompt.key for p in task.problems("pool", 5, 0)}
    before = set(taught)
    (rows,) = made((task, parts[1])).write(requests(a=12), stream(0), taught)
    assert 0 < len(rows) <= 7
    assert not {row.prompt.key for row in rows} & taught
    assert taught == before


def test_a_pool_that_ends_ends_the_asking(parts, fakes):
    task = fakes.FixedToy(per_skill=6)
    student = parts[1](plain={})
    assert made((task, parts[1]), student=student).write(requests(a=20), stream(0)) == [[]]
    assert sum(n for n, *_ in student.asked) == 6


def test_problems_come_from_the_tasks_own_engine_or_another(parts):
    assert made(parts).source.name == "procedural"
    assert made(parts, "self-sampling:pool").source.name == "pool"
    with pytest.raises(UnknownId, match="No engine is called 'pul'; did you mean 'pool'"):
        made(parts, "self-sampling:pul")


def test_a_source_may_ask_the_student_too(parts):
    engine = made(parts, "self-sampling:mixture:self-sampling=1")
    assert engine.source.parts[0].student is engine.student
    assert engine.parts == (engine.source,)
    (rows,) = engine.write(requests(a=4), stream(0))
    assert len(rows) == 4


def test_rows_without_an_answer_cannot_be_judged(parts):
    class Mute:
        name = "mute"

        def write(self, requests, rng, taught=frozenset()):
            return [[Example(prompt="a 1", completion="?", skill="a")] * r.rows for r in requests]

    engine = made(parts, source=Mute(), tries=1)
    assert engine.write(requests(a=3), stream(0)) == [[]]
    assert engine.dropped == {"unverifiable": 3}


def test_nothing_asked_asks_nobody(parts):
    student = parts[1]()
    engine = made(parts, student=student)
    assert engine.write([], stream(0)) == []
    assert engine.write(requests(a=0), stream(0)) == [[]]
    assert engine.write([Request(skill="unmatched", rows=3)], stream(0)) == [[]]
    assert student.asked == []


def test_the_student_stays_as_it_is(parts):
    student = parts[1]()
    version = student.version
    made(parts, student=student).write(requests(a=9), stream(0))
    assert student.version == version
    assert not student.lessons


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"samples": 0}, "samples must be a whole number of at least 1"),
        ({"samples": "many"}, "samples must be a whole number"),
        ({"tries": 0}, "tries must be a whole number"),
        ({"temperature": -1}, r"temperature must be a number in \[0, 10\]"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"shots": -1}, "shots must be a whole number of at least 0"),
        ({"depth": 3}, "engine 'self-sampling' has no option 'depth'"),
        ({"source": object()}, "self-sampling: source must be"),
    ],
)
def test_bad_settings_are_one_sentence(parts, options, word):
    with pytest.raises(InvalidData, match=word):
        engines.make("self-sampling", task=parts[0], **options)


def test_without_a_student_it_says_what_is_missing(parts):
    with pytest.raises(InvalidData, match=r"'self-sampling' asks a student: call attach\(student\) first"):
        engines.make("self-sampling", task=parts[0]).write(requests(a=1), stream(0))


def test_it_serves_one_student(parts):
    student = parts[1]()
    engine = made(parts, student=student)
    engine.attach(student)
    with pytest.raises(InvalidData, match="'self-sampling' asks the student of another environment already"):
        engine.attach(parts[1]())
    assert engine.student is student


def test_a_copy_asks_the_copied_student(parts):
    engine = made(parts)
    again = copy.deepcopy(engine)
    assert again.student is not engine.student
    assert again.write(requests(a=4), stream(3)) == engine.write(requests(a=4), stream(3))


def test_replies_that_are_none_are_named(parts):
    student = parts[1]()
    student.answer = lambda prompts, **_: [["?"]] * len(prompts)
    with pytest.raises(InvalidData, match=r"answer\(\) of student 'sampling' must return a list of Reply"):
        made(parts, student=student).write(requests(a=1), stream(0))


def test_global_generators_stay_untouched(parts):
    before = np.random.get_state()[1].tolist()
    made(parts).write(requests(a=5), stream(0))
    assert np.random.get_state()[1].tolist() == before
