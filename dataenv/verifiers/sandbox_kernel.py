"""What the sandbox asks of Linux: namespaces, mounts, Landlock, seccomp, capabilities and limits, through ctypes.

Python 3.11 has no `os.unshare`, and Landlock, seccomp and capset have no wrapper in any Python. Standard library only:
this is imported by the sandbox's own processes, which see no installed package. Every function raises OSError with the
name of what failed. Sources: the manual pages unshare(2), user_namespaces(7), pivot_root(2), landlock(7), seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NEW_MOUNT, NEW_UTS, NEW_IPC = 0x20000, 0x04000000, 0x08000000
NEW_USER, NEW_PID, NEW_NET = 0x10000000, 0x20000000, 0x40000000
_NEW_ANY = 0x7E020000
"""Every flag of clone(2) that makes a namespace."""

NOBODY = 65534
"""The user the server becomes when it is started as root: limits on processes do not hold for root."""

_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_DEATH_SIGNAL, _DUMPABLE, _SUBREAPER, _NO_NEW_PRIVILEGES, _SECCOMP = 1, 4, 36, 38, 22
_CAPSET = {"x86_64": 126, "aarch64": 91}
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_LANDLOCK = 444  # create_ruleset; add_rule and restrict_self follow
_MACHINE = platform.machine()

_DENIED = {
    # ptrace, process_vm_readv and _writev; shmget, shmat, shmctl, semget, msgget, mq_open (memory that no limit
    # counts); mount, umount2, pivot_root, chroot, unshare, setns; add_key, request_key, keyctl; bpf, perf_event_open,
    # userfaultfd, memfd_create, open_by_handle_at; socket (AF_VSOCK and others know no network namespace)
    "x86_64": (101, 310, 311, 29, 30, 31, 64, 68, 240, 165, 166, 155, 161, 272, 308, 248, 249, 250, 321, 298, 323, 319,
               304, 41),
    "aarch64": (117, 270, 271, 194, 196, 195, 190, 186, 180, 40, 39, 41, 51, 97, 268, 217, 218, 219, 280, 241, 282, 279,
                265, 198),
}  # fmt: skip
_DENIED_EVERYWHERE = (425, 426, 427, 428, 429, 430, 431, 432, 433, 434, 438, 442, 447)
"""io_uring, the newer mount calls, pidfd_open, pidfd_getfd, memfd_secret."""
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435

_libc: Any = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """New namespaces for this process (a new PID namespace: for its children)."""
    _check(_libc.unshare(flags), f"unshare({flags:#x})")


def map_user(proc: int, uid: int, gid: int) -> None:
    """In a fresh user namespace: be the same user as outside, and have no other. `proc` is an open /proc."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        fd = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    result = _libc.mount(
        source.encode(), target.encode(), None if kind is None else kind.encode(), flags, options.encode()
    )
    _check(result, f"mount {target}")


def scratch(target: str, size: int, files: int) -> None:
    """An empty writable folder in memory: `size` bytes and `files` files at most."""
    _mount("none", target, "tmpfs", _NOSUID | _NODEV | _NOEXEC, f"size={size},nr_inodes={files},mode=1777")


