"""Runs carried out by a Ray cluster: an existing one, or one that is begun on this machine.

A run is carried out in a folder of its node's own, and comes back as an archive, so that nodes share no disk. Ray runs
those again whose process or node was lost; a folder is put in its place whole, so none counts twice.
"""

from __future__ import annotations

import io
import shutil
import socket
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dataenv.benchmarks.local import Done, Work, carry_out
from dataenv.errors import MissingDependency, RunError
from dataenv.runs.config import RunConfig

CONNECT = 10.0
"""Seconds that a cluster has to answer."""
RETRIES = 5
"""Times that a run is begun again after its process or node was lost."""


class RayCluster:
    """Ray at `address` ("auto": the cluster this machine belongs to; None: one of this machine's own, which ends with
    it). A run takes `cpus` processors and `gpus` GPUs. The package, and the files of teachers given by path, must be on
    every node."""

    def __init__(self, address: str | None = None, *, cpus: float = 1, gpus: float = 0) -> None:
        self.address, self.cpus, self.gpus = address, cpus, gpus

    def run(self, work: Sequence[Work]) -> Iterator[Done]:
        """Carry out all of `work`; yields as they end. Raises RunError where the cluster cannot be reached."""
        try:
            import ray
        except ImportError as error:
            raise MissingDependency(
                'The executor ray needs Ray: pip install "dataenv[benchmarks]", or leave --executor out.'
            ) from error
        own = not ray.is_initialized()
        try:
            _must_answer(self.address)
            if own:
                ray.init(self.address, log_to_driver=False, logging_level="error", include_dashboard=False)
        except (OSError, RuntimeError, ValueError) as error:
            raise RunError(
                f"No Ray cluster answers at '{self.address}' ({error}); start one with 'ray start --head', or leave "
                "--address out for one on this machine."
            ) from error
        try:
            remote = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES)(archived)
            under_way = {remote.remote(one.config.model_dump_json()): one for one in work}
            while under_way:
                (ready, *_), _ = ray.wait(list(under_way), num_returns=1)
                one = under_way.pop(ready)
                try:
                    fault, archive = ray.get(ready)
                except ray.exceptions.RayError as error:
                    fault, archive = f"{type(error).__name__}: {str(error).splitlines()[0]}", b""
                if fault is None:
                    unpack(archive, one.folder)
                yield Done(one.number, fault)
        finally:
            if own:
                ray.shutdown()


def _must_answer(address: str | None) -> None:
    """Raise OSError where nothing listens at "HOST:PORT": Ray itself would try for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), CONNECT).close()


def archived(config: str) -> tuple[str | None, bytes]:
    """Carry out one run in a folder for the moment; returns why it failed, if it did, and the folder as an archive."""
    with TemporaryDirectory() as place:
        folder = Path(place) / "run"
        fault = carry_out(RunConfig.model_validate_json(config), folder)
        held = io.BytesIO()
        if fault is None:
            with tarfile.open(fileobj=held, mode="w:gz", compresslevel=1) as archive:
                archive.add(folder, arcname=".")
        return fault, held.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Put an archived run in its place, whole or not at all."""
    draft = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(archive)) as held:
            held.extractall(draft, filter="data")
        shutil.rmtree(folder, ignore_errors=True)
        draft.replace(folder)
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({error.strerror}); free or allow the place.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
