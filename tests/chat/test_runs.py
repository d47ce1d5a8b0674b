"""Runs with a language model: stopped, killed and gone on with, they end as if they had not been; what is wrong with
the model is said before anything is taught."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from dataenv.chat import models
from dataenv.errors import InvalidData, Note, RunError, ServerFailing
from dataenv.registry import Entry
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import resume, start
from dataenv.runs.report import write_report

pytest.importorskip("torch")
pytest.importorskip("transformers")

from dataenv.students.weights import smollm2_present

SMALL = {
    "task": "drills", "student": "micro", "steps": 3, "rows": 12, "feedback": 2, "exam": 1, "model": "openai:stub",
    "options": {"task": {"skills": ["copying", "addition"]}, "student": {"epochs": 1}},
}  # fmt: skip


def plan(body):
    """What the server writes: valid plans that depend on the prompt alone, and the second step's not usable."""
    text = body["messages"][-1]["content"]
    number = sum(map(ord, text)) % 7 + 1
    if "- step 1:" in text and "- step 2:" not in text:
        return "I would rather not."
    if "`requests`" in text:
        requests = [{"instruction": "addition", "error": 1, "rows": number}]
        return json.dumps({"reasoning": f"because of {number}", "requests": requests})
    if "`skills`" in text:
        skills = [{"skill": "Addition", "rows": number, "difficulty": None}, {"skill": "?", "rows": 1, "difficulty": 1}]
        return json.dumps({"reasoning": f"because of {number}", "skills": skills})
    return json.dumps({"reasoning": "", "move": "explore", "new": 1, "rows": number, "quotas": []})


@pytest.fixture
def config(server):
    server.answer = plan

    def config(kind, **changes):
        options = {**SMALL["options"], "model": {"base_url": server.url, "patience": 0.5, "wait": 0.01, "tries": 3}}
        options["model"] |= changes.pop("of_model", {})
        return RunConfig(**{**SMALL, "env": kind, "teacher": f"{kind}-llm", "options": options, **changes})

    return config


