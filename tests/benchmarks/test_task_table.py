import json
import sys

import pytest

from dataenv.benchmarks import task_table
from dataenv.benchmarks.task_table import ABSENT, TABLE, main, measure, rendered
from dataenv.errors import InvalidData, UnknownId
from dataenv.protocols import ProceduralTask
from dataenv.records import Reply
from dataenv.tasks import tasks


class Parrot:
    """A student that knows one answer to everything, and twice as often after an example."""

    name, shots = "parrot", 2

    def answer(self, prompts, *, max_new_tokens, shots=(), **_):
        return [[Reply("5" if shots or i % 2 else "?", "stop", 1)] for i, _ in enumerate(prompts)]


@pytest.fixture
def folder(tmp_path):
    for part, start in (("test", 0), ("train", 500)):
        rows = [{"question": f"{i}?", "answer": f"{'<<1>>' * (i % 5 + 2)}\n#### 5"} for i in range(start, start + 1500)]
        (tmp_path / f"{part}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "tasks.md").write_text("# Tasks\n\n<!-- tasks -->\nold\n<!-- end -->\n\nafter\n")
    return tmp_path


@pytest.fixture
def run(folder, monkeypatch):
    monkeypatch.setattr(task_table, "make_student", lambda name: Parrot())

    def run(*arguments):
        where = ["--figures", str(folder / "tasks.json"), "--page", str(folder / "tasks.md")]
        monkeypatch.setattr(sys, "argv", ["task_table", *arguments, *where])
        main()
        figures = folder / "tasks.json"
        return (json.loads(figures.read_text()) if figures.exists() else {}), (folder / "tasks.md").read_text()

    return run


def test_every_registered_task_has_its_row():
    own = {id for id, entry in tasks.entries().items() if str(entry.target).startswith("dataenv.")}
    assert own <= set(TABLE)
    assert all(f"| `{id}` |" in rendered({}) for id in own)


@pytest.mark.parametrize("id", sorted(set(task_table.PROCEDURAL) & set(tasks.entries())))
def test_what_is_called_procedural_is(id):
    assert isinstance(tasks.make(TABLE[id].spec or id), ProceduralTask)


def test_figures_are_what_the_better_baseline_says(folder):
    found = measure(f"gsm8k:{folder}", 6, Parrot())
    assert (found["n"], found["accuracy"], found["used"], found["shots"]) == (30, 1.0, "few_shot", 2)
    assert found["plain"] == 0.5 and found["error"] > 0
    assert found["sizes"]["exam"] == 1500 and sum(found["sizes"].values()) == 2000
    assert found["skills"][0] == "1-2 steps"


def test_a_procedural_task_is_without_end():
    found = measure("drills:addition,copying", 3, Parrot())
    assert found["sizes"] is None and found["n"] == 6
    assert "| procedural | without end |" in rendered({"drills": found})


def test_rows_are_measured_one_by_one_and_the_rest_of_the_page_stays(run, folder):
    figures, page = run(f"gsm8k:{folder}", "--per-skill", "2")
    assert list(figures) == ["gsm8k"]
    assert "| `gsm8k` | mathematics | real | exemplar" in page and "`parrot` 100.0% ± " in page
    assert "(n = 10, 2-shot)" in page
    figures, page = run("drills", "--per-skill", "1")
    assert list(figures) == ["drills", "gsm8k"]
    assert page.startswith("# Tasks\n\n<!-- tasks -->\n| task |") and page.endswith("<!-- end -->\n\nafter\n")
    assert "\nold\n" not in page and str(folder) not in page + json.dumps(figures)
    assert run() == (figures, page)


def test_absent_data_are_said_and_do_not_erase_what_was_measured(run, folder):
    _, page = run(f"gsm8k:{folder / 'absent'}")
    (row,) = [line for line in page.splitlines() if line.startswith("| `gsm8k` |")]
    assert row.endswith(f"| {ABSENT} |")
    measured, _ = run(f"gsm8k:{folder}", "--per-skill", "1")
    assert run(f"gsm8k:{folder / 'absent'}")[0] == measured


def test_what_is_no_row_and_no_page_is_said(run, folder):
    with pytest.raises(UnknownId, match="'chess' is no task of the table; it has: arithmetic, "):
        run("chess")
    (folder / "tasks.md").write_text("nothing")
    with pytest.raises(InvalidData, match="no place for the table"):
        run()
