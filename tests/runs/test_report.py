"""The report page: whole for finished runs, plain about unfinished ones, and safe with text it does not trust."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shlex
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dataenv.errors import RunError
from dataenv.records import Attempt, Example, Problem
from dataenv.runs.config import RunConfig
from dataenv.runs.report import write_report
from dataenv.runs.report_log import RunLog
from dataenv.runs.report_words import Text, commands, duration, percent, points, settings

SKILLS = ("chain_sum", "basic_arithmetic", "gcd", "lcm", "letter_counting", "spell_backward", "word_sorting",
          "number_sorting", "count_primes", "base_conversion", "caesar_cipher", "leg_counting", "simple_equations",
          "number_sequence")  # fmt: skip
CONFIG = {
    "env": "SkillList", "task": "reasoning-gym", "student": "smollm2-135m", "teacher": "error-proportional",
    "engine": "procedural", "steps": 5, "rows": 200, "seed": 7, "regime": "retrain", "replay": 0.0, "feedback": 20,
    "exam": 20, "select": "last", "options": {"rank": 16, "api_key": "sk-hidden-thing"},
    "versions": {"dataenv": "0.1.0", "torch": "2.13.0"}, "machine": {"cpu": "2 cores", "gpu": None},
}  # fmt: skip


def make_run(
    folder: Path, *, skills: tuple[str, ...] = SKILLS, steps: int = 5, exam: bool = True, end: bool = True,
    reset: bool = True, response: str | None = None, config: dict[str, Any] | None = None, seed: int = 1,
) -> Path:  # fmt: skip
    """A run folder as `dataenv run` leaves it, with made-up numbers."""
    chance = random.Random(seed)
    config = CONFIG if config is None else config
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    share = {skill: chance.random() ** 2 * 0.45 for skill in skills}
    events: list[dict[str, Any]] = [{"event": "start", "config": config, "skills": list(skills), "hash": "ab"}]

    def score() -> dict[str, Any]:
        scores = {skill: [20, min(20, round(20 * share[skill]))] for skill in skills}
        accuracy = sum(correct for _, correct in scores.values()) / (20 * len(skills))
        return {"scores": scores, "accuracy": accuracy, "error": (accuracy * (1 - accuracy) / 20 / len(skills)) ** 0.5}

    if reset:
        baseline = {"plain": 0.0, "few_shot": 0.161, "shots": 4, "used": "few_shot"}
        events.append({"event": "reset", **score(), "baseline": baseline, "seconds": {"examine": 12.3}})
        _write_attempts(folder / "steps/000", skills, share, response, chance)
    first = score()
    for step in range(1, steps + 1):
        taught = {skill: chance.randrange(3, 30) for skill in skills if chance.random() < 0.8}
        hard = {skill: round(min(1.0, 0.15 + 0.12 * step) * (0.8 + 0.2 * chance.random()), 3) for skill in taught}
        for skill in taught:
            share[skill] = min(0.98, max(0.0, share[skill] + chance.gauss(0.06, 0.05)))
        rows = sum(taught.values())
        events.append({
            "event": "step", "step": step, "asked": rows + 4, "accepted": rows, "taught": taught, "difficulty": hard,
            "dropped": {"duplicate": 3, "contaminated": 1, "wrong": 0} if step != 3 else {},
            "shortfall": {skills[0]: 4} if step == 2 else {}, "clipped": step == 2, **score(),
            "reward": 0.03, "reward_error": 0.011,
            "teach": {"rows": rows, "tokens": 9000, "loss": 1.2 / step, "overlong": 0},
            "rows_total": rows * step, "tokens": {"taught": 9000 * step, "answered": 8100},
            "seconds": {"write": 0.9, "gate": 0.1, "teach": 14.1 * step, "examine": 9.2, "save": 0.4},
        })  # fmt: skip
        _write_attempts(folder / f"steps/{step:03}", skills, share, response, chance)
        _write_rows(folder / f"steps/{step:03}", taught, hard, response)
    if exam:
        now = {skill: min(1.0, share[skill] + chance.gauss(0, 0.05)) for skill in skills}
        before = {skill: first["scores"][skill][1] / 20 for skill in skills}
        start, after = sum(before.values()) / len(skills), sum(now.values()) / len(skills)
        events.append({
            "event": "exam", "n": 20 * len(skills), "gain": after - start, "gain_error": 0.021,
            "selected_step": steps, "rule": "last",
            "before": {"accuracy": start, "error": 0.022, "plain": 0.0, "few_shot": start},
            "after": {"accuracy": after, "error": 0.027}, "seconds": {"exam": 40.0},
            "by_skill": {skill: {"n": 20, "before": before[skill], "after": now[skill]} for skill in skills},
        })  # fmt: skip
    if end:
        events.append({"event": "end", "seconds_total": 331.0, "peak_memory_mib": 2210.4, "hash": "cd"})
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def _write_attempts(
    folder: Path, skills: tuple[str, ...], share: dict[str, float], response: str | None, chance: random.Random
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for skill in skills:
        for index in range(20):
            left, right = 12 + 7 * index, 5 + 3 * index
            problem = Problem(
                prompt=f"Work out {left} + {right} - {index}.\nGive only the number.", skill=skill,
                answer=str(left + right - index), data={"skill": skill},
            )  # fmt: skip
            correct = index < round(20 * share[skill])
            said = response or (
                problem.answer
                if correct
                else f"The answer is {left + chance.randrange(9)}, because "
                + "we add the numbers one by one and carry the tens. " * chance.randrange(12)
            )
            reason = "" if correct else "the number differs from the reference"
            attempt = Attempt(problem=problem, response=said, score=float(correct), correct=correct, reason=reason)
            lines.append(attempt.model_dump_json() + "\n")
    (folder / "attempts.jsonl").write_text("".join(lines))


def _write_rows(folder: Path, taught: dict[str, int], hard: dict[str, float], response: str | None) -> None:
    rows = [
        Example(prompt=f"What is {index} plus {index}?", completion=response or f"{index} + {index} = {2 * index}",
                skill=skill, difficulty=hard[skill], answer=str(2 * index))
        for skill, number in taught.items()
        for index in range(number)
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in rows))


class Page(HTMLParser):
    """The tags, attributes and visible text of a page; checks that every opened element is closed."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(self.source)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).replace("\u00a0", " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def charts(self) -> list[ElementTree.Element]:
        return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", self.source, re.DOTALL)]


