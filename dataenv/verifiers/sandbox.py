"""Runs untrusted code and says whether it passes its tests: `Sandbox.trial`.

What it protects against, each on its own, so that one hole is not enough:

* the network: a network namespace of its own without any interface, and no socket can be made at all;
* the host's files: the root is an empty read-only one, with the standard library and an empty /tmp (16 MiB) in it,
  Landlock on top where the kernel has it; there is no /proc, no shell, no other program;
* other processes: PID, IPC and UTS namespaces of its own, no ptrace, no signal gets out;
* secrets: the environment is empty, the interpreter is a clean one, every descriptor is closed but one socket;
* more rights: a user namespace with one user, no capability, no_new_privs, and a seccomp filter against mounts, further
  namespaces, bpf, io_uring, keys and the like;
* using up the machine: memory, processor time, processes, file size, open files; output is read up to 1 MiB;
* what does not end: at the wall-clock limit all its processes are killed, and nothing of a trial is left behind;
* forged verdicts: see below.

What it does not protect against:

* holes in the kernel itself, or in the processor (timing, Spectre): for code of an enemy use a virtual machine as well;
* several processes together: memory is limited for each (512 MiB, 8 processes, on kernels before 5.14 counted for the
  whole user), and a trial may use a processor until its limit; run as many trials at once as the machine can bear;
* reading the standard library, the kernel's version and the processor's kind, the time, and how long it ran.

Verdicts. The tests never stand in the memory of the untrusted code, and it has no say in the comparison: a judge, a
process of its own in the same isolation, asks it one question at a time and gets an answer of plain data (see
`sandbox_wire`), which it makes into new builtins. So an early `os._exit(0)`, a patched `==`, `assert` or `json`, an
object that equals everything, a walk over frames and gc or a rewritten test file all come to nothing: the one way to
pass is to give answers that the tests accept. What remains: code may remember earlier questions, so tests that ask the
same thing twice ask it once; and tests that accept everything are passed by anything. Whoever writes the tests can say
that they are passed; that is what tests are. Arguments are passed as copies: what a function does to them is not seen.
Hashes of texts, and `random`, begin the same in every trial, and a reason holds no address, so that equal code gets
equal verdicts in every process.

Where namespaces cannot be had but bubblewrap works, each trial runs in two bubblewraps instead: some 20 times slower,
with the system's libraries to be read as well, and files limited each and not together. Where neither can be had
nothing is run, and IsolationMissing says what to allow or to install.
`Sandbox(unsafe=True)` runs code all the same, as this user, with nothing but limits and a clean environment around it.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dataenv.errors import MissingDependency
from dataenv.verifiers import sandbox_bubblewrap
from dataenv.verifiers.sandbox_bubblewrap import CLEAN, ENVIRONMENT

_ROOT = Path(__file__).parent
_BOOT = """
import sys, types
for name, folder in (("dataenv", None), ("dataenv.verifiers", {folder!r})):
    sys.modules[name] = module = types.ModuleType(name)
    module.__path__ = [folder] if folder else []
