"""Runs with a scripted student: whatever stops one, it goes on and ends as it would have ended; the exam is sealed."""

import errno
import json
import os
import re
import shutil
from collections import Counter
from itertools import pairwise

import orjson
import pytest

from dataenv.agents import teachers
from dataenv.errors import InvalidData, RunError, UnknownId
from dataenv.registry import Entry
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import resume, start
from dataenv.runs.folder import RunFolder


def events(folder):
    return [orjson.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]


def story(folder):
    """A run's events without what may differ between equal runs, and its other files."""
    unequal = ("hash", "seconds", "seconds_total", "peak_memory_mib", "machine", "versions")
    told = [{key: value for key, value in event.items() if key not in unequal} for event in events(folder)]
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    del files["events.jsonl"]
    files.pop("events.jsonl.lost", None)
    return told, files


def same(result, folder, whole):
    """`folder` came to the same end as `whole`, in its log, its files and its hash."""
    assert story(folder) == story(whole)
    assert result["hash"] == events(whole)[-1]["hash"] == events(folder)[-1]["hash"]
    return True


def copy(whole, tmp_path, lines=None):
    """A copy of the run with the first `lines` events only."""
    folder = tmp_path / "copy"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    if lines is not None:
        kept = (whole / "events.jsonl").read_bytes().splitlines(keepends=True)[:lines]
        (folder / "events.jsonl").write_bytes(b"".join(kept))
    return folder


def test_a_draft_that_a_kill_left_beside_the_weights_goes(whole, tmp_path):
    folder = copy(whole, tmp_path, lines=4)
    (folder / "steps/003/student/.tmpizZ4kY").write_bytes(b"half")
    resume(folder)
    assert story(folder) == story(whole)


# -- from beginning to end --------------------------------------------------------------------------------------------


def test_a_run_writes_down_every_step_and_its_exam(whole):
    told = events(whole)
    assert [event["event"] for event in told] == ["start", "reset", "step", "step", "step", "exam", "end"]
    assert [event["step"] for event in told[1:5]] == [0, 1, 2, 3]
    for event in told[2:5]:
        assert event["accepted"] == sum(event["taught"].values()) == 12
        rows = (whole / f"steps/{event['step']:03d}/rows.jsonl").read_bytes().splitlines()
        assert len(rows) == 12
        assert Counter(json.loads(row)["skill"] for row in rows) == event["taught"]
    assert told[4]["rows_total"] == 36
    assert (told[4]["terminated"], told[4]["truncated"]) == (True, True)
    assert told[5]["n"] == 15


def test_the_result_says_what_the_events_say(world, config, tmp_path):
    result = start(config, tmp_path / "run")
    exam = events(tmp_path / "run")[-2]
    assert set(result) == {
        "exam_before", "exam_after", "gain", "gain_se", "selected_step", "steps", "rows", "seconds", "run", "hash",
    }  # fmt: skip
    assert result["exam_before"] == exam["before"]["accuracy"]
    assert result["exam_after"] == exam["after"]["accuracy"]
    assert result["gain"] == exam["gain"] == pytest.approx(result["exam_after"] - result["exam_before"])
    assert (result["gain_se"], result["steps"], result["rows"]) == (exam["gain_error"], 3, 36)
    assert result["run"] == str(tmp_path / "run")


def test_rewards_are_the_differences_of_the_accuracies(whole):
    told = events(whole)[1:5]
    for before, after in pairwise(told):
        assert after["reward"] == pytest.approx(after["accuracy"] - before["accuracy"])


def test_the_same_configuration_gives_the_same_run_and_another_seed_another(world, config, whole, tmp_path):
    assert same(start(config, tmp_path / "again"), tmp_path / "again", whole)
    other = start(config.model_copy(update={"seed": 1}), tmp_path / "other")
    assert other["hash"] != events(whole)[-1]["hash"]
    assert events(tmp_path / "other")[2]["requests"] != events(whole)[2]["requests"]


def test_a_watcher_hears_every_event_once_and_in_order(world, config, tmp_path):
    start(config, tmp_path / "run", world)
    heard = [place for place in world.seen if place in ("start", "reset", "step", "exam-begins")]
    assert heard == ["start", "reset", "step", "step", "step", "exam-begins"]


