"""Several engines by share: how rows are dealt, who makes up for whom, and what is no mixture."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.engines import engines
from dataenv.engines.filling import fill
from dataenv.engines.gate import Gate
from dataenv.engines.mixture import Mixture
from dataenv.errors import InvalidData, UnknownId
from dataenv.progress import Clock
from dataenv.protocols import AsksStudent, Engine, TryingEngine
from dataenv.records import Example, Plan, Request
from dataenv.seeding import stream


class Counter:
    """An engine that writes "NAME SKILL 0", "NAME SKILL 1", ...: at most `most` rows in its life."""

    def __init__(self, name, most=10**9):
        self.name, self.most, self.made, self.asked, self.known, self.draws = name, most, 0, [], [], []

    def write(self, requests, rng, taught=frozenset()):
        self.asked.append([(r.skill, r.rows) for r in requests])
        self.draws.append(int(rng.integers(2**63)))
        out = []
        for r in requests:
            n = min(r.rows, self.most - self.made)
            out.append([self.row(r.skill, self.made + i) for i in range(n)])
            self.made += n
            self.known.append(
                {e.prompt.text for e in [self.row(r.skill, i) for i in range(9)] if e.prompt.key in taught}
            )
        return out

    def row(self, skill, i):
        return Example(prompt=f"{self.name} {skill} {i}", completion="x", skill=skill)


class Trying(Counter):
    dropped: dict = {}  # noqa: RUF012

    def write(self, requests, rng, taught=frozenset()):
        self.dropped = {"unsolved": len(requests)}
        return super().write(requests, rng, taught)


def mix(*parts, **options):
    return Mixture(list(parts), task=None, **options)


def asks(*rows):
    return [Request(skill="abc"[i % 3], rows=n) for i, n in enumerate(rows)]


def by_engine(rows):
    return [e.provenance["engine"] for e in rows]


def test_it_is_an_engine_that_hands_the_student_on(fakes):
    mixture = engines.make("mixture:procedural=0.7,self-sampling=0.3", task=fakes.Toy())
    for protocol in (Engine, TryingEngine, AsksStudent):
        assert isinstance(mixture, protocol)
    student = fakes.Scripted()
    mixture.attach(student)
    assert mixture.parts[1].student is student


def test_each_engine_writes_its_share_and_rows_name_their_engine():
    x, y = Counter("x"), Counter("y")
    (a, b) = mix((x, 0.7), (y, 0.3)).write(asks(10, 20), stream(0))
    assert by_engine(a) == ["x"] * 7 + ["y"] * 3
    assert by_engine(b) == ["x"] * 14 + ["y"] * 6


def test_filling_keeps_the_name_and_adds_the_rest():
    class Anything:
        def held_out(self):
            return ()

        def recognise(self, prompt):
            return None

    plan = Plan(requests=tuple(asks(4, 2)))
    filled = fill(plan, mix((Counter("x"), 1), (Counter("y"), 1)), Gate(Anything(), ()), set(), Clock(), step=3, seed=0)
    assert [tuple(e.provenance.values()) for e in filled.examples] == [
        ("x", None, 3, 0, 0), ("x", None, 3, 0, 0), ("y", None, 3, 0, 0), ("y", None, 3, 0, 0), ("x", None, 3, 0, 1),
        ("y", None, 3, 0, 1),
    ]  # fmt: skip


def test_requests_of_one_row_go_round():
    """By largest remainder alone all of them would go to the engine of the largest share."""
    written = mix((Counter("x"), 3), (Counter("y"), 1)).write(asks(*[1] * 8), stream(0))
    assert sorted(by_engine([row for (row,) in written])) == ["x"] * 6 + ["y"] * 2


@given(
    shares=st.lists(st.floats(0.01, 100), min_size=1, max_size=5),
    rows=st.lists(st.integers(0, 300), max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_shares_hold_in_each_request_and_over_all_of_them(shares, rows):
    dealt = np.array(mix(*((Counter(f"e{i}"), s) for i, s in enumerate(shares)))._dealt(rows)).reshape(-1, len(shares))
    exact = np.array(shares) / math.fsum(shares)
    assert (dealt >= 0).all()
    assert dealt.sum(axis=1).tolist() == rows
    assert (np.abs(dealt.sum(axis=0) - exact * sum(rows)) < len(shares)).all()
    if rows:  # the first has nothing to make up for: plain largest remainder
        assert (np.abs(dealt[0] - exact * rows[0]) < 1 + 1e-6).all()


@given(scale=st.floats(0.001, 1000))
@settings(max_examples=30, deadline=None)
def test_shares_are_relative(scale):
    parts = [("procedural", 0.7), ("pool", 0.3)]
    pairs = [[(Counter(name), share * k) for name, share in parts] for k in (1, scale)]
    assert mix(*pairs[0])._dealt([7, 13, 1]) == mix(*pairs[1])._dealt([7, 13, 1])


def test_what_one_cannot_make_is_missing_unless_others_are_asked():
    def written(**options):
        x, y = Counter("x", most=2), Counter("y")
        (rows,) = mix((x, 1), (y, 1), **options).write(asks(10), stream(0))
        return by_engine(rows), x.asked, y.asked

    assert written() == (["x"] * 2 + ["y"] * 5, [[("a", 5)]], [[("a", 5)]])
    assert written(fall_back=True) == (["x"] * 2 + ["y"] * 8, [[("a", 5)]], [[("a", 5)], [("a", 3)]])


def test_falling_back_asks_each_once_and_only_where_it_did_not_fall_short():
    x, y, z = Counter("x", most=1), Counter("y", most=6), Counter("z", most=5)
    (rows,) = mix((x, 1), (y, 1), (z, 1), fall_back=True).write(asks(12), stream(0))
    assert by_engine(rows) == ["x"] + ["y"] * 4 + ["z"] * 4 + ["y"] * 2 + ["z"]
    assert [len(e.asked) for e in (x, y, z)] == [1, 2, 2]


def test_failed_tries_of_all_are_counted_for_the_last_call():
    mixture = mix((Trying("x"), 1), (Trying("y"), 1), (Counter("z"), 1))
    mixture.write(asks(9, 9), stream(0))
    assert mixture.dropped == {"unsolved": 4}
    mixture.write(asks(3), stream(0))
    assert mixture.dropped == {"unsolved": 2}


def test_later_engines_know_what_earlier_ones_wrote():
    class Copycat(Counter):
        def row(self, skill, i):
            return Example(prompt=f"x {skill} {i}", completion="x", skill=skill)

    y = Copycat("y")
    taught = {Counter("x").row("a", 8).prompt.key}
    mix((Counter("x"), 1), (y, 1)).write(asks(4), stream(0), taught)
    assert y.known == [{"x a 0", "x a 1", "x a 8"}]
    assert len(taught) == 1


def test_an_engines_draws_do_not_depend_on_the_others():
    def draws(other):
        x, y = Counter("x"), Counter("y")
        mix((other(y), 1), (x, 1)).write(asks(6), stream(5))
        return x.draws

    class Thirsty:
        name = "thirsty"

        def __init__(self, _):
            pass

        def write(self, requests, rng, taught=frozenset()):
            rng.random(1000)
            return [[] for _ in requests]

    assert draws(lambda y: y) == draws(Thirsty)


def test_the_same_generator_gives_the_same_rows(fakes):
    task = fakes.Toy()
    mixture = engines.make("mixture:procedural=0.5,pool=0.5", task=task)

    def rows(seed):
        return [[e.prompt.text for e in few] for few in mixture.write(asks(9, 4), stream(seed))]

    assert rows(1) == rows(1) != rows(2)
    assert [len(few) for few in rows(1)] == [9, 4]


def test_options_reach_the_engines_by_their_ids(fakes):
    task = fakes.Toy()
    spec = "mixture: self-sampling:pool = 1 , pool=2"
    for options in (
        {"self-sampling.samples": 8, "pool.seed": 3},
        {"self-sampling": {"samples": 8}, "pool": {"seed": 3}},
    ):
        sampling, pool = engines.make(spec, task=task, **options).parts
        assert (sampling.samples, sampling.source.name, pool.seed) == (8, "pool", 3)


@pytest.mark.parametrize(
    ("spec", "options", "word"),
    [
        ("mixture", {}, "engine 'mixture' needs an argument: write mixture:procedural=0.7,self-sampling=0.3."),
        ("mixture:", {}, "'' is no engine with a share; write mixture:procedural=0.7"),
        ("mixture:procedural", {}, "'procedural' is no engine with a share"),
        ("mixture:procedural=0.7,", {}, "'' is no engine with a share"),
        ("mixture:=1", {}, "'=1' is no engine with a share"),
        ("mixture:procedural=much", {}, "share of procedural must be a number of at least 0; it is much"),
        ("mixture:procedural=-1", {}, "share of procedural must be a number of at least 0; it is -1"),
        ("mixture:procedural=nan", {}, "share of procedural must be a number"),
        ("mixture:procedural=inf", {}, "share of procedural must be a number"),
        ("mixture:procedural=1,pool=0", {}, "share of pool must be above 0"),
        ("mixture:pool=1,pool=2", {}, "engine 'pool' stands in it twice"),
        ("mixture:pool=1", {"depth": 3}, "it has no option 'depth'"),
        ("mixture:pool=1", {"procedural.depth": 3}, "options for 'procedural', which is none of its engines"),
        ("mixture:pool=1", {"pool.depth": 3}, "engine 'pool' has no option 'depth'"),
        ("mixture:pool=1", {"fall_back": "sometimes"}, "fall_back must be true or false; it is 'sometimes'"),
    ],
)
def test_what_is_no_mixture_is_one_sentence(fakes, spec, options, word):
    with pytest.raises(InvalidData, match=word) as error:
        engines.make(spec, task=fakes.Toy(), **options)
    assert "\n" not in str(error.value)


def test_an_unknown_engine_is_answered_with_the_nearest(fakes):
    with pytest.raises(UnknownId, match="No engine is called 'pul'; did you mean 'pool'"):
        engines.make("mixture:procedural=1,pul=1", task=fakes.Toy())
    with pytest.raises(InvalidData, match="mixture: engine must be an id or an object"):
        mix((object(), 1))
    with pytest.raises(InvalidData, match="there is no engine in it"):
        mix()


def test_an_engine_that_returns_something_else_is_named():
    class Odd(Counter):
        def write(self, requests, rng, taught=frozenset()):
            return [["a row"]]

    with pytest.raises(InvalidData, match=r"^write\(\) of engine 'odd' .* one held 'a row'"):
        mix((Odd("odd"), 1), (Counter("x"), 1)).write(asks(4), stream(0))
