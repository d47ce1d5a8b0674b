"""Functions that may hang, crash or eat memory, called in processes that can be killed: from any thread, at any time.

A `Pool` keeps a few servers: processes that have imported what the function needs and fork a fresh child for each call
(about 3 ms). The child has a time limit and a memory limit; when it is over, the server kills it and is ready at once.
A server that was itself killed is replaced. Servers end when the process that made the pool does, however it ends.

This is no sandbox: the function is ours, only its arguments are somebody else's. POSIX only (it forks).
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

START_SECONDS = 120.0
"""Longest wait for a new server, whose imports may be slow on a busy machine."""

_GRACE = 5.0
"""Seconds beyond a call's limit after which its server, not only the child, counts as stuck."""

_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); import dataenv.verifiers.workers as w; w.serve()"


class LimitExceeded(TimeoutError):
    """A call took longer than its limit and was killed."""


class CallFailed(RuntimeError):
    """A call raised, or its process died; the message says which."""


class Pool:
    """Calls of one function, "module:name", each in a process of its own. Arguments and value must be JSON.

    `seconds` limits one call, and `memory` its address space (bytes). `warm` are arguments with which every server
    calls the function once, so that no call pays for imports and first uses. At most `size` calls run at once; others
    wait, and their time begins when they run. Processes start with the first call.
    """

    def __init__(
        self, function: str, *, seconds: float, warm: Sequence[Any] = (), size: int = 2, memory: int = 2 << 30
    ) -> None:
        self._seconds, self._size = seconds, size
        self._settings = json.dumps({"function": function, "seconds": seconds, "warm": warm, "memory": memory})
        self._servers: set[_Server] = set()
        self._forget()
        self._finish = weakref.finalize(self, _end, self._servers)
        _pools.add(self)

    def call(self, *arguments: Any) -> Any:
        """The function's value. Raises LimitExceeded or CallFailed; the pool is as usable after either."""
        line = json.dumps(arguments).encode()
        with self._turn:
            # A server may be killed from outside at any moment: that costs another try, not the call.
            for _ in range(3):
                server = self._server()
                try:
                    answer = server.ask(line, self._seconds + _GRACE)
                except OSError:
                    if server not in self._servers:
                        raise CallFailed("the pool was closed") from None
                    self._drop(server)
                    continue
                except BaseException:  # an interrupt: the answer that is still to come belongs to nobody
                    self._drop(server)
                    raise
                self._idle.append(server)
                break
            else:
                raise CallFailed("its process was killed three times")
        if "value" in answer:
            return answer["value"]
        raise LimitExceeded(f"not done in {self._seconds:g} s") if "late" in answer else CallFailed(answer["failed"])

    def close(self) -> None:
        """End all processes: calls under way fail, and a later one starts new ones."""
        self._idle.clear()
        _end(self._servers)

    def _server(self) -> _Server:
        with suppress(IndexError):  # asked first whether there is one, another thread could take it meanwhile
            while True:
                server = self._idle.pop()
                if server.process.poll() is None:
                    return server
                self._drop(server)
        server = _Server()
        self._servers.add(server)
        try:
            started = server.ask(self._settings.encode(), START_SECONDS)
        except BaseException as error:
            self._drop(server)
            if isinstance(error, OSError):
                raise CallFailed(f"its process did not start ({error})") from error
            raise
        if "failed" in started:
            self._drop(server)
            raise CallFailed(f"its process did not start ({started['failed']})")
        return server

    def _drop(self, server: _Server) -> None:
        self._servers.discard(server)
        server.end()

    def _forget(self) -> None:
        """Without servers, as a new pool is, and as a forked copy of this process must be: they are not its own."""
        for server in self._servers:
            server.connection.close()
            server.process.returncode = 0
        self._servers.clear()
        self._idle: list[_Server] = []
        self._turn = threading.BoundedSemaphore(self._size)


class _Server:
    """A process that runs `serve`, and the connection to it: a line of JSON each way."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(sys.path), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the process that asks
            )

    def ask(self, line: bytes, seconds: float) -> dict[str, Any]:
        """Raises OSError (TimeoutError is one) when no answer comes."""
        self.connection.settimeout(seconds)
        self.connection.sendall(line + b"\n")
        answer = _line(self.connection)
        if not answer:
            raise ConnectionResetError("it died")
        found: dict[str, Any] = json.loads(answer)
        return found

    def end(self) -> None:
        """Let it go, with the child it may have; kill it where it does not."""
        self.connection.close()
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool._forget()


os.register_at_fork(after_in_child=_forget_all)


def _end(servers: set[_Server]) -> None:
    with suppress(KeyError):
        while True:
            servers.pop().end()


def _line(connection: socket.socket) -> bytes:
    """The next line; empty when the other side has gone."""
    received = b""
    while not received.endswith(b"\n"):
        if not (piece := connection.recv(1 << 16)):
            return b""
        received += piece
    return received


# ------------------------------------------------------------------------------------------------- inside a server


def serve() -> None:
    """What a server does: take its settings, then answer calls until the other side goes."""
    connection = socket.socket(fileno=int(sys.argv[2]))
    settings = json.loads(_line(connection))
    module, _, name = settings["function"].partition(":")
    try:
        function = getattr(import_module(module), name)
        if settings["warm"]:
            function(*settings["warm"])
        answer: dict[str, Any] = {}
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    gc.freeze()  # children then share the memory of all that is loaded
    while True:
        connection.sendall(json.dumps(answer).encode() + b"\n")
        if not (line := _line(connection)):
            return
        answer = _in_child(function, json.loads(line), settings["seconds"], settings["memory"], connection)


def _in_child(
    function: Callable[..., Any], arguments: list[Any], seconds: float, memory: int, connection: socket.socket
) -> dict[str, Any]:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        _call(function, arguments, seconds, memory, theirs)
    os.close(theirs)
    written, deadline = b"", time.monotonic() + seconds
    waiting = select.poll()
    waiting.register(ours, select.POLLIN)
    waiting.register(connection, select.POLLIN)
    late = False
    try:
        while True:
            left = deadline - time.monotonic()
            ready = dict(waiting.poll(left * 1000)) if left > 0 else {}
            if connection.fileno() in ready:  # nothing is sent while a call runs: the other side has gone
                raise SystemExit
            if late := not ready:
                break
            if not (piece := os.read(ours, 1 << 16)):
                break
            written += piece
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(ours)
    if late:
        return {"late": True}
    try:
        answer: dict[str, Any] = json.loads(written)
    except ValueError:
        return {"failed": f"its process died (status {status})"}
    return answer


def _call(function: Callable[..., Any], arguments: list[Any], seconds: float, memory: int, out: int) -> None:
    """The life of a child. The alarm is the kernel's: it ends a child whose server was killed, whatever it is in."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + 1)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        written = json.dumps({"value": function(*arguments)})
    except BaseException as error:
        written = json.dumps({"failed": f"{type(error).__name__}: {error}"[:1000]})
    try:
        os.write(out, written.encode())
    finally:
        os._exit(0)
