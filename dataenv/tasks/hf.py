"""A Hugging Face data set as a task: which columns hold the prompt and the answer is said on the command line.

`dataenv run --task hf:ORG/NAME --set task.prompt=question --set task.answer=answer`. The rows of `split` get theirs by
content hash; with `exam`, the rows of that published split are the exam. A name that is a file or folder of this
machine is read there: parquet, JSON lines or CSV, or what `Dataset.save_to_disk` wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from dataenv.errors import InvalidData
from dataenv.records import Prompt, Split
from dataenv.tasks.columns import Columns, ColumnsTask, Number
from dataenv.tasks.sources import Row, from_hub, library, reachable

_FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".gz": "json", ".csv": "csv"}


class HuggingFace(ColumnsTask):
    """The data set `name`, at `revision` where one is given (a run that others should repeat wants one).

    `prompt`, `answer`, `skill` and `solution` name the columns; labels of classes are read as their names. `split` may
    be a slice ("train[:5000]"). Raises MissingDependency without `datasets`, InvalidData where the data set, its
    configuration or split cannot be had, and as `ColumnsTask` does: a column that is missing is said with those there
    are.
    """

    def __init__(
        self,
        name: str,
        *,
        prompt: str = "prompt",
        answer: str = "answer",
        skill: str = "skill",
        solution: str = "solution",
        config: str | None = None,
        split: str = "train",
        exam: str | None = None,
        revision: str | None = None,
        max_new_tokens: int = 128,
    ) -> None:
        self.name = f"hf:{name}"
        self._source, self._config, self._revision = name, config, revision
        self._split, self._exam = split, exam
        super().__init__(name, Columns(prompt, answer, skill, solution), max_new_tokens)

    def rows(self) -> Iterator[tuple[int, Row, Split | None]]:
        """The rows of the exam, which wins duplicates, then those of the split; numbered through."""
        number = 0
        parts: tuple[tuple[str | None, Split | None], ...] = ((self._exam, "exam"), (self._split, None))
        for split, published in parts:
            for row in () if split is None else self._load(split):
                number += 1
                yield number, row, published

    def _load(self, split: str) -> Iterator[Row]:
        datasets = library("datasets", self.name)
        path = Path(self._source)
        if path.suffix in _FORMATS and not path.is_file():
            raise InvalidData(f"{self.name}: there is no file {path}; give a file, a folder or the name of a data set.")
        if path.is_file() and split.partition("[")[0] != "train":
            raise InvalidData(
                f"{self.name} is one file and has no split '{split}'; give a slice of 'train', or a folder."
            )
        before = datasets.logging.get_verbosity()
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # the sentence below says it
        try:
            if path.is_file():
                kind = _FORMATS.get(path.suffix, path.suffix)
                loaded = datasets.load_dataset(kind, data_files={split.partition("[")[0]: str(path)}, split=split)
            elif (path / "dataset_dict.json").is_file():
                loaded = datasets.load_from_disk(str(path))[split]
            elif (path / "state.json").is_file():
                loaded = datasets.load_from_disk(str(path))
            else:
                load = datasets.load_dataset if path.is_dir() else partial(from_hub, datasets)
                loaded = load(self._source, self._config, revision=self._revision, split=split)
        except Exception as error:  # the library raises a dozen kinds, from DNS to HTTP to parsing errors
            said = next(iter(str(error).splitlines()), "").rstrip(".")[:300] or "it holds nothing"
            if path.exists():
                hint = "check that datasets can read it, and task.config and task.split"
            elif reachable():
                hint = "check its name, task.config and task.split"
            else:
                hint = "the Hub is out of reach, and no copy is kept here: check the network"
            raise InvalidData(f"{self.name} cannot be loaded ({type(error).__name__}: {said}); {hint}.") from error
        finally:
            datasets.logging.set_verbosity(before)
        labels = {name: kind for name, kind in loaded.features.items() if isinstance(kind, datasets.ClassLabel)}
        for row in loaded:
            yield {
                column: labels[column].int2str(value) if column in labels and value is not None else _plain(value)
                for column, value in row.items()
            }

    def _hashed(self, prompt: Prompt) -> Split:
        split = super()._hashed(prompt)
        return "pool" if self._exam is not None and split == "exam" else split


def _plain(value: Any) -> Any:
    return Number(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
