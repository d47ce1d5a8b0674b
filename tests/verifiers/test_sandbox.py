"""The sandbox under attack: what gets out, what passes that should not, what stays behind."""

import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataenv.verifiers import sandbox_bubblewrap
from dataenv.verifiers.sandbox import IsolationMissing, Limits, Sandbox

SQUARE = "def f(x):\n    return x * x\n"
TESTS = "assert candidate(2) == 4\nassert candidate(3) == 9\nassert candidate(-1) == 1\n"
ATTACKS = tomllib.loads((Path(__file__).parent / "attacks.toml").read_text())
QUICK = Limits(seconds=1, wall=5)


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


def tell(box, body):
    """What a function with this body gives or raises, as the judge's reason tells it."""
    lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    return box.trial(f"def f(x):\n{lines}", "assert candidate('') == ['escaped']", entry="f")


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
        "abstract": name.replace("\0", r"\0"),
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


@pytest.mark.parametrize("attack", ATTACKS["outside"])
def test_nothing_gets_out(sandbox, unsafe, host, attack):
    body = string.Template(ATTACKS["outside"][attack]).substitute(host)
    outcome = tell(sandbox, body)
    assert not outcome.passed
    assert "raised" in outcome.reason or "False" in outcome.reason or "gave [0]" in outcome.reason, outcome.reason
    assert not Path(host["target"]).exists() and Path(host["victim"]).exists()
    os.kill(host["doomed"], 0)
    if attack not in ("a virtual machine's socket",):
        assert tell(unsafe, body).passed, tell(unsafe, body)


@pytest.mark.parametrize("attack", ATTACKS["inside"])
def test_nothing_more_can_be_had(sandbox, attack):
    outcome = tell(sandbox, ATTACKS["inside"][attack])
    assert not outcome.passed
    assert "raised" in outcome.reason or "gave []" in outcome.reason, outcome.reason
    assert "NameError" not in outcome.reason and "SyntaxError" not in outcome.reason, outcome.reason


@pytest.mark.parametrize("attack", ATTACKS["greedy"])
def test_the_machine_is_not_used_up(sandbox, attack):
    body, why = ATTACKS["greedy"][attack]["body"], ATTACKS["greedy"][attack]["reason"]
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


@pytest.mark.parametrize("forgery", ATTACKS["forged"])
def test_no_verdict_is_forged(sandbox, forgery):
    outcome = sandbox.trial(ATTACKS["forged"][forgery], TESTS, entry="f")
    assert not outcome.passed and outcome.reason
    program = ATTACKS["forged"][forgery] + "\nprint(7)\n"
    assert not sandbox.trial(program, "same_output(candidate('3'), '9')", entry=None).passed


def test_there_are_more_than_forty_attacks():
    assert sum(map(len, ATTACKS.values())) >= 40


# What a trial is.


def test_right_code_passes_and_wrong_code_is_told_why(sandbox):
    assert sandbox.trial(SQUARE, TESTS, entry="f") == (True, "")
    outcome = sandbox.trial("def f(x):\n    return x + x\n", TESTS, entry="f")
    assert outcome == (False, "f(3) gave 6; assert candidate(3) == 9; AssertionError")
    outcome = sandbox.trial("def f(x):\n    return 1 // (x - 2)\n", TESTS, entry="f")
    assert outcome.reason.startswith("f(2) raised ZeroDivisionError: integer division or modulo by zero; assert")
    assert sandbox.trial("def g(x): pass", TESTS, entry="f").reason == "NameError: it defines no f"


def test_the_judge_may_take_longer_than_the_code(sandbox):
    """A long answer costs more to read and compare than to make; here the limit of the code is one second."""
    slow = "import time\nwhile time.process_time() < 1.7: pass\nassert candidate(2) == 4\n"
    assert sandbox.trial("def f(x):\n    return x * x\n", slow, entry="f").passed
    endless = "while True: pass\nassert candidate(2) == 4\n"
    outcome = sandbox.trial("def f(x):\n    return x * x\n", endless, entry="f")
    assert not outcome.passed and "judge ended early" in outcome.reason


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
    raising = (
        "try:\n    candidate(2)\nexcept ValueError as error:\n    assert str(error) == 'no'\nelse:\n    assert False\n"
    )
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


def test_a_server_killed_under_many_trials_costs_none_its_verdict(sandbox):
    """The first thread to see it must not end what another has started since."""
    slow = "import time\ndef f(x):\n    time.sleep(0.3)\n    return x * x\n"
    for _ in range(3):
        sandbox.check()
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(sandbox.trial, slow, "assert candidate(2) == 4", entry="f") for _ in range(4)]
            time.sleep(0.15)
            os.kill(sandbox._server.pid, signal.SIGKILL)
            assert [future.result() for future in running] == [(True, "")] * 4


