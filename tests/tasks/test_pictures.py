import importlib.util
import json
import shutil
import warnings
from collections import Counter

import pytest

from dataenv.errors import InvalidData, MissingDependency, Note
from dataenv.images import fault
from dataenv.records import Image, Problem, Prompt
from dataenv.tasks import tasks
from dataenv.tasks.easy_vqa import EasyVQA
from dataenv.tasks.gqa import GQA
from dataenv.tasks.naturalbench import NaturalBench
from dataenv.tasks.scene_picture import Figure, draw
from dataenv.tasks.splits import SHARES

PNG = draw([Figure("circle", "red", 15, 30, 30)]).data


def test_a_picture_is_in_one_split_with_all_its_questions(easy_vqa_folder, gqa_folder, naturalbench_folder):
    for task in (EasyVQA(str(easy_vqa_folder)), GQA(str(gqa_folder)), NaturalBench(str(naturalbench_folder))):
        where = {}
        for split in SHARES:
            for problem in task.problems(split, None, 0):
                for image in problem.prompt.images:
                    assert where.setdefault(image.sha256, split) == split, task.name
        assert set(where.values()) == set(SHARES) and task.unreadable == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"not a picture", "cannot identify"),
        (PNG[:120], ""),
        (PNG[:-20] + b"\0" * 8 + PNG[-12:], ""),
        (b"GIF89a" + b"\0" * 100, "cannot identify"),
    ],
)
def test_what_is_wrong_with_a_picture_is_said(data, said):
    found = fault(Image(data=data))
    assert found and said in found and "<" not in found
    assert fault(Image(data=PNG)) is None


def test_without_pillow_the_command_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingDependency, match="pip install"):
        fault(Image(data=PNG))


def test_pictures_that_cannot_be_read_are_named_left_out_and_counted(tmp_path, easy_vqa_folder):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "images").symlink_to(easy_vqa_folder / part / "images")
        rows = json.loads((easy_vqa_folder / part / "questions.json").read_text())
        (tmp_path / part / "questions.json").write_text(
            json.dumps([*rows, ["what shape is in the image?", "box", 777]])
        )
    task = EasyVQA(str(tmp_path))
    with pytest.warns(Note, match=r"left out: test/images/777.png \(it is empty\); train/images/777"):
        found = task.problems("exam", None, 0)
    assert task.unreadable == 2 and len(found) == 160 and "box" not in {problem.answer for problem in found}


def test_nothing_but_unreadable_pictures_is_an_error(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "questions.json").write_text(json.dumps([["what shape is present?", "circle", 0]]))
    with pytest.raises(InvalidData, match="cannot be read"):
        EasyVQA(str(tmp_path)).problems("exam", 1, 0)


# -- easy-vqa ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("easy_vqa") is None, reason="easy-vqa is not installed")
def test_the_packaged_data_is_all_there():
    task = tasks.make("easy-vqa")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = {split: task.problems(split, None, 0) for split in SHARES}
    assert len(counts["exam"]) == 9673 and sum(map(len, counts.values())) == 48248 and task.unreadable == 0
    for skill in task.skills:
        answers = Counter(problem.answer for problem in counts["exam"] if problem.skill == skill)
        assert max(answers.values()) < 0.53 * sum(answers.values())
        assert (set(answers) == {"yes", "no"}) == skill.endswith("there")


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr("dataenv.tasks.sources.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install --no-deps easy-vqa"):
        EasyVQA().problems("exam", 1, 0)


@pytest.mark.parametrize("text", ["{", "[[1, 2]]", '[["what?", "red", "0"]]', '[["", "red", 0]]', "{}", "\ufeff"])
def test_questions_that_are_none_are_refused_with_their_place(tmp_path, text):
    (tmp_path / "test").mkdir()
    (tmp_path / "test/questions.json").write_text(text)
    with pytest.raises(InvalidData, match=r"questions\.json"):
        EasyVQA(str(tmp_path)).problems("exam", 1, 0)
    with pytest.raises(InvalidData, match=r"questions\.json"):
        EasyVQA(str(tmp_path / "nowhere")).problems("exam", 1, 0)


def test_a_question_without_words_is_one_of_a_skill(easy_vqa_folder, tmp_path):
    shutil.copytree(easy_vqa_folder, tmp_path / "copy")
    path = tmp_path / "copy/test/questions.json"
    path.write_text(json.dumps([["?", "yes", 0], *json.loads(path.read_text())]))
    assert EasyVQA(str(tmp_path / "copy")).problems("exam", 1, 0)


# -- GQA --------------------------------------------------------------------------------------------------------------


