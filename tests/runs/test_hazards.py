"""What befalls a run from outside: data that changes, logs that are damaged, folders in the wrong place, disks that may
only be read, parts that cannot begin. It is said, nothing finished is lost, and nothing half-begun stays."""

import errno
import json
import os
import shutil
import warnings
from pathlib import Path

import orjson
import pytest

from dataenv.errors import InvalidData, MissingDependency, Note, RunError
from dataenv.records import Example, TeachReport
from dataenv.registry import Entry
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import resume, start
from dataenv.runs.report import write_report
from dataenv.students import students
from dataenv.tasks import tasks

SMALL = {"student": "scripted", "teacher": "random", "steps": 3, "rows": 12, "feedback": 4, "exam": 5}


@pytest.fixture(autouse=True)
def parts(fakes, registered, monkeypatch, tmp_path):
    """An empty working directory; the toy task with an exam, as "exam-toy"."""

    class ExamToy(fakes.Toy):
        def problems(self, split, per_skill, seed):
            return super().problems("selection" if split == "exam" else split, per_skill, seed)

    monkeypatch.setitem(tasks._entries, "exam-toy", Entry(ExamToy))
    monkeypatch.chdir(tmp_path)


TOY = RunConfig(task="exam-toy", **SMALL)
MINE = RunConfig(task="jsonl:mine.jsonl", **{**SMALL, "exam": None})


@pytest.fixture
def mine(tmp_path):
    """A file of own problems that the scripted student can solve: what its rows say."""
    rows = [{"prompt": f"{'ab'[i % 2]} {i}", "answer": f"{'ab'[i % 2]}:{i}", "skill": "ab"[i % 2]} for i in range(240)]
    write(tmp_path / "mine.jsonl", rows)
    return rows


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def events(folder):
    return [orjson.loads(line) for line in (Path(folder) / "events.jsonl").read_bytes().splitlines()]


def cut(folder, lines):
    """The run as it was when its log had so many lines."""
    log = Path(folder) / "events.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:lines]))


