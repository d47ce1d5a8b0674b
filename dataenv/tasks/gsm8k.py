"""GSM8K: grade-school word problems with worked solutions (Cobbe et al. 2021, MIT licence).

The published test set is the exam. The train set is divided into the other splits by content hash; train problems
whose hash falls into the exam's share join the pool, and train problems that the test set also holds are dropped.
A skill is the number of calculation steps in the worked solution. A student learns the solution without its
calculator annotations; it ends in `#### number`, and that is where a response's answer is read.

Source: https://huggingface.co/datasets/openai/gsm8k, or a folder with its train and test `.jsonl` or `.jsonl.gz`.
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
from dataenv.tasks.sources import Folder, Hub, Row
from dataenv.verifiers.exact import as_number, numbers_in

REVISION = "740312add88f781978c0658806c59bc2815b9866"
"""The commit of the Hub dataset that is read when no folder is given."""

SKILLS = ("1-2 steps", "3 steps", "4 steps", "5 steps", "6+ steps")

_ANNOTATION = re.compile(r"<<[^<>\n]*>>")
_READ = 2000
"""Characters at the end of a response in which an answer is looked for when it has no `####`."""


class GSM8K(FixedTask):
    """The gsm8k task, from `folder`, or from the Hub at `revision` when there is no folder.

    Nothing is read before the first use. Then InvalidData names the file and line that cannot be read, or says what
    to do when the Hub cannot be reached; MissingDependency names the command that installs `datasets`.
    """

    name = "gsm8k"
    skills = SKILLS
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType({b: (a,) for a, b in pairwise(SKILLS)})
    published: ClassVar[frozenset[Split]] = frozenset({"exam"})
    max_new_tokens = 256

    def __init__(self, folder: str | None = None, *, revision: str = REVISION) -> None:
        instead = "download train.jsonl and test.jsonl from https://github.com/openai/grade-school-math"
        hub = Hub("openai/gsm8k", revision, f"{instead} and use gsm8k:FOLDER", config="main")
        self._source = Folder(Path(folder)) if folder else hub

    def load(self) -> Iterator[tuple[Problem, Split | None]]:
        """The test set, which is the exam and wins duplicates, then the train set."""
        for part in ("test", "train"):
            for where, row in self._source.rows(part):
                yield _problem(where, row), "exam" if part == "test" else None

    def verify(self, problem: Problem, response: str) -> Verdict:
        """Compare the number after the last `####` with the answer, exactly: 1,000 equals 1000.0.

        The line after `####` must hold one number ("$5.", "5 apples"); several are a hedge and wrong. A response
        without `####` is judged by the last number in its last 2,000 characters.
        """
        written = read_answer(response)
        if written is None:
            return Verdict(0.0, False, "no number, or several, where the answer should be")
        value = as_number(written)
        if value is not None and value == as_number(problem.answer):
            return Verdict(1.0, True, extracted=written)
        return Verdict(0.0, False, f"expected {problem.answer}", written)


def read_answer(response: str) -> str | None:
    """The number a response gives as its answer, as text: see `GSM8K.verify`."""
    _, mark, after = response.rpartition("####")
    if mark:
        numbers = numbers_in(after.lstrip()[:200].partition("\n")[0])
        return numbers[0] if len(numbers) == 1 else None
    numbers = numbers_in(after[-_READ:])
    return numbers[-1] if numbers else None


def _skill(steps: int) -> str:
    return SKILLS[min(max(steps, 2), 6) - 2]


def _problem(where: str, row: Row) -> Problem:
    if not all(isinstance(row.get(key), str) for key in ("question", "answer")):
        raise InvalidData(f"{where}: a row needs 'question' and 'answer', both texts.")
    worked, mark, answer = row["answer"].rpartition("####")
    answer = answer.strip().replace(",", "")
    if not mark or as_number(answer) is None:
        raise InvalidData(f"{where}: the answer must end in '#### ' and a number, not {row['answer'][-40:]!r}.")
    return Problem(
        prompt=Prompt(text=row["question"].strip()),
        answer=answer,
        skill=_skill(len(_ANNOTATION.findall(worked))),
        solution=f"{_ANNOTATION.sub('', worked).strip()}\n#### {answer}",
    )
