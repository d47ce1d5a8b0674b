import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dataenv.verifiers.workers import CallFailed, LimitExceeded, Pool


@pytest.fixture
def pool():
    made = []

    def make(function, **settings):
        made.append(Pool(function, **{"seconds": 20, **settings}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def servers(pool):
    return [server.process.pid for server in pool._servers]


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def eventually(true, seconds=20):
    until = time.monotonic() + seconds
    while not true() and time.monotonic() < until:
        time.sleep(0.02)
    return true()


def started(pool, calls, *arguments):
    """`calls` calls under way in threads, their futures, and the processes they run in."""
    threads = ThreadPoolExecutor(calls)
    futures = [threads.submit(pool.call, *arguments) for _ in range(calls)]
    assert eventually(lambda: sum(len(children(pid)) for pid in servers(pool)) == calls)
    threads.shutdown(wait=False)
    return futures, [child for pid in servers(pool) for child in children(pid)]


def test_values_come_back_and_errors_are_told(pool):
    root = pool("math:sqrt")
    assert root.call(9) == 3.0
    with pytest.raises(CallFailed, match=r"^ValueError: "):
        root.call(-1)
    with pytest.raises(CallFailed, match=r"^TypeError: "):
        root.call("x")
    assert root.call(4) == 2.0


def test_what_takes_too_long_is_killed_and_the_next_call_is_served(pool):
    sleeping = pool("time:sleep", seconds=0.2, size=1)
    for _ in range(2):
        with pytest.raises(LimitExceeded, match=r"0\.2 s"):
            sleeping.call(60)
        (server,) = servers(sleeping)
        assert children(server) == []
    assert sleeping.call(0) is None
    assert servers(sleeping) == [server]


@pytest.mark.parametrize(
    ("function", "arguments", "why"),
    [
        ("os:abort", [], "died"),
        ("os:_exit", [0], "died"),
        ("sys:exit", [3], "SystemExit"),
        ("builtins:bytearray", [1 << 40], "MemoryError"),
        ("os:getcwdb", [], "TypeError"),
    ],
)
def test_a_call_that_ends_its_process_is_told_of_and_the_pool_goes_on(pool, function, arguments, why):
    one = pool(function)
    for _ in range(2):
        with pytest.raises(CallFailed, match=why):
            one.call(*arguments)
    assert len(servers(one)) == 1


@pytest.mark.parametrize("function", ["no_such_module:f", "math:no_such_name"])
def test_a_server_that_cannot_start_says_why(pool, function):
    with pytest.raises(CallFailed, match=r"did not start .*no_such"):
        pool(function).call()


def test_a_call_survives_the_death_of_its_server(pool):
    busy = pool("time:sleep", size=1)
    (future,), (child,) = started(busy, 1, 0.5)
    (killed,) = servers(busy)
    os.kill(killed, signal.SIGKILL)
    assert future.result(20) is None
    assert servers(busy) != [killed]
    os.kill(child, signal.SIGKILL)


def test_a_child_that_is_killed_fails_its_call_only(pool):
    busy = pool("time:sleep", size=1)
    (future,), (child,) = started(busy, 1, 60)
    os.kill(child, signal.SIGKILL)
    with pytest.raises(CallFailed, match="died"):
        future.result(20)
    assert busy.call(0) is None


def test_idle_servers_that_were_killed_are_replaced(pool):
    root = pool("math:sqrt", size=4)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(root.call, range(40)))
    for pid in servers(root):
        os.kill(pid, signal.SIGKILL)
    assert [root.call(i * i) for i in range(5)] == [0, 1, 2, 3, 4]


def test_an_idle_server_that_another_thread_took_first_is_no_error(pool):
    class Taken(list):
        """Empty by the time that one takes from it."""

        def __bool__(self):
            return True

    root = pool("math:sqrt", size=2)
    root._idle = Taken()
    assert root.call(9) == 3.0


def test_many_threads_get_their_own_answers_from_few_processes(pool):
    root = pool("math:sqrt", size=3)
    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(root.call, [i * i for i in range(200)])) == list(range(200))
    assert 1 <= len(servers(root)) <= 3


def test_many_threads_with_calls_that_are_killed(pool):
    sleeping = pool("time:sleep", seconds=0.3, size=3)

    def call(i):
        try:
            return sleeping.call(60 if i % 4 == 0 else 0)
        except LimitExceeded:
            return "late"

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(call, range(16))) == ["late", None, None, None] * 4


def test_closing_ends_every_process_and_a_later_call_starts_anew(pool):
    busy = pool("time:sleep", size=2)
    futures, running = started(busy, 2, 60)
    pids = servers(busy) + running
    busy.close()
    busy.close()
    for future in futures:
        with pytest.raises(CallFailed, match="closed"):
            future.result(20)
    assert eventually(lambda: not any(map(alive, pids)))
    assert busy.call(0) is None


def test_a_pool_that_is_forgotten_leaves_nothing():
    pool = Pool("math:sqrt", seconds=20)
    pool.call(1)
    pids = servers(pool)
    del pool
    gc.collect()
    assert eventually(lambda: not any(map(alive, pids)))


PROGRAM = """
import threading, time
from dataenv.verifiers.workers import Pool
pool = Pool("time:sleep", seconds=1.5)
pool.call(0)
threading.Thread(target=lambda: pool.call(60), daemon=True).start()
(server,) = pool._servers
path = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
while not (child := open(path).read().strip()):
    time.sleep(0.01)
print(server.process.pid, child, flush=True)
"""


@pytest.mark.parametrize(
    "end", ["", "raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)", "import os; os._exit(0)"]
)
def test_nothing_outlives_the_process_that_made_the_pool(end):
    done = subprocess.run([sys.executable, "-c", PROGRAM + end], capture_output=True, text=True, timeout=60)
    server, child = map(int, done.stdout.split())
    assert eventually(lambda: not alive(server) and not alive(child))


def test_a_forked_copy_neither_uses_nor_ends_the_servers(pool):
    root = pool("math:sqrt")
    root.call(1)
    before = servers(root)
    ours, theirs = os.pipe()
    copy = os.fork()
    if copy == 0:
        try:
            os.write(theirs, b"ok" if not root._servers and root.call(9) == 3.0 else b"no")
            root.close()
        finally:
            os._exit(0)
    os.waitpid(copy, 0)
    assert os.read(ours, 2) == b"ok"
    os.close(ours), os.close(theirs)
    assert root.call(4) == 2.0 and servers(root) == before


def test_an_interrupted_call_does_not_give_its_answer_to_the_next(pool):
    busy = pool("time:sleep", size=1)
    busy.call(0)
    (server,) = busy._servers

    def interrupted(*_):
        raise KeyboardInterrupt

    server.ask, ask = interrupted, server.ask
    with pytest.raises(KeyboardInterrupt):
        busy.call(0)
    assert ask and not busy._servers
    assert busy.call(0) is None


def test_answers_and_arguments_may_be_long(pool):
    text = "x" * 3_000_000
    assert pool("builtins:str").call(text) == text


def test_no_thread_is_left(pool):
    before = threading.active_count()
    pool("math:sqrt").call(1)
    assert threading.active_count() == before