# -- starting in a folder that is in use ------------------------------------------------------------------------------


def test_a_finished_run_gives_its_result_without_any_work(world, config, whole, monkeypatch):
    before = (whole / "events.jsonl").read_bytes()
    monkeypatch.setattr(RunConfig, "build_env", lambda self: pytest.fail("work on a finished run"))
    first, second = start(config, whole), resume(whole)
    assert first == second
    assert first["hash"] == events(whole)[-1]["hash"]
    assert world.seen == []
    assert (whole / "events.jsonl").read_bytes() == before


@pytest.mark.parametrize("lines", [2, 3, 6, 7])
@pytest.mark.parametrize(
    "change",
    [{"seed": 5}, {"steps": 4}, {"teacher": "random", "rows": 13}, {"exam": None}, {"options": {"teacher": {}}}],
    ids=lambda change: "+".join(change),
)
def test_another_configuration_in_the_same_folder_is_refused_by_its_fields(
    world, config, whole, tmp_path, change, lines
):
    folder = copy(whole, tmp_path, lines)
    before = story(folder)
    with pytest.raises(RunError, match="choose another --out") as refused:
        start(config.model_copy(update=change), folder)
    assert set(re.search("that differs in (.*); choose", str(refused.value))[1].split(", ")) == set(change)
    assert story(folder) == before


def test_a_run_that_never_examined_anything_gives_way_to_the_corrected_one(world, config, tmp_path, whole):
    world.trouble["forget"] = (1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(config.model_copy(update={"rows": 99}), tmp_path / "run")
    assert [event["event"] for event in events(tmp_path / "run")] == ["start"]
    assert same(start(config, tmp_path / "run"), tmp_path / "run", whole)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"task": "exam-to"}, UnknownId),
        ({"teacher": "dices"}, UnknownId),
        ({"student": "clerq"}, UnknownId),
        ({"engine": "proc"}, UnknownId),
        ({"env": "skill"}, UnknownId),
        ({"replay": 1000.0}, InvalidData),
        ({"options": {"student": {"prior": 3}}}, InvalidData),
        ({"options": {"teacher": {"dice": 3}}}, InvalidData),
    ],
    ids=str,
)
def test_a_misspelt_part_leaves_nothing_behind(world, config, tmp_path, change, error):
    with pytest.raises(error):
        start(config.model_copy(update=change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "strangers", [{"notes.txt": "mine"}, {"events.jsonl": "my own log\n"}, {"events.jsonl": '{"event": "start"}\n'}]
)
def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(world, config, tmp_path, strangers):
    for name, content in strangers.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=f"is not empty and holds no run .{next(iter(strangers))}"):
        start(config, tmp_path)
    for name, content in strangers.items():
        assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("left", [(), ("events.jsonl",), ("events.jsonl", ".config.json.part")])
def test_what_a_kill_leaves_before_the_configuration_is_no_obstacle(world, config, tmp_path, left, whole):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in left:
        (folder / name).write_bytes(b"{" if name.endswith("part") else b"")
    start(config, folder)
    assert story(folder) == story(whole)


def test_there_is_nothing_to_resume_where_there_is_no_run(world, tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match=r"There is no run in .*; 'dataenv run --out"):
            resume(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [({"steps": 0}, "steps"), ({"colour": "red"}, "colour"), ({"regime": "x"}, "regime"), ({"steps": "x"}, "steps")],
)
def test_a_configuration_that_is_none_is_refused_by_its_field(world, whole, change, named):
    written = orjson.loads((whole / "config.json").read_bytes())
    (whole / "config.json").write_bytes(orjson.dumps(written | change))
    with pytest.raises(RunError, match=rf"config.json: {named}: "):
        resume(whole)


@pytest.mark.parametrize("lines", [1, 3, 7])
def test_a_configuration_that_was_changed_during_the_run_is_refused(world, whole, tmp_path, lines):
    folder = copy(whole, tmp_path, lines)
    written = orjson.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_bytes(orjson.dumps(written | {"steps": 2}))
    before = story(folder)
    with pytest.raises(RunError, match=r"config.json is not what the run began with"):
        resume(folder)
    assert story(folder) == before


