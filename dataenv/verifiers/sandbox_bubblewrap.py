"""The sandbox by bubblewrap, for machines that let it make namespaces and nobody else (Ubuntu's AppArmor profiles).

The judge and the subject of a trial run in a bubblewrap each, started anew: slower than the fork server, and otherwise
as there. They see the interpreter, its libraries and this folder, to read.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

_FOLDER = Path(__file__).parent

CLEAN = ("-s", "-P", "-S", "-B")
"""Options of an interpreter that sees no installed package and no file of the working folder: -I, but for -E, which
would ignore the seed of hashes."""
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""What it is started with: code that goes through a set of texts does so in one order everywhere."""


def found() -> str | None:
    """Where bubblewrap is, if it is installed."""
    return shutil.which("bwrap")


def _command(bwrap: str, boot: str) -> list[str]:
    python = Path(sys.executable).resolve()
    prefix = Path(sys.base_prefix).resolve()
    visible = [python, Path(sysconfig.get_paths()["stdlib"]).resolve(), _FOLDER, *prefix.glob("lib/libpython*")]
    visible += [path for path in map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64")) if path.exists()]
    binds = [word for path in visible for word in ("--ro-bind", str(path), str(path))]
    return [
        *(bwrap, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL", *binds),
        *("--tmpfs", "/tmp", "--dev-bind", "/dev/null", "/dev/null", "--chdir", "/tmp"),
        *(word for pair in ENVIRONMENT.items() for word in ("--setenv", *pair)),
        *(str(python), *CLEAN, "-c", boot),
    ]


def trial(bwrap: str, boot: str, data: bytes, limits: Mapping[str, float]) -> bytes:
    """What the judge wrote, if anything. `boot` is source that lets the interpreter find this folder's modules."""
    between = socket.socketpair()
    ours, theirs = socket.socketpair()
    running = []
    try:
        for role, ends in (("subject", [between[1]]), ("judge", [between[0], theirs])):
            numbers = [end.fileno() for end in ends]
            start = f"{boot}main_alone({role!r}, {json.dumps(dict(limits))!r}, {numbers!r})"
            running.append(
                subprocess.Popen(
                    _command(bwrap, start),
                    pass_fds=numbers,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        for end in (*between, theirs):
            end.close()
        ours.settimeout(limits["wall"])
        ours.sendall(len(data).to_bytes(4, "big") + data)
        written = b""
        while part := ours.recv(1 << 16):
            written += part
        return written
    except TimeoutError:
        reason = f"ran longer than {limits['wall']:g} s"
        return json.dumps({"passed": False, "reason": reason}).encode()
    except OSError:
        return b""
    finally:
        for process in running:
            process.kill()
            process.wait()
        for end in (*between, ours, theirs):
            end.close()
