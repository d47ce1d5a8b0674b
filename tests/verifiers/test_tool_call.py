"""Reading calls out of replies, and judging them: forms, order, types, hostile text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.errors import InvalidData
from dataenv.records import Problem
from dataenv.verifiers import tool_call
from dataenv.verifiers.tool_call import (
    Call,
    NoCalls,
    check_tools,
    expected,
    judge,
    parse,
    refused,
    render,
    state,
    verify,
)


def tool(name, required=(), **properties):
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


INT, TEXT, NUMBER = {"type": "integer"}, {"type": "string"}, {"type": "number"}
TOOLS = (tool("f", ("a",), a=INT, b=TEXT), tool("g", text=TEXT))


def problem(calls, tools=TOOLS, **data):
    return Problem(prompt={"text": "?", "tools": tools}, answer="", data={**expected(calls), **data})


@pytest.mark.parametrize(
    "text",
    [
        "f(a=1, b='x')",
        "[f(a=1, b='x')]",
        "(f(a=1, b='x'),)",
        "f(\n    1,\n    b='x',\n)",
        "f(1, 'x')",
        "f(**{'a': 1, 'b': 'x'})",
        "out = f(a=1, b='x')",
        "number = 1\nf(a=number, b='x')",
        "def solve():\n    out = f(a=1, b='x')\n    return out",
        "def solve():\n    return f(a=1, b='x')",
        "Of course.\n```python\nf(a=1, b='x')\n```\nThat is it.",
        "```\nf(a=1, b='x')\n```",
        '{"name": "f", "arguments": {"a": 1, "b": "x"}}',
        '[{"name": "f", "arguments": {"a": 1, "b": "x"}}]',
        '{"name": "f", "parameters": {"a": 1, "b": "x"}}',
        '{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 1, \\"b\\": \\"x\\"}"}}',
        'I need a tool.\n<tool_call>\n{"name": "f", "arguments": {"a": 1, "b": "x"}}\n</tool_call>',
        "<tool_call>f(a=1, b='x')</tool_call>",
        "f(a=+1, b='''x''')",
    ],
)
def test_a_call_is_read_in_every_form(text):
    assert parse(text, TOOLS) == [Call("f", {"a": 1, "b": "x"})]


def test_several_calls_are_read_in_order():
    two = [Call("f", {"a": 1}), Call("g", {"text": "y"})]
    for text in (
        "f(a=1)\ng(text='y')",
        "f(a=1), g(text='y')",
        "[f(a=1), g('y')]",
        '{"name": "f", "arguments": {"a": 1}}\n{"name": "g", "arguments": {"text": "y"}}',
        '{"name": "f", "arguments": {"a": 1}}; {"name": "g", "arguments": {"text": "y"}}',
        '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>'
        '<tool_call>{"name": "g", "arguments": {"text": "y"}}</tool_call>',
        "```\nf(a=1)\n```\nand then\n```\ng(text='y')\n```",
    ):
        assert parse(text, TOOLS) == two, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("one = f(1)\ng(text=one)", "<node-0>"),
        ("one = f(1)\ng(text=one['text'])", "<node-0>.text"),
        ("one = f(1)\ng(text=one.text)", "<node-0>.text"),
        ("one = f(1)\ng(text=f\"so {one['text']}!\")", "so <node-0>.text!"),
        ("one = f(1)\ng(text='so ' + one['text'])", "so <node-0>.text"),
        ("g(text=f(1)['text'])", "<node-0>.text"),
        ("g(f(1))", "<node-0>"),
    ],
)
def test_what_flows_from_call_to_call_is_seen(text, value):
    assert parse(text, TOOLS) == [Call("f", {"a": 1}), Call("g", {"text": value})]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("f(a=-2.5)", -2.5),
        ("f(a=None)", None),
        ("f(a=true)", True),
        ("f(a=(1, 'x'))", [1, "x"]),
        ("f(a={'k': [1], 2: {}})", {"k": [1], "2": {}}),
        ("f(a=Paris)", "Paris"),
        ("f(a=data['q'])", "data['q']"),
        ("f(a=lambda x: x)", "lambda x: x"),
        ("f(a=2*3)", "2 * 3"),
        ("f(a=r'\\d')", "\\d"),
        ("f(a='\\d')", "\\d"),
    ],
)
def test_values_are_read_and_never_computed(text, value):
    assert parse(text) == [Call("f", {"a": value})]


@pytest.mark.parametrize("text", ["[]", " [ ] ", "()", "```\n[]\n```", "<tool_call>[]</tool_call>"])
def test_an_empty_list_says_that_no_call_is_wanted(text):
    assert parse(text) == []


NO_CALLS = [
    "", " ", "done", "I do not know", "None", "42", "'f(a=1)'", "[1]", "[f(a=1), 2]", "f(a=1) g()", "f(a=1", "f a=1",
    "f(a=1)\nThat is all.", "Sure: f(a=1)", "f(a=1, a=2)", "f(1, a=2)", "f(*[1])", "f(a=g(1) + 2)", "f()()",
    "{}", "[{}]", "return", "async def s():\n    f(a=1)", "class A:\n    f(a=1)", "x.y = f(1)",
    '{"name": 3}', '{"name": "f", "arguments": [1]}', '{"name": "f", "arguments": "{"}', '[{"name": "f"}',
    '<tool_call>{"name": "f"}', "for i in range(9): f(a=i)", "if x: f(a=1)", "import os", "x, y = f(1), f(2)",
    "f(a=\x00)", "f(a='\ud800')", "x = f(a=1); del x", "lambda: f(a=1)",
    "f(a='\\ud800')", '{"name": "f", "arguments": {"a": "\\udfff"}}', '{"name": "\\ud800"}',
    "f(a=0x" + "f" * 5000 + ")",
    "f(a={**b})", "f(a={g(1): 2})", "def s():\n    f(1)\ndef t():\n    f(2)",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_CALLS, ids=range(len(NO_CALLS)))
def test_anything_else_is_no_list_of_calls(text):
    with pytest.raises(NoCalls):
        parse(text, TOOLS)


DOUBLED = "a = 'xx'\n" + "a = f'{a}{a}'\n" * 200 + "f(a=a)"
HOSTILE = [
    "9" * 10**6, "f(a=" + "9" * 9000 + ")", "f(a=9**9**9**9)", "f(a=1e999)", "-" * 9999 + "1", "not " * 2400 + "x",
    "(" * 5000, "f(" * 49 + ")" * 49, "f(a=" * 1000 + ")" * 1000, "[" * 10**5, '{"name":' * 2000, "a" + ".b" * 4900,
    "lambda:" * 1400 + "1", "f(a=" + "1+" * 4900 + "1)", "x = " * 2400 + "1", DOUBLED, "a = [a, a]\n" * 500 + "f(a=a)",
    "a = f(a=1)\n" * 900, "f()\n" * 2400, "f(" + "a, " * 3000 + ")", "<tool_call>" * 900, "```" * 3000, "```\n" * 2400,
    '{"name":"f","arguments":{"a":' + "[" * 40 + "]" * 40 + "}}", "f(a='" + "(" * 9000 + "')", "\u2028\n\r\t" * 1000,
    "f(a=" + "x if y else " * 800 + "z)", "f(a=" + "[x for x in y]" + ")", "__import__('os').system('false')",
    "{}" * 5000, '{"name":"f"}' * 800, "f(a={" + "'k': 1, " * 1200 + "})",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_wrong_and_ends(text):
    asked = problem([("f", {"a": [1], "b": ["x"]})])
    assert not verify(asked, text).correct
    assert not verify(problem([]), text).correct


@settings(max_examples=150)
@given(st.one_of(st.text(max_size=200), st.text(alphabet="fga=1(), '\"[]{}:\n<>tolcreu_`.x", max_size=80)))
def test_no_text_makes_it_raise(text):
    for asked in (problem([]), problem([("f", {"a": [1]})]), Problem(prompt="?", answer="", data={"calls": "x"})):
        verdict = verify(asked, text)
        assert 0 <= verdict.score <= 1 and verdict.correct == (verdict.score == 1)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.text(max_size=8), st.floats(-1e6, 1e6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,6}(\.[a-z]{1,3})?", fullmatch=True)
CALLS = st.lists(
    st.builds(Call, NAMES, st.dictionaries(st.text(min_size=1, max_size=5), VALUES, max_size=3)), max_size=4
)


@settings(max_examples=60)
@given(CALLS)
def test_what_is_rendered_is_read_again_and_is_right(calls):
    assert parse(render(calls)) == calls
    asked = Problem(prompt="?", answer="", data=json.loads(json.dumps(state(calls))))
    assert verify(asked, render(calls)).correct
    assert verify(asked, render(calls[::-1])).correct
    assert not judge(asked, [*calls, Call("one_more", {})]).correct
    assert not calls or not judge(asked, calls[1:]).correct


def test_order_counts_where_a_problem_says_so():
    calls = [("f", {"a": [1]}), ("g", {"text": ["x"]})]
    assert verify(problem(calls), "g(text='x'), f(a=1)").correct
    ordered = problem(calls, ordered=True)
    assert verify(ordered, "f(a=1), g(text='x')").correct
    verdict = verify(ordered, "g(text='x'), f(a=1)")
    assert (verdict.score, verdict.correct, verdict.reason) == (0.0, False, "calls in the wrong order")


def test_calls_are_paired_as_many_as_can_be():
    """The first right call takes either, the second only one of them: whoever takes the first fit fails."""
    asked = problem([("f", {"a": [1, 2]}), ("f", {"a": [1]})])
    for text in ("f(a=1), f(a=2)", "f(a=2), f(a=1)", "f(a=1), f(a=1)"):
        assert verify(asked, text).correct
    assert not verify(asked, "f(a=2), f(a=2)").correct


@pytest.mark.parametrize(
    ("text", "score", "reason"),
    [
        ("f(a=1)", 0.5, "1 calls for 2"),
        ("f(a=1), f(a=1)", 0.5, "f called for g"),
        ("f(a=1), g(text='x'), g(text='y')", 0.0, "3 calls for 2"),
        ("f(a=2), g(text='x')", 0.5, "f: a is not an allowed value"),
        ("f(a='1'), g(text='x')", 0.5, "f: a is not an allowed value"),
        ("f(a=True), g(text='x')", 0.5, "f: a is not an allowed value"),
        ("f(b='x'), g(text='x')", 0.5, "f: argument a is missing"),
        ("f(a=1, c=1), g(text='x')", 0.5, "f: unknown argument c"),
        ("[]", 0.0, "0 calls for 2"),
        ("no", 0.0, "no calls: words or values beside the calls"),
    ],
)
def test_the_score_is_the_share_and_the_reason_says_what_is_wrong(text, score, reason):
    verdict = verify(problem([("f", {"a": [1]}), ("g", {"text": ["x"]})]), text)
    assert (verdict.score, verdict.correct, verdict.reason) == (score, False, reason)


def test_calls_where_none_is_wanted_are_wrong_and_silence_must_be_said():
    assert verify(problem([]), "[]").correct
    assert verify(problem([]), "f(a=1)").reason == "no call was asked for"
    assert not verify(problem([]), "").correct and not verify(problem([]), "There is no fitting tool.").correct


@pytest.mark.parametrize(
    ("schema", "allowed", "value", "right"),
    [
        (TEXT, ["New York, NY"], "new york ny", True),
        (TEXT, ["it's"], 'it"s', True),
        (TEXT, ["NY", "New York"], "Boston", False),
        (TEXT, ["", "a"], "", True),
        (INT, ["", 3], "", False),
        (INT, [3], 3.0, False),
        (NUMBER, [3.0], 3, True),
        (NUMBER, [3], 3.0, True),
        ({"type": "array", "items": NUMBER}, [[1.0, 2.5]], [1, 2.5], True),
        ({"type": "array", "items": INT}, [[1]], [1.0], False),
        ({"type": "array"}, [["a", "b"]], ["b", "a"], False),
        ({"type": "array"}, [["a"], ["b"]], ["B"], True),
        ({"type": "boolean"}, [True], 1, False),
        (INT, [1], True, False),
        (INT, ["", None], None, True),
        ({"type": "object"}, [{"k": ["x", "y"], "l": ["", 1]}], {"k": "Y"}, True),
        ({"type": "object"}, [{"k": ["x"], "l": ["", 1]}], {"k": "x", "m": 1}, False),
        ({"type": "object"}, [{"k": ["x"]}], {}, False),
        ({"type": "object"}, [{"k": [{"deep": 1}]}], {"k": {"deep": 1}}, True),
        ({"type": "object"}, [{"k": [{"deep": 1}]}], {"k": {"deep": 2}}, False),
        ({"type": "array", "items": {"type": "object"}}, [[{"k": ["x", "y"]}]], [{"k": "y"}], True),
        ({}, [float("nan")], float("nan"), False),
        (INT, [5], {"k": 5}, False),
    ],
)
def test_values_are_compared_as_the_leaderboard_does(schema, allowed, value, right):
    asked = Problem(
        prompt={"text": "?", "tools": (tool("f", a=schema),)},
        answer="",
        data={"calls": [{"name": "f", "arguments": {}}]},
    )
    asked.data["calls"][0]["arguments"]["a"] = allowed
    assert judge(asked, [Call("f", {"a": value})]).correct is right


def test_the_verdict_shows_the_calls_that_were_read():
    assert verify(problem([("f", {"a": [1]})]), "```\nf( 1 )\n```").extracted == "f(a=1)"
    assert len(verify(problem([]), f"f(a='{'x' * 5000}')").extracted) == tool_call.SHOWN


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "flot"}}}},
         r"Tool 'f': at parameters\.properties\.a\.type: no JSON Schema"),
        ({"name": "f", "parameters": {"properties": {"a": {"enum": "xyz"}}}}, r"at parameters\.properties\.a\.enum"),
        ({"name": "f", "parameters": {"type": "dict"}}, r"Tool 'f': at parameters\.type: write the JSON Schema of an"),
        ({"name": "f", "parameters": []}, "Tool 'f': at parameters: write"),
        ({"name": "f", "parameters": {"required": "a"}}, r"Tool 'f': at parameters\.required"),
        ({"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": 3}}}},
         r"Tool 'f': at parameters\.properties\.a"),
        ({"parameters": {}}, "Tool 2 has no name"),
        ({"name": ""}, "Tool 2 has no name"),
        ({"function": "f"}, "Tool 2 has no name"),
    ],
)  # fmt: skip
def test_a_schema_that_is_none_names_the_tool_and_the_path(bad, message):
    check_tools(TOOLS)
    with pytest.raises(InvalidData, match=message):
        check_tools([TOOLS[0], bad])


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (Call("f", {"a": 1}), None),
        (Call("f", {"a": "<node-0>.number"}), None),
        (Call("h", {}), "unknown tool"),
        (Call("f", {}), "missing argument"),
        (Call("f", {"a": 1, "z": 1}), "unknown argument"),
        (Call("f", {"a": "1"}), "wrong type"),
        (Call("e", {"x": 3}), "value against the schema"),
    ],
)
def test_a_call_that_its_schema_refuses_is_seen(call, reason):
    tools = (*TOOLS, tool("e", x={"enum": [1, 2]}))
    assert refused([Call("g", {}), call], tools) == reason
