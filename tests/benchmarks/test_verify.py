"""Bundles: a sound one passes, and every way of cheating is reported by name."""

import io
import shutil
import tarfile

import orjson
import pytest

from dataenv.benchmarks import suite as suites
from dataenv.benchmarks.bundle import MANIFEST, digest, pack
from dataenv.benchmarks.verify import leaked, must_be_sound, verify
from dataenv.errors import InvalidData, RunError
from dataenv.records import Example, Problem
from dataenv.runs import folder as folders

RUN = "runs/skill-list/uniform/0"


@pytest.fixture
def bundle(finished, tmp_path):
    return pack(finished, tmp_path / "small.tar.gz")


@pytest.fixture
def forge(bundle, tmp_path):
    """Unpack, let a function change the folder, and pack it again with a manifest that fits, as a cheat would."""

    def forge(change, honest_manifest=True):
        place = tmp_path / "forged"
        with tarfile.open(bundle) as archive:
            archive.extractall(place, filter="data")
        change(place)
        files = {str(f.relative_to(place)): f.read_bytes() for f in place.rglob("*") if f.is_file()}
        if honest_manifest:
            del files[MANIFEST]
            files[MANIFEST] = orjson.dumps({name: digest(content) for name, content in files.items()})
        path = tmp_path / "forged.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return forge


def rewrite(place, change, run=RUN):
    """Change a run's events and chain them anew."""
    path = place / run / "events.jsonl"
    last, lines = "", []
    for line in path.read_bytes().splitlines():
        event = orjson.loads(line)
        change(event)
        last = event["hash"] = folders._chain(last, event)
        lines.append(orjson.dumps(event))
    path.write_bytes(b"\n".join(lines) + b"\n")


def said(path, **options):
    return "\n".join(f"{where}: {what}" for where, what in verify(path, **{"sample": 0, "seed": 1, **options}))


def test_a_sound_bundle_has_no_fault_whatever_is_taught_again(bundle):
    told = []
    assert verify(bundle, sample=8, seed=0, tell=told.append) == []
    assert len(told) == 8 and all("taught again" in line for line in told)


def test_a_file_changed_after_packing_is_named(forge):
    found = said(
        forge(lambda place: (place / "suite.json").write_bytes((place / "suite.json").read_bytes() + b" "), False)
    )
    assert "suite.json: it was changed after packing" in found


def test_an_edited_line_breaks_the_chain(forge):
    def edit(place):
        path = place / RUN / "events.jsonl"
        path.write_bytes(path.read_bytes().replace(b'"accepted":6', b'"accepted":7', 1))

    assert f"{RUN.removeprefix('runs/')}: events.jsonl, line 3: altered" in said(forge(edit))


def test_edited_scores_are_found_though_the_chain_fits(forge):
    def better(event):
        if event["event"] == "exam":
            event["gain"], event["after"]["accuracy"] = event["gain"] + 0.1, event["after"]["accuracy"] + 0.1

    assert "exam: after is given as" in said(forge(lambda place: rewrite(place, better)))


def test_edited_marks_are_found_by_examining_the_student_again(forge):
    def better(event):
        if event["event"] == "exam":
            n = len(event["problems"])
            event["solved"]["after"] = "1" * n
            event["after"]["accuracy"] = 1.0
            event["gain"] = 1.0 - event["solved"]["before"].count("1") / n

    assert "are judged otherwise here" in said(forge(lambda place: rewrite(place, better)))


def test_swapped_base_weights_are_found(forge):
    def swap(event):
        if event["event"] == "reset":
            event["student_version"] = "0" * 32

    assert "base weights of 'micro' were others" in said(forge(lambda place: rewrite(place, swap)))


@pytest.mark.parametrize("part", ["trainer", "evaluator", "prompts"])
def test_another_trainer_evaluator_or_template_is_named(forge, part):
    def other(event):
        if "versions" in event:
            event["versions"][part] = "0" * 16

    assert f"the {part} was another" in said(forge(lambda place: rewrite(place, other)))


def test_another_student_in_the_bundle_is_found(forge):
    def swap(place):
        other = place / "runs/skill-list/random/1/steps/002/student"
        shutil.rmtree(place / RUN / "steps/002/student")
        shutil.copytree(other, place / RUN / "steps/002/student")

    assert "not the one that sat the exam" in said(forge(swap))


