"""The sandbox under attack: what gets out, what passes that should not, what stays behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataenv.verifiers.sandbox import IsolationMissing, Limits, Sandbox

SQUARE = "def f(x):\n    return x * x\n"
TESTS = "assert candidate(2) == 4\nassert candidate(3) == 9\nassert candidate(-1) == 1\n"
QUICK = Limits(seconds=1, wall=20)


@pytest.fixture(scope="module")
def sandbox():
    box = Sandbox(limits=QUICK)
    try:
        box.check()
    except IsolationMissing as error:
        pytest.skip(str(error))
    yield box
    box.close()


@pytest.fixture(scope="module")
def unsafe():
    box = Sandbox(unsafe=True, limits=QUICK)
    yield box
    box.close()


def tell(box, body, *args, **options):
    """What `def f(...)` with this body gives or raises, as the judge's reason tells it."""
    lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    outcome = box.trial(
        f"def f(x=None):\n{lines}", f"assert candidate({args[0] if args else ''!r}) == ['escaped']", entry="f"
    )
    return outcome


# Attacks that leave the sandbox. Each says ["escaped"] if it does what it wants; the first group is shown to work without
# the sandbox, so that it is not for a slip that they fail in it.

REAL = {
    "read a file of the host": "return [open({secret!r}).read() == 'secret' and 'escaped']",
    "read the list of users": "return ['root:' in open('/etc/passwd').read() and 'escaped']",
    "list the host's root": "import os\nreturn [{{'etc', 'usr'}} <= set(os.listdir('/')) and 'escaped']",
    "write a file of the host": "open({target!r}, 'w').write('x')\nreturn ['escaped']",
    "delete a file of the host": "import os\nos.remove({victim!r})\nreturn ['escaped']",
    "a symlink to the host": "import os\nos.symlink({secret!r}, {link!r})\nreturn [open({link!r}).read() and 'escaped']",
    "a hard link to the host": "import os\nos.link({secret!r}, {link!r} + 'h')\nreturn ['escaped']",
    "climb out of the working folder": "return [open('../' * 20 + {secret!r}.lstrip('/')).read() and 'escaped']",
    "connect to a server of the host": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)\nreturn ['escaped']",
    "send a datagram": "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))\nreturn ['escaped']",
    "listen on a port": "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\nreturn ['escaped']",
    "an abstract socket of the host": "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({abstract!r})\nreturn ['escaped']",
    "a virtual machine's socket": "import socket\nsocket.socket(40, socket.SOCK_STREAM)\nreturn ['escaped']",
    "see the host's processes": "import os\nreturn [str({pid}) in os.listdir('/proc') and 'escaped']",
    "signal a process of the host": "import os\nos.kill({pid}, 0)\nreturn ['escaped']",
    "kill a process of the host": "import os\nos.kill({doomed}, 9)\nreturn ['escaped']",
    "stop the parent": "import os\nreturn [os.getppid() and os.kill(os.getppid(), 0) is None and 'escaped']",
    "start a shell": "import subprocess\nreturn [subprocess.check_output('echo hi', shell=True) and 'escaped']",
    "make a file that can be run": "import os\nopen('/tmp/{name}', 'w').write('#!/bin/sh\\n')\nos.chmod('/tmp/{name}', 0o755)\nreturn [os.spawnv(os.P_WAIT, '/tmp/{name}', ['x']) == 0 and 'escaped']",
    "name the host": "import os\nopen('/proc/sys/kernel/hostname').read()\nreturn ['escaped']",
    "read the memory of others": "open('/proc/{pid}/maps').read(1)\nreturn ['escaped']",
    "read the sandbox's source": "return [open({source!r}).read() and 'escaped']",
}  # fmt: skip


