"""The client against a server that fails in every way: nothing lost, nothing twice, everything in order and counted."""

import asyncio
import random
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest

from dataenv.chat import make_model, models
from dataenv.chat.client import Client
from dataenv.chat.openai import OpenAI, retry_after
from dataenv.chat.question import Answer, Completion, Failure, Question, Trouble
from dataenv.errors import (
    BadAnswer,
    BudgetSpent,
    CallFailed,
    ChatError,
    InvalidData,
    MissingDependency,
    ModelRefused,
    ServerFailing,
    UnknownId,
)
from dataenv.progress import listening

FAULTS = [
    {"status": 429, "words": "slow down"},
    {"status": 429, "headers": {"Retry-After": "0.01"}},
    {"status": 500},
    {"status": 503, "headers": {"Retry-After": "nonsense"}},
    {"reset": True},
    {"cut": 40},
    {"raw": b'{"choices": [{"message": {"content": "half'},
    {"raw": b"<html>busy</html>"},
    {"raw": b"[]"},
    {"raw": b'{"choices": []}'},
    {"raw": b'{"choices": [{"message": {"content": 5}}]}'},
    {"stall": 60},
]


def questions(n, **settings):
    return [Question(messages=f"number {i}", **settings) for i in range(n)]


# -- nothing lost, order kept -----------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_questions_however_long_each_takes(server, make):
    server.fault = lambda number, body: {"stall": random.Random(body["messages"][0]["content"]).random() / 20}
    results = make().ask([f"number {i}" for i in range(40)])
    assert [result.text for result in results] == [f"fine: number {i}" for i in range(40)]
    assert all(result.prompt_tokens == 5 and result.completion_tokens == 7 for result in results)


def test_nothing_is_lost_or_doubled_when_a_third_of_all_calls_fails(server, make):
    draw = random.Random(1)
    server.fault = lambda number, body: draw.choice(FAULTS) if draw.random() < 0.3 else {}
    client = make(seconds=3.0, silence=None, tries=30, patience=60.0)
    results = client.ask(questions(100))
    assert [result.text for result in results] == [f"fine: number {i}" for i in range(100)]
    retries = sum(result.retries for result in results)
    assert client.ledger.answers == 100
    assert client.ledger.calls == len(server.chats) == 100 + retries
    assert client.ledger.retries == retries > 20
    assert client.ledger.completion_tokens == 100 * 7
    assert not client.ledger.failures


def test_a_call_that_fails_at_every_try_is_marked_in_its_place(server, make):
    server.fault = lambda number, body: {"status": 500} if "number 3" in str(body) else {}
    client = make(tries=3)
    results = client.ask(questions(6))
    assert [isinstance(result, Failure) for result in results] == [False] * 3 + [True] + [False] * 2
    assert isinstance(results[3].error, CallFailed)
    assert "failed 3 times" in str(results[3].error)
    assert "500 out of order" in str(results[3].error)
    assert results[3].retries == 2
    assert client.ledger.failures == {"CallFailed": 1}
    assert client.ledger.answers == 5


def test_a_call_refused_for_what_it_asks_is_not_tried_again(server, make):
    server.fault = lambda number, body: {"status": 400, "words": "too long"} if number == 0 else {}
    client = make(concurrency=1)
    first, second = client.ask(["a", "b"])
    assert "400 too long" in str(first.error)
    assert isinstance(second, Answer)
    assert len(server.chats) == 2


def test_no_question_no_call(server, make):
    assert make().ask([]) == []
    assert server.chats == []


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_calls_under_way_are_bounded(server, make, concurrency):
    server.fault = lambda number, body: {"stall": 0.01}
    make(concurrency=concurrency).ask(questions(20))
    assert server.most_under_way <= concurrency
    assert (server.most_under_way > 1) == (concurrency > 1)


