"""easy-VQA: questions on pictures of one shape in one colour (Victor Zhou 2019, MIT licence): 5,000 pictures of 64x64
pixels, 48,248 questions, 13 answers.

The published test set is the exam; the train set is divided into the other splits by picture. A skill is what is asked
for (colour, shape) and how: by name, or whether it is there. The latter is asked with and without a negation, equally
often, so yes is as frequent as no; but seven colours in eight are not there, so the words alone give 88 % of the
answers on colours away, and 67 % of those on shapes.

Source: the PyPI package easy-vqa, which carries the data (https://github.com/vzhou842/easy-VQA), or a folder like its
`data`: train and test, each with questions.json and images.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from dataenv.errors import InvalidData
from dataenv.records import Image, Problem, Prompt, Split
from dataenv.tasks.pictures import PictureTask
from dataenv.tasks.sources import packaged

SKILLS = ("colour", "shape", "colour there", "shape there")


class EasyVQA(PictureTask):
    """The easy-vqa task, from the package of that name, or from `folder`.

    Nothing is read before the first use. Then MissingDependency names the command that installs the package, and
    InvalidData the file that is absent or is not what it should be.
    """

    name = "easy-vqa"
    skills = SKILLS
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {"colour there": ("colour",), "shape there": ("shape",)}
    )
    published: ClassVar[frozenset[Split]] = frozenset({"exam"})
    max_new_tokens = 10  # "rectangle" letter by letter, and the end

    def __init__(self, folder: str | None = None) -> None:
        self._folder = Path(folder) if folder else None

    def questions(self) -> Iterator[tuple[str, Problem, Split | None]]:
        """The test set, which is the exam, then the train set."""
        folder = self._folder or packaged("easy-vqa", "easy_vqa", "a folder like its data: easy-vqa:FOLDER")
        for part in ("test", "train"):
            images: dict[int, Image] = {}
            for text, answer, number in _rows(folder / part / "questions.json"):
                if number not in images:
                    path = folder / part / "images" / f"{number}.png"
                    images[number] = Image(data=path.read_bytes() if path.is_file() else b"")
                prompt = Prompt(text=text, images=(images[number],))
                problem = Problem(prompt=prompt, answer=answer, skill=_skill(text))
                yield f"{part}/images/{number}.png", problem, "exam" if part == "test" else None


def _rows(path: Path) -> Iterator[tuple[str, str, int]]:
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidData(f"{path}: cannot be read ({error.strerror}); give a folder with train and test.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"{path}: not JSON ({error}).") from error
    for place, row in enumerate(rows if isinstance(rows, list) else [rows]):
        match row:
            case [str(text), str(answer), int(number)] if text.strip() and answer.strip():
                yield text.strip(), answer.strip(), number
            case _:
                raise InvalidData(f"{path}, entry {place}: must be [question, answer, number of the picture].")


def _skill(question: str) -> str:
    words = question.strip("?").split()
    if words[:1] == ["what"]:
        # "what is the blue shape?" asks for the shape, "what color is the shape?" for the colour.
        return "colour" if "color" in words else "shape"
    return "colour there" if "shape" in words else "shape there"
