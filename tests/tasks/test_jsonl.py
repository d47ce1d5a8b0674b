import gzip
import json

import pytest

from dataenv.errors import InvalidData
from dataenv.records import Example, Prompt
from dataenv.tasks.jsonl import JsonLines
from dataenv.tasks.splits import SHARES

ROWS = [{"prompt": f"Capital number {i}?", "answer": f"City  {i}"} for i in range(200)]


def load(tmp_path, rows, name="rows.jsonl", **columns):
    path = tmp_path / name
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return JsonLines(str(path), **columns)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"prompt": "a", "answer": NaN}', "not JSON"),
        ("[1]", "not a JSON object"),
        ("", "empty"),
        ('{"prompt": "a"}', "'answer' is missing"),
        ('{"answer": "a"}', "'prompt' is missing"),
        ('{"prompt": 5, "answer": "a"}', "'prompt' must be text, not a number"),
        ('{"prompt": "a", "answer": true}', "'answer' must be text or a number, not bool"),
        ('{"prompt": "a", "answer": null}', "not null"),
        ('{"prompt": "a", "answer": ["b"]}', "not list"),
        ('{"prompt": " ", "answer": "b"}', "'prompt' is empty"),
        ('{"prompt": "a", "answer": ""}', "'answer' is empty"),
        ('{"prompt": "a", "answer": "5", "solution": "so 6"}', "does not end in the answer"),
        ('{"prompt": "capital  NUMBER 0?", "answer": "other"}', "the prompt of line 1 again"),
    ],
)
def test_each_bad_line_is_named(tmp_path, line, what):
    with pytest.raises(InvalidData) as error:
        load(tmp_path, [*ROWS[:3], line, *ROWS[3:]])
    assert "rows.jsonl, line 4: " in str(error.value) and what in str(error.value)


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(json.dumps(ROWS[0]).encode() + b'\n{"prompt": "\xff"}')
    with pytest.raises(InvalidData, match="line 2: not UTF-8"):
        JsonLines(str(tmp_path / "rows.jsonl"))


def test_files_that_cannot_be_read_are_named(tmp_path):
    for path in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(InvalidData, match="cannot be read"):
            JsonLines(str(path))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(json.dumps(ROWS[0]).encode() * 99)[:40])
    with pytest.raises(InvalidData, match="cannot be read"):
        JsonLines(str(tmp_path / "cut.gz"))


@pytest.mark.parametrize("n", [0, 1, 10])
def test_too_few_rows_say_how_many_there_are_and_are_needed(tmp_path, n):
    with pytest.raises(InvalidData, match=f"its {n} distinct rows leave no problem for .*about 100 or more"):
        load(tmp_path, ROWS[:n])


def test_plain_zipped_and_marked_files_are_the_same(tmp_path):
    plain = load(tmp_path, ROWS)
    zipped = load(tmp_path, ROWS, "rows.jsonl.gz")
    marked = load(tmp_path, ["\ufeff" + json.dumps(ROWS[0]), *ROWS[1:], "", ""], "bom.jsonl")
    ids = [[p.id for split in SHARES for p in task.problems(split, None, 0)] for task in (plain, zipped, marked)]
    assert ids[0] == ids[1] == ids[2] and len(ids[0]) == 200
    assert plain.skills == ("general",)


def test_columns_can_be_named(tmp_path):
    rows = [{"q": f"{i}?", "a": i, "topic": i % 3, "work": f"thus\n#### {i}"} for i in range(200)]
    task = load(tmp_path, rows, prompt="q", answer="a", skill="topic", solution="work")
    assert task.skills == ("0", "1", "2")
    (problem,) = task.problems("exam", 1, 0)[:1]
    assert problem.solution.endswith(problem.answer)
    row = Example.from_problem(problem)
    assert task.verify(row.as_problem(), row.completion).correct
    with pytest.raises(InvalidData, match="'subject' is missing"):
        load(tmp_path, rows, prompt="q", answer="a", skill="subject")


def test_a_skill_column_must_then_be_everywhere(tmp_path):
    with pytest.raises(InvalidData, match="line 2: field 'skill' is missing"):
        load(tmp_path, [{**ROWS[0], "skill": "x"}, *ROWS[1:]])


def test_equal_rows_are_one_problem(tmp_path):
    task = load(tmp_path, [*ROWS, ROWS[0], {"prompt": "CAPITAL number 1?", "answer": "city 1"}])
    assert task.duplicates == 2
    assert len({p.prompt.key for split in SHARES for p in task.problems(split, None, 0)}) == 200


def test_numbers_are_kept_as_written_and_compared_as_numbers(tmp_path):
    task = load(tmp_path, ['{"prompt": "n?", "answer": 1234567890123456789012.50}', *ROWS])
    problem = task.recognise(Prompt(text=" N? "))
    assert problem is not None and problem.answer == "1234567890123456789012.50"
    assert task.verify(problem, "1,234,567,890,123,456,789,012.5").correct
    assert not task.verify(problem, "1234567890123456789012.51").correct


def test_text_is_compared_after_normalisation(tmp_path):
    task = load(tmp_path, ROWS)
    problem = task.recognise(Prompt(text="Capital number 7?"))
    assert problem is not None
    for right in (" city 7\n", "CITY\t7", "thinking ...\n#### City 7"):
        assert task.verify(problem, right).correct
    for wrong in ("City 7 or City 8", "City 77", "it is City 7", "x\nCity 7"):
        assert not task.verify(problem, wrong).correct
