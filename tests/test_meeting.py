import signal
import sqlite3
import threading
from contextvars import ContextVar

import pytest

from dataenv.meeting import join, together
from dataenv.progress import listening, report


class Shared:
    """A part that notes who came together, and answers each argument with itself and how many there were."""

    def __init__(self):
        self.met = []

    def __call__(self, arguments):
        self.met.append(list(arguments))
        return [(argument, len(arguments)) for argument in arguments]


def once(work, argument):
    return lambda: join(work, argument)


def test_calls_meet_and_each_gets_its_own_answer():
    work = Shared()
    assert together([once(work, "a"), once(work, "b"), once(work, "c")]) == [("a", 3), ("b", 3), ("c", 3)]
    assert work.met == [["a", "b", "c"]]


def test_outside_a_call_is_carried_out_alone():
    work = Shared()
    assert join(work, 1) == (1, 1)
    assert together([]) == []


def test_who_has_ended_or_never_joins_holds_up_nobody():
    work = Shared()

    def twice():
        return join(work, "first"), join(work, "second")

    assert together([twice, lambda: "no call", once(work, "b")]) == [
        (("first", 2), ("second", 1)),
        "no call",
        ("b", 2),
    ]


def test_calls_for_different_work_do_not_mix():
    one, two = Shared(), Shared()
    assert together([once(one, 1), once(two, 2), once(one, 3)]) == [(1, 2), (2, 1), (3, 2)]
    assert (one.met, two.met) == ([[1, 3]], [[2]])


def test_methods_of_one_object_are_the_same_work():
    class Part:
        def work(self, arguments):
            return [len(arguments)] * len(arguments)

    part = Part()
    assert together([lambda: join(part.work, 0), lambda: join(part.work, 0)]) == [2, 2]


def test_one_runs_at_a_time_in_order_in_the_thread_that_called():
    log, work = [], Shared()

    def function(name):
        def run():
            log.append((name, threading.current_thread()))
            join(work, name)
            log.append((name, threading.current_thread()))

        return run

    database = sqlite3.connect(":memory:")  # refuses any other thread
    assert together([function("a"), function("b"), lambda: database.execute("select 1").fetchone()])[2] == (1,)
    here = threading.current_thread()
    assert log == [("a", here), ("b", here), ("a", here), ("b", here)]


def test_one_that_fails_disturbs_no_other():
    work = Shared()

    def before():
        raise ValueError("before")

    def after():
        join(work, "x")
        raise ValueError("after")

    early, late, fine = together([before, after, once(work, "y")])
    assert (str(early), str(late), fine) == ("before", "after", ("y", 2))


def test_an_outcome_that_is_an_error_is_raised_in_its_caller_alone():
    def halves(arguments):
        return [ValueError("odd") if n % 2 else n // 2 for n in arguments]

    def caught():
        try:
            return join(halves, 3)
        except ValueError as error:
            return f"caught {error}"

    odd, even, handled = together([once(halves, 1), once(halves, 4), caught])
    assert isinstance(odd, ValueError)
    assert (even, handled) == (2, "caught odd")
    with pytest.raises(ValueError, match="odd"):
        join(halves, 1)


@pytest.mark.parametrize("work", [lambda arguments: 1 / 0, lambda arguments: [1]], ids=["raises", "too few"])
def test_work_that_fails_fails_for_all_who_asked(work):
    good = Shared()
    *failed, fine = together([once(work, 1), once(work, 2), once(good, 3)])
    assert all(isinstance(error, ZeroDivisionError | ValueError) for error in failed)
    assert fine == (3, 1)


def test_meetings_nest():
    work = Shared()

    def outer(name):
        return lambda: (together([once(work, name + "1"), once(work, name + "2")]), join(work, name))

    assert together([outer("a"), outer("b")]) == [
        ([("a1", 2), ("a2", 2)], ("a", 2)),
        ([("b1", 2), ("b2", 2)], ("b", 2)),
    ]
    assert work.met == [["a1", "a2"], ["b1", "b2"], ["a", "b"]]


def test_another_thread_inside_a_function_is_outside_of_the_meeting():
    work, got = Shared(), []

    def run():
        thread = threading.Thread(target=lambda: got.append(join(work, "alone")))
        thread.start()
        thread.join()
        return join(work, "together")

    assert together([run, run]) == [("together", 2)] * 2
    assert got == [("alone", 1)] * 2


def test_listeners_hear_and_context_stays_each_functions_own():
    mine, heard = ContextVar("mine", default="before"), []

    def function(value):
        def run():
            mine.set(value)
            join(Shared(), 0)
            report("teach", 1, 2)
            return mine.get()

        return run

    with listening(lambda *what: heard.append(what)):
        assert together([function("a"), function("b")]) == ["a", "b"]
    assert mine.get() == "before"
    assert heard == [("teach", 1, 2)] * 2


def undoing(log, name, work, then=lambda: None):
    """A function that notes that it was told to undo its part."""

    def run():
        try:
            join(work, name)
            then()
            join(work, name)
        except BaseException as error:
            log.append((name, type(error).__name__))
            raise

    return run


def press():
    """What the terminal does on Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_while_work_is_done_reaches_everyone_and_the_caller():
    log = []

    def work(arguments):
        press()
        return arguments

    with pytest.raises(KeyboardInterrupt):
        together([undoing(log, "a", work), undoing(log, "b", work), lambda: log.append("c")])
    assert log == ["c", ("a", "KeyboardInterrupt"), ("b", "KeyboardInterrupt")]


def test_an_interrupt_in_one_function_stops_the_others_where_they_are():
    log, work = [], Shared()
    with pytest.raises(KeyboardInterrupt):
        together([undoing(log, "a", work), undoing(log, "b", work, press), undoing(log, "c", work)])
    assert log == [("b", "KeyboardInterrupt"), ("a", "KeyboardInterrupt"), ("c", "KeyboardInterrupt")]
    log.clear()
    with pytest.raises(KeyboardInterrupt):
        together([undoing(log, "a", work), press, lambda: log.append("never begun")])
    assert log == [("a", "KeyboardInterrupt")]


def test_an_interrupted_function_may_join_once_more_and_is_told_again():
    log, work = [], Shared()

    def stubborn():
        for _ in range(3):
            try:
                join(work, 0)
            except KeyboardInterrupt:
                log.append("told")
        return "ended"

    with pytest.raises(KeyboardInterrupt):
        together([stubborn, press])
    assert log == ["told"] * 3
