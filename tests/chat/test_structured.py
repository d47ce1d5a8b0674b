"""Answers of a form: the server's grammar, else words; read, checked, repaired once, then refused and counted."""

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.chat import structured
from dataenv.chat.question import Question
from dataenv.chat.structured import Mismatch, read
from dataenv.errors import BadAnswer, InvalidData

ANY = {"type": "object"}


def ask(make, schema, **options):
    return make(**options).ask([Question(messages="How many?", json_schema=schema, max_tokens=50)])[0]


# -- with a server ----------------------------------------------------------------------------------------------------


def test_the_servers_grammar_is_used_where_offered(server, make, schema):
    server.answer = lambda body: '{"n": 3}'
    assert ask(make, schema).data == {"n": 3}
    (chat,) = server.chats
    form = chat["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"] == schema
    assert chat["messages"] == [{"role": "user", "content": "How many?"}]


def test_a_server_without_grammar_is_asked_in_words_and_not_tried_again(server, make, schema):
    server.answer = lambda body: '{"n": 3}'
    server.fault = lambda number, body: {"status": 400, "words": "no"} if "response_format" in body else {}
    client = make(concurrency=1)
    question = Question(messages="How many?", json_schema=schema)
    assert [answer.data for answer in client.ask([question] * 3)] == [{"n": 3}] * 3
    assert ["response_format" in chat for chat in server.chats] == [True, False, False, False]
    words = server.chats[-1]["messages"][-1]["content"]
    assert words.startswith("How many?\n\nReply with one JSON object")
    assert json.dumps(schema) in words
    assert client.ledger.retries == 0


def test_a_call_refused_for_another_reason_is_not_taken_for_a_missing_grammar(server, make, schema):
    server.fault = lambda number, body: {"status": 400, "words": "too long"} if number < 2 else {}
    server.answer = lambda body: '{"n": 3}'
    client = make(concurrency=1)
    question = Question(messages="How many?", json_schema=schema)
    first, second = client.ask([question, question])
    assert "too long" in str(first.error)
    assert second.data == {"n": 3}
    assert "response_format" in server.chats[-1]


@pytest.mark.parametrize("wrong", ["three", '{"n": -1}', '{"n": 3, "m": 4}', '{"n":', "", "[3]", "null", '{"n": "3"}'])
def test_a_wrong_form_is_repaired_once(server, make, schema, wrong):
    server.answer = lambda body: wrong if len(body["messages"]) == 1 else 'Sorry!\n```json\n{"n": 3}\n```'
    client = make()
    answer = client.ask([Question(messages="How many?", json_schema=schema)])[0]
    assert (answer.data, answer.repaired) == ({"n": 3}, True)
    assert (answer.prompt_tokens, answer.completion_tokens) == (10, 14)
    assert client.ledger.repairs == 1
    _, second = server.chats
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][1]["content"] == wrong
    assert json.dumps(schema) in second["messages"][2]["content"]
    assert "response_format" in second


def test_a_wrong_repair_is_a_counted_refusal(server, make, schema):
    server.answer = lambda body: "three"
    client = make()
    failure = client.ask([Question(messages="How many?", json_schema=schema)])[0]
    assert isinstance(failure.error, BadAnswer)
    assert "it is no JSON" in str(failure.error)
    assert len(server.chats) == 2
    assert client.ledger.failures == {"BadAnswer": 1}
    assert client.ledger.completion_tokens == 14


def test_a_model_that_declines_is_refused_too(server, make, schema):
    server.answer = lambda body: None
    assert isinstance(ask(make, schema).error, BadAnswer)


def test_a_repair_shows_no_more_than_the_start_of_a_long_answer(schema):
    asked = structured.repair(Question(messages="q", json_schema=schema), "x" * 10**6, "y" * 10**6)
    assert sum(len(message.content) for message in asked.messages) < 12_000


def test_nothing_is_asked_for_a_form_that_is_none(server, make):
    for schema in ({"type": "objekt"}, {"type": "array"}, {}, {"type": "object", "properties": 3}):
        with pytest.raises(InvalidData, match="The form asked for"):
            ask(make, schema)
    with pytest.raises(InvalidData, match="refers to what is not in it"):
        read('{"n": 1}', {"type": "object", "properties": {"n": {"$ref": "#/$defs/none"}}})
    assert server.chats == []


# -- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        '  {"a": 1}\n',
        '```json\n{"a": 1}\n```',
        'Here it is:\n```\n{"a": 1}\n```\nDone.',
        'I think {this} is [1]: {"a": 1}. Or {"a": 2}?',
        '<think>{hm}</think>{"a": 1}',
    ],
)
def test_json_is_found(text):
    assert read(text, ANY) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("none", "no JSON"),
        ('{"a": 1', "cut short"),
        ('{"a": NaN}', "no JSON"),
        ('{"a": -Infinity}', "no JSON"),
        ('{"a": 1e999}', "no JSON"),
        ('{"a": 99999999999999999999999}', "no JSON"),
        ('{"a": ' + "9" * 10_000 + "}", "no JSON"),
        ("[1]", "not of type 'object'"),
        ("{" * 100_000, "no JSON"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_a_mismatch(text, why):
    with pytest.raises(Mismatch, match=why):
        read(text, ANY)


def test_a_mismatch_says_where_and_stays_short():
    schema = {"type": "object", "properties": {"rows": {"items": {"properties": {"n": {"type": "integer"}}}}}}
    with pytest.raises(Mismatch) as caught:
        read(json.dumps({"rows": [{"n": 1}, {"n": "x" * 10**5}]}), schema)
    assert str(caught.value).startswith("at $.rows[1].n: ")
    assert len(str(caught.value)) < 260


def test_half_a_surrogate_pair_can_be_written_to_a_file():
    data = read(r'{"a\ud800": ["\udfff x"]}', ANY)
    assert data == {"a\ufffd": ["\ufffd x"]}
    orjson.dumps(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(st.dictionaries(st.text(), VALUES, max_size=4), st.sampled_from(["{}", "```json\n{}\n```", "So: {} there."]))
@settings(deadline=None)
def test_every_object_comes_through_as_it_is(data, around):
    assert read(around.replace("{}", json.dumps(data)), ANY) == data


@given(st.text() | st.text(alphabet='{}[]":,\\u0d8 \n`', max_size=60))
@settings(deadline=None)
def test_any_text_is_read_or_a_mismatch(text):
    try:
        data = read(text, ANY)
    except Mismatch:
        return
    assert isinstance(data, dict)
    orjson.dumps(data)
