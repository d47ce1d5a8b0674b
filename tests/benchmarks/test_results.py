"""Results in the repository: small files, and tables made from them."""

import csv
import json

import pytest

from dataenv.benchmarks.results import filled, publish, ranks
from dataenv.errors import InvalidData


@pytest.fixture
def published(finished, tmp_path):
    root = tmp_path / "results"
    publish(finished, root / "small")
    return root


def test_a_comparison_becomes_four_small_files(published, finished):
    place = published / "small"
    assert {path.name for path in place.iterdir()} == {"board.md", "board.csv", "scores.csv", "about.json"}
    about = json.loads((place / "about.json").read_text())
    assert about["seeds"] == [0, 1] and "trainer" in about["versions"] and not about["failed"]
    assert str(finished.parent) not in "".join(path.read_text() for path in place.iterdir())
    rows = list(csv.DictReader((place / "scores.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert all(
        float(row["gain"]) == pytest.approx(float(row["after"]) - float(row["before"]), abs=2e-6) for row in rows
    )


def test_tables_stand_between_their_marks_and_are_made_anew(published):
    text = "before\n<!-- results: small -->\nold\n<!-- end -->\nafter"
    once = filled(text, published)
    assert once.startswith("before\n<!-- results: small -->\n| | teacher |") and once.endswith("<!-- end -->\nafter")
    assert "old" not in once and filled(once, published) == once
    with pytest.raises(InvalidData, match="publish that suite"):
        filled("<!-- results: other -->\n<!-- end -->", published)


def test_the_best_lines_and_the_controls_make_a_short_table(published):
    whole = (published / "small" / "board.md").read_text().splitlines()
    short = filled("<!-- best: small 1 -->\n<!-- end -->", published).splitlines()[1:-1]
    assert set(short) < set(whole) and short[:3] == whole[:3] and short[-1] == whole[-1]
    assert [line for line in short if "(control)" in line] == [line for line in whole if "(control)" in line]


def write(root, name, gains):
    (root / name).mkdir(parents=True)
    lines = [
        f"a,{teacher},{seed},0,0,{gain},1,1,1,1" for teacher, found in gains.items() for seed, gain in enumerate(found)
    ]
    head = "cell,teacher,seed,before,after,gain,n,rows,tokens,seconds"
    (root / name / "scores.csv").write_text("\n".join([head, *lines]) + "\n")


def test_rankings_are_compared_over_the_teachers_that_two_suites_share(tmp_path):
    write(tmp_path, "one", {"a": [0.1, 0.11], "uniform": [0.2, 0.21], "c": [0.3, 0.31], "x": [9, 9]})
    write(tmp_path, "two", {"c": [0.5, 0.6], "a": [0.1, 0.1], "uniform": [0.2, 0.3]})
    said = ranks("one", "two", tmp_path)
    assert "3 teachers" in said and "+1.00 [+1.00, +1.00]" in said
    assert said in filled("<!-- ranks: one two -->\n<!-- end -->", tmp_path)
    write(tmp_path, "three", {"a": [1], "uniform": [2]})
    with pytest.raises(InvalidData, match="share 2 teachers"):
        ranks("one", "three", tmp_path)
    with pytest.raises(InvalidData, match="publish that suite"):
        ranks("one", "four", tmp_path)
