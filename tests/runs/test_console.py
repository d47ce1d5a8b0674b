"""What a person sees of a run: plain lines in a file, a live line on a terminal; no order of events breaks it."""

import io
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from dataenv.progress import listening, report
from dataenv.registry import Entry
from dataenv.runs import console as module
from dataenv.runs.config import RunConfig
from dataenv.runs.console import Screen
from dataenv.runs.episode import resume, start
from dataenv.tasks import tasks

CONFIG = {"teacher": "random", "student": "micro", "task": "drills", "steps": 3, "rows": 12}
START = {"event": "start", "config": CONFIG}
RESET = {
    "event": "reset", "step": 0, "accuracy": 0.25, "error": 0.031, "seconds": {"examine": 9.0},
    "baseline": {"plain": 0.25, "few_shot": None, "shots": 0},
}  # fmt: skip
BEGINS = {"event": "exam-begins"}
EXAM = {
    "event": "exam", "n": 40, "before": {"accuracy": 0.25}, "after": {"accuracy": 0.375}, "gain": 0.125,
    "gain_error": 0.05, "seconds": {"exam": 2.0},
}  # fmt: skip
END = {"event": "end", "peak_memory_mib": 800}


def step(number, seconds=4.0, **changes):
    return {
        "event": "step", "step": number, "accepted": 12, "dropped": {}, "accuracy": 0.5, "error": 0.04,
        "reward": 0.125, "reward_error": 0.03, "seconds": {"teach": seconds - 1, "examine": 1.0}, **changes,
    }  # fmt: skip


