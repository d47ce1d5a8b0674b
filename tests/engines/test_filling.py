import numpy as np
import pytest

from dataenv.engines import engines
from dataenv.engines.filling import ROUNDS, fill
from dataenv.engines.gate import Gate
from dataenv.errors import InvalidData
from dataenv.progress import Clock
from dataenv.records import Example, Plan, Request


class Scripted:
    """An engine that hands out the prompts of a list per skill, in order, whatever is asked."""

    name = "scripted"

    def __init__(self, **prompts):
        self.prompts = {skill: list(rows) for skill, rows in prompts.items()}
        self.asked = []

    def write(self, requests, rng, taught=frozenset()):
        self.asked.append([(r.skill, r.rows) for r in requests])
        out = []
        for r in requests:
            rows, self.prompts[r.skill] = self.prompts[r.skill][: r.rows], self.prompts[r.skill][r.rows :]
            out.append([Example(prompt=text, completion="x", skill=r.skill) for text in rows])
        return out


class Anything:
    def held_out(self):
        return ()

    def recognise(self, prompt):
        return None


def run(plan, engine, taught=None, filters=(), seed=0):
    known = set() if taught is None else taught
    return fill(plan, engine, Gate(Anything(), ()), known, Clock(), step=3, seed=seed, teacher="t", filters=filters)


def unless(reason, bad):
    """A filter that drops the rows whose prompt `bad` holds for."""
    return lambda rows, rng: [reason if bad(row.prompt.text) else None for row in rows]


def asks(**rows):
    return Plan(requests=tuple(Request(skill=skill, rows=n) for skill, n in rows.items()))


def texts(filled):
    return [e.prompt.text for e in filled.examples]


def test_rows_come_in_the_order_of_the_plan_and_say_where_they_come_from():
    filled = run(asks(b=2, a=1), Scripted(a=["a1", "a2"], b=["b1", "b2"]))
    assert texts(filled) == ["b1", "b2", "a1"]
    assert [e.provenance for e in filled.examples] == [
        {"engine": "scripted", "teacher": "t", "step": 3, "seed": 0, "request": i} for i in (0, 0, 1)
    ]
    assert not filled.dropped
    assert not filled.shortfall


def test_what_the_gate_drops_is_asked_for_again():
    engine = Scripted(a=["a1", "bad", "a1", "a2", "a3", "a4"], b=["b1"])
    filled = run(asks(a=4, b=1), engine, filters=[unless("bad", "bad".__eq__)])
    assert texts(filled) == ["a1", "a2", "a3", "a4", "b1"]
    assert filled.dropped == {"bad": 1, "duplicate": 1}
    assert engine.asked == [[("a", 4), ("b", 1)], [("a", 2)]]


def test_filters_see_all_rows_of_a_round_at_once_each_those_that_are_left():
    seen = []

    def watching(name, bad):
        def judge(rows, rng):
            seen.append((name, [row.prompt.text for row in rows], rng.random()))
            return [name if row.prompt.text in bad else None for row in rows]

        return judge

    engine = Scripted(a=["a1", "a2", "a3", "a4", "a1"], b=["b1", "b2"])
    filled = run(asks(a=3, b=2), engine, filters=[watching("one", {"a2", "b1"}), watching("two", {"a1"})])
    assert [entry[:2] for entry in seen] == [
        ("one", ["a1", "a2", "a3", "b1", "b2"]),
        ("two", ["a1", "a3", "b2"]),
        ("one", ["a4"]),
        ("two", ["a4"]),
    ]
    assert len({draw for *_, draw in seen}) == 4
    assert texts(filled) == ["a3", "a4", "b2"]
    assert filled.dropped == {"one": 2, "two": 1, "duplicate": 1}
    assert filled.shortfall == {"a": 1, "b": 1}


def test_filters_come_after_the_gate_and_judge_written_out_rows_too():
    rows = tuple(Example(prompt=text, completion="x", skill="v") for text in ("v1", "v2", "v2"))
    filled = run(Plan(examples=rows), Scripted(), filters=[unless("odd", "v1".__eq__), unless("late", "v1".__eq__)])
    assert texts(filled) == ["v2"]
    assert filled.dropped == {"duplicate": 1, "odd": 1}
    assert filled.shortfall == {"v": 2}


def test_where_no_row_is_left_a_filter_is_not_asked():
    filled = run(asks(a=1), Scripted(a=[]), filters=[lambda rows, rng: 1 / 0])
    assert filled.shortfall == {"a": 1}


def test_a_prompt_that_a_filter_dropped_is_not_taken_again():
    """Asked often enough, a sampling judge would let anything pass."""
    verdicts = iter(["unlucky", None])
    filled = run(asks(a=1), Scripted(a=["a1", "a1", "a1"]), filters=[lambda rows, rng: [next(verdicts)]])
    assert texts(filled) == []
    assert filled.dropped == {"unlucky": 1, "duplicate": 2}


def test_a_filters_draws_come_from_the_seed():
    def coin(rows, rng):
        return ["tails" if rng.random() < 0.5 else None for _ in rows]

    def kept(seed):
        return texts(run(asks(a=40), Scripted(a=[f"a{i}" for i in range(40)]), filters=[coin], seed=seed))

    assert kept(1) == kept(1) != kept(2)


