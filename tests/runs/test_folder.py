"""A run's files: what a kill, a full disk or a stranger's hand leaves behind is recognised, and never built upon."""

import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from dataenv.errors import Note, RunError
from dataenv.records import Example
from dataenv.runs.folder import RunFolder

EVENTS = [{"event": "start", "n": 1}, {"event": "reset", "n": 2.5}, {"event": "step", "n": [3, None]}]


@pytest.fixture
def folder(tmp_path):
    """A folder with three events."""
    with RunFolder(tmp_path / "run") as files:
        for event in EVENTS:
            files.append(event)
    return tmp_path / "run"


def events_of(folder):
    with RunFolder(folder) as files:
        return [{key: value for key, value in event.items() if key != "hash"} for event in files.events]


def in_child(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


# -- the log ----------------------------------------------------------------------------------------------------------


def test_events_come_back_with_the_hash_they_were_written_with(folder):
    assert events_of(folder) == EVENTS
    lines = (folder / "events.jsonl").read_bytes().splitlines()
    with RunFolder(folder) as files:
        assert [json.loads(line)["hash"] for line in lines] == [event["hash"] for event in files.events]
        assert files.hash == files.events[-1]["hash"]


def test_a_new_folder_has_no_events_no_hash_and_no_configuration(tmp_path):
    with RunFolder(tmp_path / "a" / "b") as files:
        assert (files.events, files.hash, files.config) == ([], "", None)


def test_a_log_cut_at_any_byte_gives_the_whole_events_before_the_cut_and_can_be_written_on(folder):
    log = folder / "events.jsonl"
    content = log.read_bytes()
    for cut in range(len(content)):
        log.write_bytes(content[:cut])
        whole = content[:cut].count(b"\n")
        with RunFolder(folder) as files:
            assert len(files.events) == whole, cut
            for event in EVENTS[whole:]:
                files.append(event)
        assert log.read_bytes() == content, cut


@pytest.mark.parametrize("line", [0, 1, 2])
def test_an_altered_line_and_all_after_it_do_not_count(folder, line):
    log = folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"n":', b'"m":')
    log.write_bytes(b"".join(lines))
    assert events_of(folder) == EVENTS[:line]


def test_a_line_taken_out_or_swapped_breaks_the_chain(folder):
    log = folder / "events.jsonl"
    first, second, third = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(first + third)
    assert events_of(folder) == EVENTS[:1]
    log.write_bytes(second + first + third)
    assert events_of(folder) == []


@pytest.mark.parametrize("junk", [b"[1]\n", b"null\n", b"\n", b"\x00" * 40 + b"\n", b"\xff\xfe\n", b'{"hash": 1}\n'])
def test_junk_after_the_last_event_is_written_over(folder, junk):
    log = folder / "events.jsonl"
    log.write_bytes(log.read_bytes() + junk)
    with RunFolder(folder) as files:
        files.append({"event": "exam"})
    assert events_of(folder) == [*EVENTS, {"event": "exam"}]
    assert junk not in log.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("line", [0, 1, 2])
def test_finished_lines_that_do_not_count_are_kept_aside_and_it_is_said_once(folder, line):
    log = folder / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b'"n":', b'"m":')
    log.write_bytes(b"".join(lines) + b'{"torn')
    with RunFolder(folder) as files, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert files.begun
        files.keep(len(files.events))
        files.append({"event": "exam"})
    assert [note.category for note in said] == [Note]
    assert f"{3 - line} line" in str(said[0].message) and str(folder) in str(said[0].message)
    assert (folder / "events.jsonl.lost").read_bytes() == b"".join(lines[line:])
    assert events_of(folder) == [*EVENTS[:line], {"event": "exam"}]


@pytest.mark.parametrize("left", ["torn", "first only", "first torn"])
def test_a_line_without_its_end_and_a_first_event_alone_go_in_silence(folder, left):
    log = folder / "events.jsonl"
    first, second, _ = log.read_bytes().splitlines(keepends=True)
    log.write_bytes({"torn": first + second[:-2], "first only": first, "first torn": first[:-1]}[left])
    with RunFolder(folder) as files, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not files.begun
        files.keep(0)
    assert [p.name for p in folder.iterdir()] == ["events.jsonl"]
    assert log.read_bytes() == b""


