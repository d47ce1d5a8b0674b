"""balanced-difficulty, instruct-mining, decontaminate."""

import json
from math import comb

import numpy as np
import pytest

from dataenv.engines import filters
from dataenv.engines.selecting import EASY, HARD, INDICATORS, LIKE, UNPROMISING, Rule, indicators
from dataenv.errors import InvalidData
from dataenv.records import Example, Problem, Reply


def rows(n, skill="a"):
    return [
        Example(prompt=f"{skill} {i}", completion=f"{skill}:{i}", answer=f"{skill}:{i}", skill=skill) for i in range(n)
    ]


class Chancy:
    """Solves every problem with the same chance, drawn for each answer."""

    name, shots = "chancy", 0

    def __init__(self, p):
        self.p = p

    def answer(self, prompts, *, samples=1, seed=0, **_):
        drawn = np.random.default_rng(seed).random((len(prompts), samples)) < self.p
        return [
            [Reply(f"a:{p.text.split()[1]}" if yes else "?", "stop", 1) for yes in row]
            for p, row in zip(prompts, drawn, strict=True)
        ]


@pytest.mark.parametrize("p", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_balanced_difficulty_keeps_as_many_as_the_binomial_says(p, fakes):
    """The catalogue: 0.93 at p = 0.5, 0.74 at 0.3, 0.19 at 0.1 and 0.9, 0 at 0 and 1."""
    judge = filters.make("balanced-difficulty", task=fakes.Toy())
    judge.attach(Chancy(p))
    reasons = judge(rows(800), np.random.default_rng(0))
    expected = sum(comb(8, k) * p**k * (1 - p) ** (8 - k) for k in range(2, 7))
    assert abs(reasons.count(None) / 800 - expected) < 0.05
    assert set(reasons) <= {None, EASY, HARD}
    if p in (0.0, 1.0):
        assert set(reasons) == {HARD if p == 0 else EASY}


def test_balanced_difficulty_lets_what_nobody_can_judge_pass(fakes):
    judge = filters.make("balanced-difficulty:0.1", task=fakes.Toy())
    judge.attach(Chancy(0.0))
    assert judge([Example(prompt="what?", completion="that")], np.random.default_rng(0)) == [None]


# -- instruct-mining --------------------------------------------------------------------------------------------------


def test_the_indicator_that_the_outcome_depends_on_has_the_largest_coefficient_and_the_right_sign():
    draws = np.random.default_rng(1)
    x = draws.normal(size=(30, len(INDICATORS)))
    for sign in (1, -1):
        rule = Rule.fitted(x, sign * 0.2 * x[:, 3] + draws.normal(scale=0.05, size=30))
        assert np.abs(rule.weights).argmax() == 3
        assert np.sign(rule.weights[3]) == sign


def test_where_nothing_is_foretold_there_is_no_rule():
    draws = np.random.default_rng(0)
    x = draws.normal(size=(30, len(INDICATORS)))
    assert Rule.fitted(x, draws.normal(size=30)) is None
    assert Rule.fitted(x, np.zeros(30)) is None
    assert Rule.fitted(x[:6], x[:6, 0]) is None
    constant = np.tile(x[:1], (30, 1))
    assert Rule.fitted(constant, draws.normal(size=30)) is None


def made_run(folder, lengths, reward):
    (folder / "steps").mkdir(parents=True)
    events = [{"event": "start"}]
    for step, length in enumerate(lengths, 1):
        place = folder / "steps" / f"{step:03d}"
        place.mkdir()
        row = Example(prompt=f"ask {step}", completion="x" * length)
        (place / "rows.jsonl").write_text(row.model_dump_json() + "\n")
        events.append({"event": "step", "step": step, "accepted": 1, "reward": reward(length)})
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, events)) + "\n")


def test_a_rule_of_past_runs_keeps_the_better_half(tmp_path, fakes):
    made_run(tmp_path / "runs/one", range(5, 45, 2), lambda length: np.log1p(length) / 10)
    judge = filters.make(f"instruct-mining:{tmp_path}/runs", task=fakes.Toy())
    candidates = [Example(prompt=f"ask {i}", completion="x" * n) for i, n in enumerate((5, 40, 6, 38))]
    assert judge(candidates, np.random.default_rng(0)) == [UNPROMISING, None, UNPROMISING, None]
    assert judge([], np.random.default_rng(0)) == []


def test_the_torn_last_line_of_a_killed_run_is_no_step(tmp_path, fakes):
    made_run(tmp_path / "one", range(5, 45, 2), lambda length: np.log1p(length) / 10)
    whole = filters.make(f"instruct-mining:{tmp_path}", task=fakes.Toy()).rule
    with (tmp_path / "one/events.jsonl").open("a") as log:
        log.write('{"event": "step", "acc')
    torn = filters.make(f"instruct-mining:{tmp_path}", task=fakes.Toy()).rule
    assert torn.weights.tolist() == whole.weights.tolist()


def test_too_few_steps_let_everything_pass_and_no_run_is_an_error(tmp_path, fakes):
    made_run(tmp_path / "one", [5, 9], float)
    judge = filters.make(f"instruct-mining:{tmp_path}", task=fakes.Toy())
    assert judge(rows(4), np.random.default_rng(0)) == [None] * 4
    with pytest.raises(InvalidData, match="there is no run in"):
        filters.make(f"instruct-mining:{tmp_path}/nowhere", task=fakes.Toy())


def test_indicators_are_finite_for_any_row():
    for row in (Example(prompt="", completion=""), Example(prompt="a" * 10_000, completion="漢" * 500)):
        assert len(indicators(row)) == len(INDICATORS) and np.isfinite(indicators(row)).all()


# -- decontaminate ----------------------------------------------------------------------------------------------------

STORY = "Mary has {} red apples in a wooden box, and her brother brings her {} more of them from the old garden today."
OTHER = "Tell whether the train that leaves at {} reaches the far city before the bus that nobody has taken for years."


@pytest.fixture
def judge(fakes):
    task = fakes.FixedToy(("a",), per_skill=3)
    task._rows["feedback"] = [Problem(prompt=STORY.format(3, 4), answer="7", skill="a")]
    task.exam = (Problem(prompt=OTHER.format(9), answer="yes").prompt,)
    return filters.make("decontaminate", task=task)


def judged(judge, *texts):
    return judge([Example(prompt=text, completion="?") for text in texts], np.random.default_rng(0))


def test_copies_are_caught_word_for_word_and_with_other_numbers(judge):
    texts = (
        STORY.format(3, 4),
        STORY.format(35, 4.5),
        f"Read: {OTHER.format(12)} Answer now.",
        STORY.format(3, 4).upper(),
    )
    assert judged(judge, *texts) == [LIKE] * 4


def test_other_texts_pass(judge):
    draws = np.random.default_rng(2)
    words = [*STORY.replace("{}", "").split(), *(f"word{i}" for i in range(12))]
    texts = [" ".join(draws.choice(words, 20)) for _ in range(400)]
    assert judged(judge, *texts).count(None) >= 398
    assert judged(judge, "3 + 4", "", "Mary has 3 red apples") == [None] * 3


def test_wording_that_protected_problems_share_is_no_evidence(fakes):
    task = fakes.FixedToy(("a",), per_skill=3)
    task._rows["feedback"] = [Problem(prompt=STORY.format(n, 4), answer=str(n), skill="a") for n in range(3)]
    judge = filters.make("decontaminate", task=task)
    assert judged(judge, STORY.format(77, 88), STORY.format(1, 4)) == [None, LIKE]