def test_exam_problems_among_the_rows_are_found(forge, finished):
    from dataenv.runs.config import RunConfig
    from dataenv.runs.exam import exam_problems
    from dataenv.tasks import tasks

    config = RunConfig.model_validate_json((finished / RUN / "config.json").read_bytes())
    stolen = Example.from_problem(exam_problems(config, tasks.make(config.task))[0])

    def cheat(place):
        path = place / RUN / "steps/001/rows.jsonl"
        rows = [stolen.model_dump_json().encode(), *path.read_bytes().splitlines()[1:]]
        path.write_bytes(b"\n".join(rows) + b"\n")

        def note(event):
            if event["event"] == "step" and event["step"] == 1:
                event["kept"]["rows.jsonl"] = digest(path.read_bytes())

        rewrite(place, note)

    assert "step 1: 1 of its rows hold problems of the exam" in said(forge(cheat))


def test_rows_that_do_not_make_the_student_are_found_by_teaching_again(forge):
    """The rows were swapped for others, and all hashes made to fit; the student is the one that really sat the exam."""

    def cheat(place):
        path = place / RUN / "steps/001/rows.jsonl"
        other = place / "runs/skill-list/random/1/steps/001/rows.jsonl"
        path.write_bytes(other.read_bytes())

        def note(event):
            if event["event"] == "step" and event["step"] == 1:
                event["kept"]["rows.jsonl"] = digest(path.read_bytes())

        rewrite(place, note)

    forged = forge(cheat)
    assert "make another student here" in said(forged, sample=8)


def test_dropped_runs_and_seeds_are_found(forge, finished, tmp_path, monkeypatch, suite_file):
    assert "neither there nor among the failed ones" in said(forge(lambda place: shutil.rmtree(place / RUN)))
    monkeypatch.setattr(suites, "SUITES", suite_file.parent)

    def fewer(place):
        suite = orjson.loads((place / "suite.json").read_bytes())
        (place / "suite.json").write_bytes(orjson.dumps({**suite, "seeds": [0]}))
        for run in place.glob("runs/*/*/1"):
            shutil.rmtree(run)

    assert "seeds 1 of suite 'small' are left out" in said(forge(fewer))


def test_a_run_that_failed_and_is_said_to_have_failed_is_no_fault(forge):
    def fail(place):
        path = place / RUN / "events.jsonl"
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
        (place / "failed.json").write_bytes(orjson.dumps({RUN.removeprefix("runs/"): "it broke"}))

    assert said(forge(fail)) == ""


def test_other_settings_than_the_suites_are_found(forge, monkeypatch, suite_file):
    monkeypatch.setattr(suites, "SUITES", suite_file.parent)

    def easier(place):
        suite = orjson.loads((place / "suite.json").read_bytes())
        suite["cells"][0]["run"]["rows"] = 600
        (place / "suite.json").write_bytes(orjson.dumps(suite))

    found = said(forge(easier))
    assert "has other settings than suite 'small' says" in found
    assert "began with other settings than the suite's" in found


def test_all_faults_come_in_one_error(forge):
    def both(place):
        shutil.rmtree(place / RUN)
        rewrite(
            place,
            lambda event: event["versions"].update(trainer="x") if "versions" in event else None,
            "runs/skill-list/random/0",
        )

    with pytest.raises(InvalidData) as error:
        must_be_sound(forge(both), sample=0, seed=0)
    assert "2 faults" in str(error.value) and "trainer" in str(error.value) and "neither there" in str(error.value)


def test_what_is_no_bundle_is_refused(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(b"nothing")
    with pytest.raises(InvalidData, match="no bundle"):
        verify(tmp_path / "x.tar.gz")
    with pytest.raises(InvalidData, match="There is no bundle"):
        verify(tmp_path / "absent.tar.gz")


def test_a_bundle_is_written_whole_or_not_at_all(bundle, finished, tmp_path, monkeypatch):
    whole, add = bundle.read_bytes(), tarfile.TarFile.addfile

    def full(archive, member, *rest):
        if "rows.jsonl" in member.name:
            raise OSError(28, "No space left on device")
        add(archive, member, *rest)

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(RunError, match=r"small\.tar\.gz cannot be written \(No space left"):
        pack(finished, bundle)
    assert bundle.read_bytes() == whole
    assert not list(tmp_path.glob(".*part"))


def test_an_archive_cannot_write_outside_its_place(bundle, tmp_path):
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("../outside")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(InvalidData, match="no bundle"):
        verify(path)
    assert not (tmp_path / "outside").exists()


def test_a_long_exam_prompt_within_a_row_is_a_leak_a_short_one_is_none():
    long, short = "How many apples are left of the nine on the table?", "1+1="
    problems = [Problem(prompt=long, answer="9"), Problem(prompt=short, answer="2")]
    innocent = Example(prompt="11+1=", completion="12")
    guilty = Example(prompt=f"Hint: {long.upper()}", completion="nine")
    assert list(leaked(problems, [[innocent]])) == []
    assert list(leaked(problems, [[innocent], [guilty]])) == ["step 2: 1 of its rows hold problems of the exam"]