def report(folder: Path) -> Page:
    return Page(write_report(folder))


def edit_events(folder: Path, change: Any) -> None:
    path = folder / "events.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    for event in events:
        change(event)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))


def test_a_finished_run_says_what_came_of_it(tmp_path: Path) -> None:
    page = report(make_run(tmp_path / "run"))
    number = r"[\d.]+"
    assert re.search(rf"smollm2-135m went from {number} % to {number} % on the sealed exam", page.text)
    assert re.search(rf"\(\+{number} ± 2\.1 points\)", page.text)
    assert "in 5 steps chosen by error-proportional." in page.text
    assert "finished: 5 of 5 steps" in page.text and "unfinished" not in page.text
    assert "5 min 31 s" in page.text and "2.2 GiB" in page.text
    assert "duplicate" in page.text and "chain_sum 4" in page.text and "cut to the budget" in page.text
    for part in ("Became right", "Still wrong", "few-shot baseline", "sealed exam", "standard error", "torch"):
        assert part in page.text
    assert len(page.charts) == 6, "three charts, each for a wide page and for a phone"
    assert "dataenv resume" not in page.text and "dataenv run --env SkillList" in page.text


def test_the_command_that_does_it_again_names_all_that_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given to the command line it is the same run, whatever was set; what looks like a secret is not in it."""
    from dataenv import cli

    options: Any = {"student": {"template": "{prompt} '?", "epochs": 3}, "teacher": {"floor": "5"}}
    config = RunConfig(
        env="skill-tree", task="drills", skills="cluster:3", student="micro", teacher="mine.py:My Own", no_state=True,
        engine="llm", filters=("known:0.5", "x"), model="openai:m", steps=7, rows=9, max_rows=50, seed=4,
        regime="retrain", replay=0.5, feedback=None, error=0.1, redraw=True, exam=None, select="best", target=0.9,
        options=options,
    )  # fmt: skip
    given: list[RunConfig] = []
    monkeypatch.setattr(cli, "_watched", lambda folder, json, work, config: given.append(config))
    for run in (config, RunConfig()):
        written = run.model_dump(mode="json")
        written["options"]["model"] = {"password": "hunter2"}
        ((_, line),) = [one for one in commands(RunLog(tmp_path, config=written)) if one[0].startswith("Do it again")]
        assert "hunter2" not in line
        cli.app(shlex.split(line)[1:], standalone_mode=False)
        assert given.pop() == run


def test_a_small_gain_is_called_indistinguishable_from_zero(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    edit_events(folder, lambda event: event.update(gain=-0.03) if event["event"] == "exam" else None)
    assert "(−3.0 ± 2.1 points)" in report(folder).text
    assert "not distinguishable from zero" in report(folder).text
    edit_events(folder, lambda event: event.update(gain=-0.3) if event["event"] == "exam" else None)
    assert "went down from" in report(folder).text
    edit_events(folder, lambda event: event.update(gain=None, gain_error=None) if event["event"] == "exam" else None)
    assert "its gain is not known" in report(folder).text


HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}</pre>")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_untrusted_text_is_never_markup(tmp_path: Path, hostile: str) -> None:
    skills = (hostile, "chain_sum")
    config = {**CONFIG, "student": hostile, "teacher": hostile, "task": hostile, "machine": {hostile: hostile}}
    page = report(make_run(tmp_path / "run", skills=skills, response=hostile, config=config))
    assert hostile not in page.source
    assert hostile in page.text, "it is shown, as text"
    assert not {"script", "img", "iframe", "link", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path) -> None:
    page = report(make_run(tmp_path, response="see https://example.org/x.png and url(http://example.org)"))
    targets = [value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert targets and all(value is not None and value.startswith("#") for value in targets)
    style = page.source.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style and "@import" not in style and "://" not in style
    assert "default-src 'none'" in page.source


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ({"steps": 3, "exam": False, "end": False}, "Unfinished: 3 of 5 steps. smollm2-135m stands at"),
        ({"steps": 5, "exam": False, "end": False}, "unfinished: 5 of 5 steps, exam not taken"),
        ({"steps": 0, "exam": False, "end": False}, "Unfinished: 0 of 5 steps. smollm2-135m, untaught, solves"),
        ({"steps": 0, "exam": False, "end": False, "reset": False}, "Nothing has been examined yet."),
        ({"steps": 2, "exam": False, "end": True}, "finished: 2 of 5 steps"),
        ({"steps": 0, "exam": True, "end": True}, "No step has been taken yet."),
        ({"skills": ("gcd",)}, "finished: 5 of 5 steps"),
        ({"skills": tuple(f"a_rather_long_name_of_skill_{n}" for n in range(40)), "steps": 2}, "name_of_skill_39"),
        ({"config": {}}, "The student went from"),
    ],
)
def test_every_state_of_a_run_has_a_page(tmp_path: Path, run: dict[str, Any], words: str) -> None:
    page = report(make_run(tmp_path / "run", **run))
    assert words in page.text
    assert page.charts or run.get("reset") is False
    assert ("dataenv resume" in page.text) == (run.get("end") is False)


def test_a_torn_last_line_is_passed_over_and_a_broken_one_is_counted(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", steps=3, exam=False, end=False)
    whole = report(folder).text
    path = folder / "events.jsonl"
    with path.open("a") as file:
        file.write('{"event":"step","step":4,"acc')
    (folder / "steps/004").mkdir()
    (folder / "steps/004/attempts.jsonl").write_text('{"problem"')
    assert report(folder).text == whole
    path.write_text("[" * 100_000 + "\nnull\n" + path.read_text())
    assert "2 lines of events.jsonl could not be read" in report(folder).text


def test_missing_and_broken_numbers_leave_gaps(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", skills=("gcd", "lcm"), steps=3)

    def spoil(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            odd = {"accuracy": float("nan"), "error": None, "reward": float("inf"), "difficulty": {"gcd": None}}
            event.update(odd, scores={"gcd": [0, 0], "lcm": None}, seconds={"teach": None}, teach=None, dropped=None)
        elif event["event"] == "exam":
            event["by_skill"] = {"gcd": {"n": None, "before": float("nan"), "after": None}, "lcm": None}
            event["before"], event["selected_step"] = None, None

    edit_events(folder, spoil)
    page = report(folder)
    assert not re.search(r"\b(nan|inf|None)\b", page.text)
    assert not re.search(r'="[^"]*\b(nan|inf|None)\b', page.source)
    edit_events(folder, lambda event: [event.pop(key) for key in list(event) if key not in ("event", "step")])
    assert "finished: 3 of 5 steps" in report(folder).text


def test_a_step_taken_again_after_a_resume_counts_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", steps=2, exam=False, end=False)
    path = folder / "events.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    assert "unfinished: 2 of 5 steps" in report(folder).text


def test_no_drops_and_no_times_are_said_plainly(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    edit_events(folder, lambda event: event.update(dropped={}, shortfall={}, clipped=False, seconds={}))
    text = report(folder).text
    assert "None: every row passed the gate" in text and "No times are logged." in text


def test_rows_too_long_for_the_student_are_counted_and_are_not_taught(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", skills=("gcd", "lcm"), steps=2)

    def all_too_long(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            event.update(accepted=20, asked=20, rows_taught=3, dropped={}, shortfall={}, clipped=False)

    edit_events(folder, all_too_long)
    page = report(folder)
    assert "Rows taught 6" in page.text and "after 6 rows in 2 steps" in page.text
    assert "every row passed the gate" not in page.text
    assert "too long for the student short of the request 1 20 3 17 none 2 20 3 17 none" in page.text
    assert "were not taught; they are among these all the same" in page.text


def test_a_student_without_a_few_shot_examination_has_its_baseline_said_plainly(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    assert "16.1 % with 4 exemplars in the prompt; gains count from the few-shot baseline" in report(folder).text
    baseline = {"plain": 0.25, "few_shot": None, "shots": 0, "used": "plain"}
    edit_events(folder, lambda event: event.update(baseline=baseline) if event["event"] == "reset" else None)
    text = report(folder).text
    assert "Untaught it solved 25.0 % ; gains count from that." in text.replace("25.0 %;", "25.0 % ;")
    assert "0 exemplars" not in text and "asked plainly" not in text


def test_a_folder_that_may_only_be_read_or_not_at_all_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run(tmp_path / "run")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        for name in ("write_bytes", "unlink"):
            patch.setattr(Path, name, refuse)
        with pytest.raises(RunError, match=r"cannot be written to .*run/report.html: Read-only file system"):
            write_report(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(RunError, match="cannot be read"):
            write_report(folder)


def test_a_folder_without_a_log_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no events\.jsonl"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_replaced_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / "report.html").write_text("old")
    before = sorted(path.name for path in folder.iterdir())
    assert write_report(folder) == folder / "report.html"
    assert sorted(path.name for path in folder.iterdir()) == before
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        write_report(folder)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_the_same_folder_gives_the_same_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_long_and_odd_text_is_capped_and_made_visible() -> None:
    text = Text.of("a" * 50_000)
    assert text.long and text.cut and len(text.short) < 300 and len(text.full) == 20_000
    assert Text.of("x\u202ey\x00\ud800\nz\t").full == "x\ufffdy\ufffd\ufffd\nz\t"
    assert Text.of("line\n" * 40).long
    assert not Text.of("").long


def test_a_secret_in_the_options_is_not_shown(tmp_path: Path) -> None:
    assert "sk-hidden-thing" not in report(make_run(tmp_path / "run")).source
    hidden = dict(settings({"max_tokens": 5, "token": "t", "nested": {"OPENAI_API_KEY": "k"}}))
    assert [text.full for text in hidden.values()] == ["5", "(hidden)", "(hidden)"]


def test_numbers_are_written_plainly() -> None:
    assert percent(0.1612).replace("\u00a0", " ") == "16.1 %"
    assert [points(value) for value in (0.153, -0.021, 0.0, -0.0001, None)] == ["+15.3", "−2.1", "0.0", "0.0", "–"]
    spans = [duration(value).replace("\u00a0", " ") for value in (0.44, 42, 245, 3900, None)]
    assert spans == ["0.4 s", "42 s", "4 min 05 s", "1 h 05 min", "–"]
