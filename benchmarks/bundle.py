"""Handing a comparison in: everything that scores follow from, in one archive.

suite.json, failed.json                       what was compared, what failed
runs/CELL/TEACHER/SEED/config.json            the run's settings and seed
                       events.jsonl           plans, scores, versions, hashes; a chain, see `runs.folder`
                       steps/NNN/rows.jsonl   every row that was taught
                       steps/NNN/student/     the student that sat the exam
manifest.json                                 a hash of every file above
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from dataenv.benchmarks.bench import FAILED, RUNS, SUITE, stored
from dataenv.errors import InvalidData, RunError

MANIFEST = "manifest.json"
KEPT = ("config.json", "events.jsonl", "steps/*/rows.jsonl", "steps/*/student/*")


def pack(folder: Path, path: Path) -> Path:
    """Write the comparison in `folder` as an archive (.tar.gz) to `path`; returns it."""
    suite, _ = stored(folder)
    files = [folder / SUITE, folder / FAILED]
    for job in suite.jobs():
        files += [file for pattern in KEPT for file in sorted((folder / RUNS / job.place).glob(pattern))]
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    hashes: dict[str, str] = {}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(draft, mode="w:gz") as archive:
            for file in files:
                if file.is_file():
                    name, content = str(file.relative_to(folder)), file.read_bytes()
                    hashes[name] = digest(content)
                    _add(archive, name, content)
            _add(archive, MANIFEST, orjson.dumps(hashes, option=orjson.OPT_INDENT_2))
        draft.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror}); free or allow the place.") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def unpacked(path: Path, place: Path) -> Path:
    """Unpack a bundle into `place`, which is returned. Raises InvalidData where it is none."""
    if not path.is_file():
        raise InvalidData(f"There is no bundle {path}; give the file that 'dataenv bench pack' wrote.")
    try:
        with tarfile.open(path) as archive:
            archive.extractall(place, filter="data")
    except (OSError, tarfile.TarError, EOFError) as error:
        fault = str(error).partition("\n")[0]
        raise InvalidData(f"{path} is no bundle ({fault}); give what 'dataenv bench pack' wrote.") from error
    if not (place / MANIFEST).is_file():
        raise InvalidData(f"{path} is no bundle: it has no {MANIFEST}; give what 'dataenv bench pack' wrote.")
    return place


def altered(place: Path) -> Iterator[str]:
    """What in an unpacked bundle is not as its manifest says."""
    try:
        manifest: dict[str, Any] = orjson.loads((place / MANIFEST).read_bytes())
    except ValueError as error:
        yield f"{MANIFEST}: it cannot be read ({error})"
        return
    for name, hash in manifest.items():
        file = place / name
        if not file.is_file():
            yield f"{name}: the manifest has it, the bundle lacks it"
        elif digest(file.read_bytes()) != hash:
            yield f"{name}: it was changed after packing"
    there = {str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()} - {MANIFEST}
    yield from (f"{name}: the manifest does not know it" for name in sorted(there - manifest.keys()))


def digest(content: bytes) -> str:
    """32 hex digits of a file's content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()