def quietly(work, *arguments):
    """`work(*arguments)`, which says nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Note)
        return work(*arguments)


# -- data that changes ------------------------------------------------------------------------------------------------

CHANGES = {
    "an answer": lambda rows: [{**row, "answer": "a:0"} if i == 17 else row for i, row in enumerate(rows)],
    "a prompt": lambda rows: [{**row, "prompt": "a 9999"} if i == 17 else row for i, row in enumerate(rows)],
    "a skill": lambda rows: [{**row, "skill": "b"} if i == 18 else row for i, row in enumerate(rows)],
    "a solution": lambda rows: [{**row, "solution": f"so\n{row['answer']}"} for row in rows],
    "rows cut": lambda rows: rows[:-30],
    "a row more": lambda rows: [*rows, {"prompt": "b 9999", "answer": "b:9999", "skill": "b"}],
    "the order": lambda rows: rows[::-1],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("go_on", [resume, lambda folder: start(MINE, folder)], ids=["resume", "start"])
def test_data_that_changed_since_the_run_began_is_refused_until_it_is_put_back(mine, tmp_path, change, go_on):
    folder = tmp_path / "run"
    result = start(MINE, folder)
    cut(folder, 3)
    before = (folder / "events.jsonl").read_bytes()
    write(tmp_path / "mine.jsonl", CHANGES[change](mine))
    with pytest.raises(RunError, match=r"problems of 'jsonl:mine.jsonl' are not those that the run .* began with"):
        go_on(folder)
    assert (folder / "events.jsonl").read_bytes() == before
    write(tmp_path / "mine.jsonl", mine)
    assert go_on(folder)["hash"] == result["hash"]


def test_a_file_written_anew_with_the_same_problems_is_the_same_data(mine, tmp_path):
    result = start(MINE, tmp_path / "run")
    cut(tmp_path / "run", 3)
    write(tmp_path / "mine.jsonl", [dict(reversed(row.items())) for row in mine])
    assert resume(tmp_path / "run")["hash"] == result["hash"]


def test_a_finished_run_needs_its_data_no_more(mine, tmp_path):
    result = start(MINE, tmp_path / "run")
    (tmp_path / "mine.jsonl").unlink()
    assert resume(tmp_path / "run") == result


def test_discovered_skills_do_not_hide_a_changed_problem(mine, tmp_path):
    pytest.importorskip("sklearn")
    config = MINE.model_copy(update={"skills": "cluster:2"})
    start(config, tmp_path / "run")
    cut(tmp_path / "run", 3)
    write(tmp_path / "mine.jsonl", CHANGES["an answer"](mine))
    with pytest.raises(RunError, match="are not those"):
        resume(tmp_path / "run")


def test_a_task_without_end_has_no_fingerprint_and_one_of_fixed_data_has_one(mine, tmp_path):
    start(TOY, tmp_path / "toy")
    start(MINE, tmp_path / "mine")
    assert "data" not in events(tmp_path / "toy")[0]
    assert len(events(tmp_path / "mine")[0]["data"]) == 32


@pytest.mark.parametrize("flag", ["feedback", "exam"])
def test_all_problems_of_a_task_without_end_are_refused_before_anything_is_taught(tmp_path, flag):
    config = TOY.model_copy(update={flag: None})
    with pytest.raises(
        InvalidData, match=rf"^--{flag} 0 asks for all problems of 'toy', which writes them without end"
    ):
        start(config, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


# -- logs that are damaged --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", range(7))
def test_finished_events_after_an_altered_one_are_kept_aside_and_it_is_said(tmp_path, line):
    folder = tmp_path / "run"
    result = start(TOY, folder)
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"event":"', b'"event":"x', 1)
    (folder / "events.jsonl").write_bytes(b"".join(lines))
    with pytest.warns(
        Note, match=rf"^{7 - line} lines? of .*/events.jsonl cannot be .* set aside in events.jsonl.lost"
    ):
        assert resume(folder)["hash"] == result["hash"]
    assert (folder / "events.jsonl.lost").read_bytes() == b"".join(lines[line:])
    assert quietly(resume, folder)["hash"] == result["hash"]


def test_what_was_set_aside_before_stays(tmp_path):
    folder = tmp_path / "run"
    start(TOY, folder)
    for number in range(1, 3):
        (folder / "steps/002/rows.jsonl").write_text("")
        cut(folder, 5)
        with pytest.warns(Note, match="^2 lines"):
            resume(folder)
        assert (folder / "events.jsonl.lost").read_bytes().count(b"\n") == 2 * number


@pytest.mark.parametrize("lines", [1, 2, 3, 6])
def test_what_a_kill_leaves_is_mended_in_silence(tmp_path, lines):
    folder = tmp_path / "run"
    result = start(TOY, folder)
    whole = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "events.jsonl").write_bytes(b"".join(whole[:lines]) + whole[lines][:-9])
    assert quietly(resume, folder)["hash"] == result["hash"]
    assert not (folder / "events.jsonl.lost").exists()


@pytest.mark.parametrize("left", [b"", b'{"event":"start"'])
def test_a_log_that_was_emptied_is_not_taken_for_a_run_that_has_yet_to_begin(tmp_path, left):
    folder = tmp_path / "run"
    result = start(TOY, folder)
    whole = (folder / "events.jsonl").read_bytes()
    (folder / "events.jsonl").write_bytes(left)
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for go_on in (
        lambda: resume(folder),
        lambda: start(TOY, folder),
        lambda: start(TOY.model_copy(update={"seed": 9}), folder),
    ):
        with pytest.raises(RunError, match=r"events.jsonl is empty, but steps were finished here; put it back"):
            go_on()
        assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == files
    (folder / "events.jsonl").write_bytes(whole)
    assert resume(folder) == result


def test_another_configuration_is_refused_where_the_log_is_damaged_too(tmp_path):
    folder = tmp_path / "run"
    start(TOY, folder)
    log = folder / "events.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"event":"reset"', b'"event":"rest"'))
    before = log.read_bytes()
    with pytest.raises(RunError, match="differs in seed"):
        start(TOY.model_copy(update={"seed": 9}), folder)
    assert log.read_bytes() == before


# -- folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_with_something_else_in_it_gets_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"is not empty and holds no run .notes.txt"):
        start(TOY, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_run_goes_on_from_another_directory_with_paths_relative_to_its_own(mine, tmp_path, monkeypatch):
    whole = start(MINE, Path("runs/whole"))
    start(MINE, Path("runs/stopped"))
    cut("runs/stopped", 3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = resume(Path("../runs/stopped"))
    assert (result["hash"], result["run"]) == (whole["hash"], "../runs/stopped")
    assert Path.cwd() == tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    cut("runs/stopped", 3)
    assert start(MINE, Path("runs/stopped"))["hash"] == whole["hash"]  # the same command, from the same place


def test_the_same_run_begun_in_another_directory_has_the_same_hash(mine, tmp_path, monkeypatch):
    here = start(MINE, Path("run"))
    (tmp_path / "there").mkdir()
    shutil.copy("mine.jsonl", "there")
    monkeypatch.chdir("there")
    assert start(MINE, Path("run"))["hash"] == here["hash"]


def test_a_run_goes_on_where_the_directory_it_began_in_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir("gone")
    result = start(TOY, tmp_path / "run")
    cut(tmp_path / "run", 3)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").rmdir()
    assert resume(tmp_path / "run")["hash"] == result["hash"]


@pytest.mark.parametrize("made", ["", "deep", "deep/er"])
@pytest.mark.parametrize("error", [MissingDependency("no weights"), InvalidData("no data"), RuntimeError("a bug")])
def test_a_run_that_cannot_begin_leaves_nothing(fakes, monkeypatch, tmp_path, made, error):
    """No folder that was not there before."""

    class Broken(fakes.Scripted):
        def reset(self):
            raise error

    (tmp_path / made).mkdir(exist_ok=True, parents=True)
    before = sorted(tmp_path.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setitem(students._entries, "scripted", Entry(Broken))
        with pytest.raises(type(error), match=str(error)):
            start(TOY, tmp_path / "deep/er/run")
    assert sorted(tmp_path.rglob("*")) == before
    assert start(TOY, tmp_path / "deep/er/run")["steps"] == 3


def test_a_run_that_broke_down_later_keeps_its_folder(fakes, monkeypatch, tmp_path):
    class Broken(fakes.Scripted):
        def teach(self, examples, *, seed):
            raise MissingDependency("no trainer")

    monkeypatch.setitem(students._entries, "scripted", Entry(Broken))
    with pytest.raises(MissingDependency):
        start(TOY, tmp_path / "run")
    assert [event["event"] for event in events(tmp_path / "run")] == ["start", "reset"]


@pytest.mark.parametrize("place", ["file/run", "/proc/nope/run"])
def test_a_place_where_nothing_can_be_written_is_said_without_a_run_to_resume(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError, match=rf"^{place}/events.jsonl cannot be written .*, or choose another --out"
    ) as refused:
        start(TOY, Path(place))
    assert "resume" not in str(refused.value)


def read_only(monkeypatch):
    """A disk that may be read only, as far as files are opened to write."""
    opened = Path.open

    def refuse(path, mode="r", *rest, **options):
        if set(mode) & set("wax+"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", refuse)


@pytest.mark.parametrize("go_on", [resume, lambda folder: start(TOY, folder)], ids=["resume", "start"])
def test_a_finished_run_gives_its_result_where_nothing_can_be_written(tmp_path, monkeypatch, go_on):
    result = start(TOY, tmp_path / "run")
    read_only(monkeypatch)
    assert go_on(tmp_path / "run") == result


def test_an_unfinished_run_says_that_nothing_can_be_written(tmp_path, monkeypatch):
    start(TOY, tmp_path / "run")
    cut(tmp_path / "run", 3)
    read_only(monkeypatch)
    with pytest.raises(RunError, match=r"events.jsonl cannot be written \(Read-only file system\).*'dataenv resume"):
        resume(tmp_path / "run")


# -- rows that do not fit the student ---------------------------------------------------------------------------------


@pytest.fixture
def narrow(fakes, monkeypatch):
    """The scripted student, for whom prompts whose number is odd are too long; how many rows of a step are not."""

    def fits(example):
        return int(example.prompt.text[-1]) % 2 == 0

    class Narrow(fakes.Scripted):
        def __init__(self, nothing=False):
            super().__init__()
            self.nothing = nothing

        def teach(self, examples, *, seed):
            fitting = [] if self.nothing else [example for example in examples if fits(example)]
            report = super().teach(fitting, seed=seed) if fitting else TeachReport(0, 0, None)
            return report._replace(overlong=len(examples) - len(fitting))

    monkeypatch.setitem(students._entries, "scripted", Entry(Narrow))
    return lambda folder, step: sum(
        fits(Example.model_validate_json(line))
        for line in (folder / f"steps/{step:03d}/rows.jsonl").read_bytes().splitlines()
    )


@pytest.mark.parametrize("change", [{"regime": "retrain"}, {"replay": 0.0}], ids=["retrain", "continue"])
def test_rows_too_long_for_the_student_do_not_count_as_taught(narrow, tmp_path, change):
    folder = tmp_path / "run"
    result = start(TOY.model_copy(update=change), folder)
    fitting = [narrow(folder, step) for step in (1, 2, 3)]
    assert 0 < sum(fitting) < 36
    steps = [event for event in events(folder) if event["event"] == "step"]
    assert [event["rows_taught"] for event in steps] == fitting
    assert [event["accepted"] for event in steps] == [12, 12, 12]
    assert result["rows"] == sum(fitting)
    cut(folder, 4)
    assert resume(folder)["rows"] == sum(fitting)
    page = write_report(folder).read_text()
    assert f"<dt>Rows taught</dt><dd>{sum(fitting)}</dd>" in page
    assert "None: every row passed" not in page


def test_replayed_rows_that_are_too_long_never_make_more_taught_than_there_were(narrow, tmp_path):
    result = start(TOY.model_copy(update={"replay": 1.0}), tmp_path / "run")
    assert 0 < result["rows"] <= sum(narrow(tmp_path / "run", step) for step in (1, 2, 3))


@pytest.mark.parametrize("regime", ["continue", "retrain"])
def test_a_run_whose_rows_are_all_too_long_has_taught_none(narrow, tmp_path, regime):
    config = TOY.model_copy(update={"regime": regime, "options": {"student": {"nothing": True}}})
    assert start(config, tmp_path / "run")["rows"] == 0


@pytest.mark.parametrize("regime", ["continue", "retrain"])
def test_rows_taught_again_do_not_count_twice(tmp_path, regime):
    result = start(TOY.model_copy(update={"regime": regime, "replay": 2.0}), tmp_path / "run")
    assert result["rows"] == 36
