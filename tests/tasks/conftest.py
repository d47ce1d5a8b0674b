"""Small data sets in the layout of the real ones, written with the library that wrote those."""

import json
import random

import pytest

from dataenv.tasks import sources
from dataenv.tasks.scene_picture import COLOURS, LARGE, SHAPES, Figure, draw


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """No test asks whether the Hub is there: what loads from it is a stand-in, or reads files."""
    monkeypatch.setattr(sources, "reachable", lambda: True)


def picture(number: int) -> bytes:
    """A PNG like no other: `number`, up to 1,600, says where its figure is."""
    rng = random.Random(number)
    x, y = number % 40 + 10, number // 40 + 10
    return draw([Figure(rng.choice(SHAPES), rng.choice(list(COLOURS)), LARGE[0], x, y)]).data


def write_table(path, columns, images=()):
    """A parquet file of `columns`, those of `images` holding pictures as the Hub's files do."""
    datasets = pytest.importorskip("datasets")
    cells = {
        name: [{"bytes": cell, "path": None} for cell in column] if name in images else column
        for name, column in columns.items()
    }
    table = datasets.Dataset.from_dict(cells)
    for name in images:
        table = table.cast_column(name, datasets.Image())
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path)


@pytest.fixture(scope="session")
def easy_vqa_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("easy-vqa")
    for part, start, n in (("train", 0, 250), ("test", 250, 40)):
        (folder / part / "images").mkdir(parents=True)
        rows = []
        for number in range(n):
            (folder / part / "images" / f"{number}.png").write_bytes(picture(start + number))
            rows += [
                ["what color is the shape?", "red", number],
                ["what shape is present?", "circle", number],
                ["is there not a teal shape?", "yes", number],
                ["does the image contain a circle?", "yes", number],
            ]
        (folder / part / "questions.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="session")
def gqa_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gqa")
    skills = ("query", "verify", "choose", "logical", "compare")
    for part, pictures, each in (("val", 800, 160), ("testdev", 60, 8)):
        asked = [(skill, f"{skill}{i}", n) for skill in skills for i in (1, 2) for n in range(each)]
        numbers = range(len(asked))
        write_table(
            folder / f"{part}_balanced_instructions" / f"{part}-00000-of-00001.parquet",
            {
                "id": [f"{part}{number:08}" for number in numbers],
                "imageId": [f"{part}{number % pictures}" for number in numbers],
                "question": [
                    f"What is {skill} {number}?" for number, (skill, _, _) in zip(numbers, asked, strict=True)
                ],
                "answer": [f"thing {number}" for number in numbers],
                "types": [{"structural": skill, "semantic": "obj", "detailed": kind} for skill, kind, _ in asked],
            },
        )
        base = 0 if part == "val" else 1000
        write_table(
            folder / f"{part}_balanced_images" / f"{part}-00000-of-00001.parquet",
            {"id": [f"{part}{n}" for n in range(pictures)], "image": [picture(base + n) for n in range(pictures)]},
            images=("image",),
        )
    return folder


@pytest.fixture(scope="session")
def naturalbench_folder(tmp_path_factory):
    folder, n = tmp_path_factory.mktemp("naturalbench"), 300
    kinds = ["multiple_choice" if number % 3 == 0 else "yes_no" for number in range(n)]
    first = ["A" if kind == "multiple_choice" else "Yes" for kind in kinds]
    second = ["B" if kind == "multiple_choice" else "No" for kind in kinds]
    write_table(
        folder / "train-00000-of-00001.parquet",
        {
            "Index": list(range(n)),
            "Question_0": [f"Is it {number}?" for number in range(n)],
            "Image_0": [picture(2 * number) for number in range(n)],
            "Image_1": [picture(2 * number + 1) for number in range(n)],
            "Image_0_Question_0": first,
            "Image_1_Question_0": second,
            "Question_1": [f"Is it not {number}?" for number in range(n)],
            "Image_0_Question_1": second,
            "Image_1_Question_1": first,
            "Question_Type": kinds,
        },
        images=("Image_0", "Image_1"),
    )
    return folder


@pytest.fixture(scope="session")
def mnms_folder(tmp_path_factory):
    """Plans of every mix of kinds: a model's, an image module's, a service's."""
    folder = tmp_path_factory.mktemp("mnms")
    nodes = [
        ("image captioning", {"image": "1.jpg"}),
        ("image crop left", {"image": "2.jpg"}),
        ("get year fact", {"year": 9}),
    ]
    rows = []
    for number in range(700):
        chosen = [node for bit, node in enumerate(nodes) if (number % 7 + 1) >> bit & 1]
        plan = [{"id": i, "name": name, "args": args} for i, (name, args) in enumerate(chosen)]
        rows.append({"id": number, "user_request": f"Request number {number}.", "plan_str": str(plan)})
    for part, some in (("test_human_verified_filtered", rows[:60]), ("test_human_verified", rows)):
        (folder / f"{part}.json").write_text("\n".join(map(json.dumps, some)))
    return folder
