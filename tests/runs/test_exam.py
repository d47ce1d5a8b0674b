"""The exam of a run is asked for after the episode only, and shows up nowhere else."""

import json

import orjson
import pytest

from dataenv.records import Attempt, Example
from dataenv.runs.episode import start
from dataenv.runs.report import write_report


def events(folder):
    return [orjson.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("select", ["last", "best"])
def test_the_exam_is_asked_for_once_and_only_after_the_episode(world, config, tmp_path, select):
    start(config.model_copy(update={"select": select}), tmp_path / "run", world)
    assert world.seen.count("exam") == 2  # the request, and the event about it
    request = world.seen.index("exam")
    begins = world.seen.index("exam-begins")
    last = max(i for i, place in enumerate(world.seen) if place == "step")
    assert last < begins < request
    assert not {"teach", "act", "step"} & set(world.seen[begins:])
    assert ("selection" in world.seen) == (select == "best")
    assert "selection" not in world.seen[:begins]


def test_a_run_that_is_cut_short_has_not_seen_the_exam(world, config, tmp_path):
    world.trouble["teach"] = (3, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        start(config, tmp_path / "run")
    assert not {"exam", "selection"} & set(world.seen)


@pytest.mark.parametrize("select", ["last", "best"])
def test_no_exam_prompt_stands_anywhere_in_the_run_folder(world, config, tmp_path, select):
    folder = tmp_path / "run"
    start(config.model_copy(update={"select": select}), folder)
    write_report(folder)
    numbers = [problem.prompt.text.split()[1].encode() for problem in world.exam]
    assert len(set(numbers)) == 15
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {"report.html", "events.jsonl", "config.json", "rows.jsonl", "attempts.jsonl"} <= {p.name for p in files}
    for path, content in files.items():
        assert not [n for n in numbers if n in content], path
    # The search finds what is there: every feedback prompt stands in the answers.
    asked = json.loads(files[folder / "steps/000/attempts.jsonl"].splitlines()[0])["problem"]["prompt"]
    assert any(asked.split()[1].encode() in content for content in files.values())


def test_the_exam_questions_are_none_of_the_taught_or_feedback_ones(world, whole):
    exam = {problem.prompt.key for problem in world.exam}
    for step in range(4):
        folder = whole / f"steps/{step:03d}"
        asked = [Attempt.model_validate_json(line) for line in (folder / "attempts.jsonl").read_bytes().splitlines()]
        assert not exam & {attempt.problem.prompt.key for attempt in asked}
        if step:
            rows = [Example.model_validate_json(line) for line in (folder / "rows.jsonl").read_bytes().splitlines()]
            assert not exam & {row.prompt.key for row in rows}


ABILITIES = {
    "falls": (lambda rows: 0.9 - 0.2 * (rows > 0), 0),
    "peaks early": (lambda rows: {0: 0.1, 12: 0.9}.get(rows, 0.3), 1),
    "rises": (lambda rows: 0.1 + rows / 60, 3),
    "stays": (lambda rows: 0.5, 0),
}


@pytest.mark.parametrize("name", ABILITIES)
def test_the_best_student_by_the_selection_split_sits_the_exam(world, config, tmp_path, name):
    world.ability, expected = ABILITIES[name]
    start(config.model_copy(update={"feedback": 30, "exam": 30, "replay": 0.0, "select": "best"}), tmp_path / "run")
    told = events(tmp_path / "run")
    exam = told[-2]
    scores = exam["selection"]
    assert list(scores) == ["0", "1", "2", "3"]
    assert exam["selected_step"] == expected
    assert scores[str(expected)] == max(scores.values())
    assert not [step for step, score in scores.items() if score == max(scores.values()) and int(step) < expected]
    assert exam["student_version"] == told[1 + expected]["student_version"]
    if expected == 0:
        assert exam["gain"] == 0
        assert exam["before"]["accuracy"] == exam["after"]["accuracy"]
    else:
        assert exam["gain"] > 0


def test_the_last_student_sits_the_exam_even_where_it_is_worse(world, config, tmp_path):
    world.ability = ABILITIES["falls"][0]
    start(config.model_copy(update={"exam": 60}), tmp_path / "run")
    exam = events(tmp_path / "run")[-2]
    assert (exam["selected_step"], exam["selection"], exam["rule"]) == (3, {}, "last")
    assert exam["gain"] < 0
