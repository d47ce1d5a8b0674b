"""GSM8K: grade-school word problems with worked solutions (Cobbe et al. 2021, MIT licence).

The published test set is the exam. The train set is divided into the other splits by content hash; train problems
whose hash falls into the exam's share join the pool, and train problems that the test set also holds are dropped.
A skill is the number of calculation steps in the worked solution. A student learns the solution without its
calculator annotations; it ends in `#### number`, and that is where a response's answer is read.

Source: https://huggingface.co/datasets/openai/gsm8k, or a folder with its train and test `.jsonl` or `.jsonl.gz`.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dataenv.errors import InvalidData, MissingDependency
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.seeding import stream
from dataenv.tasks import splits
from dataenv.verifiers.exact import as_number, numbers_in

REVISION = "740312add88f781978c0658806c59bc2815b9866"
"""The commit of the Hub dataset that is read when no folder is given."""

SKILLS = ("1-2 steps", "3 steps", "4 steps", "5 steps", "6+ steps")

_ANNOTATION = re.compile(r"<<[^<>\n]*>>")
_READ = 2000
"""Characters at the end of a response in which an answer is looked for when it has no `####`."""


class GSM8K:
    """The gsm8k task, from `folder`, or from the Hub at `revision` when there is no folder.

    Nothing is read before the first use. Then InvalidData names the file and line that cannot be read, or says what
    to do when the Hub cannot be reached; MissingDependency names the command that installs `datasets`.
    """

    name = "gsm8k"
    skills = SKILLS
    prerequisites: Mapping[str, tuple[str, ...]] = MappingProxyType({b: (a,) for a, b in pairwise(SKILLS)})
    default_engine = "pool"
    max_new_tokens = 256

    def __init__(self, folder: str | None = None, *, revision: str = REVISION) -> None:
        self._folder = Path(folder) if folder else None
        self._revision = revision

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        """Up to `per_skill` problems of each skill (None: all) in an order drawn from `seed`, grouped by skill."""
        test = self._test
        return splits.take(
            self._by_key.values(),
            split,
            per_skill,
            stream(seed, "gsm8k", split),
            assign=lambda prompt: "exam" if prompt.key in test else _split_of_train(prompt),
        )

    def held_out(self) -> Sequence[Prompt]:
        """Every prompt of the exam (the published test set) and of the selection split."""
        return [
            problem.prompt
            for key, problem in self._by_key.items()
            if key in self._test or _split_of_train(problem.prompt) == "selection"
        ]

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

    def recognise(self, prompt: Prompt) -> Problem | None:
        """The problem with this prompt, if the data holds it."""
        return self._by_key.get(prompt.key)

    @cached_property
    def _test(self) -> frozenset[str]:
        return frozenset(key for key, (_, part) in self._data.items() if part == "test")

    @cached_property
    def _by_key(self) -> dict[str, Problem]:
        return {key: problem for key, (problem, _) in self._data.items()}

    @cached_property
    def _data(self) -> dict[str, tuple[Problem, str]]:
        """Prompt key -> problem and the part it comes from. The test set is read first, so that it wins duplicates."""
        found: dict[str, tuple[Problem, str]] = {}
        for part in ("test", "train"):
            for where, row in self._from_hub(part) if self._folder is None else _from_folder(self._folder, part):
                problem = _problem(where, row)
                found.setdefault(problem.prompt.key, (problem, part))
        return found

    def _from_hub(self, part: str) -> Iterator[tuple[str, Any]]:
        try:
            import datasets
        except ImportError as error:
            raise MissingDependency(
                'gsm8k from the Hub needs datasets: pip install "dataenv[tasks]"; or give a folder: gsm8k:FOLDER.'
            ) from error
        try:
            rows = datasets.load_dataset("openai/gsm8k", "main", revision=self._revision, split=part)
        except Exception as error:  # the Hub client raises a dozen kinds, from DNS to HTTP to cache errors
            raise InvalidData(
                f"gsm8k cannot be read from the Hub ({type(error).__name__}): check the network, or download "
                "train.jsonl and test.jsonl from https://github.com/openai/grade-school-math and use gsm8k:FOLDER."
            ) from error
        for number, row in enumerate(rows, 1):
            yield f"openai/gsm8k {part}, row {number}", row


def read_answer(response: str) -> str | None:
    """The number a response gives as its answer, as text: see `GSM8K.verify`."""
    _, mark, after = response.rpartition("####")
    if mark:
        numbers = numbers_in(after.lstrip()[:200].partition("\n")[0])
        return numbers[0] if len(numbers) == 1 else None
    numbers = numbers_in(after[-_READ:])
    return numbers[-1] if numbers else None


def _split_of_train(prompt: Prompt) -> Split:
    split = splits.split_of(prompt)
    return "pool" if split == "exam" else split


def _skill(steps: int) -> str:
    return SKILLS[min(max(steps, 2), 6) - 2]


def _problem(where: str, row: Any) -> Problem:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("question", "answer")):
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


def _from_folder(folder: Path, part: str) -> Iterator[tuple[str, Any]]:
    paths = [folder / f"{part}.jsonl", folder / f"{part}.jsonl.gz"]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise InvalidData(f"{folder} has neither {part}.jsonl nor {part}.jsonl.gz; give the folder that holds them.")
    number = 0
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield f"{path}, line {number}", json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidData(f"{path}, line {number}: not JSON ({error.msg}).") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidData(f"{path}, after line {number}: cannot be read ({error}).") from error