def test_gqa_is_balanced_over_the_detailed_types(gqa_folder):
    task = GQA(str(gqa_folder))
    for split in ("feedback", "exam"):
        kinds = Counter(problem.subskill for problem in task.problems(split, None, 0))
        assert len(kinds) == 10 and set(kinds.values()) == {5}
    others = [problem for split in ("exemplar", "selection", "pool") for problem in task.problems(split, None, 0)]
    assert set(Counter(problem.subskill for problem in others).values()) == {60}


def test_gqa_from_the_hub_is_what_the_folder_holds(gqa_folder, monkeypatch):
    import datasets

    asked = []

    def load_dataset(name, config, *, revision, split):
        asked.append((name, config, len(revision), split))
        return datasets.Dataset.from_parquet(str(gqa_folder / config / f"{split}-00000-of-00001.parquet"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    hub, local = GQA(), GQA(str(gqa_folder))
    assert not asked
    for split in SHARES:
        assert [p.id for p in hub.problems(split, 3, 1)] == [p.id for p in local.problems(split, 3, 1)]
    assert {row[2] for row in asked} == {40} and ("lmms-lab/GQA", "val_balanced_images", 40, "val") in asked


def test_rows_that_gqa_cannot_use_are_named(tmp_path):
    folder = tmp_path / "testdev_balanced_instructions"
    folder.mkdir()
    row = {"id": "1", "imageId": "2", "question": "What?", "answer": "it", "types": {"structural": "guess"}}
    (folder / "testdev.jsonl").write_text(json.dumps(row))
    with pytest.raises(InvalidData, match=r"testdev.jsonl, line 1: .*one of query, .*columns: id, imageId"):
        GQA(str(tmp_path)).problems("exam", 1, 0)


@pytest.mark.parametrize("task", [GQA, NaturalBench])
def test_data_out_of_reach_is_said_with_what_to_do(task, monkeypatch, tmp_path):
    import datasets

    def unreachable(*args, **options):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InvalidData, match=rf"cannot be read from the Hub.*download.*{task.name}:FOLDER"):
        task().problems("exam", 1, 0)
    with pytest.raises(InvalidData, match="give the folder"):
        task(str(tmp_path)).problems("exam", 1, 0)


# -- NaturalBench -----------------------------------------------------------------------------------------------------


def test_naturalbench_keeps_groups_whole(naturalbench_folder):
    task = NaturalBench(str(naturalbench_folder))
    assert set(Counter(problem.data["group"] for problem in task.problems("exam", 20, 3)).values()) == {4}
    assert sorted(Counter(problem.data["group"] for problem in task.problems("exam", 6, 3)).values()) == [2, 2, 4, 4]
    for split in SHARES:
        groups = Counter(problem.data["group"] for problem in task.problems(split, None, 0))
        assert set(groups.values()) == {4}
        if split in ("feedback", "exam"):
            assert len(groups) == 50
            assert set(groups) == set(range(50) if split == "feedback" else range(250, 300))


@pytest.mark.parametrize(
    ("answer", "response", "right"),
    [
        ("Yes", "yes", True),
        ("Yes", "Yes, no doubt", True),
        ("Yes", "No, but yes", False),
        ("No", "Nobody. Yes", False),
        ("No", "eyes, no", True),
        ("A", "A", True),
        ("A", "a", True),
        ("A", "a.", True),
        ("A", "Option: A", True),
        ("A", "It is a dog, so B", False),
        ("B", "It is a dog, so B", True),
        ("A", "AB", False),
        ("B", "", False),
        ("Yes", "x " * 10**6 + "yes", False),
    ],
)
def test_the_first_choice_decides(answer, response, right):
    verdict = NaturalBench().verify(Problem(prompt=Prompt(text="?"), answer=answer), response)
    assert verdict.correct is right and verdict.score == float(right)


def test_too_few_groups_and_wrong_rows_are_refused(tmp_path):
    row = {f"Question_{i}": "Is it?" for i in (0, 1)} | {
        f"Image_{i}_Question_{j}": "Yes" for i in (0, 1) for j in (0, 1)
    }
    row["Question Type"] = "yes_no"
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    with pytest.raises(InvalidData, match="1 groups here; it needs more than 100"):
        NaturalBench(str(tmp_path)).problems("exam", 1, 0)
    for change in ({"Question Type": "other"}, {"Question_0": None}, {"Image_1_Question_0": "A"}):
        lines = [json.dumps(row | change if number == 7 else row) for number in range(101)]
        (tmp_path / "train.jsonl").write_text("\n".join(lines))
        with pytest.raises(InvalidData, match="line 8: 'Q"):
            NaturalBench(str(tmp_path)).problems("exam", 1, 0)
