import json
import sys
import warnings

import pytest

from dataenv.errors import InvalidData, MissingDependency, Note
from dataenv.records import Prompt
from dataenv.tasks import tasks
from dataenv.tasks.hf import HuggingFace
from dataenv.tasks.splits import SHARES, split_of

datasets = pytest.importorskip("datasets")

ROWS = [{"question": f"What follows {i}?", "label": i % 2, "topic": "odd" if i % 2 else "even"} for i in range(200)]
COLUMNS = {"prompt": "question", "answer": "label"}


@pytest.fixture(scope="module")
def rows():
    return datasets.Dataset.from_list(ROWS)


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)
        yield


@pytest.fixture
def places(rows, tmp_path):
    """The same rows in every form that a data set has on a machine."""
    rows.to_parquet(tmp_path / "rows.parquet")
    rows.to_csv(tmp_path / "rows.csv")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (tmp_path / "folder").mkdir()
    rows.to_parquet(tmp_path / "folder" / "train-00000-of-00001.parquet")
    rows.save_to_disk(tmp_path / "saved")
    datasets.DatasetDict({"train": rows, "test": rows.select(range(20))}).save_to_disk(tmp_path / "both")
    return tmp_path


def problems(task):
    return {problem.prompt.key: problem for split in SHARES for problem in task.problems(split, None, 0)}


@pytest.mark.parametrize("place", ["rows.parquet", "rows.csv", "rows.jsonl", "folder", "saved", "both"])
def test_local_data_is_read_in_each_form(places, place):
    task = HuggingFace(str(places / place), **COLUMNS, skill="topic")
    assert task.skills == ("even", "odd")
    found = problems(task)
    assert len(found) == 200
    assert {problem.answer for problem in found.values()} == {"0", "1"}
    assert all(split_of(problem.prompt) == "pool" for problem in task.problems("pool", None, 0))


def test_columns_are_given_as_on_the_command_line(places):
    task = tasks.make(f"hf:{places / 'rows.parquet'}", prompt="question", answer="label")
    assert task.skills == ("general",)
    problem = task.recognise(Prompt(text="what follows 7?"))
    assert problem is not None and task.verify(problem, "1.0").correct and not task.verify(problem, "0").correct


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({}, r"row 1: field 'prompt' is missing \(fields: question, label, topic\)"),
        ({"prompt": "question"}, r"row 1: field 'answer' is missing \(fields: question, label, topic\)"),
        ({**COLUMNS, "skill": "subject"}, r"field 'subject' is missing \(fields: question, label, topic\)"),
        ({**COLUMNS, "solution": "work"}, r"no row has the field 'work' \(fields: question, label, topic\)"),
        ({"prompt": "label", "answer": "question"}, "'label' must be text, not a number"),
    ],
)
def test_a_missing_column_is_said_with_those_there_are(places, columns, what):
    with pytest.raises(InvalidData, match=what):
        HuggingFace(str(places / "rows.parquet"), **columns)


def test_a_published_split_can_be_the_exam(places):
    task = HuggingFace(str(places / "both"), **COLUMNS, exam="test")
    exam = task.problems("exam", None, 0)
    assert {problem.prompt.text for problem in exam} == {row["question"] for row in ROWS[:20]}
    assert len(problems(task)) == 200
    assert {prompt.key for prompt in task.held_out()} >= {problem.prompt.key for problem in exam}


def test_a_part_of_a_split_will_do(places):
    assert len(problems(HuggingFace(str(places / "rows.parquet"), **COLUMNS, split="train[:150]"))) == 150


def test_labels_of_classes_are_read_as_their_names(rows, tmp_path):
    rows.cast_column("label", datasets.ClassLabel(names=["none", "some"])).save_to_disk(tmp_path / "x")
    task = HuggingFace(str(tmp_path / "x"), **COLUMNS)
    assert {problem.answer for problem in problems(task).values()} == {"none", "some"}


def test_data_that_cannot_be_had_is_said_in_one_sentence(places):
    for name, content in {"empty.jsonl": b"", "odd.jsonl": b"\x00\xff", "odd.parquet": b"no"}.items():
        (places / name).write_bytes(content)
    for name, settings, hint in [
        ("no-org/no-set", {}, r"out of reach.*check the network|check its name"),
        (str(places / "folder"), {"split": "tran"}, r"task\.config and task\.split"),
        *(
            (str(places / name), {}, "check that datasets can read it")
            for name in ("empty.jsonl", "odd.jsonl", "odd.parquet")
        ),
    ]:
        with pytest.raises(InvalidData, match=rf"^hf:.* cannot be loaded \(.*({hint})") as error:
            HuggingFace(name, **COLUMNS, **settings)
        assert "\n" not in str(error.value)


def test_without_the_library_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match="pip install"):
        HuggingFace("org/set")
