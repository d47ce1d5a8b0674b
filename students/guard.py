"""Run a command that cannot outlive its parent: `python guard.py PARENT_PID COMMAND...`, as leader of a process group.

When standard input closes, or the parent is gone (killed with -9, too), the command is told to end, and after a moment
the whole group is killed: every process the command has started, unless it left the group. Imports nothing of dataenv,
so that it starts at once.
"""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

GRACE = 10.0
"""Seconds the command gets to end by itself: time to remove its shared memory."""


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
