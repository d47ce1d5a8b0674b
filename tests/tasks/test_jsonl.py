import gzip
import json
import warnings
from itertools import product

import pytest

from dataenv.errors import InvalidData, Note
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
        ('{"prompt": "a", "answer": "5", "solution": "so 6"}', "does not end in a line with the answer"),
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
    with pytest.raises(InvalidData, match=r"^/.*absent.jsonl: there is no such file\.$"):
        JsonLines(str(tmp_path / "absent.jsonl"))
    with pytest.raises(InvalidData, match=rf"^{tmp_path}: cannot be read \(.*directory"):
        JsonLines(str(tmp_path))
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


@pytest.mark.parametrize("first", [1, 150])
def test_skills_that_begin_after_the_first_row_are_not_dropped(tmp_path, first):
    rows = [{**row, "skill": "x"} if i >= first else row for i, row in enumerate(ROWS)]
    with pytest.raises(InvalidData, match=f"line 1: field 'skill' is missing, which line {first + 1} has"):
        load(tmp_path, rows)


def said(tmp_path, rows, **columns):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(tmp_path, rows, **columns)
    return [str(w.message) for w in caught if issubclass(w.category, Note)]


def test_columns_that_are_not_read_are_said(tmp_path):
    assert said(tmp_path, ROWS) == said(tmp_path, [{**row, "skill": "x"} for row in ROWS]) == []
    (note,) = said(tmp_path, [*ROWS[:5], {**ROWS[5], "id": 7}, *ROWS[6:]])
    assert note.endswith("rows.jsonl: fields that are not read: 'id' (line 6).")
    (note,) = said(tmp_path, [{**row, **dict.fromkeys("abcdef", 1)} for row in ROWS])
    assert note.endswith("'d' (line 1) and 2 more.")


@pytest.mark.parametrize(("slip", "role"), [("skil", "skill"), ("Skills", "skill"), ("solutoin", "solution")])
def test_a_misspelt_column_is_said_with_the_way_out(tmp_path, slip, role):
    (note,) = said(tmp_path, [{**row, slip: row["answer"]} for row in ROWS])
    assert f"'{slip}' (line 1); if '{slip}' is the {role}, say --set task.{role}={slip}." in note
    assert said(tmp_path, [{**row, slip: row["answer"]} for row in ROWS], **{role: slip}) == []


def test_a_renamed_solution_must_be_there(tmp_path):
    with pytest.raises(InvalidData, match=r"no row has the field 'work' \(fields: prompt, answer\)"):
        load(tmp_path, ROWS, solution="work")


@pytest.mark.parametrize("tokens", [0, -4, "abc", 2.5, None, float("nan")])
def test_a_reply_needs_room_for_a_token(tmp_path, tokens):
    with pytest.raises(InvalidData, match=r"^max_new_tokens must be a whole number"):
        load(tmp_path, ROWS, max_new_tokens=tokens)


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


def test_the_micro_student_is_asked_though_its_context_is_no_longer_than_a_reply(tmp_path):
    pytest.importorskip("torch")
    from dataenv.envs.skill_list import SkillListEnv

    rows = [
        {"prompt": f"copy {word}=", "answer": word} for a, b, c in product("abcdef", repeat=3) for word in [a + b + c]
    ]
    env = SkillListEnv(load(tmp_path, rows), "micro", rows=20, feedback=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Task .* has one skill")
        env.reset(seed=0)
    examination = env.situation.examination
    assert examination.overlong == 0
    assert env.task.max_new_tokens == 128  # all the tokens that the student has room for
    assert examination.accuracy > 0
