"""The sandbox's fork server: a clean interpreter that is warm, and makes the processes of each trial by forking.

A trial is four processes, each the parent of the next:

* this server, which has seen no secret: its environment is empty and it imports the standard library only;
* the warden: makes the namespaces, waits, kills at the wall-clock limit, and ends when all below are gone;
* the judge, process 1 of a PID namespace: reads the tests, but only after it has forked
* the subject, process 1 of a PID namespace within: runs the untrusted code, and cannot see the judge.

When a process 1 dies, the kernel kills every process of its namespace; so nothing that the code starts can survive.
Judge and subject hold no capability and have limits. Standard library only; `dataenv.verifiers.sandbox` starts
it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from dataenv.verifiers import sandbox_kernel as kernel
from dataenv.verifiers import sandbox_roles as roles
from dataenv.verifiers.sandbox_wire import Gone, Line

WARM = (  # noqa: SIM905
    "abc array base64 bisect cmath collections contextlib copy ctypes dataclasses datetime decimal enum fractions "
    "functools hashlib heapq inspect io itertools json math numbers operator queue random re statistics string "
    "struct textwrap threading time traceback typing unicodedata uuid zlib _strptime"
).split()
"""What programs import most, imported once. A module that needs a shared library cannot be imported later."""

STDLIB = os.path.realpath(sysconfig.get_paths()["stdlib"])


JUDGING = 3
"""Times the subject's processor time that the judge may take: to read and compare a long answer costs more than to make
it, and the verdict on a right one must not hang on how fast the machine is."""


class Limits:
    """What one trial may use; see `dataenv.verifiers.sandbox.Limits`, which sends it."""

    def __init__(self, data: Mapping[str, float]) -> None:
        self.wall = data["wall"]
        self.disk = int(data["disk"])
        self.resources = {
            "AS": int(data["memory"]),
            "CPU": max(1, round(data["seconds"])),
            "FSIZE": int(data["disk"]),
            "NPROC": int(data["processes"]),
            "NOFILE": 64,
            "CORE": 0,
            "MEMLOCK": 0,
            "MSGQUEUE": 0,
        }
        self.judging = {**self.resources, "CPU": JUDGING * self.resources["CPU"]}


def main(isolated: bool) -> None:
    """Serve trials that arrive on descriptor 0 (limits as JSON, with the trial's socket) until it closes.

    The first message sent back is {"ready": true}, or {"error": why isolation cannot be had}.
    """
    control = socket.socket(fileno=os.dup(0))
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    os.umask(0o022)
    for name in WARM:
        import_module(name)
    os.environ.clear()  # the interpreter itself may have put its locale there
    sys.set_int_max_str_digits(0)  # the limit on processor time is limit enough
    proc = -1
    if isolated:
        try:
            proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
            _prepare(proc)
            _rehearse(proc)
        except OSError as error:
            control.send(json.dumps({"error": str(error)}).encode())
            return
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's affair: it closes the control socket
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # wardens are reaped by the kernel
    control.send(b'{"ready": true}')
    while True:
        message, ends, _, _ = socket.recv_fds(control, 1 << 16, 1)
        if not message:
            return
        if not os.fork():
            _leave(_warden, control, ends[0], Limits(json.loads(message)), proc)
        os.close(ends[0])


def main_alone(role: str, limits: str, ends: Sequence[int]) -> None:
    """Be the judge or the subject of one trial, in an isolation that another program has made."""
    _keep(*ends)
    bounds = Limits(json.loads(limits))
    os.environ.clear()
    sys.set_int_max_str_digits(0)
    kernel.drop_capabilities()
    kernel.landlock("/", "/tmp")
    kernel.limit(bounds.resources if role == "subject" else bounds.judging)
    kernel.deny_calls()
    line = Line(socket.socket(fileno=ends[0]))
    if role == "subject":
        with suppress(Gone):
            roles.subject(line)
        return
    verdict = roles.judge(line, _read_trial(ends[1]), lambda: "the program ended, or was killed at a limit")
    os.write(ends[1], json.dumps(verdict).encode() + b"\n")


def _prepare(proc: int) -> None:
    """A root file system with next to nothing in it, and a user who may do nothing; both are inherited by trials."""
    root = os.geteuid() == 0 and kernel.has_user(kernel.NOBODY)  # not so in most containers of a user's own
    if root:
        kernel.unshare(kernel.NEW_MOUNT)
    else:
        uid, gid = os.geteuid(), os.getegid()
        kernel.unshare(kernel.NEW_USER | kernel.NEW_MOUNT)
        kernel.map_user(proc, uid, gid)
    kernel.small_root(STDLIB, "site-packages")
    if root:
        kernel.become_nobody()


def _rehearse(proc: int) -> None:
    """Go once, in a child, through all that a trial does; raises OSError with the step that failed."""
    out, into = os.pipe()
    if not os.fork():
        try:
            _confine(proc, 1 << 20)
            if not os.fork():
                _rehearse_inside(into)
            os.wait()
        except OSError as error:
            os.write(into, str(error).encode())
        os._exit(0)
    os.close(into)
    os.wait()
    why = os.read(out, 1000)
    os.close(out)
    if why:
        raise OSError(why.decode())


def _rehearse_inside(into: int) -> NoReturn:
    try:
        kernel.unshare(kernel.NEW_PID)
        _bound(Limits({"wall": 1, "disk": 1 << 20, "memory": 1 << 29, "seconds": 1, "processes": 4}).resources, True)
    except OSError as error:
        os.write(into, str(error).encode())
        os._exit(0)
    with suppress(BlockingIOError):
        for _ in range(5):
            if not os.fork():
                signal.pause()
        os.write(into, b"limits on processes do not hold for this user: run as another than root")
    os._exit(0)


def _confine(proc: int, disk: int) -> None:
    """Fresh namespaces of every kind, and an empty folder to write in."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(
        kernel.NEW_USER | kernel.NEW_MOUNT | kernel.NEW_PID | kernel.NEW_NET | kernel.NEW_IPC | kernel.NEW_UTS
    )
    kernel.map_user(proc, uid, gid)
    kernel.scratch("/tmp", disk, 1000)
    os.close(proc)


