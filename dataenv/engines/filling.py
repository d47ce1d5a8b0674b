"""From a plan to rows: ask the engine, pass the gate, ask again for what was dropped, and say what stays missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from dataenv import checks
from dataenv.engines.gate import Gate
from dataenv.progress import Clock
from dataenv.protocols import Engine
from dataenv.records import Example, Plan
from dataenv.seeding import stream

ROUNDS = 5
"""How often an engine is asked for the rows that are still missing."""


@dataclass
class Filled:
    """The rows a plan brought: exactly as many as asked for, or the shortfall per skill."""

    examples: list[Example] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    shortfall: Counter[str] = field(default_factory=Counter)


def fill(
    plan: Plan, engine: Engine, gate: Gate, taught: AbstractSet[str], clock: Clock, *, step: int, seed: int
) -> Filled:
    """Rows for every request of `plan`, in the order of the plan, verbatim rows first.

    `taught` holds the prompt keys of earlier rows and stays as it is. Each row's provenance gets engine, step and
    the number of its request. Time spent in the engine goes to `clock["write"]`. Draws come from `seed` only, so the
    same call gives the same rows.
    """
    filled = Filled()
    seen = _Seen(taught)
    filled.examples = _sift(plan.examples, gate, seen, filled.dropped)
    filled.shortfall.update(Counter(e.skill for e in plan.examples) - Counter(e.skill for e in filled.examples))
    rows: list[list[Example]] = [[] for _ in plan.requests]
    for round_ in range(ROUNDS):
        open_ = [i for i, request in enumerate(plan.requests) if len(rows[i]) < request.rows]
        if not open_:
            break
        requests = [plan.requests[i].model_copy(update={"rows": plan.requests[i].rows - len(rows[i])}) for i in open_]
        with clock("write"):
            written = engine.write(requests, stream(seed, "engine", step, round_), seen)
        checks.written(engine, written, len(open_))
        for i, examples in zip(open_, written, strict=True):
            good = _sift(examples[: plan.requests[i].rows - len(rows[i])], gate, seen, filled.dropped)
            for example in good:  # fresh from the engine and seen by nobody yet, so it may still be completed
                example.provenance.update(engine=engine.name, step=step, request=i)
            rows[i] += [_labelled(example, plan.requests[i].subskill) for example in good]
        if not any(written):
            break  # the engine has nothing left
    for request, made in zip(plan.requests, rows, strict=True):
        filled.examples += made
        if len(made) < request.rows:
            filled.shortfall[request.skill] += request.rows - len(made)
    return filled


def _labelled(example: Example, subskill: str | None) -> Example:
    """The row under the subskill it was asked for, which an engine need not know."""
    return example if subskill in (None, example.subskill) else example.model_copy(update={"subskill": subskill})


class _Seen(set[str]):
    """A set that also holds all of `earlier`, without copying it."""

    def __init__(self, earlier: AbstractSet[str]) -> None:
        super().__init__()
        self.earlier = earlier

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.earlier


def _sift(examples: Iterable[Example], gate: Gate, taught: _Seen, dropped: Counter[str]) -> list[Example]:
    """The rows that pass the gate, each before the next is judged; counts the others in `dropped`."""
    accepted = []
    for example in examples:
        reason = gate.fault(example, taught)
        if reason is None:
            taught.add(example.prompt.key)
            accepted.append(example)
        else:
            dropped[reason] += 1
    return accepted