@pytest.mark.parametrize(
    ("returned", "word"),
    [
        (None, "a reason or None for each of 2 rows; it returned None"),
        (["no"], "a reason or None for each of 2 rows; it returned 1 of them"),
        ([True, None], "a reason in words, or None, for each row; one is True"),
        (["", None], "a reason in words, or None, for each row; one is ''"),
    ],
)
def test_a_filter_that_returns_something_else_is_named(returned, word):
    def odd(rows, rng):
        return returned

    with pytest.raises(InvalidData, match=rf"^Filter 'odd' must return {word}"):
        run(asks(a=2), Scripted(a=["a1", "a2"]), filters=[odd])


def test_an_engine_that_tries_itself_is_asked_again_only_for_what_the_gate_dropped():
    class Trying(Scripted):
        dropped: dict = {}  # noqa: RUF012

        def write(self, requests, rng, taught=frozenset()):
            self.dropped = {"failed": 10}
            return super().write(requests, rng, taught)

    engine = Trying(a=["a1"] + ["a9"] * 99, b=["b1", "bad", "b2"])
    plan = asks(a=1, b=2)
    engine.prompts["c"] = ["c1"]
    plan = Plan(requests=(*plan.requests, Request(skill="c", rows=4)))
    filled = run(plan, engine, filters=[unless("bad", "bad".__eq__)])
    assert texts(filled) == ["a1", "b1", "b2", "c1"]
    assert engine.asked == [[("a", 1), ("b", 2), ("c", 4)], [("b", 1)]]
    assert filled.dropped == {"bad": 1, "failed": 20}
    assert filled.shortfall == {"c": 3}


def test_an_engine_that_has_no_more_is_asked_once_more_and_the_rest_is_shortfall():
    engine = Scripted(a=["a1"])
    filled = run(asks(a=5), engine)
    assert texts(filled) == ["a1"]
    assert filled.shortfall == {"a": 4}
    assert len(engine.asked) == 2


def test_a_useless_engine_is_given_up_after_some_rounds():
    engine = Scripted(a=["a1"] * 100)
    filled = run(asks(a=2), engine)
    assert texts(filled) == ["a1"]
    assert len(engine.asked) == ROUNDS
    assert filled.dropped["duplicate"] == ROUNDS
    assert filled.shortfall == {"a": 1}


def test_more_than_asked_for_is_cut_off():
    class Generous(Scripted):
        def write(self, requests, rng, taught=frozenset()):
            return [
                [Example(prompt=f"{r.skill}{i}", completion="x", skill=r.skill) for i in range(50)] for r in requests
            ]

    assert texts(run(asks(a=2, b=1), Generous())) == ["a0", "a1", "b0"]


def test_taught_keys_are_known_and_stay_as_they_are():
    taught = {Example(prompt="a1", completion="x").prompt.key}
    filled = run(asks(a=2), Scripted(a=["a1", "a2", "a3"]), taught)
    assert texts(filled) == ["a2", "a3"]
    assert len(taught) == 1


def test_rows_written_out_pass_the_same_gate_and_come_first():
    verbatim = tuple(Example(prompt=t, completion="x", skill="v") for t in ("v1", "v1", "a1"))
    filled = run(Plan(requests=asks(a=1).requests, examples=verbatim), Scripted(a=["a1", "a2"]))
    assert texts(filled) == ["v1", "a1", "a2"]
    assert filled.shortfall == {"v": 1}
    assert filled.dropped == {"duplicate": 2}
    assert filled.examples[0].provenance == {"engine": "verbatim", "teacher": "t", "step": 3, "seed": 0}
    assert not verbatim[0].provenance  # the teacher's own records stay as they are


def test_two_requests_for_one_skill_count_apart():
    filled = run(Plan(requests=(Request(skill="a", rows=1), Request(skill="a", rows=3))), Scripted(a=["a1", "a2"]))
    assert [e.provenance["request"] for e in filled.examples] == [0, 1]
    assert filled.shortfall == {"a": 2}


def test_nothing_asked_asks_nobody():
    engine = Scripted(a=[])
    assert run(Plan(), engine).examples == []
    assert run(asks(a=0), engine).examples == []
    assert engine.asked == []


def test_an_engine_that_answers_with_too_few_lists_is_found_out():
    class Short(Scripted):
        def write(self, requests, rng, taught=frozenset()):
            return []

    with pytest.raises(ValueError):
        run(asks(a=1), Short())


@pytest.mark.parametrize("engine", ["procedural", "pool"])
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(fakes, engine):
    task = fakes.Toy()
    made = engines.make(engine, task=task)

    def rows(seed):
        return texts(fill(asks(a=10, b=5), made, Gate(task, ()), set(), Clock(), step=1, seed=seed))

    assert rows(1) == rows(1) != rows(2)
    assert len(rows(1)) == len(set(rows(1))) == 15


def test_drawing_disturbs_no_global_generator(fakes):
    before = np.random.get_state()[1].tolist()
    task = fakes.Toy()
    fill(asks(a=10), engines.make("procedural", task=task), Gate(task, ()), set(), Clock(), step=1, seed=1)
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize(
    ("written", "word"),
    [
        (None, "it returned None"),
        ([], "for each of 1 requests; it returned 0 of them"),
        ([["a row"]], "must return lists of Example; one held 'a row'"),
        ([None], "must return lists of Example; it returned None"),
    ],
)
def test_an_engine_that_returns_something_else_is_named(written, word):
    class Odd(Scripted):
        def write(self, requests, rng, taught=frozenset()):
            return written

    with pytest.raises(InvalidData, match=rf"^write\(\) of engine 'scripted' .*{word}"):
        run(asks(a=1), Odd())