def test_reading_changes_nothing(folder):
    log = folder / "events.jsonl"
    log.write_bytes(log.read_bytes() + b'{"torn')
    before = log.read_bytes()
    events_of(folder)
    assert log.read_bytes() == before


def test_keep_forgets_the_rest_for_good(folder):
    for n in (2, 0):
        with RunFolder(folder) as files:
            files.keep(n)
            assert len(files.events) == n
        assert events_of(folder) == EVENTS[:n]


def test_what_was_kept_and_written_again_is_the_same_file(folder):
    before = (folder / "events.jsonl").read_bytes()
    with RunFolder(folder) as files:
        files.keep(1)
        files.append(EVENTS[1])
        files.append(EVENTS[2])
    assert (folder / "events.jsonl").read_bytes() == before


# -- the hash ---------------------------------------------------------------------------------------------------------


def hash_of(tmp_path, *events):
    name = str(len(list(tmp_path.iterdir())))
    with RunFolder(tmp_path / name) as files:
        for event in events:
            files.append(event)
        return files.hash


def test_the_hash_ignores_time_and_machine_but_no_result(tmp_path):
    event = {"event": "step", "accuracy": 0.5, "kept": {"rows.jsonl": "ab"}}
    measured = {"seconds": {"teach": 1.5}, "versions": {"torch": "1"}, "machine": {"system": "x"}}
    plain = hash_of(tmp_path, event)
    assert hash_of(tmp_path, {**event, **measured, "peak_memory_mib": 9, "seconds_total": 3.0}) == plain
    assert hash_of(tmp_path, dict(reversed(event.items()))) == plain
    assert hash_of(tmp_path, {**event, "accuracy": 0.5000001}) != plain
    assert hash_of(tmp_path, {**event, "kept": {"rows.jsonl": "ac"}}) != plain
    assert hash_of(tmp_path, {**event, "teach": {"seconds": 1}}) != plain


def test_the_hash_covers_every_event_before(tmp_path):
    last = {"event": "end"}
    assert hash_of(tmp_path, {"event": "start", "n": 1}, last) != hash_of(tmp_path, {"event": "start", "n": 2}, last)


def test_numbers_of_numpy_and_numbers_that_are_none_survive(tmp_path):
    event = {"event": "step", "a": np.float32(0.1), "b": np.int64(3), "c": float("nan"), "d": 1e-300, "e": np.arange(2)}
    with RunFolder(tmp_path) as files:
        files.append(event)
    assert events_of(tmp_path) == [{"event": "step", "a": 0.1, "b": 3, "c": None, "d": 1e-300, "e": [0, 1]}]


# -- one at a time ----------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from dataenv.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_another_process_works_on_is_refused_until_that_one_ends(folder):
    child = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(RunError, match=r"Another process is working on .*run; wait for it"), RunFolder(folder):
            pass
        child.kill()
        child.wait()
        assert events_of(folder) == EVENTS
    finally:
        child.kill()
        child.communicate()


def test_the_lock_holds_within_a_process_and_ends_with_the_block(folder):
    with RunFolder(folder), pytest.raises(RunError, match="Another process"), RunFolder(folder):
        pass
    with pytest.raises(ZeroDivisionError), RunFolder(folder):
        raise ZeroDivisionError
    assert events_of(folder) == EVENTS


# -- disks that refuse ------------------------------------------------------------------------------------------------

SMALL = """
import resource, signal, sys
from pathlib import Path
from dataenv.errors import RunError
from dataenv.runs.folder import RunFolder
limit = int(sys.argv[2])
try:
    with RunFolder(Path(sys.argv[1])) as files:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        exec(sys.argv[3])
except RunError as error:
    print(error)
"""


def test_an_event_that_does_not_fit_leaves_the_events_before_it(folder):
    """The kernel itself cuts the write short, as a full disk does."""
    size = (folder / "events.jsonl").stat().st_size
    for room in (0, 1, 30):
        done = in_child(SMALL, folder, size + room, "files.append({'event': 'exam', 'text': 'x' * 100})")
        assert done.returncode == 0, done.stderr
        assert "events.jsonl cannot be written (File too large)" in done.stdout
        assert "give the same command again" in done.stdout  # there is no configuration to resume from
        assert events_of(folder) == EVENTS
    with RunFolder(folder) as files:
        files.append({"event": "exam"})
    assert events_of(folder) == [*EVENTS, {"event": "exam"}]