def test_a_trial_that_nobody_answered_is_tried_once_more(sandbox, monkeypatch):
    """As where the kernel has no room for another process: that is no verdict on the code."""
    sandbox.check()
    server, send, sent = sandbox._server, socket.send_fds, []

    def lose_the_first(*args):
        sent.append(args)
        return send(*args) if len(sent) > 1 else 0

    monkeypatch.setattr(socket, "send_fds", lose_the_first)
    assert sandbox.trial(SQUARE, TESTS, entry="f") == (True, "")
    assert len(sent) == 2 and sandbox._server is server


def test_equal_code_gets_equal_verdicts_from_every_server():
    """Whatever order of hashes, chance and addresses would make of it."""
    code = "import random\ndef f(x):\n    return set('abcdefgh'), random.random(), str(object())"
    reasons = []
    for unsafe in (True, True, False):
        box = Sandbox(unsafe=unsafe, limits=QUICK)
        try:
            reasons.append(box.trial(code, "assert candidate(1) == 0", entry="f").reason)
            program = f"{code}\nprint(f(1))"
            assert box.trial(program, "import random\nassert str(random.random()) in candidate('')", entry=None).passed
        except IsolationMissing:
            continue
        finally:
            box.close()
    assert len(set(reasons)) == 1 and "gave ({" in reasons[0] and "<object object>" in reasons[0], reasons


@pytest.mark.parametrize("code", ["def f(x): raise ValueError('\\ud800')", "raise KeyError('\\udfff')"])
def test_a_reason_can_be_written_to_a_file(sandbox, code):
    outcome = sandbox.trial(code, TESTS, entry="f")
    assert not outcome.passed and "\\ud" in outcome.reason
    outcome.reason.encode()


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
        "from dataenv.verifiers.sandbox import *\ntry:\n"
        "    print(Sandbox().trial('def f(): pass', 'candidate()', entry='f'))\n"
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


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_bubblewrap_takes_over_where_namespaces_are_refused(monkeypatch):
    box = Sandbox(limits=QUICK)

    def refuse():
        raise IsolationMissing("no namespaces")

    monkeypatch.setattr(box, "_started", refuse)
    try:
        box.check()
    except IsolationMissing:
        pytest.skip("bubblewrap does not work here")
    assert box.trial(SQUARE, TESTS, entry="f").passed
    assert box.trial("print(int(input()) ** 2)", "same_output(candidate('3'), '9')", entry=None).passed
    for attack in ("read the list of users", "listen on a port", "see the host's processes", "start a shell"):
        assert "raised" in tell(box, string.Template(ATTACKS["outside"][attack]).safe_substitute(pid=1)).reason
    for forgery in ("leaves before it answers", "patches the judge", "equals everything"):
        assert not box.trial(ATTACKS["forged"][forgery], TESTS, entry="f").passed
    assert "killed at a limit" in tell(box, "while True:\n    pass").reason
    monkeypatch.setattr(sandbox_bubblewrap, "found", lambda: None)
    other = Sandbox()
    monkeypatch.setattr(other, "_started", refuse)
    with pytest.raises(IsolationMissing):
        other.check()


def test_unsafe_code_has_limits_and_leaves_no_process(unsafe):
    assert unsafe.trial(SQUARE, TESTS, entry="f").passed
    assert "ran longer than" in tell(unsafe, "while True:\n    pass").reason
    assert "MemoryError" in tell(unsafe, "return len(bytearray(10**10))").reason
    assert tell(unsafe, "import os\nreturn ['escaped'] if dict(os.environ) else []").reason.startswith("f('') gave []")
    mark = f"dataenv-left-{os.getpid()}"
    body = (
        "import os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n"
        f"        open('/proc/self/comm', 'w').write('{mark[:15]}')\n        time.sleep(60)\n    os._exit(0)\n"
        "time.sleep(0.2)\nreturn 1"
    )
    tell(unsafe, body)
    assert mark[:15] not in {name.read_text().strip() for name in Path("/proc").glob("[0-9]*/comm") if name.exists()}


def test_unsafe_code_is_ended_at_the_limit_whatever_became_of_its_orphans():
    box = Sandbox(unsafe=True, limits=Limits(seconds=1, wall=1))
    body = (
        "import os, time\nif not os.fork():\n    if not os.fork():\n        time.sleep(0.2)\n    os._exit(0)\n"
        "time.sleep(60)"
    )
    outcome = tell(box, body)
    box.close()
    assert outcome == (False, "ran longer than 1 s")


def _count(folder):
    return len(list(Path(folder).iterdir()))


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
        return memory, _count("/proc/self/fd"), _count(f"/proc/{server}/fd")

    def children():
        return Path(f"/proc/{sandbox._server.pid}/task/{sandbox._server.pid}/children").read_text().split()

    for code in nasty:
        sandbox.trial(code, TESTS, entry="f")
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
    assert not Path("/tmp/left").exists()