from dataenv.verifiers.sandbox_server import main, main_alone
"""
"""Starts the server without importing the package around it, which needs what a clean interpreter does not have."""


class IsolationMissing(MissingDependency):
    """Untrusted code cannot be isolated on this machine. The message says what to allow or to install."""


@dataclass(frozen=True)
class Limits:
    """What the code of one trial may use."""

    seconds: float = 3.0
    """Processor time of a process, in whole seconds."""
    wall: float = 30.0
    """Seconds from beginning to end, judge included. Generous, for no verdict must hang on what else the machine does;
    it is what sleeping costs."""
    memory: int = 512 << 20
    """Bytes of address space of a process."""
    processes: int = 8
    """Processes and threads at a time."""
    disk: int = 16 << 20
    """Bytes of all files together."""


class Outcome(NamedTuple):
    """Whether the code passed its tests; if not, which test it failed and how, in one line."""

    passed: bool
    reason: str = ""


class Sandbox:
    """A fork server for trials, started at the first one. Safe to use from several threads, and after a fork.

    Raises IsolationMissing where code cannot be isolated, unless `unsafe`.
    """

    def __init__(self, *, unsafe: bool = False, limits: Limits | None = None) -> None:
        self.unsafe, self.limits = unsafe, limits or Limits()
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0
        self._bwrap: str | None = None

    def trial(self, code: str, tests: str, *, entry: str | None, given: str = "") -> Outcome:
        """Whether `code` passes `tests`.

        `tests` is source that calls `candidate(...)` (or `entry`, the function's name, "Class.method" for a method of
        an object made without arguments) and raises where an answer is wrong. With `entry` None the code is a program,
        and `candidate(input)` is its output. `given` is source whose names the tests may use, a reference solution
        for instance; `agree(found, expected, tolerance)` and `same_output(found, expected)` are there too.
        """
        trial = {"code": code, "tests": tests, "entry": entry, "given": given}
        self.check()
        for _ in range(2):  # what is killed from outside, or finds no room for a process, costs another try
            answer = self._ask(trial) if self._bwrap is None else self._wrapped(trial)
            if answer is not None:
                return answer
        return Outcome(False, "the sandbox broke down twice on this code")

    def check(self) -> None:
        """Start the server if need be. Raises IsolationMissing."""
        with self._lock:
            if self._bwrap is not None:
                return
            try:
                self._started()
            except IsolationMissing:
                self._bwrap = sandbox_bubblewrap.found()
                probe = {"code": "def f(): pass", "tests": "candidate()", "entry": "f", "given": ""}
                if self._bwrap is None or self._wrapped(probe) != Outcome(True):
                    self._bwrap = None
                    raise

    def close(self) -> None:
        """End the server, and with it all trials; safe to call twice. The next trial starts a new one."""
        self._end(self._server)

    def _end(self, server: subprocess.Popen[bytes] | None) -> None:
        """End this server, if it is still the one in use: another thread may have replaced it."""
        with self._lock:
            if server is not self._server:
                return
            control, mine = self._control, self._owner == os.getpid()
            self._control = self._server = None
        if control is not None:
            control.close()
        if server is not None and mine:
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()

    def _ask(self, trial: dict[str, Any]) -> Outcome | None:
        """What the judge says; None where nobody says anything."""
        data = json.dumps(trial).encode("utf-8", "surrogatepass")
        ours, theirs = socket.socketpair()
        server, found = None, b""
        with ours:
            with theirs, self._lock:
                control, server = self._started(), self._server
                with suppress(OSError):
                    socket.send_fds(control, [json.dumps(asdict(self.limits)).encode()], [theirs.fileno()])
            with suppress(OSError):
                ours.settimeout(self.limits.wall + 10)
                ours.sendall(len(data).to_bytes(4, "big") + data)
                while part := ours.recv(1 << 16):
                    found += part
        outcome = _read(found)
        if outcome is None and server is not None:
            with suppress(subprocess.TimeoutExpired):
                server.wait(0.2)  # one that was killed takes a moment to be gone
                self._end(server)
        return outcome

    def _wrapped(self, trial: dict[str, Any]) -> Outcome | None:
        assert self._bwrap is not None
        data = json.dumps(trial).encode("utf-8", "surrogatepass")
        return _read(sandbox_bubblewrap.trial(self._bwrap, _BOOT.format(folder=str(_ROOT)), data, asdict(self.limits)))

    def _started(self) -> socket.socket:
        if self._control is not None and self._owner == os.getpid():
            return self._control
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        boot = f"{_BOOT.format(folder=str(_ROOT))}main({not self.unsafe})"
        with theirs:
            server: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, *CLEAN, "-c", boot],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        ours.settimeout(60)
        try:
            answer = json.loads(ours.recv(1 << 16) or b'{"error": "the server did not start"}')
        except (OSError, ValueError) as error:
            answer = {"error": f"the server did not start ({error})"}
        if "error" in answer:
            ours.close()
            server.kill()
            server.wait()
            raise IsolationMissing(_refusal(answer["error"]))
        ours.settimeout(None)
        self._server, self._control, self._owner = server, ours, os.getpid()
        return ours


def _read(found: bytes) -> Outcome | None:
    for line in found.splitlines():
        try:
            return Outcome(**json.loads(line))
        except ValueError:  # torn: the judge was killed while it wrote
            continue
    return None


def _refusal(why: str) -> str:
    return (
        f"Untrusted code runs only in isolation, which this machine does not allow ({why}): allow user namespaces "
        "(sysctl user.max_user_namespaces=10000, and kernel.unprivileged_userns_clone=1 or "
        "kernel.apparmor_restrict_unprivileged_userns=0 where they exist; in a container, --security-opt "
        "seccomp=unconfined), or install bubblewrap; --unsafe-code runs it without."
    )


@cache
def shared(unsafe: bool = False, limits: Limits | None = None) -> Sandbox:
    """The sandbox that all tasks of this process use, closed at its end."""
    sandbox = Sandbox(unsafe=unsafe, limits=limits)
    atexit.register(sandbox.close)
    return sandbox