STORY = [START, RESET, step(1), step(2), step(3), BEGINS, EXAM, END]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """Time as the screen sees it; it stands still unless a test moves it."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: clock.now)
    monkeypatch.setenv("TERM", "xterm")
    return clock


def screen(live):
    console = Console(file=io.StringIO(), force_terminal=live, width=120, color_system=None)
    return Screen(console)


def text(screen):
    return screen.console.file.getvalue().replace("\xa0", " ")


def shown(screen):
    """What the live line says now."""
    before = len(text(screen))
    screen.bar.refresh()
    return text(screen)[before:]


# -- not a terminal ---------------------------------------------------------------------------------------------------


def test_a_run_is_plain_lines_where_there_is_no_terminal():
    with screen(live=False) as plain:
        for event in STORY:
            plain("teach", 5, 10)
            plain.event(event)
    assert text(plain).splitlines() == [
        "random teaches micro drills, 3 steps of up to 12 rows",
        "untaught: 25.0 % ± 3.1 of the feedback problems",
        "step 1/3: 12 rows, accuracy 50.0 % ± 4.0, gain +12.5 ± 3.0 points, 4.0 s, about 14 s left",
        "step 2/3: 12 rows, accuracy 50.0 % ± 4.0, gain +12.5 ± 3.0 points, 4.0 s, about 10 s left",
        "step 3/3: 12 rows, accuracy 50.0 % ± 4.0, gain +12.5 ± 3.0 points, 4.0 s, about 6.0 s left",
        "the sealed exam: untaught and taught student on the same unseen problems",
        "exam (40 problems): 25.0 % -> 37.5 %, gain +12.5 ± 5.0 points",
    ]


def test_progress_writes_nothing_where_there_is_no_terminal():
    with screen(live=False) as plain:
        plain.event(START)
        before = text(plain)
        for done in range(50):
            plain("answer", done, 50)
    assert text(plain) == before


def test_lines_are_not_wrapped_and_names_are_no_markup():
    with screen(live=False) as plain:
        plain.event({**START, "config": {**CONFIG, "task": "[bold]x[/nonsense]" + "y" * 200}})
    (line,) = text(plain).splitlines()
    assert "[bold]x[/nonsense]" + "y" * 200 in line


def test_drops_and_the_few_shot_baseline_are_told():
    with screen(live=False) as plain:
        plain.event(START)
        plain.event({**RESET, "baseline": {"plain": 0.0, "few_shot": 0.25, "shots": 4}})
        plain.event(step(1, dropped={"duplicate": 3, "wrong": 1}, reward=-0.02))
    assert "(plain 0.0 %, 4-shot 25.0 %)" in text(plain)
    assert "12 rows (dropped: 3 duplicate, 1 wrong)" in text(plain)
    assert "gain −2.0 ± 3.0" in text(plain)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"rows_taught": 12}, "step 1/3: 12 rows, accuracy"),
        ({"shortfall": {"a": 3, "b": 2}, "accepted": 7}, "step 1/3: 7 rows (5 fewer than asked), accuracy"),
        ({"rows_taught": 0}, "step 1/3: 0 rows (12 too long for the student), accuracy"),
        (
            {"rows_taught": 4, "accepted": 9, "shortfall": {"a": 3}, "dropped": {"wrong": 1}},
            "step 1/3: 4 rows (5 too long for the student; 3 fewer than asked; dropped: 1 wrong), accuracy",
        ),
    ],
)
def test_why_rows_are_not_more_is_told(event, told):
    with screen(live=False) as plain:
        plain.event(START)
        plain.event(step(1, **event))
    assert told in text(plain)


def test_numbers_that_are_none_show_as_dashes():
    """What NaN becomes in the log."""
    with screen(live=False) as plain:
        for event in (START, {**RESET, "accuracy": None, "error": None}, step(1, reward=None, reward_error=None)):
            plain.event(event)
    assert "untaught: – ± –" in text(plain)
    assert "gain – ± – points" in text(plain)


# -- on a terminal ----------------------------------------------------------------------------------------------------


def test_a_terminal_shows_where_the_run_is_and_what_is_done():
    with screen(live=True) as live:
        live.event(START)
        live("examine", 0, 0)
        assert "start loads and examines the student" in shown(live)
        live.event(RESET)
        live("teach", 64, 128)
        told = shown(live)
        assert "step 1/3 teaches the student" in told
        assert "64/128" in told
        assert "left" not in told
        live.event(step(1))
        live("answer", 7, 24)
        told = shown(live)
        assert "step 2/3 examines the student" in told
        assert "7/24" in told
        assert "about 14 s left" in told
        live.event(BEGINS)
        live("answer", 1, 40)
        told = shown(live)
        assert "exam examines the student" in told
        assert "left" not in told


def test_the_lines_stay_and_the_live_line_goes():
    with screen(live=True) as live:
        for event in STORY:
            live.event(event)
            live("teach", 5, 10)
    told = text(live)
    for line in ("random teaches micro drills", "untaught: 25.0 %", "step 3/3: 12 rows", "exam (40 problems)"):
        assert told.count(line) == 1
    assert told.index("\x1b[?25l") < told.rindex("\x1b[?25h")  # the cursor is hidden, then shown again
    assert told.rstrip().endswith("\x1b[2K")  # what was last drawn is wiped


def test_an_interrupt_gives_the_terminal_back():
    live = screen(live=True)
    with pytest.raises(KeyboardInterrupt), live:
        live("teach", 1, 2)
        raise KeyboardInterrupt
    assert text(live).rindex("\x1b[?25h") > text(live).rindex("\x1b[?25l")
    assert not live.bar.live.is_started


def test_a_phase_without_an_amount_or_a_name_of_ours_is_shown_all_the_same():
    with screen(live=True) as live:
        live("invent", 3, 0)
        assert "invent" in shown(live)
        assert "3/0" not in shown(live)


# -- time left --------------------------------------------------------------------------------------------------------


def test_time_left_is_the_mean_step_times_what_remains_with_the_exam_as_one_and_a_half(clock):
    with screen(live=True) as live:
        live.event({**START, "config": {**CONFIG, "steps": 10}})
        live.event(RESET)  # loading the student says nothing of a step
        live.event(step(1, seconds=2.0))
        live.event(step(2, seconds=4.0))
        live("teach", 0, 8)
        assert "about 28 s left" in shown(live)  # 3 s x (8 + 1.5) = 28.5
        clock.now += 10
        live("teach", 4, 8)
        assert "about 18 s left" in shown(live)


def test_a_step_that_takes_longer_than_all_before_never_has_negative_time_left(clock):
    with screen(live=True) as live:
        for event in (START, RESET, step(1)):
            live.event(event)
        clock.now += 10_000
        live("teach", 4, 8)
        assert "about 1.0 s left" in shown(live)


# -- events as they come after a resume, or worse ---------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False])
def test_a_resumed_run_counts_on_from_the_steps_it_is_told_of(live):
    with screen(live) as again:
        for event in (START, RESET, step(1), step(2)):
            again.event(event)
        if live:
            again("teach", 1, 2)
            assert "step 3/3 teaches" in shown(again)
            assert "about 10 s left" in shown(again)
        again.event(step(3))
    assert text(again).count("step 3/3: 12 rows") == 1


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.lists(
        st.one_of(
            st.sampled_from([*STORY, step(0), step(99), {"event": "of the future"}]),
            st.tuples(st.sampled_from(["teach", "answer", "exam", "x"]), st.integers(0, 9), st.integers(0, 9)),
        ),
        max_size=12,
    ),
)
def test_no_order_of_events_and_progress_breaks_the_screen(live, told):
    with screen(live) as any_order:
        for one in told:
            any_order(*one) if isinstance(one, tuple) else any_order.event(one)
        any_order.bar.refresh()
    lines = sum(isinstance(one, dict) and one["event"] in ("start", "reset", "step", "exam") for one in told)
    if not live:
        begins = sum(one == BEGINS for one in told)
        assert len(text(any_order).splitlines()) == lines + begins


@pytest.mark.parametrize("live", [True, False])
def test_a_real_run_is_told_alike_from_the_start_and_after_every_stop(fakes, registered, monkeypatch, tmp_path, live):
    class ExamToy(fakes.Toy):
        def problems(self, split, per_skill, seed):
            return super().problems("selection" if split == "exam" else split, per_skill, seed)

    class Stop(Screen):
        """Stops the run after as many events as `rope` has."""

        def event(self, event):
            super().event(event)
            report("teach", 1, 2)
            self.rope -= 1
            if not self.rope:
                raise KeyboardInterrupt

    monkeypatch.setitem(tasks._entries, "toy", Entry(ExamToy))
    config = RunConfig(task="toy", student="scripted", teacher="random", steps=2, rows=12, feedback=4, exam=5)
    for rope in range(1, 7):
        folder = tmp_path / str(rope)
        first = Stop(screen(live).console)
        first.rope = rope
        with pytest.raises(KeyboardInterrupt), first, listening(first):
            start(config, folder, first)
        with screen(live) as again, listening(again):
            resume(folder, again)
        told = text(again)
        for line in ("random teaches scripted toy", "untaught: ", "step 1/2: ", "step 2/2: ", "exam (15 problems): "):
            assert told.count(line) == 1, (rope, told)


def test_a_long_phase_gives_a_plain_line_a_minute(clock):
    shown = screen(live=False)
    shown.event(START)
    for done in range(10):
        clock.now += 25.0
        shown("answer", done, 240)
    said = [line for line in text(shown).splitlines() if "of 240" in line]
    assert said == [f"examines the student: {done} of 240" for done in (2, 5, 8)]
