"""GQA: questions on photographs, made from scene graphs (Hudson and Manning 2019, arXiv 1902.09506; CC BY 4.0).

The splits are balanced over the detailed question types ("categoryThis", some hundred): 5 questions of each from the
balanced validation set are the feedback split (502 as the DataEnvGym paper counts them), 5 of each from test-dev the
exam (430), chosen by the hash of their ids. Exemplars, selection and pool are further questions of the validation
set, `OTHERS` of each type at most, on pictures that the feedback split does not show. Skills are the structural types.

Source: https://huggingface.co/datasets/lmms-lab/GQA, or a folder with a copy of its four folders
{val,testdev}_balanced_{instructions,images}, in parquet or JSON lines.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from dataenv.errors import InvalidData
from dataenv.records import Image, Problem, Prompt, Split, content_hash
from dataenv.tasks.pictures import PictureTask, picture_in
from dataenv.tasks.sources import Folder, Hub, Row

REVISION = "a6e72d6e1b912da88af8b2f9eba05d5ea8ec2dd8"
"""The commit of the Hub dataset that is read when no folder is given."""

PER_TYPE = 5
"""Questions of each detailed type in the feedback split, and in the exam."""
OTHERS = 60
"""Questions of each detailed type, at most, in the other splits together."""


class Question(NamedTuple):
    """One question, without its picture. Questions are ordered by the hash of their id."""

    order: str
    where: str
    picture: str
    text: str
    answer: str
    structural: str
    detailed: str


class GQA(PictureTask):
    """The gqa task, from `folder`, or from the Hub at `revision` when there is no folder.

    Nothing is read before the first use. Then InvalidData names the file and row that cannot be used, or says what to
    do when the Hub cannot be reached; MissingDependency names the command that installs `datasets`.
    """

    name = "gqa"
    skills = ("query", "verify", "choose", "logical", "compare")
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {"choose": ("query",), "logical": ("verify",), "compare": ("query",)}
    )
    published: ClassVar[frozenset[Split]] = frozenset({"feedback", "exam"})
    max_new_tokens = 16

    def __init__(self, folder: str | None = None, *, revision: str = REVISION) -> None:
        self._folder = Path(folder) if folder else None
        self._revision = revision

    def questions(self) -> Iterator[tuple[str, Problem, Split | None]]:
        """The exam, then the feedback split, then the others."""
        exam = _by_type(self._read("testdev"), PER_TYPE)
        yield from _problems(exam, self._pictures("testdev", exam), "exam")
        held = _by_type(self._read("val"), PER_TYPE)
        shown = {question.picture for question in held}
        others = _by_type((question for question in self._read("val") if question.picture not in shown), OTHERS)
        pictures = self._pictures("val", [*held, *others])
        yield from _problems(held, pictures, "feedback")
        yield from _problems(others, pictures, None)

    def _rows(self, part: str, kind: str) -> Iterator[tuple[str, Row]]:
        config = f"{part}_balanced_{kind}"
        if self._folder:
            return Folder(self._folder / config).rows(part)
        instead = "download that data set's folders and use gqa:FOLDER"
        return Hub("lmms-lab/GQA", self._revision, instead, config=config).rows(part)

    def _read(self, part: str) -> Iterator[Question]:
        for where, row in self._rows(part, "instructions"):
            match row:
                case {
                    "id": str(id),
                    "imageId": str(picture),
                    "question": str(text),
                    "answer": str(answer),
                    "types": {"structural": str(structural), "detailed": str(detailed)},
                } if structural in self.skills:
                    yield Question(content_hash(id), where, picture, text.strip(), answer.strip(), structural, detailed)
                case _:
                    raise InvalidData(
                        f"{where}: a row needs the texts id, imageId, question, answer and types.detailed, and as "
                        f"types.structural one of {', '.join(self.skills)} (columns: {', '.join(row)})."
                    )

    def _pictures(self, part: str, questions: Iterable[Question]) -> dict[str, Image]:
        wanted = {question.picture for question in questions}
        return {
            row["id"]: picture_in(row.get("image")) for _, row in self._rows(part, "images") if row.get("id") in wanted
        }


def _by_type(questions: Iterable[Question], n: int) -> list[Question]:
    """The first `n` of each detailed type in the order of their hashes."""
    kept: dict[str, list[Any]] = defaultdict(list)
    for question in questions:
        of_type = kept[question.detailed]
        of_type.append(question)
        if len(of_type) >= 20 * n:  # so that not all of a large set is held
            of_type[:] = heapq.nsmallest(n, of_type)
    return [question for detailed in sorted(kept) for question in heapq.nsmallest(n, kept[detailed])]


def _problems(
    questions: Collection[Question], pictures: Mapping[str, Image], split: Split | None
) -> Iterator[tuple[str, Problem, Split | None]]:
    none = Image(data=b"")
    for question in questions:
        prompt = Prompt(text=question.text, images=(pictures.get(question.picture, none),))
        problem = Problem(prompt=prompt, answer=question.answer, skill=question.structural, subskill=question.detailed)
        yield f"{question.where}, picture {question.picture}", problem, split
