"""The table of a comparison: paired on equal problems, complete or not made, honest about what is missing."""

import math
from itertools import product

import numpy as np
import pytest

from dataenv.benchmarks.board import board
from dataenv.benchmarks.scores import Results, Score, read
from dataenv.benchmarks.suite import Suite, load
from dataenv.errors import InvalidData

SEEDS = range(10)
TEACHERS = ("random", "uniform", "no-state:good", "good")


@pytest.fixture
def suite(suite_file):
    cell = load(str(suite_file)).cells[0]
    names = {"no-state:good": {"id": "good", "no_state": True}}
    entrants = tuple(cell.entrants[0].model_copy(update=names.get(teacher, {"id": teacher})) for teacher in TEACHERS)
    cells = tuple(cell.model_copy(update={"name": name, "entrants": entrants}) for name in ("a", "b"))
    return Suite(name="made-up", seeds=tuple(SEEDS), cells=cells)


def score(gain, after=0.5, **other):
    problems = {str(i): (False, i < round(after * 1000)) for i in range(1000)}
    values = {
        "gain": gain, "before": after - gain, "after": after, "n": 1000, "solved": problems, "curve": ((0, 0.2),),
        "forgotten": None, "rows": 10, "tokens": 100, "seconds": 1.0, "privileged": False, "selected": 1,
    }  # fmt: skip
    return Score(**{**values, **other})


def results(suite, effect=None, leave_out=(), **other):
    """Scores that differ by seed, the same for all teachers, besides `effect`, (teacher) -> gain."""
    effect = effect or {}
    rng = np.random.default_rng(0)
    noise = {key: rng.normal(0, 0.004) for key in product("ab", TEACHERS, SEEDS)}
    luck = {(cell, seed): rng.normal(0, 0.05) for cell, seed in product("ab", SEEDS)}
    scores = {}
    for cell, teacher, seed in noise:
        after = 0.5 + effect.get(teacher, 0.0) + luck[cell, seed] + noise[cell, teacher, seed]
        scores[cell, teacher, seed] = score(after - 0.3, after, **other)
    for key in leave_out:
        del scores[key]
    planned = {(cell, teacher): len(SEEDS) for cell, teacher in product("ab", TEACHERS)}
    return Results(suite, scores, dict.fromkeys(leave_out, "it broke"), planned)


def test_a_better_teacher_is_first_and_called_different(suite):
    made = board(results(suite, {"good": 0.03}), resamples=500)
    first = made.rows[0]
    assert (first.teacher, first.place, first.different) == ("good", 1, True)
    assert first.against.difference == pytest.approx(0.03, abs=0.005) and first.against.pairs == 20
    assert first.against.low > 0 and first.better.value > 0.6
    assert not any(row.different for row in made.rows[1:])
    assert made.spread == pytest.approx(0.004 * math.sqrt(2), rel=0.4)
    assert made.detectable < 0.01


def test_what_seeds_have_in_common_does_not_hide_a_difference(suite):
    """Luck of 5 points a seed is shared by all teachers: paired intervals are far narrower than those of the gains."""
    made = board(results(suite, {"good": 0.03}), resamples=500)
    row = made.rows[0]
    assert row.against.high - row.against.low < 0.3 * (row.gains["mean"].high - row.gains["mean"].low)


def test_the_reference_is_compared_with_nobody(suite):
    row = next(row for row in board(results(suite), resamples=50).rows if row.teacher == "uniform")
    assert math.isnan(row.p) and row.against.pairs == 0 and row.better == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("missing", ["uniform", "random", "no-state:good"])
def test_no_table_without_its_controls(suite, missing):
    out = [(cell, missing, seed) for cell, seed in product("ab", SEEDS)]
    with pytest.raises(InvalidData, match=r"No table without its controls"):
        board(results(suite, leave_out=out), resamples=50)


def test_missing_runs_are_said_and_cost_the_place(suite):
    made = board(results(suite, {"good": 0.03}, leave_out=[("a", "good", 3)]), resamples=50)
    row = next(row for row in made.rows if row.teacher == "good")
    assert (row.runs, row.planned, row.place) == (19, 20, None)
    assert (made.finished, made.planned) == (79, 80)
    assert made.failed == {"a / good / 3": "it broke"}
    assert [r.place for r in made.rows if r.place] == [1, 2, 3]