@pytest.fixture
def host(tmp_path):
    """Things of the host that an attack is after."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "victim").write_text("here")
    tmp_path.chmod(0o777)
    listener = socket.create_server(("127.0.0.1", 0))
    name = f"\0dataenv-{os.getpid()}"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(name)
    unix.listen()
    doomed = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield {
        "secret": str(tmp_path / "secret"),
        "target": str(tmp_path / "written"),
        "victim": str(tmp_path / "victim"),
        "link": str(tmp_path / "link"),
        "port": listener.getsockname()[1],
        "abstract": name,
        "pid": os.getpid(),
        "doomed": doomed.pid,
        "name": f"dataenv-test-{os.getpid()}",
        "source": __file__,
    }
    listener.close()
    unix.close()
    doomed.kill()
    doomed.wait()
    Path(f"/tmp/dataenv-test-{os.getpid()}").unlink(missing_ok=True)


@pytest.mark.parametrize("attack", REAL)
def test_nothing_gets_out(sandbox, unsafe, host, attack):
    body = REAL[attack].format(**host)
    outcome = tell(sandbox, body)
    assert not outcome.passed
    assert "raised" in outcome.reason or "False" in outcome.reason or "gave [0]" in outcome.reason, outcome.reason
    assert not Path(host["target"]).exists() and Path(host["victim"]).exists()
    os.kill(host["doomed"], 0)
    if attack not in ("a virtual machine's socket",):
        assert tell(unsafe, body).passed, tell(unsafe, body)


LINUX = {
    "mount": "import ctypes\nlibc = ctypes.CDLL(None)\nreturn ['escaped'] if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0 else []",
    "new namespaces": "import ctypes\nreturn ['escaped'] if ctypes.CDLL(None).unshare(0x10000000) == 0 else []",
    "another user": "import os\nos.setuid(0)\nreturn ['escaped']",
    "chroot": "import os\nos.chroot('/tmp')\nreturn ['escaped']",
    "trace": "import ctypes\nreturn ['escaped'] if ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0 else []",
    "shared memory": "import ctypes\nreturn ['escaped'] if ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0 else []",
    "a file in memory": "import os\nos.memfd_create('x')\nreturn ['escaped']",
    "keys of the kernel": "import ctypes\nreturn ['escaped'] if ctypes.CDLL(None).syscall(250, 0, -3, 1) >= 0 else []",
    "io_uring": "import ctypes\nreturn ['escaped'] if ctypes.CDLL(None).syscall(425, 1, bytes(120)) >= 0 else []",
    "read another's memory": "import ctypes\nreturn ['escaped'] if ctypes.CDLL(None).syscall(310, 1, 0, 0, 0, 0, 0) >= 0 else []",
    "raise its own limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))\nreturn ['escaped']",
    "write beside /tmp": "open('/x', 'w')\nreturn ['escaped']",
    "write into the library": "import os, os.path\nopen(os.path.join(os.path.dirname(os.__file__), 'x.py'), 'w')\nreturn ['escaped']",
    "devices": "open('/dev/sda', 'rb')\nreturn ['escaped']",
    "make a device": "import os, stat\nos.mknod('/tmp/null', 0o666 | stat.S_IFCHR, os.makedev(1, 3))\nopen('/tmp/null')\nreturn ['escaped']",
    "the environment": "import os\nreturn ['escaped'] if dict(os.environ) else []",
    "open descriptors": (
        "import os\nfound = []\nfor fd in range(3, 64):\n    try:\n        os.fstat(fd)\n        found.append(fd)\n"
        "    except OSError:\n        pass\nreturn ['escaped'] if len(found) > 1 else []"
    ),
    "installed packages": "import pydantic\nreturn ['escaped']",
    "priority": "import os\nos.nice(-5)\nreturn ['escaped']",
}  # fmt: skip


@pytest.mark.parametrize("attack", LINUX)
def test_nothing_more_can_be_had(sandbox, attack):
    outcome = tell(sandbox, LINUX[attack])
    assert not outcome.passed
    assert "raised" in outcome.reason or "gave []" in outcome.reason, outcome.reason
    assert "NameError" not in outcome.reason and "SyntaxError" not in outcome.reason, outcome.reason


# Attacks on the machine: memory, processes, disk, time.

GREEDY = {
    "memory": ("return len(bytearray(10**10))", "MemoryError"),
    "memory bit by bit": ("kept = []\nwhile True:\n    kept.append(bytearray(10**7))", ""),
    "processes": ("import os\nwhile True:\n    os.fork()", ""),
    "threads": ("import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", "can't start new thread"),
    "one large file": ("with open('/tmp/x', 'wb') as file:\n    while True:\n        file.write(bytes(10**6))", ""),
    "many small files": ("for i in range(10**6):\n    open(f'/tmp/{i}', 'w').close()", "No space left"),
    "large files": ("for i in range(100):\n    with open(f'/tmp/{i}', 'wb') as file:\n        file.write(bytes(10**7))", "No space left"),
    "descriptors": ("kept = [open('/dev/null') for _ in range(1000)]", "Too many open files"),
    "a loop": ("while True:\n    pass", "ran longer than"),
    "a loop that catches all": ("while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass", "ran longer than"),
    "a loop that ignores signals": ("import signal\nfor n in range(1, 64):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\nwhile True:\n    pass", "ran longer than"),
    "deep recursion": ("return f(x)", "RecursionError"),
    "a broken stack": ("import sys\nsys.setrecursionlimit(10**9)\nreturn f(x)", ""),
    "a flood of output": ("while True:\n    print('x' * 10**6)", "ran longer than"),
    "a long answer": ("return 'x' * 10**8", ""),
    "a deep answer": ("found = []\nfor _ in range(10**6):\n    found = [found]\nreturn found", ""),
    "an answer within itself": ("found = []\nfound.append(found)\nreturn found", ""),
    "an endless answer": ("class L(list):\n    def __iter__(self):\n        while True:\n            yield 1\nreturn L([1])", ""),
}  # fmt: skip


@pytest.mark.parametrize("attack", GREEDY)
def test_the_machine_is_not_used_up(sandbox, attack):
    body, why = GREEDY[attack]
    outcome = tell(sandbox, body)
    assert not outcome.passed and why in outcome.reason, outcome.reason
    assert sandbox.trial(SQUARE, TESTS, entry="f").passed


def test_sleeping_is_ended_at_the_wall_clock_limit():
    with_wall = Sandbox(limits=Limits(wall=0.5))
    try:
        with_wall.check()
    except IsolationMissing as error:
        pytest.skip(str(error))
    outcome = tell(with_wall, "import time\ntime.sleep(100)")
    with_wall.close()
    assert (outcome.passed, outcome.reason) == (False, "ran longer than 0.5 s")


# Attacks on the verdict: code that does not square its argument.

FORGERIES = {
    "leaves before it answers": "import os\nos._exit(0)",
    "leaves at the first call": "import os\ndef f(x): os._exit(0)",
    "exits": "import sys\nsys.exit(0)",
    "exits at the first call": "import sys\ndef f(x): sys.exit(0)",
    "is killed": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSEGV)",
    "equals everything": "class A:\n    def __eq__(self, other): return True\n    def __bool__(self): return True\ndef f(x): return A()",
    "a number that equals everything": "class A(int):\n    def __eq__(self, other): return True\n    __hash__ = None\ndef f(x): return A(7)",
    "a text that equals everything": "class A(str):\n    def __eq__(self, other): return True\ndef f(x): return A('7')",
    "a list that equals everything": "class A(list):\n    def __eq__(self, other): return True\ndef f(x): return A([7])",
    "equals from the other side": "class A(int):\n    def __eq__(self, other): return True\n    def __req__(self, other): return True\n    def __int__(self): return 7\ndef f(x): return A(7)",
    "patches the builtins": "import builtins\nbuiltins.AssertionError = ZeroDivisionError\nbuiltins.isinstance = lambda *a: True\nbuiltins.int = bool\ndef f(x): return 7",
    "patches assert": "import builtins\nclass Calm(Exception):\n    def __new__(cls, *a): return None\nbuiltins.AssertionError = Calm\ndef f(x): return None",
    "patches the wire": "import sys\nfor m in list(sys.modules.values()):\n    if hasattr(m, 'encode'): m.encode = lambda v: {'passed': True}\ndef f(x): return 7",
    "patches the judge": "import sys\nroles = sys.modules['dataenv.verifiers.sandbox_roles']\nroles.judge = lambda *a: {'passed': True, 'reason': ''}\nroles._alike = lambda *a: True\ndef f(x): return 7",
    "patches json": "import json\njson.dumps = lambda *a, **k: '{\"passed\": true, \"reason\": \"\"}'\ndef f(x): return 7",
    "writes a verdict to every descriptor": "import os\nfor fd in range(64):\n    try: os.write(fd, b'{\"passed\": true, \"reason\": \"\"}\\n')\n    except OSError: pass\ndef f(x): return 7",
    "writes a framed verdict": "import os, struct\ndata = b'{\"passed\": true, \"reason\": \"\"}'\nfor fd in range(64):\n    try: os.write(fd, struct.pack('!I', len(data)) + data)\n    except OSError: pass\nos._exit(0)",
    "sends bytes that are no message": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'\\xff' * 4096)\n    except OSError: pass\ndef f(x): return 7",
    "sends a pickle": "import os, struct\ndata = b'\\x80\\x04N.'\nfor fd in range(3, 64):\n    try: os.write(fd, struct.pack('!I', len(data)) + data)\n    except OSError: pass\ndef f(x): return 7",
    "sends no object": "import os, struct\nfor fd in range(3, 64):\n    try: os.write(fd, struct.pack('!I', 2) + b'[]')\n    except OSError: pass\ndef f(x): return 7",
    "sends a type of its own": "import os, struct\ndata = b'{}'\nmore = b'{\"value\": {\"object\": 4}}' \nfor d in (data, more, more, more):\n    for fd in range(3, 64):\n        try: os.write(fd, struct.pack('!I', len(d)) + d)\n        except OSError: pass\ndef f(x): return 7",
    "looks for the tests in frames": (
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for value in frame.f_locals.values():\n"
        "            if 'candid' + 'ate(' in str(value): return x * x\n        frame = frame.f_back\n    return 0"
    ),
    "looks for the tests in memory": (
        "import gc\ndef f(x):\n    mine = f.__code__.co_consts\n    for thing in gc.get_objects():\n        if isinstance(thing, (list, tuple, dict)) and thing is not mine:\n"
        "            try:\n                if 'candidate(-' + '1)' in repr(thing)[:10**6]: return x * x\n            except Exception: pass\n    return 0"
    ),
    "looks for the tests in the file cache": "import linecache\ndef f(x): return x * x if linecache.cache else 0",
    "looks for the tests in files": "import os\ndef f(x): return x * x if os.listdir('/tmp') else 0",
    "overwrites the tests": "import os\nfor name in ('tests', '<tests>', 'check.py'):\n    open(name, 'w').write('')\ndef f(x): return 7",
    "answers in another process": "import os\nif os.fork(): os._exit(0)\ndef f(x): return 7",
    "raises what tests raise": "def f(x): raise AssertionError('passed')",
    "raises at the test's end": "def f(x): raise StopIteration",
    "raises what is no Exception": "def f(x): raise KeyboardInterrupt",
    "an exception that exits": "class E(Exception):\n    def __str__(self):\n        import os\n        os._exit(0)\ndef f(x): raise E",
    "an exception of a foreign name": "class SystemExit(Exception): pass\ndef f(x): raise SystemExit(0)",
    "a class with the function's name": "class f:\n    def __init__(self, x): pass\n    def __eq__(self, other): return True",
    "no function": "g = 1",
    "no Python": "def f(x) return x",
    "a hook at the end": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): return 7",
    "a trace": "import sys\nsys.settrace(lambda frame, *a: frame.f_globals.update(passed=True))\ndef f(x): return 7",
    "a thread that answers first": "import os, struct, threading\ndef g():\n    data = b'{\"value\": true}'\n    for fd in range(3, 64):\n        try: os.write(fd, struct.pack('!I', len(data)) + data)\n        except OSError: pass\nthreading.Thread(target=g).start()\ndef f(x): return 7",
    "not a number": "def f(x): return float('nan')",
    "true for one": "def f(x): return True",
    "an empty body": "def f(x): pass",
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_no_verdict_is_forged(sandbox, forgery):
    outcome = sandbox.trial(FORGERIES[forgery], TESTS, entry="f")
    assert not outcome.passed and outcome.reason
    program = FORGERIES[forgery] + "\nprint(7)\n"
    assert not sandbox.trial(program, "same_output(candidate('3'), '9')", entry=None).passed


def test_there_are_more_than_forty_attacks():
    assert len(REAL) + len(LINUX) + len(GREEDY) + len(FORGERIES) >= 40


# What a trial is.


def test_right_code_passes_and_wrong_code_is_told_why(sandbox):
    assert sandbox.trial(SQUARE, TESTS, entry="f") == (True, "")
    outcome = sandbox.trial("def f(x):\n    return x + x\n", TESTS, entry="f")
    assert outcome == (False, "f(3) gave 6; assert candidate(3) == 9; AssertionError")
    outcome = sandbox.trial("def f(x):\n    return 1 // (x - 2)\n", TESTS, entry="f")
    assert outcome.reason.startswith("f(2) raised ZeroDivisionError: integer division or modulo by zero; assert")
    assert sandbox.trial("def g(x): pass", TESTS, entry="f").reason == "NameError: it defines no f"


def test_tests_that_ask_nothing_are_failed(sandbox):
    assert sandbox.trial(SQUARE, "assert True", entry="f") == (False, "the tests never call the code")
    assert not sandbox.trial(SQUARE, "import os\nos._exit(0)", entry="f").passed
    assert not sandbox.trial(SQUARE, "raise SystemExit(0)", entry="f").passed
    assert not sandbox.trial(SQUARE, "candidate(2)\nwhile True: pass", entry="f").passed


def test_values_come_over_as_they_are(sandbox):
    values = [None, True, 1, 1.5, "é\ud800", b"\x00", (1, (2,)), {1, 2}, {(1, 2): [3]}, 1j, 10**60, -0.0, [[]], {}]
    code = "def f(x, *more, y=None):\n    return (x, type(x).__name__, y)\n"
    tests = f"for v in {values!r}:\n    assert candidate(v, y=v) == (v, type(v).__name__, v), v\n"
    assert sandbox.trial(code, tests, entry="f") == (True, "")
    assert sandbox.trial(code, "v = 10**5000\nassert candidate(v)[0] == v", entry="f").passed
    infinite = "from math import inf, isnan\nassert candidate(inf)[0] == inf\nassert isnan(candidate(inf - inf)[0])"
    assert sandbox.trial(code, infinite, entry="f").passed


def test_tests_may_use_what_is_given_and_expect_exceptions(sandbox):
    given = "def f(x):\n    return x ** 2\n\ndef helper(x):\n    return x + 1\n"
    assert sandbox.trial(SQUARE, "assert candidate(helper(2)) == f(3) == 9", entry="f", given=given).passed
    raising = "try:\n    candidate(2)\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    raise AssertionError\n"
    assert sandbox.trial("def f(x): raise ValueError('no')", raising, entry="f").passed
    assert not sandbox.trial("def f(x): raise KeyError('no')", raising, entry="f").passed
    assert not sandbox.trial(
        "import os\ndef f(x): os._exit(0)", raising.replace("ValueError", "Exception"), entry="f"
    ).passed


def test_a_method_of_a_class(sandbox):
    code = "class Solution:\n    def square(self, x):\n        return x * x\n"
    assert sandbox.trial(code, TESTS, entry="Solution.square").passed
    assert not sandbox.trial(code, TESTS, entry="Solution.cube").passed


def test_programs_read_and_write(sandbox):
    code = "import sys\nn = int(input())\nfor line in sys.stdin:\n    print(int(line) * n)\n"
    tests = "same_output(candidate('2\\n3\\n4\\n'), '6\\n8')\nsame_output(candidate('1\\n5'), '5.0 ')"
    assert sandbox.trial(code, tests, entry=None).passed
    outcome = sandbox.trial("print(input() + 'x')", tests, entry=None)
    assert not outcome.passed and "gave '2x\\n'" in outcome.reason
    assert sandbox.trial(
        "if __name__ == '__main__':\n    print(input())", "same_output(candidate('7'), '7')", entry=None
    ).passed
    assert (
        "exit status 3"
        in sandbox.trial("import sys\nprint(7)\nsys.exit(3)", "same_output(candidate(''), '7')", entry=None).reason
    )
    # a global of one run is not there in the next
    code = "import builtins\nprint(getattr(builtins, 'seen', 0))\nbuiltins.seen = 1\n"
    assert sandbox.trial(code, "same_output(candidate(''), '0')\nsame_output(candidate(''), '0')", entry=None).passed


def test_trials_know_nothing_of_each_other(sandbox):
    writes = "import builtins\ndef f(x):\n    builtins.mark = 1\n    open('/tmp/mark', 'w').close()\n    return x * x\n"
    reads = "import builtins, os\ndef f(x):\n    return x * x + len(os.listdir('/tmp')) + hasattr(builtins, 'mark')\n"
    assert sandbox.trial(writes, TESTS, entry="f").passed and sandbox.trial(reads, TESTS, entry="f").passed


def test_many_at_once(sandbox):
    def one(i):
        return sandbox.trial(f"def f(x): return x * x + {i % 2}", TESTS, entry="f").passed

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(one, range(60))) == [i % 2 == 0 for i in range(60)]


def test_a_server_that_is_killed_is_started_again(sandbox):
    sandbox.check()
    os.kill(sandbox._server.pid, signal.SIGKILL)
    assert sandbox.trial(SQUARE, TESTS, entry="f").passed


def test_closing_is_safe_twice_and_ends_the_server():
    box = Sandbox()
    box.close()
    try:
        box.check()
    except IsolationMissing as error:
        pytest.skip(str(error))
    pid = box._server.pid
    box.close()
    box.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_server_ends_with_its_owner(tmp_path):
    code = (
        "import os, sys, time\nfrom dataenv.verifiers.sandbox import Sandbox\nbox = Sandbox(unsafe=True)\nbox.check()\n"
        "print(box._server.pid, flush=True)\ntime.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(owner.stdout.readline())
    os.kill(pid, 0)
    owner.kill()
    owner.communicate()
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the server is still there")


def test_without_isolation_it_refuses_and_says_what_to_do(monkeypatch):
    """In a user namespace that allows no further ones, as hardened machines do."""
    code = (
        "from dataenv.verifiers.sandbox import *\ntry:\n    print(Sandbox().trial('def f(): pass', 'candidate()', entry='f'))\n"
        "except IsolationMissing as error:\n    print('refused:', error)\n"
        "print(Sandbox(unsafe=True).trial('def f(): pass', 'candidate()', entry='f'))"
    )
    script = f'echo 0 > /proc/sys/user/max_user_namespaces && PATH= exec {sys.executable} -c "$CODE"'
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", script], env={**os.environ, "CODE": code}, capture_output=True, text=True
    )
    if "refused" not in done.stdout:
        pytest.skip(f"no user namespace to try it in: {done.stderr[-200:]}")
    refused, unsafe = done.stdout.strip().splitlines()
    assert "max_user_namespaces" in refused and "bubblewrap" in refused and "--unsafe-code" in refused
    assert unsafe == "Outcome(passed=True, reason='')"


def test_unsafe_code_has_limits_and_leaves_no_process(unsafe):
    assert unsafe.trial(SQUARE, TESTS, entry="f").passed
    assert "ran longer than" in tell(unsafe, "while True:\n    pass").reason
    assert "MemoryError" in tell(unsafe, "return len(bytearray(10**10))").reason
    assert tell(unsafe, "import os\nreturn ['escaped'] if dict(os.environ) else []").reason.startswith("f('') gave []")
    mark = f"dataenv-left-{os.getpid()}"
    body = f"import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n        open('/proc/self/comm', 'w').write('{mark[:15]}')\n        time.sleep(60)\n    os._exit(0)\ntime.sleep(0.2)\nreturn 1"
    tell(unsafe, body)
    assert mark[:15] not in {name.read_text().strip() for name in Path("/proc").glob("[0-9]*/comm") if name.exists()}


def _processes():
    return {int(path.name) for path in Path("/proc").glob("[0-9]*")}


@pytest.mark.slow
def test_a_thousand_trials_leave_nothing_behind(sandbox):
    nasty = [
        "import os\ndef f(x):\n    if not os.fork():\n        import time\n        time.sleep(100)\n    return 0",
        "import os\ndef f(x):\n    if not os.fork(): os._exit(0)\n    return 0",
        "def f(x):\n    open('/tmp/left', 'w').write('x' * 10**6)\n    return 0",
        "import os\nos._exit(0)",
        SQUARE,
    ]

    def measure():
        server = sandbox._server.pid
        status = Path(f"/proc/{server}/status").read_text()
        memory = int(status.split("VmRSS:")[1].split()[0])
        return memory, len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{server}/fd"))

    def children():
        return Path(f"/proc/{sandbox._server.pid}/task/{sandbox._server.pid}/children").read_text().split()

    for code in nasty:
        sandbox.trial(code, TESTS, entry="f")
    files = set(os.listdir("/tmp"))
    before = measure()
    with ThreadPoolExecutor(3) as pool:
        passed = list(pool.map(lambda i: sandbox.trial(nasty[i % 5], TESTS, entry="f").passed, range(1000)))
    assert passed == [i % 5 == 4 for i in range(1000)]
    for _ in range(100):
        if not children():
            break
        time.sleep(0.05)
    after = measure()
    assert not children() and threading.active_count() < 10
    assert after[1:] == before[1:] and after[0] <= before[0] + 1024, (before, after)
    assert "left" not in set(os.listdir("/tmp")) - files
