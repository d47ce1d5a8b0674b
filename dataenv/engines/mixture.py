"""Several engines by share: each writes its part of every request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np

from dataenv import checks
from dataenv.checks import real
from dataenv.engines import engines
from dataenv.engines.drops import Drops
from dataenv.engines.filling import Seen
from dataenv.errors import InvalidData
from dataenv.protocols import AsksStudent, Engine, Student, Task, TryingEngine
from dataenv.records import Example, Request
from dataenv.seeding import stream
from dataenv.spaces import allocate

EXAMPLE = "procedural=0.7,self-sampling=0.3"


class Mixture:
    """Rows of several engines: `Mixture("procedural=0.7,self-sampling=0.3", task=task)`.

    A request's rows are dealt by largest remainder; what rounding gives an engine too much or too little in one
    request, it has less or more in the next of the same call. Engines write in turn and know what the earlier ones
    wrote. Rows that one cannot make are missing, unless `fall_back`: then the others are asked for them, in turn.

    Args:
        parts: engine ids with their shares, or pairs of an engine (or its id) and its share. Shares count relative to
            each other. An id whose own argument has a comma can only stand in a pair.
        options: of the parts by their ids, as `{"self-sampling": {"samples": 8}}`; on the command line
            `--set engine.self-sampling.samples=8`.

    `provenance` of a row names the engine that wrote it. Each engine draws from a stream of its own.
    """

    name = "mixture"

    def __init__(
        self,
        parts: str | Sequence[tuple[str | Engine, float]],
        *,
        task: Task,
        fall_back: bool = False,
        **options: Any,
    ) -> None:
        pairs = _read(parts) if isinstance(parts, str) else list(parts)
        given = _by_part(options)
        ids = {part.partition(":")[0] for part, _ in pairs if isinstance(part, str)}
        if unknown := sorted(given.keys() - ids):
            raise InvalidData(f"mixture: options for '{unknown[0]}', which is none of its engines.")
        self.parts: list[Engine] = []
        for part, _ in pairs:
            if isinstance(part, str):
                part = engines.make(part, task=task, **given.get(part.partition(":")[0], {}))
            checks.part("mixture: engine", part, Engine)
            self.parts.append(part)
        if not self.parts:
            raise InvalidData(f"mixture: there is no engine in it; write mixture:{EXAMPLE}.")
        names = [part.name for part in self.parts]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidData(f"mixture: engine '{twice}' stands in it twice; add up its shares.")
        shares = [share for _, share in pairs]
        self.shares = [real(f"mixture: share of {n}", share, 0) for n, share in zip(names, shares, strict=True)]
        if 0 in self.shares:
            raise InvalidData(f"mixture: share of {names[self.shares.index(0)]} must be above 0; or leave it out.")
        if not isinstance(fall_back, bool):
            raise InvalidData(f"mixture: fall_back must be true or false; it is {fall_back!r}.")
        self.fall_back = fall_back
        self.dropped = Drops()

    def attach(self, student: Student) -> None:
        """Hand `student` on to those that ask it."""
        for part in self.parts:
            if isinstance(part, AsksStudent):
                part.attach(student)

    def write(
        self, requests: Sequence[Request], rng: np.random.Generator, taught: AbstractSet[str] = frozenset()
    ) -> list[list[Example]]:
        self.dropped = Drops()
        seed, seen = int(rng.integers(2**63)), Seen(taught)
        rows: list[list[Example]] = [[] for _ in requests]
        short: dict[int, set[int]] = {}
        for n, dealt in enumerate(np.transpose(self._dealt([request.rows for request in requests])).tolist()):
            made = self._written(n, requests, dealt, stream(seed, n), seen)
            short[n] = {i for i, new in enumerate(made) if len(new) < dealt[i]}
            for own, new in zip(rows, made, strict=True):
                own += new
        if self.fall_back:
            for n, gave_up in short.items():
                missing = [request.rows - len(own) for request, own in zip(requests, rows, strict=True)]
                wanted = [0 if i in gave_up else m for i, m in enumerate(missing)]
                more = self._written(n, requests, wanted, stream(seed, n, "again"), seen)
                for own, new in zip(rows, more, strict=True):
                    own += new
        return rows

    def _dealt(self, rows: Sequence[int]) -> list[list[int]]:
        """For each request how many rows each engine writes."""
        shares = np.array(self.shares) / sum(self.shares)
        owed, dealt = np.zeros(len(shares)), []
        for n in rows:
            due = n * shares + owed
            own = allocate(np.maximum(due, 0.0), n)
            owed = due - own
            dealt.append(own.tolist())
        return dealt

    def _written(
        self, n: int, requests: Sequence[Request], wanted: Sequence[int], rng: np.random.Generator, seen: Seen
    ) -> list[list[Example]]:
        """What engine `n` brings of the rows `wanted` of each request."""
        part, chosen = self.parts[n], [i for i, rows in enumerate(wanted) if rows]
        made: list[list[Example]] = [[] for _ in requests]
        if not chosen:
            return made
        found = part.write([requests[i].model_copy(update={"rows": wanted[i]}) for i in chosen], rng, seen)
        checks.written(part, found, len(chosen))
        if isinstance(part, TryingEngine):
            self.dropped.take(part.dropped)
        for i, examples in zip(chosen, found, strict=True):
            made[i] = examples[: wanted[i]]
            for example in made[i]:
                example.provenance.setdefault("engine", part.name)
                seen.add(example.prompt.key)
        return made


def _read(text: str) -> list[tuple[str | Engine, float]]:
    """ "procedural=0.7,pool=0.3" as pairs."""
    pairs: list[tuple[str | Engine, float]] = []
    for part in text.split(","):
        id, equals, share = part.strip().rpartition("=")
        if not equals or not id:
            raise InvalidData(f"mixture: '{part.strip()}' is no engine with a share; write mixture:{EXAMPLE}.")
        pairs.append((id.strip(), share))  # type: ignore[arg-type]  # read as a number where all shares are
    return pairs


def _by_part(options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options by engine id, from `{"pool": {"seed": 1}}` or `{"pool.seed": 1}`."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        id, dot, option = key.partition(".")
        if not dot and not isinstance(value, Mapping):
            raise InvalidData(f"mixture: it has no option '{key}'; one of its engines' is written ENGINE.{key}.")
        found.setdefault(id, {}).update({option: value} if dot else value)
    return found
