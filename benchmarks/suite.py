"""A suite: which teachers are compared, where, and on which seeds. A TOML file; `suites/` holds those that come along.

    about = "one line on what it asks"
    seeds = 5                                  # 0 to 4, or a list of seeds
    teachers = ["random", "uniform", "no-state:error-proportional", "error-proportional", "mine.py:MyTeacher"]

    [run]                                      # fields of a run's configuration, the same for all
    student = "micro"
    steps = 5
    options.engine.share = 0.2

    [[cells]]                                  # a column of the table each: what differs from [run]
    name = "skill list"
    env = "skill-list"

The trainer, the engine and the budgets are a cell's, never a teacher's: the competition is about data. An entry of
`teachers` is an id, "no-state:" and an id for its twin that is not shown the student, "file.py:Class", or a table with
`id` and `options`, optionally a `name`. A cell may have `teachers` of its own.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, JsonValue, ValidationError

from dataenv.benchmarks import statistics
from dataenv.errors import DataEnvError, InvalidData, UnknownId
from dataenv.records import Record
from dataenv.registry import nearest
from dataenv.runs.config import RunConfig

SUITES = Path(__file__).parent / "suites"
NO_STATE = "no-state:"
CONTROLS = ("random", "uniform")
"""Teachers without which nothing is compared, besides a twin without state."""
REFERENCE = "uniform"
"""The teacher that the others' differences are counted from."""


class Entrant(Record):
    """A teacher in a suite: `id` as in a run's configuration, its options, and the name it has in the tables."""

    id: str
    name: str = ""
    no_state: bool = False
    options: dict[str, JsonValue] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        own = (
            Path(self.id.partition(".py:")[0]).name + "." + self.id.partition(".py:")[2]
            if ".py:" in self.id
            else self.id
        )
        return self.name or (NO_STATE if self.no_state else "") + own


class Cell(Record):
    """A column: what its runs have in common besides the suite's [run], and who competes there."""

    name: str
    run: RunConfig
    entrants: tuple[Entrant, ...]


class Job(NamedTuple):
    """One run of a suite."""

    cell: str
    entrant: str
    seed: int
    config: RunConfig

    @property
    def place(self) -> Path:
        """Where the run is, within the folder of the comparison."""
        return Path(slug(self.cell)) / slug(self.entrant) / str(self.seed)


class Suite(Record):
    """A suite as read. `target` is the accuracy from which nothing is missing any more; `spread` is the expected
    standard deviation, over seeds, of the difference between two teachers' gains."""

    name: str
    about: str = ""
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    target: float = Field(default=1.0, gt=0, le=1)
    spread: float = Field(default=0.03, gt=0, lt=1)

    @property
    def labels(self) -> list[str]:
        """Every teacher, in order of appearance."""
        return list(dict.fromkeys(entrant.label for cell in self.cells for entrant in cell.entrants))

    def jobs(self) -> list[Job]:
        """All runs; whole rounds of a seed one after the other, so that a table of the finished ones is fair early."""
        return [
            Job(cell.name, entrant.label, seed, _config(cell, entrant, seed))
            for seed in self.seeds
            for cell in self.cells
            for entrant in cell.entrants
        ]

    def detectable(self) -> float:
        """The smallest difference from the reference that the suite finds four times in five."""
        tests = max(len(self.labels) - 1, 1)
        return statistics.detectable(len(self.cells), len(self.seeds), self.spread, tests)


def suites() -> dict[str, Path]:
    """The suites that come along, by name."""
    return {path.stem: path for path in sorted(SUITES.glob("*.toml"))}


