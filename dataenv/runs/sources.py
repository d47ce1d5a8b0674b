"""Which code a run was made with: a digest of each part that decides what a score means."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import dataenv

PARTS = {
    "trainer": ("students/*.py",),
    "evaluator": ("examine.py", "runs/exam.py", "verifiers/*.py", "tasks/*.py"),
    "prompts": ("students/encoding.py", "chat/prompts/**/*.jinja"),
}
"""Part -> its files, within the package."""


@cache
def digests() -> dict[str, str]:
    """Part -> 16 hex digits over the names and contents of its files."""
    root = Path(dataenv.__file__).parent
    found = {}
    for part, patterns in PARTS.items():
        digest = hashlib.blake2b(digest_size=8)
        for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
            digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
        found[part] = digest.hexdigest()
    return found