def test_a_file_that_does_not_fit_leaves_the_old_one_and_no_draft(folder):
    with RunFolder(folder) as files:
        files.write(folder / "config.json", b"old")
    done = in_child(SMALL, folder, 5000, "files.write(files.path / 'config.json', b'new' * 9999)")
    assert done.returncode == 0, done.stderr
    assert "config.json cannot be written (File too large)" in done.stdout
    assert (folder / "config.json").read_bytes() == b"old"
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "events.jsonl"]


def refuse(number):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    return refused


def test_a_log_that_cannot_be_synced_says_so(folder, monkeypatch):
    with RunFolder(folder) as files:
        monkeypatch.setattr(os, "fsync", refuse(errno.ENOSPC))
        with pytest.raises(RunError, match=r"events.jsonl cannot be written \(No space left on device\)"):
            files.append({"event": "exam"})
        assert len(files.events) == 3


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_may_not_be_written_says_why(tmp_path, monkeypatch, number):
    monkeypatch.setattr(Path, "open", refuse(number))
    with pytest.raises(RunError, match=os.strerror(number)), RunFolder(tmp_path / "run"):
        pass


def test_a_log_that_may_only_be_read_is_read_and_writing_to_it_says_why(folder, monkeypatch):
    opened = Path.open

    def only_read(path, mode="r", *rest, **options):
        return opened(path, mode, *rest, **options) if mode == "rb" else refuse(errno.EROFS)()

    monkeypatch.setattr(Path, "open", only_read)
    before = (folder / "events.jsonl").read_bytes()
    with RunFolder(folder) as files:
        assert len(files.events) == 3
        for write in (lambda: files.append({"event": "exam"}), lambda: files.keep(1)):
            with pytest.raises(RunError, match=r"events.jsonl cannot be written \(Read-only file system\)"):
                write()
        with pytest.raises(RunError, match="Another process"), RunFolder(folder):
            pass
    assert (folder / "events.jsonl").read_bytes() == before


def test_only_what_can_be_resumed_is_said_to_be(folder, monkeypatch):
    for begun in (False, True):
        if begun:
            (folder / "config.json").write_text("{}")
        with RunFolder(folder) as files, monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse(errno.ENOSPC))
            with pytest.raises(RunError) as refused:
                files.append({"event": "exam"})
        assert ("'dataenv resume" in str(refused.value)) == begun
        assert ("the same command again" in str(refused.value)) == (not begun)


def test_a_step_folder_that_cannot_be_made_says_why(folder, monkeypatch):
    with RunFolder(folder) as files:
        monkeypatch.setattr(Path, "mkdir", refuse(errno.EROFS))
        with pytest.raises(RunError, match=r"steps/001 cannot be written \(Read-only file system\)"):
            files.step(1)


def test_a_run_folder_that_is_a_file_says_so(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError, match="File exists"), RunFolder(tmp_path / "run"):
        pass
    assert (tmp_path / "run").read_text() == "mine"


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_given_back_only_as_it_was_written(tmp_path):
    rows = [Example(prompt="1+1=", completion="2"), Example(prompt="é\u2028\r", completion="\n")]
    with RunFolder(tmp_path) as files:
        path = files.step(3) / "rows.jsonl"
        hash = files.write_lines(path, rows)
        assert path == tmp_path / "steps/003/rows.jsonl"
        lines = files.read(path, hash).splitlines()
        assert [Example.model_validate_json(line) for line in lines] == rows
        for content in (b"", path.read_bytes()[:-1], path.read_bytes() + b"\n"):
            path.write_bytes(content)
            assert files.read(path, hash) is None
        path.unlink()
        assert files.read(path, hash) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"null"])
def test_a_configuration_that_is_none_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with RunFolder(tmp_path) as files, pytest.raises(RunError, match=r"config.json cannot be read"):
        _ = files.config
