import pickle

import pytest

from dataenv.progress import Clock, called, listening, report


def test_reports_reach_the_listener_inside_the_block_only():
    heard = []
    report("early", 0, 1)
    with listening(lambda *what: heard.append(what)):
        report("teach", 1, 2)
        with listening(lambda *what: heard.append(("inner", *what))):
            report("answer", 2, 2)
        report("teach", 2, 2)
    report("late", 1, 1)
    assert heard == [("teach", 1, 2), ("inner", "answer", 2, 2), ("teach", 2, 2)]


def test_reports_are_passed_on_under_another_name():
    heard = []
    with listening(lambda *what: heard.append(what)):
        with called("build"):
            report("teach", 1, 2)
        report("teach", 2, 2)
    with called("build"):
        report("teach", 1, 2)
    assert heard == [("build", 1, 2), ("teach", 2, 2)]


def test_a_listener_is_gone_after_an_error():
    heard = []
    with pytest.raises(ValueError), listening(lambda *what: heard.append(what)):
        raise ValueError
    report("x", 1, 1)
    assert heard == []


def test_the_clock_adds_up_per_phase_and_counts_a_phase_that_failed(monkeypatch):
    ticks = iter([0.0, 1.0, 10.0, 13.0, 20.0, 25.0])
    monkeypatch.setattr("dataenv.progress.time.perf_counter", lambda: next(ticks))
    clock = Clock()
    with clock("teach"):
        pass
    with clock("teach"):
        pass
    with pytest.raises(KeyError), clock("examine"):
        raise KeyError
    assert clock == {"teach": 4.0, "examine": 5.0}
    assert pickle.loads(pickle.dumps(clock)) == clock
