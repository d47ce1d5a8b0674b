"""From a plan to rows: ask the engine, pass gate and filters, ask again for what was dropped, say what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from pydantic import JsonValue

from dataenv import checks
from dataenv.engines.drops import Drops
from dataenv.engines.gate import CONTAMINATED, Gate
from dataenv.progress import Clock
from dataenv.protocols import Engine, Filter, TryingEngine
from dataenv.records import Example, Plan
from dataenv.seeding import stream

ROUNDS = 5
"""How often an engine is asked for the rows that are still missing."""


@dataclass
class Filled:
    """The rows a plan brought: exactly as many as asked for, or the shortfall per skill."""

    examples: list[Example] = field(default_factory=list)
    dropped: Drops = field(default_factory=Drops)
    shortfall: Counter[str] = field(default_factory=Counter)


def fill(
    plan: Plan,
    engine: Engine,
    gate: Gate,
    taught: AbstractSet[str],
    clock: Clock,
    *,
    step: int,
    seed: int,
    teacher: str | None = None,
    filters: Sequence[Filter] = (),
) -> Filled:
    """Rows for every request of `plan`, in the order of the plan, verbatim rows first.

    `taught` holds the prompt keys of earlier rows and stays as it is. Rows that pass the gate come before the
    `filters`, all rows of a round at a time; the prompt of one that a filter drops is not taken again in this call.
    Each row's provenance gets its engine ("verbatim" where it was written out), `teacher`, `step` and `seed`, and the
    number of its request. Time spent in the engine goes to `clock["write"]`. Draws come from `seed` only, so the same
    call gives the same rows.
    """
    filled = Filled()
    seen = Seen(taught)
    stamp: dict[str, JsonValue] = {"teacher": teacher, "step": step, "seed": seed}

    def passed(examples: Sequence[Example], round_: int | str) -> list[bool]:
        """For each row whether all filters let it pass; counts the others."""
        going = dict(enumerate(examples))
        for number, judge in enumerate(filters):
            rows = list(going.values())
            reasons = judge(rows, stream(seed, "filter", step, round_, number)) if rows else []
            checks.reasons(judge, reasons, len(rows))
            dropped = {i: reason for i, reason in zip(going, reasons, strict=True) if reason is not None}
            for i, reason in dropped.items():
                filled.dropped.drop(reason, going[i])
            going = {i: example for i, example in going.items() if i not in dropped}
        return [i in going for i in range(len(examples))]

    written_out = _sift(plan.examples, gate, seen, filled.dropped)
    good = passed(written_out, "written out")
    filled.examples = [_stamped(example, stamp) for example, passes in zip(written_out, good, strict=True) if passes]
    filled.shortfall.update(Counter(e.skill for e in plan.examples) - Counter(e.skill for e in filled.examples))
    rows: list[list[Example]] = [[] for _ in plan.requests]
    spent: set[int] = set()
    for round_ in range(ROUNDS):
        missing = {i: n for i, r in enumerate(plan.requests) if (n := r.rows - len(rows[i])) > 0 and i not in spent}
        if not missing:
            break
        requests = [plan.requests[i].model_copy(update={"rows": n}) for i, n in missing.items()]
        with clock("write"):
            written = engine.write(requests, stream(seed, "engine", step, round_), seen)
        checks.written(engine, written, len(requests))
        if isinstance(engine, TryingEngine):
            filled.dropped.take(engine.dropped)
            spent |= {i for i, examples in zip(missing, written, strict=True) if len(examples) < missing[i]}
        sifted: list[tuple[int, Example]] = []
        for i, examples in zip(missing, written, strict=True):
            for example in _sift(examples[: missing[i]], gate, seen, filled.dropped):
                # Fresh from the engine and seen by nobody yet, so it may still be completed.
                example.provenance.setdefault("engine", engine.name)
                example.provenance.update(stamp, request=i)
                sifted.append((i, _labelled(example, plan.requests[i].subskill)))
        for (i, example), passes in zip(sifted, passed([e for _, e in sifted], round_), strict=True):
            if passes:
                rows[i].append(example)
        if not any(written):
            break  # the engine has nothing left
    for request, made in zip(plan.requests, rows, strict=True):
        filled.examples += made
        if len(made) < request.rows:
            filled.shortfall[request.skill] += request.rows - len(made)
    # Runs keep the samples and reports show them: nothing that is protected may stand in one.
    filled.dropped.samples = [one for one in filled.dropped.samples if gate.fault(one.row, frozenset()) != CONTAMINATED]
    return filled


def _stamped(example: Example, stamp: Mapping[str, JsonValue]) -> Example:
    """A row that was written out; the record is its teacher's, and stays as it is."""
    return example.model_copy(update={"provenance": {**example.provenance, "engine": "verbatim", **stamp}})


def _labelled(example: Example, subskill: str | None) -> Example:
    """The row under the subskill it was asked for, which an engine need not know."""
    return example if subskill in (None, example.subskill) else example.model_copy(update={"subskill": subskill})


class Seen(set[str]):
    """A set that also holds all of `earlier`, without copying it."""

    def __init__(self, earlier: AbstractSet[str]) -> None:
        super().__init__()
        self.earlier = earlier

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self.earlier


def _sift(examples: Iterable[Example], gate: Gate, taught: Seen, dropped: Drops) -> list[Example]:
    """The rows that pass the gate, each before the next is judged; counts the others in `dropped`."""
    accepted = []
    for example in examples:
        reason = gate.fault(example, taught)
        if reason is None:
            taught.add(example.prompt.key)
            accepted.append(example)
        else:
            dropped.drop(reason, example)
    return accepted
