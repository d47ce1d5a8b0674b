"""Tools as text: short, whole, and the same wherever a prompt is rendered."""

import copy

import pytest

from dataenv.errors import InvalidData
from dataenv.records import Example, Image, Prompt
from dataenv.students.encoding import Encoder
from dataenv.students.micro import _tokenizer
from dataenv.students.tool_text import tool_text

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "What the weather is.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Town and country"},
                "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
            },
            "required": ["city"],
        },
    },
}
CUT = {"name": "cut", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}
PROMPT = Prompt(text="cut 7!", tools=(CUT,))


def one(schema, required=("a",)):
    return tool_text([{"name": "f", "parameters": {"properties": {"a": schema}, "required": list(required)}}])


def test_a_tool_is_a_line_and_its_parameters_descriptions_follow():
    assert tool_text([WEATHER, CUT]) == (
        'get_weather(city:str, unit?:"c"|"f"="c"): What the weather is.\n  city: Town and country\ncut(n:int)'
    )
    assert tool_text([]) == "" and tool_text([{"name": "f"}]) == "f()"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "number"}, "a:float"),
        ({"type": "boolean", "default": False}, "a:bool=false"),
        ({"type": "array", "items": {"type": "string"}}, "a:list[str]"),
        ({"type": "array"}, "a:list"),
        ({"type": "object", "properties": {"b": {"type": "null"}}}, "a:dict{b?:null}"),
        ({"type": "object"}, "a:dict"),
        ({}, "a"),
        ({"description": "x"}, "a)\n  a: x"),
        ({"anyOf": [{"type": "string"}]}, 'a:{"anyOf":[{"type":"string"}]}'),
        ({"type": ["string", "null"]}, 'a:{"type":["string","null"]}'),
        ({"enum": [1, None, "ü"]}, 'a:1|null|"ü"'),
        (True, "a:true"),
    ],
)
def test_every_schema_has_a_form(schema, said):
    assert said in one(schema)


def test_deep_schemas_end():
    deep = {"type": "integer"}
    for _ in range(50):
        deep = {"type": "array", "items": deep}
    assert one(deep).startswith("f(a:list[list[") and '"type":"integer"' in one(deep)


@pytest.mark.parametrize("tool", [{}, {"name": ""}, {"function": 3}, {"function": {"name": None}}])
def test_a_tool_without_a_name_is_refused(tool):
    with pytest.raises(InvalidData, match="Tool 2 of a prompt has no name"):
        tool_text([CUT, tool])


@pytest.fixture(scope="module")
def plain():
    return Encoder(_tokenizer(), name="plain", template="{prompt}")


@pytest.fixture(scope="module")
def deaf(chat_tokenizer):
    """A chat template that says nothing of tools, as most do not."""
    return Encoder(chat_tokenizer, name="deaf")


@pytest.fixture(scope="module")
def native(chat_tokenizer):
    tokenizer = copy.deepcopy(chat_tokenizer)
    tokenizer.chat_template = "{% for t in tools or [] %}<{{ t | tojson }}>{% endfor %}" + tokenizer.chat_template
    return Encoder(tokenizer, name="native")


def test_tools_stand_before_the_prompt_where_the_template_has_no_place_for_them(plain, deaf):
    assert plain.render(PROMPT) == "cut(n:int)\n\ncut 7!"
    assert "<user>cut(n:int)\n\ncut 7!" in deaf.render(PROMPT)
    assert plain.render(Prompt(text="cut 7!")) == "cut 7!"


def test_a_template_with_a_place_for_tools_is_given_them(native):
    assert native.render(PROMPT).count("cut") == 2 and '"name": "cut"' in native.render(PROMPT)
    assert "cut(n:int)" not in native.render(PROMPT)


def test_a_template_that_refuses_tools_gets_them_as_text(chat_tokenizer):
    tokenizer = copy.deepcopy(chat_tokenizer)
    tokenizer.chat_template = "{% if tools %}{{ raise_exception('none') }}{% endif %}" + tokenizer.chat_template
    assert "cut(n:int)\n\ncut 7!" in Encoder(tokenizer, name="strict").render(PROMPT)


def test_exemplars_keep_their_tools(plain, deaf, native):
    shot = Example(prompt={"text": "mix 1!", "tools": ({**CUT, "name": "mix"},)}, completion="mix(n=1)")
    same = Example(prompt={"text": "cut 1!", "tools": (CUT,)}, completion="cut(n=1)")
    for encoder in (plain, deaf, native):
        text = encoder.render(PROMPT, [shot, same])
        assert "mix(n:int)\n\nmix 1!" in text and "mix(n=1)" in text
        assert text.count("cut(n:int)") == (0 if encoder is native else 2)


@pytest.mark.parametrize("name", ["plain", "deaf", "native"])
def test_the_prompt_of_a_row_is_the_prompt_at_inference(name, request):
    encoder = request.getfixturevalue(name)
    assert encoder.row(Example(prompt=PROMPT, completion="cut(n=7)"))[0] == encoder.prompt(PROMPT)
    assert encoder.prompt(PROMPT) != encoder.prompt(Prompt(text=PROMPT.text))


def test_images_are_not_lost_beside_tools(plain):
    with pytest.raises(InvalidData, match="images"):
        plain.render(Prompt(text="x", tools=(CUT,), images=(Image(data=b"x"),)))
