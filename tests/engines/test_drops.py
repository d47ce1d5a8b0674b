"""Rows that came to nothing: counted by reason, with a few to look at, and never one that is protected."""

import copy

import numpy as np

from dataenv.engines.drops import SAMPLES, Dropped, Drops
from dataenv.engines.filling import fill
from dataenv.engines.gate import Gate
from dataenv.engines.llm import LLM
from dataenv.progress import Clock
from dataenv.records import Example, Plan, Prompt, Request

LONG = "the protected question asks for one two three four five six seven eight nine ten eleven twelve"


def row(n, answer="no"):
    return Example(prompt=f"a {n}", completion=answer, answer=answer, skill="a")


def test_a_few_of_each_reason_are_kept_and_all_are_counted():
    drops = Drops()
    for n in range(5):
        drops.drop("wrong", row(n))
    drops.drop("unparsed", "I would rather not.", 4)
    drops.drop("unsolved")
    assert drops == {"wrong": 5, "unparsed": 4, "unsolved": 1}
    assert [one.reason for one in drops.samples] == ["wrong"] * SAMPLES + ["unparsed"]
    assert drops.samples[-1].row.completion == "I would rather not."


def test_what_others_counted_comes_with_their_samples_up_to_as_many():
    drops, other = Drops(), Drops()
    for n in range(2):
        drops.drop("wrong", row(n))
        other.drop("wrong", row(n + 2))
    drops.take(other)
    drops.take({"late": 2})  # a plain mapping is what the protocol asks for
    assert drops == {"wrong": 4, "late": 2} and len(drops.samples) == SAMPLES


def test_a_copy_is_the_same_and_apart():
    drops = Drops()
    drops.drop("wrong", row(1))
    twin = copy.deepcopy(drops)
    twin.drop("wrong", row(2))
    assert (drops, len(drops.samples)) == ({"wrong": 1}, 1) and len(twin.samples) == 2


class Engine:
    """Writes what it is given, and says that it dropped two rows itself, one of them with a protected text."""

    name = "mine"

    def __init__(self, rows):
        self.rows, self.dropped = rows, Drops()

    def write(self, requests, rng, taught=frozenset()):
        self.dropped = Drops()
        self.dropped.drop("odd", f"cut short: {LONG}")
        self.dropped.drop("odd", "cut short")
        return [self.rows]


def test_a_step_keeps_what_engine_gate_and_filters_dropped_but_nothing_protected(fakes):
    task = fakes.Toy()
    right, wrong = (Example.from_problem(p) for p in task.write("a", 2, None, np.random.default_rng(0)))
    protected = Example(prompt=LONG, completion="x", answer="x", skill="a")
    engine = Engine([right, wrong.model_copy(update={"completion": "?"}), protected])
    plan = Plan(requests=(Request(skill="a", rows=3),))
    gate = Gate(task, [Prompt(text=LONG)])
    filled = fill(plan, engine, gate, frozenset(), Clock(), step=1, seed=0, filters=[lambda rows, rng: ["short"]])
    assert filled.dropped.keys() == {"odd", "wrong", "contaminated", "short", "duplicate"} and not filled.examples
    kept = {(one.reason, one.row.prompt.text or one.row.completion) for one in filled.dropped.samples}
    texts = {("odd", "cut short"), ("wrong", wrong.prompt.text), ("short", right.prompt.text)}
    assert kept == texts | {("duplicate", right.prompt.text)}


def test_a_model_that_writes_badly_leaves_samples(fakes, chat):
    engine = LLM(fakes.Toy(), tries=1, solutions=0)
    engine.converse(chat(lambda question: {"rows": [{"problem": "a 1", "solution": "", "answer": "a:2"}]}))
    engine.write([Request(skill="a", rows=1)], np.random.default_rng(0))
    assert [(one.reason, one.row.prompt.text) for one in engine.dropped.samples] == [("wrong", "a 1")]
    engine.converse(chat(lambda question: "I would rather not."))
    engine.write([Request(skill="a", rows=1)], np.random.default_rng(0))
    (one,) = engine.dropped.samples
    assert one.reason == "unparsed" and "no JSON" in one.row.completion


def test_it_is_a_record():
    one = Dropped(reason="wrong", row=row(1))
    assert Dropped.model_validate_json(one.model_dump_json()) == one