# -- going on: every cut, every file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("go_on", ["start", "resume"])
def test_a_run_goes_on_after_every_event_and_does_only_what_is_left(world, config, whole, tmp_path, go_on):
    left = {1: 3, 2: 3, 3: 2, 4: 1, 5: 0, 6: 0, 7: 0}
    for lines, lessons in left.items():
        folder = copy(whole, tmp_path, lines)
        world.calm()
        result = start(config, folder) if go_on == "start" else resume(folder)
        assert same(result, folder, whole), lines
        assert world.visits["teach"] == world.visits["act"] == lessons, lines
        assert world.visits["exam"] == (lines < 6), lines


def test_a_run_goes_on_after_a_cut_inside_every_event(world, whole, tmp_path):
    content = (whole / "events.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for begin, end in pairwise(ends):
        for cut in (begin + 1, (begin + end) // 2, end - 1):
            folder = copy(whole, tmp_path)
            (folder / "events.jsonl").write_bytes(content[:cut])
            assert same(resume(folder), folder, whole), cut


def spoil(path, how):
    if how == "deleted":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "torn":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        content = bytearray(path.read_bytes())
        where = max(i for i, byte in enumerate(content) if chr(byte).isdigit())
        content[where] = ord("0") + (content[where] - ord("0") + 1) % 10
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["deleted", "empty", "torn", "altered"])
@pytest.mark.parametrize("select", ["last", "best"])
def test_a_run_goes_on_from_before_whatever_file_is_spoilt(world, config, tmp_path, select, how):
    whole = tmp_path / "whole"
    start(config.model_copy(update={"select": select}), whole)
    files = sorted(p.relative_to(whole) for p in (whole / "steps").rglob("*") if p.is_file())
    assert len(files) == 2 + 3 * 4
    for lines in (3, 5, 6):
        for name in files:
            if how == "altered" and not any(chr(byte).isdigit() for byte in (whole / name).read_bytes()):
                continue
            folder = copy(whole, tmp_path, lines)
            spoil(folder / name, how)
            result = resume(folder)
            if name.name != "weights" or select == "best" or int(name.parts[1]) >= lines - 2:
                assert same(result, folder, whole), (lines, name)
            else:  # weights of an earlier step, which nobody needs again
                assert result["hash"] == events(whole)[-1]["hash"]


def test_a_whole_step_folder_may_be_gone(world, whole, tmp_path):
    for step in range(4):
        folder = copy(whole, tmp_path, 6)
        shutil.rmtree(folder / "steps" / f"{step:03d}")
        assert same(resume(folder), folder, whole), step


def test_a_changed_result_in_the_log_is_worked_out_again(world, whole, tmp_path):
    for number in range(1, 6):
        folder = copy(whole, tmp_path, 6)
        lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)
        lines[number] = lines[number].replace(b'"accuracy":0', b'"accuracy":1')
        (folder / "events.jsonl").write_bytes(b"".join(lines))
        assert same(resume(folder), folder, whole), number


def test_the_teacher_draws_on_where_it_stopped(world, config, whole, tmp_path):
    """Not from its seed again: the second plan is not the first."""
    told = events(whole)
    assert told[2]["requests"] != told[3]["requests"]
    state = json.loads((whole / "steps/001/teacher.json").read_bytes())
    assert state["last"] == told[2]["reward"]
    folder = copy(whole, tmp_path, 3)
    resume(folder)
    assert events(folder)[3]["requests"] == told[3]["requests"]


# -- going on: every interruption -------------------------------------------------------------------------------------


def interrupted_everywhere(world, config, whole, folder, place, error, expected):
    """Stop a run at the 1st, 2nd, ... visit of `place` until it gets through; each time it must go on to the end."""
    for visit in range(1, 200):
        shutil.rmtree(folder, ignore_errors=True)
        world.calm()
        world.trouble[place] = (visit, error)
        try:
            result = start(config, folder)
        except expected as stopped:
            if isinstance(stopped, RunError):
                begun = (folder / "config.json").exists()
                assert (f"'dataenv resume {folder}'" if begun else "give the same command again") in str(stopped)
            assert list(folder.rglob("*.part")) == [], visit
            world.calm()
            assert same(start(config, folder), folder, whole), visit
            continue
        assert same(result, folder, whole)
        return visit - 1
    raise AssertionError("never got through")


