"""Cache and tape: what they keep survives kills and company, and plays back the same."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import orjson
import pytest

from dataenv.chat.cache import Cache
from dataenv.chat.ledger import USED, Journal
from dataenv.chat.question import Answer, Completion, Failure, Question, Trouble
from dataenv.chat.tape import Tape
from dataenv.errors import BudgetSpent, CallFailed, InvalidData, NotOnTape

WRITER = """
import sys
from dataenv.chat.cache import Cache
from dataenv.chat.question import Completion, Question
cache = Cache(sys.argv[1])
print("ready", flush=True)
for i in range(10**9):
    n = i % 997
    cache.put(f"{n:032x}", Question(messages="q"), Completion(text=f"{n} " * 2000, completion_tokens=n))
"""


def question(text="q", **settings):
    return Question(messages=text, **settings)


# -- cache ------------------------------------------------------------------------------------------------------------


def test_a_cached_answer_is_the_answer(scripted, make, tmp_path):
    model = scripted()
    first = make(model, cache=tmp_path).ask(["a", "b"])
    client = make(model, cache=tmp_path)
    again = client.ask(["b", "a"])
    assert [answer.text for answer in again] == ["b", "a"]
    assert [answer.cached for answer in first + again] == [False, False, True, True]
    assert len(model.asked) == 2
    assert (client.ledger.cached, client.ledger.calls, client.ledger.prompt_tokens) == (2, 0, 0)


def test_everything_an_answer_depends_on_is_in_its_key(scripted, make, tmp_path, schema):
    model = scripted(lambda question: '{"n": 1}')
    asked = [
        question("a"),
        question("b"),
        question("a", seed=1),
        question("a", temperature=0.5),
        question("a", max_tokens=5),
        question("a", json_schema=schema),
        question([{"role": "system", "content": "a"}, {"role": "user", "content": "a"}]),
    ]
    client = make(model, cache=tmp_path)
    client.ask(asked)
    assert len(model.asked) == 7
    other = scripted()
    other.id = "another"
    assert not make(other, cache=tmp_path).ask(["a"])[0].cached


def test_equal_questions_at_once_are_asked_once(scripted, make, tmp_path):
    model = scripted(seconds=0.01)
    results = make(model, cache=tmp_path).ask(["a"] * 10)
    assert len(model.asked) == 1
    assert sum(result.cached for result in results) == 9


def test_without_a_cache_equal_questions_are_asked_as_often_as_they_stand_there(scripted, make):
    model = scripted()
    make(model).ask(["a"] * 3)
    assert len(model.asked) == 3


def test_failures_are_not_cached(scripted, make, tmp_path):
    model = scripted(lambda question: Trouble("no"))
    client = make(model, cache=tmp_path, tries=2)
    assert isinstance(client.ask(["a"])[0], Failure)
    model.answer = lambda question: "yes"
    assert client.ask(["a"])[0].text == "yes"


def test_answer_and_repair_are_cached_each(scripted, make, tmp_path, schema):
    texts = iter(["no", '{"n": 3}'])
    make(scripted(lambda question: next(texts)), cache=tmp_path).ask([question(json_schema=schema)])
    silent = scripted(lambda question: AssertionError("asked"))
    (answer,) = make(silent, cache=tmp_path).ask([question(json_schema=schema)])
    assert (answer.data, answer.repaired, answer.cached) == ({"n": 3}, True, True)


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"[]", b'{"completion": {"text": 5}}', b'{"completion": {"te'])
def test_a_damaged_entry_is_written_again(tmp_path, content):
    cache = Cache(tmp_path)
    cache.put("ab" * 16, question(), Completion(text="fine"))
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(content)
    assert cache.get("ab" * 16) is None
    cache.put("ab" * 16, question(), Completion(text="fine"))
    assert cache.get("ab" * 16) == Completion(text="fine")


def test_a_cache_outlives_writers_that_are_killed(tmp_path):
    """Three processes write the same entries, each is killed in the midst of it: what is there is whole."""
    cache, seen = Cache(tmp_path), 0
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE) for _ in range(3)]
    for writer in writers:
        assert writer.stdout.readline() == b"ready\n"
    for writer in writers:
        time.sleep(0.15)
        for i in range(0, 997, 7):
            check_entry(cache, i)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    for i in range(997):
        seen += check_entry(cache, i)
    assert seen > 20
    assert all(orjson.loads(path.read_bytes())["completion"] for path in tmp_path.rglob("*.json"))


def check_entry(cache, i):
    found = cache.get(f"{i:032x}")
    assert found is None or (found.text == f"{i} " * 2000 and found.completion_tokens == i)
    return found is not None


def test_a_cache_that_cannot_be_written_says_so(scripted, make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidData, match="cannot be kept in"):
        make(scripted(), cache=tmp_path / "file").ask(["a"])


# -- tape -------------------------------------------------------------------------------------------------------------


def record(make, model, path, asked, **options):
    with make(model, tape=Tape.record(path), **options) as client:
        return client.ask(asked)


def told(results):
    return [
        (result.text, result.data) if isinstance(result, Answer) else (type(result.error), str(result.error))
        for result in results
    ]


def test_a_recorded_run_plays_back_without_the_model(scripted, make, tmp_path, schema):
    def answer(question):
        text = question.messages[0].content
        if text == "fails":
            return Trouble("no")
        if text == "refused":
            return CallFailed("not that")
        return '{"n": 3}' if len(question.messages) > 1 else text

    asked = [
        question("a"),
        question("fails"),
        question("b", json_schema=schema),
        question("refused"),
        question("a"),
        question("never", json_schema={**schema, "required": ["n", "m"]}),
    ]
    recorded = record(make, scripted(answer), tmp_path / "tape", asked, tries=2)
    silent = scripted(lambda question: AssertionError("asked"))
    client = make(silent, tape=Tape.replay(tmp_path / "tape"))
    for _ in range(2):
        client.check()
        assert told(client.ask(asked)) == told(recorded)
    assert [type(result) for result in recorded] == [Answer, Failure, Answer, Failure, Answer, Failure]
    assert client.ledger.calls == 0
    assert silent.asked == []


def test_a_tape_needs_neither_server_nor_key(make, server, tmp_path, monkeypatch):
    record(make, None, tmp_path / "tape", ["a"])
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    client = make("openai:stub", tape=Tape.replay(tmp_path / "tape"))
    client.check()
    assert client.ask(["a"])[0].text == "fine: a"
    assert len(server.chats) == 1


def test_a_question_that_is_not_on_the_tape_says_which_and_why(scripted, make, tmp_path):
    record(make, scripted(), tmp_path / "tape", ["a"])
    client = make(scripted(), tape=Tape.replay(tmp_path / "tape"))
    with pytest.raises(NotOnTape, match=r'question that ends with "something else".*record it again') as caught:
        client.ask(["a", "something  else"])
    assert [type(result) for result in caught.value.results] == [Answer, Failure]


def test_a_failure_that_later_went_well_plays_back_in_that_order(scripted, make, tmp_path):
    outcomes = iter([CallFailed("not yet"), "now"])
    with make(scripted(lambda question: next(outcomes)), tape=Tape.record(tmp_path / "tape")) as client:
        recorded = [told(client.ask(["a"])) for _ in range(3)]
    replay = make(scripted(), tape=Tape.replay(tmp_path / "tape"))
    assert [told(replay.ask(["a"])) for _ in range(3)] == recorded
    assert recorded[1] == recorded[2] == [("now", None)]


def test_a_spent_budget_is_on_the_tape(scripted, make, tmp_path):
    from dataenv.chat.budget import ChatBudget

    asked = [question(str(i), max_tokens=10) for i in range(8)]
    recorded = record(make, scripted(), tmp_path / "tape", asked, budget=ChatBudget(tokens=100), concurrency=1)
    assert any(isinstance(result, Failure) and isinstance(result.error, BudgetSpent) for result in recorded)
    assert told(make(scripted(), tape=Tape.replay(tmp_path / "tape")).ask(asked)) == told(recorded)


def test_a_recording_goes_on_after_a_kill(scripted, make, tmp_path):
    path = tmp_path / "tape"
    record(make, scripted(), path, ["a", "b"])
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    model = scripted()
    record(make, model, path, ["a", "b", "c"])
    assert [asked.messages[0].content for asked in model.asked] == ["b", "c"]
    assert len(path.read_bytes().splitlines()) == 3
    assert len(make(scripted(), tape=Tape.replay(path)).ask(["c", "b", "a"])) == 3


def test_what_the_cache_knew_is_on_the_tape_too(scripted, make, tmp_path):
    make(scripted(), cache=tmp_path / "cache").ask(["a"])
    record(make, scripted(), tmp_path / "tape", ["a"], cache=tmp_path / "cache")
    assert make(scripted(), tape=Tape.replay(tmp_path / "tape")).ask(["a"])[0].text == "a"


def test_a_tape_can_be_read_by_people(scripted, make, tmp_path):
    record(make, scripted(), tmp_path / "tape", [question("Wie heißt du?", seed=3)])
    (line,) = (tmp_path / "tape").read_text().splitlines()
    entry = json.loads(line)
    assert entry["question"] == {"messages": [{"role": "user", "content": "Wie heißt du?"}], "seed": 3}
    assert entry["completion"]["text"] == "Wie heißt du?"


def test_two_recordings_on_one_file_are_refused(tmp_path):
    first = Tape.record(tmp_path / "tape")
    with pytest.raises(InvalidData, match="Another run is recording"):
        Tape.record(tmp_path / "tape")
    first.close()
    Tape.record(tmp_path / "tape").close()


@pytest.mark.parametrize(
    "line", ["nonsense", "[]", '{"key": "a"}', '{"key": "a", "error": "KeyError", "message": "x"}', "{}"]
)
def test_a_file_that_is_no_tape_is_refused(tmp_path, line):
    (tmp_path / "tape").write_text(line + "\n")
    with pytest.raises(InvalidData, match="Line 1 of"):
        Tape.replay(tmp_path / "tape")


def test_no_tape_and_no_place_for_one_are_said(tmp_path):
    with pytest.raises(InvalidData, match="no tape to replay"):
        Tape.replay(tmp_path / "tape")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidData, match="cannot be written"):
        Tape.record(tmp_path / "file" / "tape")


def test_threads_that_record_do_not_tear_each_others_lines(scripted, make, tmp_path):
    with make(scripted(), tape=Tape.record(tmp_path / "tape")) as client:
        threads = [threading.Thread(target=client.ask, args=([f"{name} {i}" for i in range(30)],)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({json.loads(line)["key"] for line in (tmp_path / "tape").read_text().splitlines()}) == 120


# -- usage ------------------------------------------------------------------------------------------------------------


def test_usage_goes_on_where_it_ended_retries_and_lost_tries_included(scripted, make, tmp_path):
    file = tmp_path / "used/usage.jsonl"
    troubles = iter([Trouble("busy"), Trouble("reset", lost=True)])
    first = make(scripted(lambda question: next(troubles, "fine")), usage=file)
    first.ask(["a", "b"])
    assert (first.ledger.calls, first.ledger.retries, first.ledger.lost) == (4, 2, 1)
    second = make(scripted(), usage=file)  # the first was not closed: it may as well have been killed
    assert {name: getattr(second.ledger, name) for name in USED} == {name: getattr(first.ledger, name) for name in USED}
    assert second.ledger.answers == 0
    second.ask(["c"])
    assert Journal(file).read()["calls"] == 5


def test_a_line_that_a_kill_left_unfinished_counts_for_nothing(tmp_path):
    file = tmp_path / "usage.jsonl"
    journal = Journal(file)
    journal.write({"calls": 1})
    journal.close()
    with file.open("ab") as torn:
        torn.write(b'{"calls": 1, "prompt_to')
    after = Journal(file)
    assert after.read()["calls"] == 1
    after.write({"calls": 1, "dollars": 0.5})
    after.close()
    assert (Journal(file).read()["calls"], Journal(file).read()["dollars"]) == (2, 0.5)
    file.write_bytes(b'[1]\n{"other": 1}\n{"calls": "x"}\nnull\n')
    assert set(Journal(file).read().values()) == {0}


def test_a_question_that_only_looks_whether_the_model_is_there_leaves_no_file(scripted, make, tmp_path):
    class Unsure(scripted):
        async def check(self):
            return False

    client = make(Unsure(), usage=tmp_path / "usage.jsonl", cache=tmp_path / "cache")
    client.check()
    assert client.ledger.calls == 1 and not list(tmp_path.iterdir())


def test_usage_that_cannot_be_written_is_said(scripted, make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InvalidData, match=r"usage\.jsonl cannot be written"):
        make(scripted(), usage=tmp_path / "file/usage.jsonl").ask(["a"])
