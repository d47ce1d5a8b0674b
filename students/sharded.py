"""Students larger than one GPU: the model cut into shards over several processes, by torch's FSDP2.

`sharded("hf:ORG/NAME")` gives the student that `make_student("hf:ORG/NAME")` would, with another trainer and generator:
processes started at the first lesson or question, one for each shard. This process, in which the environment runs,
keeps the trainable weights alone, in main memory, so that reset, clones, files and versions are those of any student;
each call hands them to the processes when they have changed, and takes them back trained. What the processes do is in
`sharded_rank`. Whatever goes wrong there, they are ended, nothing here has changed, and the next call starts others.
"""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from dataenv.errors import DataEnvError, GenerationFailed, InvalidData, TrainingFailed
from dataenv.progress import report
from dataenv.students import guard, make_student
from dataenv.students.causal_lm import CausalLM
from dataenv.students.generators import Batched, Generator, Sampling
from dataenv.students.weights import Base, best_device, cache_folder


def sharded(
    argument: str, *, processes: int | None = None, gather: bool | None = None, seconds: float = 1800.0, **options: Any
) -> CausalLM:
    """The student `argument`, an id as in `make_student`, over several processes of this machine.

    Args:
        processes: how many; None is one for each GPU (two, where the student computes on the CPU).
        gather: whether each process holds all weights for the time of an examination, which spares gathering them for
            every token; None does so where memory allows.
        seconds: the longest time without any sign of the processes.
        options: the student's own. Of the recipe, micro_batch counts for each process, and checkpointing None is true.
    """
    if processes is not None and processes < 1:
        raise InvalidData(f"A sharded student needs at least 1 process; student.processes is {processes}.")
    if not seconds > 0:
        raise InvalidData(f"A sharded student's limit seconds must be above 0; it is {seconds}.")
    student = make_student(argument, **options)
    if not isinstance(student, CausalLM) or isinstance(student.base, Front) or student.base.images:
        raise InvalidData(
            f"Student '{argument}' cannot be sharded; give a text student's id, as in sharded:hf:ORG/NAME."
        )
    twin = copy.copy(student)
    twin.generator = Batched()
    shards = Shards(twin, processes, gather, seconds, None if type(student.generator) is Batched else student.generator)
    student.base = Front(student.base.id, student.base.find, full=student.method == "full")
    student.trainer, student.generator = shards.train, shards
    return student


