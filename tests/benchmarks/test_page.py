"""The pages: one table in three forms, no script, no network, and nothing of the runs printed unescaped."""

import csv
import io
import re
from pathlib import Path

import pytest

from dataenv.benchmarks.board import board
from dataenv.benchmarks.page import interval, p_value, table_csv, table_markdown, write_pages
from dataenv.benchmarks.plots import Curve, Dot, curves, forest, pareto
from dataenv.benchmarks.scores import read
from dataenv.benchmarks.speed import report
from dataenv.benchmarks.statistics import Estimate
from dataenv.errors import RunError

NAN = float("nan")


def test_the_three_forms_say_the_same(finished):
    page = write_pages(finished, resamples=200)
    made = board(read(finished), resamples=200)
    html, markdown = page.read_text(), (page.parent / "board.md").read_text()
    lines = list(csv.DictReader(io.StringIO((page.parent / "board.csv").read_text())))
    assert [line["teacher"] for line in lines] == [row.teacher for row in made.rows]
    for row, line in zip(made.rows, lines, strict=True):
        assert float(line["iqm"]) == pytest.approx(row.gains["iqm"].value)
        assert interval(row.gains["iqm"]) in markdown and interval(row.gains["iqm"]) in html
        assert f"{row.runs} of {row.planned}" in html
    assert markdown.startswith("| | teacher |")


def test_a_page_needs_nothing_but_itself(finished):
    html = write_pages(finished, resamples=50).read_text()
    assert "<script" not in html and "http:" not in html and "https:" not in html
    assert "default-src 'none'" in html and "prefers-color-scheme: dark" in html and "width=device-width" in html


def test_every_run_is_linked_to_its_report(finished):
    page = write_pages(finished, resamples=50)
    links = re.findall(r'href="(\.\./runs/[^"]+)"', page.read_text())
    assert len(links) == 8 and all((page.parent / link).is_file() for link in links)


def test_the_report_of_a_run_is_called_by_its_teacher_and_seed(finished):
    html = (finished / "runs" / "skill-list" / "uniform" / "1" / "report.html").read_text()
    assert "<title>uniform, seed 1 – dataenv run</title>" in html
    assert not re.search(r"expected (\S+)</", html)  # the reference is shown beside the reply


def test_failed_and_missing_runs_are_shown_with_their_reason(finished):
    import shutil

    import orjson

    for seed in (0, 1):
        shutil.rmtree(finished / "runs" / "skill-list" / "error-proportional" / str(seed))
    (finished / "failed.json").write_bytes(orjson.dumps({"skill-list/error-proportional/1": "<b>it</b> broke"}))
    html = write_pages(finished, resamples=50).read_text()
    assert "failed: &lt;b&gt;it&lt;/b&gt; broke" in html and "not run yet" in html and "0 of 2" in html
    assert "6 of 8 runs" in html


def test_a_folder_that_holds_no_comparison_is_refused(tmp_path):
    with pytest.raises(RunError, match="no comparison"):
        write_pages(tmp_path)


def test_numbers_read_as_people_write_them():
    assert interval(Estimate(0.0312, 0.01, 0.0524)) == "+3.1 [+1.0, +5.2]"
    assert interval(Estimate(-0.0004, NAN, NAN)) == "0.0"
    assert (p_value(NAN), p_value(0.0004), p_value(0.04)) == ("–", "< 0.001", "0.040")


@pytest.mark.parametrize("width", [430, 820])
def test_pictures_take_whatever_there_is(width):
    rows = [
        ("a<b", "up", Estimate(0.1, 0.05, 0.15)),
        ("none", "flat", Estimate(NAN, NAN, NAN)),
        ("one", "down", Estimate(-0.2, NAN, NAN)),
    ]
    picture = forest(rows, title='"t"', width=width)
    assert "a&lt;b" in picture and "no finished run" in picture and "nan" not in picture
    assert "nan" not in forest([], title="t") and "nan" not in forest(rows[1:2], title="t")
    line = Curve("a<b", "f2", [0, 10], [0.1, NAN], [0.0, NAN], [0.2, NAN])
    assert "a&lt;b" in curves([line], title="t", below="rows", width=width)
    assert "nan" not in curves([line], title="t", below="rows") and "nan" not in curves([], title="t", below="rows")
    assert "nan" not in curves([Curve("a", "f2", [3.0], [0.5])], title="t", below="rows")
    dots = [Dot("a<b", 10, 0.1, True), Dot("b", NAN, 0.2, False), Dot("c", 10, 0.1, False)]
    assert "a&lt;b" in pareto(dots, title="t", below="rows", width=width) and "nan" not in pareto(
        dots, title="t", below="r"
    )
    assert "nan" not in pareto([], title="t", below="rows")


def test_markdown_and_csv_of_a_table_say_what_was_not_finished(finished):
    made = board(read(finished), resamples=50)
    assert "8 of 8 runs finished" in table_markdown(made, "small")
    header = table_csv(made).splitlines()[0].split(",")
    assert len(header) == len(set(header)) and "gain in skill-list" in header
    assert Path(finished / "suite.json").is_file()


def test_the_report_whose_speed_is_measured_is_a_whole_one(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["report", "--resamples", "20"])
    report.main()
    assert "s; then" in capsys.readouterr().out
    assert len(board(report.made_up(), 20).rows) == len(report.TEACHERS)