@pytest.mark.parametrize(
    ("place", "times"),
    [("act", 3), ("teach", 3), ("answer", 1 + 3 + 2), ("observe", 3), ("forget", 2), ("saved", 3), ("exam", 1)],
)
def test_an_interrupt_at_any_moment_loses_nothing(world, config, whole, tmp_path, place, times):
    found = interrupted_everywhere(world, config, whole, tmp_path / "run", place, KeyboardInterrupt, KeyboardInterrupt)
    assert found == times


def test_a_full_disk_at_any_write_is_a_run_error_and_loses_nothing(world, config, whole, tmp_path):
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    found = interrupted_everywhere(world, config, whole, tmp_path / "run", "write", error, RunError)
    assert found == 1 + 7 + 2 + 3 * 4  # configuration, events, step 0's files, the steps' files


def test_a_disk_that_cannot_sync_is_a_run_error_and_loses_nothing(world, config, whole, tmp_path, monkeypatch):
    def sync(_):
        world.at("sync")

    monkeypatch.setattr(os, "fsync", sync)
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    found = interrupted_everywhere(world, config, whole, tmp_path / "run", "sync", error, RunError)
    assert found == 1 + 7


def test_a_student_whose_library_reports_the_disk_in_its_own_way_is_a_run_error(world, config, whole, tmp_path):
    class SafetensorError(Exception):
        pass

    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    found = interrupted_everywhere(world, config, whole, tmp_path / "run", "saved", error, RunError)
    assert found == 3


def test_a_bug_in_a_student_keeps_its_own_face(world, config, tmp_path):
    world.trouble["saved"] = (1, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        start(config, tmp_path / "run")


def test_a_run_that_is_stopped_again_and_again_still_arrives(world, config, whole, tmp_path):
    folder = tmp_path / "run"
    for pace in (16, 19, 25):
        shutil.rmtree(folder, ignore_errors=True)
        for _ in range(60):
            world.calm()
            world.trouble["anywhere"] = (pace, KeyboardInterrupt)
            try:
                result = start(config, folder)
                break
            except KeyboardInterrupt:
                continue
        assert same(result, folder, whole), pace


def test_a_run_retraining_from_scratch_goes_on_as_well(world, config, tmp_path):
    config = config.model_copy(update={"regime": "retrain", "max_rows": 30, "target": 0.99})
    whole = tmp_path / "whole"
    start(config, whole)
    assert events(whole)[4]["clipped"] or events(whole)[4]["rows_total"] == 30
    for lines in range(1, len(events(whole))):
        folder = copy(whole, tmp_path, lines)
        assert same(resume(folder), folder, whole), lines


# -- nothing to do -----------------------------------------------------------------------------------------------------


def test_no_teaching_no_gain(world, config, tmp_path, monkeypatch):
    """A run whose teacher asks for nothing ends with an exam of the untaught student against itself."""
    from dataenv.agents.controls import Uniform
    from dataenv.records import Plan

    class Idle(Uniform):
        def act(self, observation, info):
            return Plan()

    monkeypatch.setitem(teachers._entries, "idle", Entry(Idle))
    result = start(config.model_copy(update={"teacher": "idle"}), tmp_path / "run")
    assert (result["rows"], result["gain"], result["steps"]) == (0, 0, 3)
    for lines in range(1, 7):
        folder = copy(tmp_path / "run", tmp_path, lines)
        assert same(resume(folder), folder, tmp_path / "run"), lines


# -- both at once -----------------------------------------------------------------------------------------------------


def test_two_runs_cannot_share_a_folder(world, config, whole):
    with RunFolder(whole), pytest.raises(RunError, match="Another process"):
        start(config, whole)
    with RunFolder(whole), pytest.raises(RunError, match="Another process"):
        resume(whole)
