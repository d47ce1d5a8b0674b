"""Suites: what a file may say, everything wrong with it at once, and the runs that follow."""

import re
import tomllib
from pathlib import Path

import pytest

from dataenv.benchmarks.suite import _read, load, suites
from dataenv.errors import InvalidData, UnknownId

GOOD = {
    "seeds": "3",
    "teachers": '["random", "uniform", "no-state:error-proportional"]',
    "envs": '["skill-list"]',
    "run": 'task = "drills"\nstudent = "micro"\n',
}


@pytest.fixture
def write(tmp_path):
    def write(cells="", **changed):
        parts = {**GOOD, **changed}
        run = parts.pop("run")
        path = tmp_path / "mine.toml"
        lines = [f"{key} = {value}" for key, value in parts.items() if value is not None]
        path.write_text("\n".join([*lines, "[run]", run, cells]))
        return str(path)

    return write


def test_runs_are_the_product_of_seeds_cells_and_teachers(write):
    suite = load(write(envs='["skill-list", "open-ended"]'))
    jobs = suite.jobs()
    assert (suite.name, len(jobs), len(set(jobs))) == ("mine", 3 * 2 * 3, 18)
    assert [job.seed for job in jobs[:6]] == [0] * 6, "a seed's round is whole before the next"
    assert {job.config.env for job in jobs} == {"skill-list", "open-ended"}
    assert len({job.place for job in jobs}) == 18
    twins = [job for job in jobs if job.entrant == "no-state:error-proportional"]
    assert all(job.config.no_state and job.config.teacher == "error-proportional" for job in twins)
    assert {job.config.steps for job in jobs} == {5}, "all budgets are the cell's"


def test_cells_written_out_have_names_settings_and_teachers_of_their_own(write):
    cells = (
        '[[cells]]\nname = "tiny budget"\nenv = "skill-list"\nrows = 4\n'
        '[[cells]]\nname = "tree"\nenv = "skill-tree"\n'
        'teachers = ["random", "uniform", "no-state:random", "tree-random"]\n'
    )
    suite = load(write(cells, envs=None))
    assert [cell.name for cell in suite.cells] == ["tiny budget", "tree"]
    assert suite.cells[0].run.rows == 4
    assert [entrant.label for entrant in suite.cells[1].entrants] == [
        "random", "uniform", "no-state:random", "tree-random",
    ]  # fmt: skip
    assert suite.labels == ["random", "uniform", "no-state:error-proportional", "no-state:random", "tree-random"]


def test_a_teacher_may_have_options_and_a_name(write):
    teachers = (
        '["random", "uniform", "no-state:random", {id = "oracle-greedy", options = {chunks = 2}, name = "oracle"}]'
    )
    suite = load(write(teachers=teachers))
    config = next(job.config for job in suite.jobs() if job.entrant == "oracle")
    assert (config.teacher, config.options) == ("oracle-greedy", {"teacher": {"chunks": 2}})


def test_a_teacher_by_path_is_found_from_anywhere(write, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(
        "from dataenv.agents.controls import Uniform\n\n\nclass Mine(Uniform):\n    name = 'mine'\n"
    )
    monkeypatch.chdir(tmp_path)
    suite = load(write(), ["own.py:Mine"])
    config = next(job.config for job in suite.jobs() if job.entrant == "own.py.Mine" or "Mine" in job.entrant)
    assert Path(config.teacher.partition(":")[0]).is_absolute()
    assert config.build_teacher().name == "mine"


def test_seeds_given_at_the_call_replace_the_suites(write):
    assert load(write(), seeds=[7, 9]).seeds == (7, 9)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seeds": "0"}, "seeds"),
        ({"seeds": "[1, 2, 1]"}, "1 stands there more than once"),
        ({"seeds": '"five"'}, "seeds"),
        ({"teachers": '["random", "uniform"]'}, "twin without state"),
        ({"teachers": '["random", "no-state:random"]'}, "control uniform"),
        ({"teachers": '["random", "uniform", "no-state:random", "lp-bandti"]'}, "lp-bandti"),
        ({"teachers": '["random", "uniform", "no-state:random", "tree-random"]'}, "tree-random.*cannot act"),
        ({"teachers": '["random", "uniform", "no-state:random", "random"]'}, "'random' competes more than once"),
        ({"teachers": '["random", "uniform", "no-state:random", {name = "x"}]'}, "is no teacher"),
        ({"teachers": '["random", "uniform", "no-state:random", {id = "random", name = "x", options = {a = 1}}]'},
         "cannot be built"),
        ({"teachers": '"random"'}, "a list is needed"),
        ({"envs": '["skil-list"]'}, "skil-list"),
        ({"envs": None}, "no cells"),
        ({"run": 'task = "drils"\nstudent = "micro"'}, "drils"),
        ({"run": 'task = "drills"\nstudent = "micro"\nstepz = 3'}, "stepz"),
        ({"run": 'task = "drills"\nstudent = "micro"\nsteps = 0'}, "steps"),
        ({"run": 'task = "drills"\nstudent = "micro"\nteacher = "random"'}, "teacher differ"),
        ({"target": "2"}, "target"),
        ({"sedes": "3"}, "'sedes' is nothing"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_name(write, changed, words):
    with pytest.raises(InvalidData) as error:
        load(write(**changed))
    assert re.search(words, str(error.value)), error.value


def test_everything_wrong_is_said_at_once(write):
    with pytest.raises(InvalidData) as error:
        load(write(seeds="[3, 3]", teachers='["random", {}]', target="0.5", run='task = "drills"\nsteps = 0'))
    assert all(word in str(error.value) for word in ("seeds: 3", "{}", "control uniform", "steps"))
    with pytest.raises(InvalidData) as error:
        load(
            write(envs='["skill-list", "skil-tree"]', teachers='["random", "uniform", "no-state:random", "sec2", "x"]')
        )
    assert all(word in str(error.value) for word in ("skil-tree", "'sec2'", "'x'"))


def test_what_is_no_suite_is_named(tmp_path):
    with pytest.raises(UnknownId, match="quick"):
        load("quik")
    with pytest.raises(InvalidData, match="cannot be read"):
        load(str(tmp_path / "none.toml"))
    (tmp_path / "bad.toml").write_text("seeds = = 3")
    with pytest.raises(InvalidData, match="no TOML"):
        load(str(tmp_path / "bad.toml"))


def test_the_papers_suite_is_well_formed():
    """It cannot be built here: that takes its data and a key."""
    found = []
    suite = _read("paper", tomllib.loads(suites()["paper"].read_text()), (), None, found)
    assert not found and {cell.name for cell in suite.cells} == {"open-ended", "skill list", "skill tree"}


@pytest.mark.parametrize("name", [name for name in suites() if name != "paper"])
def test_the_suites_that_come_along_are_sound(name):
    suite = load(name)
    assert suite.about and suite.jobs()
    assert suite.detectable() < 0.2


def test_a_setting_that_is_none_is_answered_with_the_one_that_was_meant(write):
    with pytest.raises(InvalidData, match=r"'stepz' is no setting of a run; did you mean 'steps'"):
        load(write(run='task = "drills"\nstudent = "micro"\nstepz = 3\n'))
