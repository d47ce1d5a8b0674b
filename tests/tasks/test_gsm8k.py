import gzip
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataenv.errors import InvalidData, MissingDependency
from dataenv.records import Problem
from dataenv.tasks.gsm8k import GSM8K, SKILLS, read_answer
from dataenv.tasks.splits import SHARES

DATA = Path(os.environ.get("DATAENV_TEST_DATA", Path(__file__).parents[3] / "shared/data")) / "gsm8k"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"no GSM8K at {DATA} (set DATAENV_TEST_DATA)")


def row(i, steps=1):
    worked = "\n".join(f"{i} + {k} = <<{i}+{k}={i + k}>>{i + k}" for k in range(steps))
    return {"question": f"Ann has {i} apples and buys {steps}. How many now?", "answer": f"{worked}\n#### {i:,}"}


def write(folder, part, rows):
    (folder / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "test", [row(i) for i in range(40)])
    write(tmp_path, "train", [row(i, i % 8 + 1) for i in range(20, 400)] + [row(7)])
    return tmp_path


def check(answer, response):
    return GSM8K("nowhere").verify(Problem(prompt="?", answer=answer), response).correct


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        ("1000", "#### 1,000"),
        ("1000", "#### 1000.0"),
        ("1000", "it is\n#### $1,000."),
        ("-3", "#### -3"),
        ("-3", "####−3"),
        ("50", "#### 50%"),
        ("5", "#### 5 apples\nbecause"),
        ("0.5", "#### .5"),
        ("0.5", "#### 1/2"),
        ("5", "so 3 + 2 = 5"),
        ("5", "#### 4\nno: #### 5"),
    ],
)
def test_right(answer, response):
    assert check(answer, response)


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        ("3", "#### -3"),
        ("5", "#### 4 or 5"),
        ("5", "5\n####"),
        ("5", "#### five"),
        ("5", "5 then 6"),
        ("1", "1.0000000000000000001"),
        ("5", ""),
        ("5", "#### 5 ####"),
    ],
)
def test_wrong(answer, response):
    assert not check(answer, response)


def test_long_responses_are_read_from_the_end():
    assert read_answer("7 " * 10**6 + "#### 12") == "12"
    assert read_answer("1 " * 10**6 + "x" * 3000) is None


def test_test_is_the_exam_and_wins_duplicates(folder):
    task = GSM8K(str(folder))
    exam = task.problems("exam", None, 0)
    assert sorted(p.prompt.text for p in exam) == sorted(row(i)["question"] for i in range(40))
    everything = [p.prompt.key for split in SHARES for p in task.problems(split, None, 0)]
    assert len(everything) == len(set(everything)) == 40 + 380 - sum(i % 8 == 0 for i in range(20, 40))
    assert {p.skill for p in task.problems("pool", None, 0)} == set(SKILLS)


def test_solutions_have_no_annotations(folder):
    for problem in GSM8K(str(folder)).problems("pool", 5, 0):
        assert "<<" not in problem.solution and problem.solution.endswith(f"\n#### {problem.answer}")
        assert "," not in problem.answer


def test_nothing_is_read_before_it_is_needed(tmp_path):
    task = GSM8K(str(tmp_path / "absent"))
    with pytest.raises(InvalidData, match=r"test\.jsonl"):
        task.problems("exam", 1, 0)


@pytest.mark.parametrize("line", ["{", "[]", '{"question": "a"}', '{"question": "a", "answer": "5"}'])
def test_bad_lines_are_named(folder, line):
    path = folder / "train.jsonl"
    path.write_text(json.dumps(row(1)) + "\n" + line)
    with pytest.raises(InvalidData, match=r"train\.jsonl, line 2"):
        GSM8K(str(folder)).problems("pool", 1, 0)


def test_a_cut_archive_is_named(folder):
    packed = gzip.compress(b"\n".join(json.dumps(row(i)).encode() for i in range(500)))
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InvalidData, match=r"train\.jsonl\.gz"):
        GSM8K(str(folder)).problems("pool", 1, 0)


class Loaded(list):
    features = {}  # noqa: RUF012


def test_the_hub_is_read_at_a_pinned_revision(monkeypatch):
    asked = []

    def load_dataset(*names, revision, split):
        asked.append((*names, revision, split))
        return Loaded(row(i) for i in range(3)) if split == "test" else Loaded(row(i, 3) for i in range(100, 200))

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert len(GSM8K(revision="abc").problems("exam", None, 0)) == 3
    assert asked == [("openai/gsm8k", "main", "abc", "test"), ("openai/gsm8k", "main", "abc", "train")]


def test_without_network_one_sentence_says_what_to_do(monkeypatch):
    def load_dataset(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(InvalidData, match="gsm8k:FOLDER"):
        GSM8K().held_out()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match="pip install"):
        GSM8K().held_out()


@real
def test_the_real_data_verifies_against_itself():
    task = GSM8K(str(DATA))
    problems = task.problems("exam", 100, 0) + task.problems("pool", 100, 0)
    assert len(problems) >= 500
    assert all(task.verify(p, p.solution).correct and task.verify(p, p.answer).correct for p in problems)
    assert len(task.problems("exam", None, 0)) == 1319