@dataclass(frozen=True)
class Front(Base):
    """The base as this process holds it: for adapters, its architecture alone; for full training, in main memory."""

    full: bool = field(default=False, kw_only=True)

    def load(self, device: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
        if self.full:
            return super().load("cpu", dtype)
        import torch

        skeleton, tokenizer = self.skeleton(device, dtype)
        model = copy.deepcopy(skeleton)
        for module in model.modules():
            for name, weight in module.named_parameters(recurse=False):
                hollow = torch.zeros((), dtype=weight.dtype).expand(weight.shape)  # of any size, in 4 bytes
                setattr(module, name, torch.nn.Parameter(hollow, requires_grad=False))
        return model, tokenizer


class Shards:
    """Trainer and generator of one student: both hand the work to the student's processes.

    A generator of another kind may answer in their place.
    """

    def __init__(
        self, twin: CausalLM, processes: int | None, gather: bool | None, seconds: float, generator: Generator | None
    ) -> None:
        self._twin, self._processes, self._gather, self.seconds = twin, processes, gather, seconds
        self._generator = generator
        self._crew: Crew | None = None
        self._held: str | None = None

    def train(self, student: CausalLM, rows: Sequence[tuple[list[int], ...]], *, seed: int) -> float:
        """As `causal_lm.train_alone`. Raises TrainingFailed, too, when a process broke down."""
        from safetensors.torch import load

        (loss, weights), *_ = self._call(TrainingFailed, student, "train", rows, student.recipe, seed=seed)
        self._held = None
        student.restore_state(load(weights))
        return float(loss)

    def generate(self, student: CausalLM, prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        """See `generators.Generator`."""
        if self._generator is not None:
            return self._generator.generate(student, prompts, sampling)
        replies: list[list[int]] = [[] for _ in prompts]
        if prompts:
            for share in self._call(GenerationFailed, student, "generate", prompts, sampling):
                for i, reply in share:
                    replies[i] = reply
        return replies

    def rest(self) -> None:
        if self._generator is not None:
            self._generator.rest()

    def close(self) -> None:
        if self._generator is not None:
            self._generator.close()
        self._dismiss()

    def _call(
        self, failed: type[DataEnvError], student: CausalLM, work: str, *arguments: Any, **options: Any
    ) -> list[Any]:
        """What each process returns from its `work`, after it was given the student's weights, where they are new."""
        from safetensors.torch import save

        try:
            if self._crew is None:
                size = self._processes or _one_for_each_gpu(self._twin)
                self._crew = Crew(size, self.seconds, self._twin, self._gather)
            new = student.version if student.version != self._held else None
            weights = save(student.clone_state()) if new else None
            results = self._crew.call(work, new is not None, weights, arguments, options)
            self._held = new or self._held
            return results
        except (Broken, OSError) as error:
            self._dismiss()
            what = error if isinstance(error, Broken) else f"The sharded student's processes cannot start ({error})."
            raise failed(f"{what} The student is unchanged: try again, with new processes.") from error
        except BaseException:  # an interrupt leaves them at work, and a failure with weights that are not the student's
            self._dismiss()
            raise

    def _dismiss(self) -> None:
        self._held = None
        if self._crew is not None:
            crew, self._crew = self._crew, None
            crew.close()


class Broken(Exception):
    """A process ended, raised an error that is no one's fault, or gave no sign."""


class Crew:
    """`size` processes (`sharded_rank`) that carry out each call together, and cannot outlive this one."""

    def __init__(self, size: int, seconds: float, *parts: Any) -> None:
        self.size, self.seconds = size, seconds
        self._folder = Path(tempfile.mkdtemp(prefix="dataenv-sharded-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lines: dict[int, Connection] = {}
        # Runs at `close`, when the object is dropped, and when this process exits.
        self._finalizer = weakref.finalize(self, _end, self._processes, self._lines, self._folder, os.getpid())
        try:
            self._start(parts)
        except BaseException:
            self.close()
            raise

    def _start(self, parts: tuple[Any, ...]) -> None:
        path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ} if sys.platform == "linux" else dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(self._folder / "socket"))
            server.listen(self.size)
            server.settimeout(0.1)
            for rank in range(self.size):
                with self._log(rank).open("wb") as log:
                    command = [sys.executable, "-m", "dataenv.students.sharded_rank"]
                    command += [str(self._folder), str(rank), str(self.size), str(self.seconds)]
                    self._processes.append(guard.start(command, stdout=log, stderr=log, env=environment))
            begin = time.monotonic()
            while len(self._lines) < self.size:
                with suppress(TimeoutError, EOFError):
                    line = Connection(server.accept()[0].detach())
                    self._lines[line.recv()] = line
                for rank, process in enumerate(self._processes):
                    if process.poll() is not None:
                        raise self._broken(rank, "ended before it was ready")
                if time.monotonic() - begin > self.seconds:
                    raise self._broken(0, f"was not ready after {self.seconds:g} s")
        self._ask(dict.fromkeys(self._lines, parts))
        self._results()  # each has its shard

    def call(self, work: str, renewed: bool, weights: bytes | None, arguments: Any, options: Any) -> list[Any]:
        """The result of `work` by rank. Raises what the first process to fail has raised, or Broken."""
        self._ask(
            {rank: (work, renewed, weights if rank == 0 else None, arguments, options) for rank in range(self.size)}
        )
        return self._results()

    def close(self) -> None:
        self._finalizer()

    def _ask(self, questions: dict[int, Any]) -> None:
        for rank, question in questions.items():
            with suppress(OSError):  # it has ended, which `_results` will hear
                self._lines[rank].send(question)

    def _results(self) -> list[Any]:
        results: dict[int, Any] = {}
        waiting = {line: rank for rank, line in self._lines.items()}
        while waiting:
            heard = wait(list(waiting), timeout=self.seconds)
            if not heard:
                raise self._broken(min(waiting.values()), f"gave no sign for {self.seconds:g} s")
            for line, rank in [(line, rank) for line, rank in waiting.items() if line in heard]:
                kind, content = self._hear(rank)
                if kind == "progress":
                    report(*content)
                elif kind == "failed":
                    self._raise(rank, content)
                else:
                    results[rank] = content
                    del waiting[line]
        return [results[rank] for rank in range(self.size)]

    def _hear(self, rank: int) -> tuple[str, Any]:
        try:
            kind, content = self._lines[rank].recv()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._broken(rank, "ended, as when it is killed or memory runs out") from error
        return kind, content

    def _raise(self, rank: int, error: DataEnvError | str) -> None:
        if isinstance(error, DataEnvError):
            raise error
        # Where one process ends, the others soon complain about a lost connection.
        others = [other for other in range(self.size) if other != rank]
        heard = wait([self._lines[other] for other in others], timeout=1.0)
        for other in [other for other in others if self._lines[other] in heard]:
            kind, content = self._hear(other)
            if kind == "failed" and isinstance(content, DataEnvError):
                raise content
        raise self._broken(rank, f"failed: {error.rstrip('.')}")

    def _broken(self, rank: int, what: str) -> Broken:
        kept, log = cache_folder() / "sharded.log", ""
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._log(rank), kept)
            log = f"; its log is {kept}"
        return Broken(f"Process {rank + 1} of {self.size} of the sharded student {what}{log}.")

    def _log(self, rank: int) -> Path:
        return self._folder / f"log-{rank}"


def _end(processes: list[subprocess.Popen[bytes]], lines: dict[int, Connection], folder: Path, owner: int) -> None:
    if os.getpid() != owner:  # a fork's copy of the object
        return
    for line in lines.values():
        line.close()
    guard.end(*processes)
    shutil.rmtree(folder, ignore_errors=True)


def _one_for_each_gpu(student: CausalLM) -> int:
    import torch

    device = student._device or best_device()
    return torch.cuda.device_count() if device.startswith("cuda") else 2
