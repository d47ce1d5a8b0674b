"""What teachers share: a generator of their own, and a state that is JSON, so that a killed run resumes exactly."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dataenv.errors import InvalidData, Note
from dataenv.records import Feedback, Plan, Problem, Request, Transition
from dataenv.spaces import Prose, allocate, proportions

BYTES = 4096
"""The longest text an action of OpenEnded takes by default."""


class BaseTeacher:
    """Base of the teachers here; a teacher of your own needs only the methods of `dataenv.protocols.Teacher`.

    Draws come from `self.rng`, seeded by `reset` and the teacher's name. `state` covers every attribute that is a
    number, text, list, dict, array or generator, but for those whose names begin with an underscore; any other is
    refused.
    """

    name = "teacher"
    environments: tuple[str, ...] = ()
    """Short names of the environments it can act in, where not in all; a run says so before it loads anything."""
    owed: NDArray[np.float64] = np.zeros(0)
    """Rows that rounding has kept from each skill so far, or given it too much; see `deal`."""

    def reset(self, seed: int) -> None:
        sequence = np.random.SeedSequence(seed, spawn_key=(crc32(self.name.encode()),))
        self.rng = np.random.Generator(np.random.PCG64(sequence))
        self.owed = np.zeros(0)

    def deal(self, weights: NDArray[Any], feedback: Feedback, difficulty: Any = None) -> Plan:
        """The coming step's rows in proportion to `weights`, at `difficulty` (None, or one per skill).

        What a skill lost or won by rounding counts in the next step. So no skill with a share waits for ever, even
        where there are fewer rows than skills: with rule R1 alone, equal shares would always go to the first skills,
        and no other would be taught.

        Weights with NaN, infinity or a negative number say nothing: all skills get the same, and a `Note` says so.
        Raises InvalidData unless there is one for each skill.
        """
        weights = np.asarray(weights, np.float64)
        if weights.shape != (len(feedback.skills),):
            raise InvalidData(
                f"Teacher '{self.name}': weights have the shape {weights.shape}; give one for each of the "
                f"{len(feedback.skills)} skills."
            )
        if not np.isfinite(weights).all() or (weights < 0).any():
            warnings.warn(
                f"Teacher '{self.name}': weights with NaN, infinity or a negative number say nothing; every "
                "skill gets the same rows.",
                Note,
                stacklevel=2,
            )
        budget, shares = feedback.budget.rows_now, proportions(weights)
        due = budget * shares + (self.owed if self.owed.size == shares.size else 0.0)
        rows = allocate(np.maximum(due, 0.0), budget)
        self.owed = due - rows
        return rows_to_plan(rows, feedback, difficulty)

    def observe(self, transition: Transition) -> None:
        """Most teachers read all they need from the next observation."""

    def state(self) -> dict[str, Any]:
        kept = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        return {name: _encode(value, f"Teacher '{self.name}': attribute '{name}'") for name, value in kept.items()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, _decode(value))


def writes(observation: Any) -> bool:
    """Whether the environment is OpenEnded, whose actions are in words; others take skill, rows and difficulty only."""
    return isinstance(observation, Mapping) and "failures" in observation


def like(problem: Problem, rows: int, *, shown: bool) -> Request:
    """A request for problems like this one: of its skill, about as hard, and where `shown` with it as the exemplar."""
    return Request(skill=problem.skill, rows=rows, difficulty=problem.difficulty, exemplar=problem if shown else None)


def written_out(problem: Problem) -> bool:
    """Whether OpenEnded, as it is by default, takes the problem and its solution as a row that is written out."""
    text = Prose(BYTES)
    alone = not (problem.prompt.images or problem.prompt.tools)
    return alone and problem.prompt.text in text and (problem.solution or problem.answer) in text


def shares_to_plan(weights: NDArray[Any], feedback: Feedback, difficulty: Any = None) -> Plan:
    """Deal the coming step's rows to all skills in proportion to `weights`; `difficulty` is None or one per skill."""
    rows = allocate(weights, feedback.budget.rows_now)
    return rows_to_plan(rows, feedback, difficulty)


def rows_to_plan(rows: NDArray[np.int64], feedback: Feedback, difficulty: Any = None) -> Plan:
    """A request per skill that gets rows."""
    names = [score.skill for score in feedback.skills]
    levels = [None] * len(names) if difficulty is None else [float(d) for d in difficulty]
    return Plan(
        requests=tuple(
            Request(skill=skill, rows=int(n), difficulty=level)
            for skill, n, level in zip(names, rows, levels, strict=True)
            if n > 0
        )
    )


def _encode(value: Any, where: str) -> Any:
    """A copy of `value` as JSON, for what goes on changes its lists in place."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, np.random.Generator) and isinstance(value.bit_generator, np.random.PCG64):
        return {"generator": value.bit_generator.state}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufU":
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, np.generic) and value.dtype.kind in "biufU":
        return value.item()
    if isinstance(value, list | tuple):
        return [_encode(one, where) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _encode(one, where) for key, one in value.items()}
    what = "a dict whose keys are not texts" if isinstance(value, dict) else f"of the type {type(value).__name__}"
    raise InvalidData(
        f"{where} holds something {what}, which cannot be written down for a run to go on from; keep numbers, texts, "
        "lists, dicts, arrays and numpy's default generators, and give what need not be kept a name that begins with _."
    )


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(one) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"generator"}:
        generator = np.random.Generator(np.random.PCG64())
        generator.bit_generator.state = value["generator"]
        return generator
    if set(value) == {"array", "dtype"}:
        return np.array(value["array"], dtype=value["dtype"])
    return {key: _decode(one) for key, one in value.items()}