def test_teachers_that_look_ahead_are_shown_without_a_place(suite):
    found = results(suite, {"good": 0.03})
    ahead = {key: value._replace(privileged=key[1] == "good") for key, value in found.scores.items()}
    made = board(found._replace(scores=ahead), resamples=50)
    assert made.rows[0].teacher == "good" and made.rows[0].place is None and made.rows[0].privileged
    assert not any(made.rows[0].front.values())


def test_the_order_is_by_what_unlike_cells_leave_comparable(suite):
    """In cell b everybody gains 20 points more; who competes in b alone is not first for that, nor on any front."""
    found = results(suite, {"good": -0.03, "random": 0.03})
    scores = {
        (cell, teacher, seed): value._replace(gain=value.gain + (cell == "b") * 0.2)
        for (cell, teacher, seed), value in found.scores.items()
        if (cell, teacher) != ("a", "good")
    }
    planned = {key: n for key, n in found.planned.items() if key != ("a", "good")}
    made = board(found._replace(scores=scores, planned=planned, failed={}), resamples=50)
    assert (made.rows[0].teacher, made.rows[0].place) == ("random", 1)
    last = made.rows[-1]
    assert (last.teacher, last.place, last.runs, last.planned) == ("good", 4, 10, 10)
    assert last.gains["iqm"].value > made.rows[0].gains["iqm"].value and not any(last.front.values())


def test_one_seed_gives_an_order_and_no_certainty(suite):
    out = [(cell, teacher, seed) for cell in "ab" for teacher in TEACHERS for seed in SEEDS if seed]
    found = results(suite, {"good": 0.03}, leave_out=out)
    made = board(found._replace(planned=dict.fromkeys(found.planned, 1), failed={}), resamples=50)
    assert made.rows[0].teacher == "good" and made.rows[0].place == 1
    assert not any(row.different for row in made.rows) and math.isinf(made.detectable)


def test_differences_are_over_the_problems_both_were_asked(suite):
    """A run that was asked fewer problems (it had taught some) is compared on the others."""
    found = dict(results(suite).scores)
    for key, value in found.items():
        if key[1] == "good":
            kept = {id: marks for id, marks in value.solved.items() if not marks[1]}  # only what it got wrong is left
            found[key] = value._replace(solved=kept)
    made = board(results(suite)._replace(scores=found), resamples=50)
    row = next(row for row in made.rows if row.teacher == "good")
    assert row.against.difference <= 0


def test_the_same_results_make_the_same_table(suite):
    assert repr(board(results(suite), resamples=99)) == repr(board(results(suite), resamples=99))


def test_scores_are_read_from_the_runs(finished):
    found = read(finished)
    assert len(found.scores) == 8 and not found.failed
    one = found.scores["skill-list", "uniform", 0]
    assert one.n == len(one.solved) == 10 and one.rows == 12 and one.selected == 2
    assert one.gain == pytest.approx(one.after - one.before)
    assert one.after == pytest.approx(sum(after for _, after in one.solved.values()) / 10)
    assert [rows for rows, _ in one.curve] == [0, 6, 12]
    made = board(found, resamples=50)
    assert {row.teacher for row in made.rows} == {
        "random",
        "uniform",
        "no-state:error-proportional",
        "error-proportional",
    }


def test_what_is_forgotten_is_the_loss_on_skills_without_rows(finished):
    import orjson

    from dataenv.benchmarks.scores import score as score_of
    from dataenv.runs.report_log import read_run

    log = read_run(finished / "runs" / "skill-list" / "uniform" / "0")
    for event in log.steps:
        event["taught"] = {"addition": 6}
    log.exam["by_skill"] = {
        "addition": {"n": 5, "before": 0.2, "after": 0.9}, "copying": {"n": 5, "before": 0.8, "after": 0.5},
    }  # fmt: skip
    assert score_of(log).forgotten == pytest.approx(0.3)
    log.steps[0]["taught"] = orjson.loads(b'{"addition": 3, "copying": 3}')
    assert score_of(log).forgotten is None or score_of(log).forgotten == pytest.approx(0.3)
