"""MATH: competition problems with worked solutions in LaTeX (Hendrycks et al. 2021, MIT licence).

The published test set is the exam; the train set is divided into the other splits by content hash. A skill is a topic
at a level ("Algebra 3"), 35 in all: the level is what a topic's difficulty is made of, so that a teacher who only saw
topics could not tell a student who fails at the easy end from one who fails at the hard end. Each level builds on the
one below. A student learns the solution as it is; its last `\\boxed{...}` is the answer, and a response's is read there
too (see `dataenv.verifiers.latex.final_answer`; `dataenv.verifiers.math` compares the two).

Source: https://huggingface.co/datasets/DigitalLearningGmbH/MATH-lighteval; or a folder with train and test as `.jsonl`,
`.jsonl.gz` or `.parquet` (columns problem, level, type, solution); or the original folder, with one JSON file for each
problem, as `train/algebra/1.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.tasks.fixed import FixedTask
from dataenv.tasks.sources import Folder, Hub, Row, json_object
from dataenv.verifiers.latex import boxed, tidy
from dataenv.verifiers.math import judge, require

REVISION = "0530c78699ea5e8eb5530600900e1f328b48acad"
"""The commit of the Hub dataset that is read when no folder is given."""

TOPICS = (
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
)
LEVELS = range(1, 6)
COLUMNS = ("problem", "level", "type", "solution")

_OPERATION = re.compile(r"[-+*/^!]|\\(?!text)[a-zA-Z]")


class MATH(FixedTask):
    """The math task, from `folder`, or from the Hub at `revision` when there is no folder.

    Nothing is read before the first use. Then InvalidData names the file and row that cannot be used, or says what to
    do when the Hub cannot be reached. MissingDependency without math-verify, at once.
    """

    name = "math"
    skills = tuple(f"{topic} {level}" for topic in TOPICS for level in LEVELS)
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType(
        {f"{topic} {harder}": (f"{topic} {easier}",) for topic in TOPICS for easier, harder in pairwise(LEVELS)}
    )
    published: ClassVar[frozenset[Split]] = frozenset({"exam"})
    max_new_tokens = 512

    def __init__(self, folder: str | None = None, *, revision: str = REVISION) -> None:
        require()
        otherwise = "download the data set where there is one and use math:FOLDER"
        hub = Hub("DigitalLearningGmbH/MATH-lighteval", revision, otherwise, config="default")
        self._source = _source(Path(folder)) if folder else hub

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """The test set, which is the exam and wins duplicates, then the train set."""
        for part in ("test", "train"):
            for where, row in self._source.rows(part):
                yield _problem(where, row), "exam" if part == "test" else None

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Compare the response's final answer with the problem's, as mathematics; at most `math.SECONDS` each.

        An expression that stands in the question itself is no answer to it, however equal: 2/4 does not simplify 2/4.
        """
        verdict = judge(response, problem.answer)
        if verdict.correct and _restates(verdict.extracted or "", problem):
            return Verdict(0.0, False, "repeats an expression of the question", verdict.extracted)
        return verdict


class _Original:
    """The folder as it was published: one JSON file for each problem, in a folder for each topic."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, part: str) -> Iterator[tuple[str, Row]]:
        for path in sorted(self._path.glob(f"{part}/*/*.json"), key=lambda path: (path.parent.name, _number(path))):
            yield str(path), json_object(path)


def _source(folder: Path) -> Folder | _Original:
    original = all(any(folder.glob(f"{part}/*/*.json")) for part in ("train", "test"))
    return _Original(folder) if original else Folder(folder)


def _number(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdecimal() else -1, path.stem)


def _problem(where: str, row: Row) -> Problem:
    problem, level, topic, solution = (row.get(column) for column in COLUMNS)
    if not (isinstance(problem, str) and isinstance(level, str) and isinstance(solution, str) and problem.strip()):
        raise InvalidData(
            f"{where}: a row needs {', '.join(COLUMNS)}, all texts; it has {', '.join(row) or 'nothing'}."
        )
    if topic not in TOPICS:
        raise InvalidData(f"{where}: the type must be one of {', '.join(TOPICS)}, not {str(topic)[:40]!r}.")
    answer = (boxed(solution) or "").strip()
    if not tidy(answer):
        raise InvalidData(rf"{where}: the solution must hold its answer in \boxed{{...}}, and has none there.")
    # "Level ?" is how the data set says that it does not know: the middle then, without a difficulty.
    known = re.fullmatch(r"Level ([1-5])", level)
    if known is None and level != "Level ?":
        raise InvalidData(f"{where}: the level must be 'Level 1' to 'Level 5', or 'Level ?', not {level[:40]!r}.")
    return Problem(
        prompt=Prompt(text=problem.strip()),
        answer=answer,
        skill=f"{topic} {known[1] if known else 3}",
        difficulty=(int(known[1]) - 1) / 4 if known else None,
        solution=solution.strip(),
    )


def _restates(said: str, problem: Problem) -> bool:
    form, asked, wanted = ("".join(tidy(text).split()) for text in (said, problem.prompt.text, problem.answer))
    return form != wanted and form in asked and _OPERATION.search(form) is not None
