"""Scores of discovered skills, and the command that prints them."""

import json
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataenv import cli
from dataenv.examine import examine
from dataenv.records import Attempt, Problem
from dataenv.skills import discoveries
from dataenv.skills.discovery import Gold
from dataenv.skills.scoring import agreement, calibration, explained, score


def attempts(*counts):
    """(skill, asked, solved) as attempts."""
    return [
        Attempt(
            problem=Problem(prompt=f"{skill} {i}", answer="1", skill=skill), response="", score=0, correct=i < solved
        )
        for skill, asked, solved in counts
        for i in range(asked)
    ]


def test_agreement_with_itself_and_with_nothing():
    assert agreement("aabb", "xxyy") == (4, 1.0, 1.0)
    n, rand, information = agreement("aabb", "xyxy")
    assert n == 4 and rand <= 0 and information == pytest.approx(0, abs=1e-9)


def test_agreement_of_a_known_case():
    # Hubert and Arabie: of 15 pairs, 6 are together in the first, 3 in the second, 2 in both.
    n, rand, _ = agreement("aaabbb", "xxyyzz")
    assert (n, rand) == (6, pytest.approx((2 - 6 * 3 / 15) / ((6 + 3) / 2 - 6 * 3 / 15)))


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=30))
def test_explained_is_a_share(pairs):
    values, groups = zip(*pairs, strict=True)
    share = explained(values, groups)
    assert share is None or 0 <= share <= 1
    assert share is None or explained(values, [str(i) for i in range(len(values))]) == pytest.approx(1)


def test_explained_by_all_and_by_nothing():
    assert explained([0, 0, 1, 1], "aabb") == 1
    assert explained([0, 1, 0, 1], "aabb") == 0
    assert explained([0.5, 0.5], "ab") is None


def test_calibration_compares_the_two_splits_skill_by_skill():
    found = calibration(Gold(), attempts(("a", 10, 5), ("b", 10, 9), ("c", 4, 1)), attempts(("a", 10, 7), ("b", 10, 1)))
    assert found.skills == 2 and found.error == pytest.approx((0.2 + 0.8) / 2)
    assert found.covered == 0.5 and found.explained == pytest.approx(1)


def test_skills_that_mix_strong_and_weak_ones_explain_nothing():
    one = discoveries.make("cluster:1")
    asked = attempts(("a", 10, 9), ("b", 10, 1))
    one.fit([attempt.problem for attempt in asked])
    assert calibration(one, asked, asked).explained == pytest.approx(0)
    assert calibration(one, [], asked) is None


def test_scores_are_json_and_read_no_exam(fakes):
    toy = fakes.Toy()
    plain = score(toy, discoveries.make("cluster"), per_skill=8)
    assert {split for split, _, _ in toy.asked} == {"feedback", "selection"}
    assert json.loads(json.dumps(plain)) == plain and plain["calibration"] is None
    assert plain["agreement"]["selection"] == {"n": 24, "rand": 1.0, "information": 1.0}
    assert [row["gold"] for row in plain["skills"]] == [{"a": 8}, {"b": 8}, {"c": 8}]
    student = fakes.Scripted()
    asked = score(toy, discoveries.make("cluster"), lambda rows: examine(toy, student, rows).attempts, 40)
    assert asked["calibration"]["skills"] == 3 and asked["calibration"]["explained"] == pytest.approx(1)
    assert [row["feedback"]["n"] for row in asked["skills"]] == [40, 40, 40]
    accuracy = [row["feedback"]["accuracy"] for row in asked["skills"]]
    assert accuracy == sorted(accuracy) and accuracy[0] < 0.4 < 0.7 < accuracy[2]


@pytest.fixture
def call(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["dataenv", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return SimpleNamespace(code=ended.value.code or 0, out=out, err=err)

    return call


def test_the_command_prints_a_line_for_each_skill(call, registered):
    done = call("skills", "--task", "toy", "--per-skill", 6, "--student", "scripted")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["skill", "feedback", "accuracy", "fresh", "accuracy", "gold", "skills"]
    assert [line.split()[0] for line in lines[1:4]] == ["a", "b", "c"] and lines[1].endswith("a 6")
    assert "ARI 1.000, NMI 1.000" in done.out and "over 3 skills" in done.out
    assert "accuracy" not in call("skills", "--task", "toy", "--per-skill", 6).out


def test_the_command_as_json(call, registered):
    done = call("skills", "--task", "toy", "--per-skill", 6, "--discovery", "gold", "--json")
    assert done.code == 0 and json.loads(done.out)["discovery"] == "gold" and "ARI" in done.err


def test_a_task_without_gold_skills_says_so(call, tmp_path):
    rows = [{"prompt": f"{verb} {i} and {i}", "answer": i} for verb in ("add", "take") for i in range(120)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    done = call("skills", "--task", "jsonl:mine.jsonl")
    assert done.code == 0, done.err
    assert "no gold skills" in done.out and "ARI" not in done.out
    assert [line.split()[0] for line in done.out.splitlines()[1:3]] == ["add", "take"]


def test_labels_written_out_can_be_edited_and_used(call, registered, tmp_path):
    assert call("skills", "--task", "toy", "--out", "labels.jsonl").code == 0
    path = tmp_path / "labels.jsonl"
    path.write_text(path.read_text().replace('"skill":"a"', '"skill":"first"'))
    done = call("skills", "--task", "toy", "--discovery", "file:labels.jsonl")
    assert done.code == 0, done.err
    assert "first" in done.out and "ARI 1.000" in done.out
    path.write_text("".join(path.read_text().splitlines(keepends=True)[10:]))
    done = call("skills", "--task", "toy", "--discovery", "file:labels.jsonl")
    assert done.code == 1 and done.out == "" and "10 of the 513 feedback problems have no skill" in done.err


def test_unknown_discoveries_name_the_list(call):
    done = call("skills", "--task", "drills", "--discovery", "clutser")
    assert done.code == 1 and "did you mean 'cluster'? 'dataenv list discoveries'" in done.err
    listed = call("list", "discoveries").out
    assert all(name in listed for name in ("cluster", "file", "gold"))