def _bound(resources: Mapping[str, int], isolated: bool) -> None:
    """The last step before foreign code: from here on nothing can be had that is not held."""
    if isolated:
        kernel.drop_capabilities()
        kernel.landlock(STDLIB, "/tmp")
        os.chdir("/tmp")
    kernel.limit(resources)
    if isolated:
        kernel.deny_calls()


def _leave(step: Any, *args: Any) -> NoReturn:
    """Call `step` in a process that was just forked, and end it, whatever comes."""
    try:
        step(*args)
    finally:
        os._exit(1)


def _keep(*descriptors: int) -> None:
    """Close every descriptor but these and the first three."""
    low = 3
    for number in sorted(descriptors):
        os.closerange(low, number)
        low = number + 1
    os.closerange(low, 4096)


def _warden(control: socket.socket, end: int, limits: Limits, proc: int) -> None:
    isolated = proc >= 0
    control.close()
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if isolated:
        _confine(proc, limits.disk)
    if sys.platform == "linux":
        kernel.die_with_parent()
        kernel.adopt_orphans()
    started = os.fork()
    if not started:
        _leave(_judge, end, limits, isolated)
    out_of_time = not _ends(started, limits.wall)
    if out_of_time:
        os.kill(started, signal.SIGKILL)
        _tell(end, f"ran longer than {limits.wall:g} s")
    status = os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])  # with a PID namespace: once all in it are dead
    if not isolated:
        _kill_orphans()
    if status and not out_of_time:
        _tell(end, "the judge ended early: the tests, or what they were sent, took too much memory or time")
    os._exit(0)


def _ends(child: int, seconds: float) -> bool:
    """Whether a child ends within `seconds`, SIGCHLD being blocked. It tells of other children too: of orphans."""
    until = time.monotonic() + seconds
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        left = until - time.monotonic()
        if left <= 0 or signal.sigtimedwait([signal.SIGCHLD], left) is None:
            return False
    return True


def _tell(end: int, reason: str) -> None:
    with suppress(OSError):
        os.write(end, json.dumps({"passed": False, "reason": reason}).encode() + b"\n")


def _kill_orphans() -> None:
    """Without namespaces: what the code left running has become this process's; kill until nothing is left."""
    until = time.monotonic() + 2
    while time.monotonic() < until:
        with suppress(OSError):
            for child in _children():
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def _children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _judge(end: int, limits: Limits, isolated: bool) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    ours, theirs = socket.socketpair()
    if isolated:
        kernel.unshare(kernel.NEW_PID)
    if sys.platform == "linux":
        kernel.die_with_parent()
    started = os.fork()
    if not started:
        # Before the tests are read: they are in no memory that the subject ever has.
        _keep(theirs.fileno())
        os.setsid()
        _bound(limits.resources, isolated)
        with suppress(Gone):
            roles.subject(Line(theirs))
        os._exit(0)
    _keep(ours.fileno(), end)
    _bound(limits.judging, isolated)
    trial = _read_trial(end)

    def end_of() -> str:
        code = os.waitstatus_to_exitcode(os.waitpid(started, 0)[1])
        if code == -signal.SIGKILL:
            return f"ran longer than {limits.resources['CPU']} s, or was killed"
        if code in (-signal.SIGXFSZ, -signal.SIGXCPU):
            return f"was killed: {signal.strsignal(-code)}"
        return f"the program ended ({f'signal {-code}' if code < 0 else f'exit status {code}'}) before it answered"

    verdict = roles.judge(Line(ours), trial, end_of)
    os.write(end, json.dumps(verdict).encode() + b"\n")
    os._exit(0)


def _read_trial(end: int) -> Any:
    """The trial, which the caller sends as one message."""
    return Line(socket.socket(fileno=os.dup(end))).receive(longest=1 << 28)
