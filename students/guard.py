"""Run a command that cannot outlive its parent: `python guard.py PARENT_PID COMMAND...`, as leader of a process group.

When standard input closes, or the parent is gone (killed with -9, too), the command is told to end, and after a moment
the whole group is killed: every process the command has started, unless it left the group. Imports nothing of dataenv,
so that it starts at once.

`start` and `end` are for the parent.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

GRACE = 10.0
"""Seconds the command gets to end by itself: time to remove its shared memory."""


def start(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """`command` under guard of this process; `options` are those of Popen. The process returned is the guard."""
    guarded = [sys.executable, __file__, str(os.getpid()), *command]
    return subprocess.Popen(guarded, stdin=subprocess.PIPE, start_new_session=True, **options)


def end(*guards: "subprocess.Popen[bytes]") -> None:
    """End what the guards watch, and all that it started."""
    for process in guards:
        if process.stdin is not None:
            process.stdin.close()  # the guard ends the command, then its group, itself included
    for process in guards:
        try:
            process.wait(GRACE + 5)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):  # where the guard could not
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    # The parent's pipe may live on in a process it forked, so that only its pid tells that it is gone.
    while child.poll() is None and os.getppid() == parent:
        if select.select([sys.stdin], [], [], 0.5)[0]:
            break
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