def test_the_bound_holds_over_all_threads_that_ask(scripted, make):
    model = scripted(seconds=0.005)
    client = make(model, concurrency=4)
    threads = [threading.Thread(target=client.ask, args=([str(i)] * 10,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(model.asked) == 50
    assert model.most_under_way == 4


def test_more_calls_than_one_connection_pool_holds(server, make):
    server.fault = lambda number, body: {"stall": 0.05}
    results = make(concurrency=40).ask(questions(80))
    assert [result.text for result in results] == [f"fine: number {i}" for i in range(80)]
    assert server.most_under_way <= 40


def test_it_can_be_asked_from_inside_a_running_event_loop(server, make):
    async def notebook():
        return make().ask(["a"])

    assert asyncio.run(notebook())[0].text == "fine: a"


def test_an_interrupt_ends_what_is_under_way(scripted, make):
    from dataenv.chat import loop

    model = scripted(seconds=30)
    client = make(model)
    waiter = asyncio.run_coroutine_threadsafe(client._ask(questions(3)), loop._loop())
    while model.under_way < 3:
        time.sleep(0.001)
    waiter.cancel()
    while model.under_way:
        time.sleep(0.001)
    model.seconds = 0.0
    assert len(client.ask(questions(20))) == 20  # every slot is free again


def test_an_error_that_is_none_of_a_call_is_raised_and_ends_the_others(scripted, make):
    model = scripted(lambda question: KeyError("bug"), seconds=0.01)
    with pytest.raises(KeyError, match="bug"):
        make(model).ask(questions(5))


def test_progress_is_reported(scripted, make):
    heard = []
    with listening(lambda *what: heard.append(what)):
        make(scripted()).ask(["a", "b"])
    assert heard == [("ask", 1, 2), ("ask", 2, 2)]


# -- what is sent -----------------------------------------------------------------------------------------------------


def test_model_and_settings_reach_the_server(server, make, key):
    asked = Question(
        messages=[{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
        max_tokens=9,
        temperature=0.25,
        seed=4,
    )
    make(extra={"top_p": 0.5}).ask([asked])
    assert server.chats == [
        {
            "model": "stub",
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
            "max_tokens": 9,
            "temperature": 0.25,
            "seed": 4,
            "top_p": 0.5,
        }
    ]
    assert server.headers[0]["authorization"] == f"bearer {key}"


def test_what_is_not_said_is_left_to_the_server(server, make):
    make().ask(["a"])
    assert set(server.chats[0]) == {"model", "messages", "max_tokens"}


def test_half_a_surrogate_pair_does_not_break_the_call(server, make):
    (answer,) = make().ask(["a \ud800 b"])
    assert answer.text == "fine: a ? b"


def test_the_environment_says_server_key_and_model(server, make, monkeypatch):
    for name, value in (("MODEL", "stub"), ("BASE_URL", server.url), ("API_KEY", "sk-of-the-environment")):
        monkeypatch.setenv(f"OPENAI_{name}", value)
    make(make_model("openai")).ask(["a"])
    assert server.headers[0]["authorization"] == "bearer sk-of-the-environment"
    assert server.chats[0]["model"] == "stub"


def test_the_only_model_of_a_server_needs_no_name(server, make):
    server.models = ["the-one"]
    make(OpenAI(base_url=server.url)).ask(["a", "b"])
    assert [chat["model"] for chat in server.chats] == ["the-one"] * 2


def test_of_several_models_one_must_be_named(server, make):
    server.models = ["one", "two"]
    with pytest.raises(ModelRefused, match=r"has the models one, two; say which with name \(OPENAI_MODEL\)"):
        make(OpenAI(base_url=server.url)).ask(["a"])


def test_a_vllm_server_is_reached_by_its_address(server, make, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "sk-vllm")
    for address in (server.url, server.url.removesuffix("/v1")):
        assert make(make_model(f"vllm:{address}")).ask(["a"])[0].text == "fine: a"
    assert server.headers[-1]["authorization"] == "bearer sk-vllm"


def test_ids_hold_neither_key_nor_address_and_tell_answers_apart(key):
    plain = OpenAI("m", base_url="http://a/v1", key=key)
    assert plain.id == OpenAI("m", base_url="http://b/v1").id == "openai:m"
    assert plain.id != OpenAI("m", base_url="http://a/v1", extra={"top_p": 0.1}).id


def test_models_are_made_by_id():
    assert {"openai", "local", "vllm"} <= set(models.entries())
    with pytest.raises(UnknownId, match=r"did you mean 'openai'.*dataenv list models"):
        make_model("opnai:x")


# -- waiting ----------------------------------------------------------------------------------------------------------


def test_retry_after_is_read_in_all_its_forms():
    assert retry_after({"retry-after": "3"}) == 3
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 17 < retry_after({"retry-after": later}) <= 20
    earlier = format_datetime(datetime.now(UTC) - timedelta(seconds=20), usegmt=True)
    assert retry_after({"retry-after": earlier}) == 0
    assert retry_after({"retry-after": "-4"}) == 0
    for nonsense in ("", "soon", "nan", "Wed, 99 Nov 2026 99:99:99 GMT", "٣"):
        assert retry_after({"retry-after": nonsense}) in (None, 3)


def test_retry_after_holds_back_every_call(server, make):
    times = []

    def fault(number, body):
        times.append(time.monotonic())
        return {"status": 429, "headers": {"Retry-After": "0.3"}} if number < 4 else {}

    server.fault = fault
    results = make(concurrency=4).ask(questions(12))
    assert all(isinstance(result, Answer) for result in results)
    assert sum(at < times[0] + 0.3 for at in times) <= 4  # those that were under way


def test_a_wait_longer_than_patience_is_not_waited_for(server, make):
    server.fault = lambda number, body: {"status": 429, "headers": {"Retry-After": "3600"}} if number == 0 else {}
    client = make(concurrency=1)
    first, second = client.ask(["a", "b"])
    assert "asks to wait 3,600 s" in str(first.error)
    assert isinstance(second, Answer)


def test_waits_grow_are_capped_and_drawn_from_nought(scripted, make, monkeypatch):
    client = make(scripted(lambda question: Trouble("no")), tries=7, wait=1.0, longest_wait=8.0, concurrency=1)
    most = []
    monkeypatch.setattr(client._jitter, "uniform", lambda low, high: most.append((low, high)) or 0.0)
    client.ask(["a"])
    assert most == [(0, 1), (0, 2), (0, 4), (0, 8), (0, 8), (0, 8)]


# -- time -------------------------------------------------------------------------------------------------------------


def test_a_stalled_call_ends_at_its_time_limit_and_is_tried_again(server, make):
    server.fault = lambda number, body: {"stall": 600} if number == 0 else {}
    client = make(seconds=0.3, tries=100, patience=60.0)
    (answer,) = client.ask(["a"])
    assert answer.retries == client.ledger.lost >= 1


def test_a_slow_server_that_gives_a_sign_of_life_is_waited_for(server, make):
    server.fault = lambda number, body: {"stall": 0.3}
    (answer,) = make(silence=0.05).ask(["a"])
    assert answer.retries == 0


def test_a_server_that_gives_none_is_not(server, make, monkeypatch):
    monkeypatch.setattr("dataenv.chat.openai.SIGN", 0.05)
    server.fault = lambda number, body: {"stall": 30}
    server.deaf = True
    (failure,) = make(silence=0.05, tries=2).ask(["a"])
    assert "no sign of life" in str(failure.error)


# -- a server that only fails -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_server_that_only_fails_is_given_up(server, make, fault):
    server.fault = lambda number, body: {} if number < 3 else fault
    client = make(patience=0.3, tries=10**6, concurrency=3)
    assert all(isinstance(result, Answer) for result in client.ask(questions(3)))
    client.model.seconds = 0.1
    with pytest.raises(ServerFailing, match="has done nothing but fail for") as caught:
        client.ask(questions(30))
    assert len(caught.value.results) == 30
    assert all(isinstance(failure.error, ServerFailing) for failure in caught.value.results)
    made, client.model.seconds = len(server.chats), 60.0
    server.fault = lambda number, body: {"status": 500}
    with pytest.raises(ServerFailing):
        client.ask(questions(30))
    assert len(server.chats) <= made + 6  # one round says that it is still unwell; one of before may have come late
    server.fault = lambda number, body: {}
    assert [result.text for result in client.ask(questions(30))] == [f"fine: number {i}" for i in range(30)]


def test_what_was_answered_before_a_server_failed_is_not_lost(server, make):
    server.fault = lambda number, body: {"status": 500} if number >= 5 else {}
    client = make(patience=0.3, tries=10**6, concurrency=1)
    with pytest.raises(ServerFailing) as caught:
        client.ask(questions(12))
    assert [isinstance(result, Answer) for result in caught.value.results] == [True] * 5 + [False] * 7


def test_time_in_which_nobody_asks_is_no_failing(server, make, monkeypatch):
    from dataenv.chat import breaker, client

    skipped = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + skipped[0], perf_counter=time.perf_counter)
    monkeypatch.setattr(breaker, "time", clock)
    monkeypatch.setattr(client, "time", clock)
    server.fault = lambda number, body: {"status": 500} if number < 3 else {}
    made = make(concurrency=1, tries=2)
    assert isinstance(made.ask(["a"])[0], Failure)
    skipped[0] = 3600.0
    assert made.ask(["a"])[0].retries == 1


def test_failing_counts_over_several_calls_of_ask(server, make):
    server.fault = lambda number, body: {"status": 500}
    client = make(patience=0.3, concurrency=1, tries=2)
    with pytest.raises(ServerFailing):
        for _ in range(10**6):
            assert isinstance(client.ask(["a"])[0].error, CallFailed)


def test_silence_does_not_outlast_patience(server, make):
    server.fault = lambda number, body: {"status": 500} if number < 2 else {"stall": 600}
    client = make(patience=1.0, concurrency=2, seconds=600)
    with pytest.raises(ServerFailing, match=r"2 times; at last: 500"):
        client.ask(questions(4))


def test_a_wait_does_not_outlast_patience(server, make, monkeypatch):
    server.fault = lambda number, body: {"status": 500}
    client = make(patience=0.3, tries=10**6, concurrency=2)
    waits = iter([600.0])
    monkeypatch.setattr(client._jitter, "uniform", lambda low, high: next(waits, 0.0))
    with pytest.raises(ServerFailing):
        client.ask(["a", "b"])


def test_failures_between_successes_do_not_open_the_breaker(server, make):
    server.fault = lambda number, body: {"status": 500}
    client = make(patience=0.0, concurrency=1)
    with pytest.raises(ServerFailing):  # two in a row, which is too long for this much patience
        client.ask(["a"])
    server.chats.clear()
    server.fault = lambda number, body: {"status": 500} if number % 2 else {}
    assert all(isinstance(result, Answer) for result in client.ask(questions(20)))


def test_the_defaults_give_up_within_a_minute(scripted, monkeypatch):
    """In simulated time, for fast failures, slow ones, and a server that always asks to wait."""
    from dataenv.chat import breaker

    async def seconds_until_it_opens(seconds, wait):
        now = 1000.0
        monkeypatch.setattr(breaker, "time", SimpleNamespace(monotonic=lambda: now))
        made = breaker.Breaker("It", Client(scripted()).patience)
        begun = now
        while made.error is None and now < 1100:
            now += 0.1
            made._look()  # as its timer does
            if made.error is None and now >= begun + seconds:
                made.failed(Trouble("no", wait=wait), begun)
                begun = max(now, made._quiet_until)
        return now - 1000

    for seconds, wait in ((0.1, None), (20.0, None), (0.1, 5.0), (0.1, 30.0), (0.1, 44.0)):
        assert 40 < asyncio.run(seconds_until_it_opens(seconds, wait)) < 60


# -- wrong settings ---------------------------------------------------------------------------------------------------


def test_no_server_says_which_address_was_tried_and_what_to_set(make):
    client = make(OpenAI("m", base_url="http://127.0.0.1:9/v1"))
    for call in (client.check, lambda: client.ask(["a"])):
        with pytest.raises(ServerFailing) as caught:
            call()
        assert "http://127.0.0.1:9/v1 cannot be reached: no server answers there" in str(caught.value)
        assert "set base_url (OPENAI_BASE_URL)" in str(caught.value)


def test_a_wrong_key_gives_the_servers_words_and_the_variable_but_never_the_key(server, make, key):
    server.fault = lambda number, body: {"status": 401, "words": f"Incorrect API key provided: {key}."}
    client = make()
    with pytest.raises(ModelRefused) as caught:
        client.ask(questions(50))
    assert "401 Incorrect API key provided: ***. Set key (OPENAI_API_KEY)." in str(caught.value)
    assert len(server.chats) <= 16  # the others were not sent after it
    assert len(caught.value.results) == 50


def test_an_unknown_model_gives_the_servers_words(server, make):
    server.fault = lambda number, body: {"status": 404, "words": "The model `stub` does not exist."}
    with pytest.raises(ModelRefused, match=r"404 The model `stub` does not exist\. Check name \(OPENAI_MODEL\)"):
        make().ask(["a"])


def test_check_asks_a_question_where_the_list_does_not_have_the_model(server, make):
    client = make()
    client.check()
    assert server.chats == []
    server.models = ["another"]
    client.check()
    assert len(server.chats) == 1
    server.fault = lambda number, body: {"status": 404, "words": "No such model."}
    with pytest.raises(ModelRefused, match="No such model"):
        client.check()


def test_an_account_without_credit_is_not_asked_again(server, make):
    server.fault = lambda number, body: {"status": 429, "code": "insufficient_quota", "words": "You have no credit."}
    with pytest.raises(ModelRefused, match="You have no credit"):
        make().ask(["a"])
    assert len(server.chats) == 1


def test_openais_own_server_needs_a_key(make, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ModelRefused, match=r"set key \(OPENAI_API_KEY\)"):
        make(OpenAI("gpt-x")).ask(["a"])


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://", "http://me:secret@host/v1"])
def test_a_malformed_address_is_refused_when_given(url):
    with pytest.raises(InvalidData, match="OPENAI_BASE_URL") as caught:
        OpenAI("m", base_url=url)
    assert "secret" not in str(caught.value)


def test_a_malformed_key_is_refused_without_being_shown():
    assert OpenAI("m", key="sk-trailing\n")._key == "sk-trailing"
    for key in ("sk\nsecret", "sk-sécret"):
        with pytest.raises(InvalidData, match="OPENAI_API_KEY") as caught:
            OpenAI("m", key=key)
        assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"tries": 0}, {"wait": -1.0}, {"patience": float("nan")}], ids=str
)
def test_settings_that_make_no_sense_are_refused(scripted, options):
    with pytest.raises(InvalidData):
        Client(scripted(), **options)


def test_a_client_used_before_a_fork_says_so(scripted, make):
    client = make(scripted())
    client.ask(["a"])
    client._process += 1
    with pytest.raises(ChatError, match="forked"):
        client.ask(["a"])
    client._process -= 1


def test_without_the_extra_the_command_that_installs_it_is_named(server, make, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingDependency, match=r"dataenv\[chat\]"):
        make().ask(["a"])


# -- the key stays where it is ----------------------------------------------------------------------------------------


def test_the_key_is_in_no_file_log_or_message(server, make, key, tmp_path, caplog):
    import logging
    import traceback

    from dataenv.chat.tape import Tape

    draw = random.Random(2)
    refused = [{"status": status, "words": f"bad key {key}"} for status in (400, 401, 403, 404, 429, 500)]
    server.fault = lambda number, body: draw.choice([*FAULTS[:-1], *refused, {}, {}])
    shown = []
    with caplog.at_level(logging.DEBUG):
        client = make(cache=tmp_path / "cache", tape=Tape.record(tmp_path / "tape.jsonl"), tries=4, concurrency=2)
        for start in range(0, 40, 4):
            try:
                results = client.ask(questions(40)[start : start + 4])
            except ChatError as error:
                shown += traceback.format_exception(error)
                results = error.results
            shown += [repr(result) for result in results]
            shown += [line for r in results if isinstance(r, Failure) for line in traceback.format_exception(r.error)]
    shown += [repr(client), repr(client.model), client.model.where, client.model.id, str(client.ledger.as_dict())]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 2
    assert "bad key ***" in "".join(shown)
    assert key not in "".join(shown)
    assert key not in caplog.text
    assert not any(key.encode() in path.read_bytes() for path in files)


# -- ledger -----------------------------------------------------------------------------------------------------------


def test_the_ledger_is_plain_data_and_can_be_taken_step_by_step(scripted, make, schema):
    import orjson

    texts = iter(["no", "no", '{"n": 1}', "no", '{"n": 2}'])
    model = scripted(lambda question: next(texts))
    client = make(model, concurrency=1)
    client.ask([Question(messages="a", json_schema=schema)])
    before = client.ledger.as_dict()
    client.ask([Question(messages="b", json_schema=schema), Question(messages="c", json_schema=schema)])
    added = orjson.loads(orjson.dumps(client.ledger.since(before)))
    assert before["failures"] == {"BadAnswer": 1}
    assert added.pop("seconds") > 0
    assert added == {
        "calls": 3,
        "retries": 0,
        "cached": 0,
        "repairs": 1,
        "lost": 0,
        "answers": 2,
        "prompt_tokens": 9,
        "completion_tokens": 12,
        "dollars": 0.0,
        "failures": {},
    }


def test_errors_of_a_call_and_errors_of_all_calls_are_told_apart():
    assert [kind.general for kind in (CallFailed, BadAnswer, BudgetSpent)] == [False] * 3
    assert [kind.general for kind in (ServerFailing, ModelRefused)] == [True] * 2


def test_a_completion_has_no_negative_tokens():
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Completion(text="", prompt_tokens=-1)
