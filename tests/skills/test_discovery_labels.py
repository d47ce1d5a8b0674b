"""Skills from a file of labels: what it may look like, and what is said of one that will not do."""

import json

import pytest

from dataenv.errors import InvalidData
from dataenv.records import Problem
from dataenv.skills import discoveries
from dataenv.skills.discovery import freeze, thaw
from dataenv.skills.labels import read_labels, write_labels

ROWS = [Problem(prompt=f"{verb} {i} and 2", answer=str(i)) for verb in ("add", "take") for i in range(6)]
LABELS = {row.prompt.text: ("up" if row.prompt.text.startswith("add") else "down") for row in ROWS}


def write(path, labels):
    if path.suffix == ".json":
        path.write_text(json.dumps(labels))
    else:
        path.write_text("".join(json.dumps({"prompt": text, "skill": skill}) + "\n" for text, skill in labels.items()))
    return f"file:{path}"


def fitted(spec, rows=ROWS):
    discovery = discoveries.make(spec)
    discovery.fit(rows)
    return discovery


@pytest.mark.parametrize("name", ["labels.json", "labels.jsonl"])
def test_labels_by_prompt(tmp_path, name):
    discovery = fitted(write(tmp_path / name, LABELS))
    assert discovery.skills == ("down", "up")
    assert discovery.skills_of(ROWS) == list(LABELS.values())


def test_labels_by_id_or_by_a_prompt_in_other_case(tmp_path):
    path = tmp_path / "labels.jsonl"
    rows = [{"id": row.id, "skill": LABELS[row.prompt.text]} for row in ROWS[:5]]
    rows += [{"prompt": f" {row.prompt.text.upper()}", "skill": LABELS[row.prompt.text]} for row in ROWS[5:]]
    path.write_text("\n\n".join(map(json.dumps, rows)))
    assert fitted(f"file:{path}").skills_of(ROWS) == list(LABELS.values())


def test_unseen_problems_get_the_nearest_skill_unless_the_file_has_their_own(tmp_path):
    new = [Problem(prompt="add 70 and 80", answer="1"), Problem(prompt="take 5 and 90", answer="2")]
    odd = Problem(prompt="add 1 and 1000", answer="3")
    spec = write(tmp_path / "labels.json", {**LABELS, odd.prompt.text: "odd", new[0].id: "up"})
    discovery = fitted(spec)
    assert discovery.skills_of([*new, odd]) == ["up", "down", "odd"] and discovery.skills == ("down", "odd", "up")
    assert thaw(freeze(discovery)).skills_of([*new, odd]) == ["up", "down", "odd"]


def test_a_frozen_one_needs_the_file_no_more(tmp_path):
    frozen = freeze(fitted(write(tmp_path / "labels.json", LABELS)))
    (tmp_path / "labels.json").unlink()
    assert thaw(frozen).skills_of(ROWS) == list(LABELS.values())


def test_missing_problems_are_counted_with_an_example(tmp_path):
    spec = write(tmp_path / "labels.json", {text: LABELS[text] for text in list(LABELS)[:9]})
    discovery = discoveries.make(spec)
    with pytest.raises(InvalidData, match=r"3 of the 12 feedback problems have no skill in it, for example 'take \d"):
        discovery.fit(ROWS)
    assert discovery.skills == ()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"prompt": "x", "skill": "s"}\n{"prompt": "y"}', r"a.jsonl, line 2: a label needs"),
        ("a.jsonl", '{"prompt": "x", "skill": " "}', r"line 1: a label needs"),
        ("a.jsonl", '{"prompt": 3, "skill": "s"}', r"line 1: a label needs"),
        ("a.jsonl", '["x", "s"]', r"line 1: a label needs"),
        ("a.jsonl", "\n{oops", r"line 2: not JSON"),
        (
            "a.jsonl",
            '{"prompt": "x", "skill": "s"}\n{"prompt": "X ", "skill": "t"}',
            r"line 2: 'X ' is 't' here and 's'",
        ),
        ("a.json", '{"x": "s", "x": "t"}', r"entry 2: 'x' is 't' here and 's' above"),
        ("a.json", '{"x": {"skill": "s"}}', r"entry 1: a label needs"),
        ("a.json", "[1]", r"a.json: not a JSON object"),
        ("a.json", "", r"a.json: not JSON"),
        ("a.json", "[" * 10**5, r"a.json: not JSON"),
        ("a.json", b"\xff", r"cannot be read"),
        ("none.json", None, r"cannot be read"),
    ],
)
def test_bad_files_say_what_and_where(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidData, match=message):
        fitted(f"file:{path}")


def test_odd_text_in_a_file_is_text(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"\\ud800": "s", "é\\u0000": "t", "\\u2028": "u", "#": "v"}')
    with pytest.raises(InvalidData, match="entry 3: a label needs"):
        read_labels(path)
    path.write_text('{"\\ud800": "s", "é\\u0000": "t"}')
    assert set(read_labels(path).values()) == {"s", "t"}


def test_written_labels_are_read_back(tmp_path):
    discovery = fitted("cluster")
    write_labels(tmp_path / "l.jsonl", discovery, [*ROWS, *ROWS[:3]])
    again = fitted(f"file:{tmp_path / 'l.jsonl'}")
    assert len((tmp_path / "l.jsonl").read_text().splitlines()) == len(ROWS)
    assert again.skills_of(ROWS) == discovery.skills_of(ROWS) and again.skills == discovery.skills
    with pytest.raises(InvalidData, match="cannot be written"):
        write_labels(tmp_path / "no" / "l.jsonl", discovery, ROWS)