def load(name: str, teachers: Sequence[str] = (), seeds: Sequence[int] | None = None) -> Suite:
    """The suite of that name, or in that file, with further `teachers` in every cell, and other `seeds` if given.

    Raises UnknownId for a name that no suite has, and InvalidData with everything that is wrong at once.
    """
    path = Path(name) if name.endswith(".toml") else suites().get(name)
    if path is None:
        near = nearest(name, suites())
        hint = f"did you mean {' or '.join(map(repr, near))}" if near else f"there is {', '.join(suites())}"
        raise UnknownId(f"No suite is called '{name}'; {hint}, or give a file: {name}.toml.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidData(f"{path} cannot be read ({error.strerror}); give a suite's name or its TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidData(f"{path} is no TOML: {error}.") from error
    found: list[str] = []
    suite = _read(path.stem, content, teachers, seeds, found)
    if not found and suite is not None:
        found += _misfits(suite)
    if found or suite is None:
        raise InvalidData(f"Suite {path}:\n" + "\n".join(f"  * {fault}" for fault in dict.fromkeys(found)))
    return suite


def slug(text: str) -> str:
    """`text` as a file name."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text)


def _config(cell: Cell, entrant: Entrant, seed: int) -> RunConfig:
    options: dict[Any, Any] = {**cell.run.options, **({"teacher": entrant.options} if entrant.options else {})}
    return cell.run.model_copy(
        update={"teacher": entrant.id, "no_state": entrant.no_state, "seed": seed, "options": options}
    )


def _read(
    name: str, content: Mapping[str, Any], more: Sequence[str], seeds: Sequence[int] | None, found: list[str]
) -> Suite | None:
    """The suite in `content`; what is wrong with it is added to `found`."""
    known = {"about", "seeds", "teachers", "run", "cells", "envs", "tasks", "students", "target", "spread"}
    found += [f"'{key}' is nothing a suite has; it has {', '.join(sorted(known))}" for key in content.keys() - known]
    numbers = list(seeds) if seeds is not None else _seeds(content.get("seeds", 5), found)
    if twice := [str(seed) for seed, n in Counter(numbers).items() if n > 1]:
        found.append(f"seeds: {', '.join(twice)} stands there more than once; a seed counts once")
    common = _entrants(content.get("teachers", []), "teachers", found)
    added = _entrants(list(more), "--teacher", found)
    cells = []
    for i, table in enumerate(_tables(content, found)):
        own = dict(table)
        label = str(own.pop("name", "") or f"cell {i + 1}")
        entrants = _entrants(own.pop("teachers"), f"{label}: teachers", found) if "teachers" in own else common
        together = (*entrants, *added)
        labels = Counter(entrant.label for entrant in together)
        found += [f"{label}: '{who}' competes more than once; name one of them" for who, n in labels.items() if n > 1]
        found += _without_controls(label, together)
        fields = {**content.get("run", {}), **own}
        if fixed := {"teacher", "no_state", "seed"} & fields.keys():
            found.append(f"{label}: {', '.join(sorted(fixed))} differ from run to run; leave them out of the cells")
        try:
            run = RunConfig(**{key: value for key, value in fields.items() if key not in fixed})
        except (ValidationError, TypeError) as error:
            faults = error.errors() if isinstance(error, ValidationError) else [{"loc": ("run",), "msg": str(error)}]
            found += [f"{label}: {_fault(fault)}" for fault in faults]
            continue
        cells.append(Cell(name=label, run=run, entrants=together))
    if twice := [label for label, n in Counter(slug(cell.name) for cell in cells).items() if n > 1]:
        found.append(f"cells: {', '.join(twice)} stands there more than once; cells need names of their own")
    if not cells and not found:
        found.append("it has no cells; write [[cells]], or envs, tasks and students")
    if found:
        return None
    settings: dict[str, Any] = {key: content[key] for key in ("about", "target", "spread") if key in content}
    try:
        return Suite(name=name, seeds=tuple(numbers), cells=tuple(cells), **settings)
    except ValidationError as error:
        found += [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        return None


def _fault(fault: Mapping[str, Any]) -> str:
    """What pydantic found wrong with a field of a run's settings."""
    field = ".".join(map(str, fault["loc"]))
    if fault.get("type") != "extra_forbidden":
        return f"{field}: {fault['msg']}"
    meant = " or ".join(f"'{name}'" for name in nearest(field, RunConfig.model_fields))
    return f"'{field}' is no setting of a run" + (f"; did you mean {meant}?" if meant else "")


def _seeds(value: Any, found: list[str]) -> list[int]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return list(range(value))
    if isinstance(value, list) and value and all(isinstance(s, int) and s >= 0 for s in value):
        return value
    found.append(f"seeds: a number of seeds, or a list of them, is needed; it is {value!r}")
    return []


def _entrants(entries: Any, where: str, found: list[str]) -> tuple[Entrant, ...]:
    made = []
    for entry in entries if isinstance(entries, list) else []:
        table: dict[str, Any] = {"id": entry} if isinstance(entry, str) else {}
        if isinstance(entry, Mapping):
            table = dict(entry)
        if str(table.get("id", "")).startswith(NO_STATE):
            table = {**table, "id": table["id"].removeprefix(NO_STATE), "no_state": True}
        if ".py:" in str(table.get("id", "")):  # a run goes on from wherever it is called
            table["id"] = str(Path(table["id"]).absolute())
        try:
            made.append(Entrant(**table))
        except (ValidationError, TypeError):
            found.append(f"{where}: {entry!r} is no teacher; write an id, or a table with id, options and name")
    if not isinstance(entries, list):
        found.append(f"{where}: a list is needed; it is {entries!r}")
    return tuple(made)


def _tables(content: Mapping[str, Any], found: list[str]) -> Iterator[dict[str, Any]]:
    """The cells as tables: those written out, and the product of envs, tasks and students."""
    for table in content.get("cells", []):
        if isinstance(table, Mapping):
            yield dict(table)
        else:
            found.append(f"cells: {table!r} is no table; write [[cells]]")
    names = {"env": "envs", "task": "tasks", "student": "students"}
    axes = {key: content[name] for key, name in names.items() if name in content}
    for values in product(*axes.values()) if axes else ():
        chosen = dict(zip(axes, values, strict=True))
        yield {"name": " ".join(str(v) for k, v in chosen.items() if len(axes[k]) > 1 or len(axes) == 1), **chosen}


def _without_controls(cell: str, entrants: Sequence[Entrant]) -> list[str]:
    """What a table of these teachers would lack."""
    there = {entrant.id for entrant in entrants if not entrant.no_state}
    missing = [name for name in CONTROLS if name not in there]
    if not any(entrant.no_state for entrant in entrants):
        missing.append("a twin without state (no-state:ID)")
    return [f"{cell}: no table is made without the control {name}; add it" for name in missing]


def _misfits(suite: Suite) -> list[str]:
    """Runs of the suite that cannot be built. Opens no weights."""
    found = []
    for cell in suite.cells:
        try:
            client = cell.run.build_client()
            cell.run.build_env(client=client).close()
        except DataEnvError as error:
            found.append(f"{cell.name}: {error}")
        for entrant in cell.entrants:
            try:
                _config(cell, entrant, 0).build_teacher()
            except DataEnvError as error:
                found.append(f"{cell.name}: {entrant.label}: {error}")
    return found