def events(folder):
    return [json.loads(line) for line in (folder / "events.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("kind", ["open-ended", "skill-list", "skill-tree"])
def test_a_run_stopped_anywhere_goes_on_to_the_same_end_without_asking_twice(kind, config, server, tmp_path):
    whole = start(config(kind), tmp_path / "run")
    asked = len(server.chats)
    lines = (tmp_path / "run/events.jsonl").read_bytes().splitlines(keepends=True)
    for kept in (1, 2, 3, 4):
        (tmp_path / "run/events.jsonl").write_bytes(b"".join(lines[:kept]))
        assert resume(tmp_path / "run")["hash"] == whole["hash"]
        said = [event["chat"] for event in events(tmp_path / "run") if "chat" in event]
        assert sum(chat["calls"] for chat in said) == asked  # also those of steps that were done again
        assert sum(chat["prompt_tokens"] for chat in said) == 5 * asked
    assert len(server.chats) == asked


def test_what_a_step_asked_is_not_forgotten_when_the_step_is_done_again(config, server, tmp_path):
    """Its event stands in the log, but a file it names is gone."""
    whole = start(config("skill-list", steps=2), tmp_path / "run")
    asked = len(server.chats)
    lines = (tmp_path / "run/events.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "run/events.jsonl").write_bytes(b"".join(lines[:-2]))
    (tmp_path / "run/steps/002/rows.jsonl").unlink()
    with pytest.warns(Note, match="cannot be built on"):
        assert resume(tmp_path / "run")["hash"] == whole["hash"]
    assert len(server.chats) == asked
    assert sum(event["chat"]["calls"] for event in events(tmp_path / "run") if "chat" in event) == asked


def test_events_say_what_was_taken_and_refused_and_the_report_shows_it(config, server, tmp_path):
    start(config("skill-list", of_model={"prompt_price": 1.0, "completion_price": 2.0}), tmp_path / "run")
    steps = [event for event in events(tmp_path / "run") if event["event"] == "step"]
    assert [step["chat"]["calls"] for step in steps] == [1, 2, 1]  # with the second one's repair
    assert steps[0]["chat"]["prompt_tokens"] == 5 and steps[0]["chat"]["dollars"] == pytest.approx(19e-6)
    assert "has not the form" in steps[1]["dialogue"][0]["refused"] and "refused" not in steps[0]["dialogue"][0]
    assert steps[1]["taught"] == {"copying": 6, "addition": 6}
    said = json.loads((tmp_path / "run/steps/001/dialogue.jsonl").read_text())
    failure = re.search(r"problem:\n\| .+\nthe student's answer:\n\| .*\nthe right answer:\n\| .+", said["saw"])
    assert failure and "because of" in said["wrote"]
    page = write_report(tmp_path / "run").read_text()
    for words in ("The dialogue", "because of", "is left out: there is nothing of that name", "has not the form"):
        assert words in page


def test_rejected_rows_are_kept_and_shown_with_the_reason(config, server, tmp_path):
    def answer(body):
        text = body["messages"][-1]["content"]
        if "Write " not in text:
            return plan(body)
        return json.dumps({"rows": [{"problem": "add 3 4 <b>", "solution": "hm", "answer": "no"}]})

    server.answer = answer
    start(config("skill-list", engine="llm", steps=1), tmp_path / "run")
    (step,) = (event for event in events(tmp_path / "run") if event["event"] == "step")
    lines = (tmp_path / "run/steps/001/rejected.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    assert kept and {one["reason"] for one in kept} <= step["dropped"].keys() and "rejected.jsonl" in step["kept"]
    assert kept[0]["row"]["prompt"] == "add 3 4 <b>"
    page = write_report(tmp_path / "run").read_text()
    assert f'<span class="who">{kept[0]["reason"]}</span>' in page and "add 3 4 &lt;b&gt;" in page
    (tmp_path / "run/steps/001/rejected.jsonl").write_text("no row\n")
    assert "add 3 4" not in write_report(tmp_path / "run").read_text()


def test_the_twin_without_state_is_shown_nothing_and_its_run_says_what_it_saw(config, server, tmp_path):
    start(config("open-ended", no_state=True, steps=1), tmp_path / "run")
    said = json.loads((tmp_path / "run/steps/001/dialogue.jsonl").read_text())
    assert "How the student does is not shown to you." in said["saw"] and "the student's answer" not in said["saw"]


def test_a_server_that_dies_stops_the_run_which_goes_on_when_it_is_well(config, server, tmp_path):
    whole = start(config("skill-list"), tmp_path / "undisturbed")
    server.chats.clear()
    server.fault = lambda number, body: {"status": 500} if number >= 1 else {}
    with pytest.raises(ServerFailing):
        start(config("skill-list"), tmp_path / "run")
    assert [event["event"] for event in events(tmp_path / "run")] == ["start", "reset", "step"]
    server.fault = lambda number, body: {}
    assert resume(tmp_path / "run")["hash"] == whole["hash"]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(config, server, tmp_path):
    whole = start(config("open-ended"), tmp_path / "undisturbed")
    server.chats.clear()
    server.fault = lambda number, body: {"stall": 60} if number == 3 else {}  # in the third step: the second asks twice
    code = (
        "import sys; from pathlib import Path; from dataenv.runs.config import RunConfig; "
        "from dataenv.runs.episode import start; start(RunConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, config("open-ended").model_dump_json(), tmp_path / "run"])
    until = time.monotonic() + 120
    while len(server.chats) < 4 and child.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert len(server.chats) == 4
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    server.fault = lambda number, body: {}
    assert resume(tmp_path / "run")["hash"] == whole["hash"]
    assert len(server.chats) == 5


# -- what is said before anything begins ------------------------------------------------------------------------------


def test_no_model_no_server_and_no_use_of_one_are_said_before_there_is_a_folder(config, server, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(InvalidData, match="'skill-list-llm' asks a language model: name one by --model"):
        start(config("skill-list", model=None, options=SMALL["options"]), folder)
    with pytest.raises(InvalidData, match="No part of this run asks a language model; leave out --model openai:stub"):
        start(config("skill-list", teacher="uniform"), folder)
    with pytest.raises(ServerFailing, match=r"http://127\.0\.0\.1:9/v1"):
        start(config("skill-list", of_model={"base_url": "http://127.0.0.1:9/v1"}), folder)
    assert not folder.exists() and not server.chats


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"key": "secret"}, "model.key is no option to set"),
        ({"sped": 1}, "sped"),
        ({"concurrency": "many"}, "cannot be built"),
        ({"dollars": 1.0}, "what tokens cost"),
    ],
)
def test_wrong_settings_are_named(options, words, config):
    with pytest.raises(InvalidData, match=words) as error:
        config("skill-list", of_model=options).build_client()
    assert "secret" not in str(error.value)


def test_options_of_no_model_are_named():
    with pytest.raises(InvalidData, match=r"model\.tokens is set, but the run names no model"):
        RunConfig(options={"model": {"tokens": 5}}).build_client()


def test_a_budget_counts_what_was_used_before_the_run_was_stopped(config, server, tmp_path):
    start(config("skill-list", of_model={"tokens": 100_000}), tmp_path / "run")
    client = config("skill-list", of_model={"tokens": 100_000}).build_client(tmp_path / "run/chat")
    assert client.budget.used_tokens == 12 * len(server.answered) > 0


def test_a_spent_budget_is_refused_and_the_run_ends_evenly_taught(config, server, tmp_path):
    start(config("skill-list", of_model={"tokens": 10}), tmp_path / "run")
    steps = [event for event in events(tmp_path / "run") if event["event"] == "step"]
    assert not server.chats and all("budget" in step["dialogue"][0]["refused"] for step in steps)
    assert all(step["taught"] == {"copying": 6, "addition": 6} for step in steps)


def test_a_folder_with_nothing_but_answers_is_begun_in(config, server, tmp_path):
    whole = start(config("skill-list"), tmp_path / "first")
    (tmp_path / "run").mkdir()
    (tmp_path / "first/chat").rename(tmp_path / "run/chat")
    asked = len(server.chats)
    assert start(config("skill-list"), tmp_path / "run")["hash"] == whole["hash"] and len(server.chats) == asked
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(RunError, match="is not empty"):
        start(config("skill-list"), tmp_path / "other")


# -- a local model ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["open-ended", "skill-list"])
def test_a_small_local_model_teaches_for_two_steps(kind, tmp_path):
    """Whatever a model of 135M parameters writes, the run completes, and says what it refused."""
    if not smollm2_present():
        pytest.skip("the SmolLM2 weights are absent")
    options = {**SMALL["options"], "teacher": {"max_tokens": 32, "errors": 2}}
    config = RunConfig(
        **{
            **SMALL,
            "env": kind,
            "teacher": f"{kind}-llm",
            "steps": 2,
            "model": "local:smollm2-135m",
            "options": options,
        }
    )
    assert start(config, tmp_path / "run")["steps"] == 2
    for step in [event for event in events(tmp_path / "run") if event["event"] == "step"]:
        (said,) = step["dialogue"]
        assert step["chat"]["calls"] in (1, 2) and (said.get("refused") or step["asked"] > 0)
        assert step["accepted"] <= 12


def test_registered_models_serve_too(monkeypatch, chat, tmp_path):
    """Any object that follows `chat.question.Model`, by an id of its own."""
    model = chat(lambda question: plan({"messages": [{"content": question.messages[-1].content}]})).model
    monkeypatch.setitem(models._entries, "mine", Entry(lambda: model))
    config = RunConfig(**{**SMALL, "env": "skill-list", "teacher": "skill-list-llm", "model": "mine", "steps": 1})
    assert start(config, tmp_path / "run")["steps"] == 1 and len(model.asked) >= 1