def small_root(visible: str, hidden: str) -> None:
    """Make the root of this process's mount namespace an empty, read-only one, where only `visible` (a folder of the
    host, without its subfolder `hidden`), an empty /tmp and /dev/null stand."""
    _mount("none", "/", None, _REC | _PRIVATE)
    _mount("none", "/tmp", "tmpfs", _NOSUID | _NODEV, "size=1m,mode=755")
    for folder in (visible, "/tmp", "/dev"):
        Path(f"/tmp{folder}").mkdir(parents=True)
    os.close(os.open("/tmp/dev/null", os.O_CREAT | os.O_WRONLY))
    _mount("/dev/null", "/tmp/dev/null", None, _BIND)
    _mount(visible, f"/tmp{visible}", None, _BIND)
    _remount_read_only(f"/tmp{visible}", "/tmp")
    if Path(f"/tmp{visible}/{hidden}").is_dir():
        _mount("none", f"/tmp{visible}/{hidden}", "tmpfs", _RDONLY | _NOSUID | _NODEV, "size=4k")
    os.chdir("/tmp")
    _check(_libc.syscall(_PIVOT_ROOT[_MACHINE], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", 2), "umount")  # detaches the old root, which pivot_root stacked onto the new one
    os.chdir("/")


def _remount_read_only(*targets: str) -> None:
    for target in targets:
        kept = os.statvfs(target).f_flag & (_NOSUID | _NODEV | _NOEXEC)  # flags a user namespace may not take off
        atime = os.statvfs(target).f_flag & (1024 | 2048 | 4096)
        flags = {1024: 1024, 2048: 2048, 4096: 1 << 21}  # noatime, nodiratime, relatime: statvfs -> mount
        kept |= sum(flags[flag] for flag in flags if atime & flag)
        _mount("none", target, None, _REMOUNT | _BIND | _RDONLY | kept)


def has_user(uid: int) -> bool:
    """Whether this user namespace knows the user `uid`."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    return any(int(first) <= uid < int(first) + int(count) for first, _, count in map(str.split, lines))


def become_nobody() -> None:
    """Root only: give up root for good, and stay able to write one's own /proc/self/uid_map."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    _check(_libc.prctl(_DUMPABLE, 1, 0, 0, 0), "prctl(dumpable)")


def die_with_parent() -> None:
    """SIGKILL for this process when its parent dies. To be called after changes of user or capabilities."""
    _check(_libc.prctl(_DEATH_SIGNAL, 9, 0, 0, 0), "prctl(death signal)")


def adopt_orphans() -> None:
    """Descendants whose parent dies become children of this process, which can then kill and reap them."""
    _check(_libc.prctl(_SUBREAPER, 1, 0, 0, 0), "prctl(subreaper)")


def drop_capabilities() -> None:
    """No capability is left or can be had again."""
    header = struct.pack("=II", 0x20080522, 0)
    _check(_libc.syscall(_CAPSET[_MACHINE], header, bytes(24)), "capset")
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl(no new privileges)")


def landlock_version() -> int:
    """The kernel's Landlock ABI; 0 where it has none."""
    return max(int(_libc.syscall(_LANDLOCK, None, 0, 1)), 0)


def landlock(readable: str, writable: str) -> None:
    """Nothing of the file system but `readable` (to read) and `writable`; no TCP, and no signal or abstract socket to a
    process outside, as far as the kernel's version knows these. Nothing at all where it has no Landlock."""
    version = landlock_version()
    if not version:
        return
    every = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    rules = struct.pack("=QQQ", every, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _check(_libc.syscall(_LANDLOCK, rules[:size], size, 0), "landlock_create_ruleset")
    try:
        for folder, access in ((readable, 1 << 2 | 1 << 3), (writable, every & ~1), ("/dev/null", 1 << 1 | 1 << 2)):
            fd = os.open(folder, os.O_PATH | os.O_CLOEXEC)
            rule = struct.pack("=Qi", access, fd)
            _check(_libc.syscall(_LANDLOCK + 1, ruleset, 1, rule, 0), "landlock_add_rule")
            os.close(fd)
        _check(_libc.syscall(_LANDLOCK + 2, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


def _filter() -> bytes:
    """The seccomp program: EPERM for what `_DENIED` lists and for clones into new namespaces, ENOSYS for clone3."""
    denied = (*_DENIED[_MACHINE], *_DENIED_EVERYWHERE)
    load, equal, at_least, any_bit, back = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse, unknown = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38
    # (code, jump if true, jump if false, operand); jumps to the three returns are filled in by their distance
    program: list[tuple[int, int | str, int | str, int]] = [
        (load, 0, 0, 4),
        (equal, 0, "refuse", _AUDIT_ARCH[_MACHINE]),
        (load, 0, 0, 0),
        (at_least, "refuse", 0, 0x40000000),  # the x32 calls have other numbers
        (equal, "unknown", 0, _CLONE3),
        *((equal, "refuse", 0, number) for number in denied),
        (equal, 0, "allow", _CLONE[_MACHINE]),
        (load, 0, 0, 16),
        (any_bit, "refuse", "allow", _NEW_ANY),
    ]
    ends = {"allow": len(program), "refuse": len(program) + 1, "unknown": len(program) + 2}

    def jump(to: int | str, here: int) -> int:
        return ends[to] - here - 1 if isinstance(to, str) else to

    steps = [(code, jump(yes, i), jump(no, i), k) for i, (code, yes, no, k) in enumerate(program)]
    steps += [(back, 0, 0, value) for value in (allow, refuse, unknown)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def deny_calls() -> None:
    """A seccomp filter against system calls that no short program needs and that much of the kernel lies behind."""
    if _MACHINE not in _DENIED:
        return
    program = ctypes.create_string_buffer(_filter())
    whole = struct.pack("HxxxxxxP", (len(program) - 1) // 8, ctypes.addressof(program))
    _check(_libc.prctl(_SECCOMP, 2, whole, 0, 0), "prctl(seccomp)")


def limit(limits: Mapping[str, int]) -> None:
    """Resource limits of this process, by the name of the limit: {"AS": bytes, "CPU": seconds, ...}."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
