import copy

import pytest

from dataenv.errors import InvalidData
from dataenv.records import Example, Image, Prompt
from dataenv.students.encoding import Encoder
from dataenv.students.micro import _tokenizer


@pytest.fixture(scope="module")
def plain():
    return Encoder(_tokenizer(), name="plain", template="Q: {prompt}\nA: ")


@pytest.fixture(scope="module")
def chat(chat_tokenizer):
    return Encoder(chat_tokenizer, name="chat")


@pytest.fixture(params=["plain", "chat"])
def encoder(request):
    return request.getfixturevalue(request.param)


PROMPTS = ["", "rev abc", " spaced  out \n", "{prompt} {x} {{", "ünknown ☃", "a" * 50]


@pytest.mark.parametrize("text", PROMPTS)
def test_the_prompt_of_a_training_row_is_the_prompt_at_inference(encoder, text):
    prompt, completion = encoder.row(Example(prompt=text, completion="xyz"))
    assert prompt == encoder.prompt(Prompt(text=text))
    assert completion[-1] == encoder.end
    assert encoder.end not in completion[:-1]
    assert encoder.decode(completion) == "xyz"


def test_an_empty_completion_is_the_end_alone(encoder):
    assert encoder.row(Example(prompt="q", completion=""))[1] == [encoder.end]


def test_a_template_is_filled_as_it_stands(plain):
    assert plain.render(Prompt(text="2+{prompt}")) == "Q: 2+{prompt}\nA: "
    shots = [Example(prompt="1+1", completion="2"), Example(prompt="1+2", completion="3")]
    assert plain.render(Prompt(text="2+2"), shots) == "Q: 1+1\nA: 2\n\nQ: 1+2\nA: 3\n\nQ: 2+2\nA: "


def test_a_chat_prompt_ends_with_the_generation_marker(chat):
    shots = [Example(prompt="1+1", completion="2")]
    assert chat.render(Prompt(text="hi"), shots) == "<begin><user>1+1\n<assistant>2<end><user>hi\n<assistant>"


@pytest.mark.parametrize("shots", [0, 2])
def test_a_chat_prompt_holds_exactly_one_begin_token(chat, shots):
    begin = chat.tokenizer.bos_token_id
    ids = chat.prompt(Prompt(text="hi"), [Example(prompt="a", completion="b")] * shots)
    assert ids[0] == begin
    assert ids.count(begin) == 1
    assert begin not in chat.row(Example(prompt="hi", completion="x"))[1]


def test_a_plain_template_too_begins_where_the_tokenizer_begins(chat_tokenizer):
    encoder = Encoder(chat_tokenizer, name="base", template="{prompt}=")
    begin = chat_tokenizer.bos_token_id
    assert encoder.prompt(Prompt(text="hi")) == chat_tokenizer("hi=")["input_ids"]
    assert encoder.prompt(Prompt(text="hi")).count(begin) == 1
    written = Encoder(chat_tokenizer, name="base", template="<begin>{prompt}=")
    assert written.prompt(Prompt(text="hi")) == encoder.prompt(Prompt(text="hi"))
    assert begin not in encoder.row(Example(prompt="hi", completion="x"))[1]


def test_no_prompt_is_without_tokens():
    """A model has to read something before its first word; a row without a prompt would train the wrong place."""
    encoder = Encoder(_tokenizer(), name="bare", template="{prompt}")
    assert len(encoder.prompt(Prompt(text=""))) == 1
    assert encoder.row(Example(prompt="", completion="x"))[0] == encoder.prompt(Prompt(text=""))


def test_the_end_of_a_reply_is_the_chat_templates_own(chat_tokenizer):
    import copy

    assert Encoder(chat_tokenizer, name="chat").end == chat_tokenizer.convert_tokens_to_ids("<end>")
    other = copy.deepcopy(chat_tokenizer)
    other.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    other.chat_template = other.chat_template.replace("<end>", "\n<turn>")
    assert Encoder(other, name="turns").end == other.convert_tokens_to_ids("<turn>") != other.eos_token_id
    other.chat_template = other.chat_template.replace("<turn>", "")
    assert Encoder(other, name="unmarked").end == other.eos_token_id


def test_the_system_message_is_given_left_out_or_empty(chat_tokenizer):
    def render(system):
        return Encoder(chat_tokenizer, name="chat", system=system).render(Prompt(text="hi"))

    assert render(None) == "<begin><user>hi\n<assistant>"
    assert render("") == "<begin><system>\n<user>hi\n<assistant>"
    assert render("Be.") == "<begin><system>Be.\n<user>hi\n<assistant>"


def test_a_missing_chat_template_is_an_error_that_names_the_way_out():
    with pytest.raises(InvalidData, match=r"'mine' has no chat template; give one, for example template='\{prompt\}"):
        Encoder(_tokenizer(), name="mine")


def test_a_chat_template_that_refuses_is_one_sentence(chat_tokenizer):
    """As Gemma's refuses a system message."""
    tokenizer = copy.deepcopy(chat_tokenizer)
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system role.') }}{% endif %}"
        + tokenizer.chat_template
    )
    assert Encoder(tokenizer, name="gemma").prompt(Prompt(text="hi"))
    with pytest.raises(InvalidData, match=r"template of student 'gemma' refuses a conversation \(No system role\); "):
        Encoder(tokenizer, name="gemma", system="")


def test_a_template_without_a_place_for_the_prompt_is_refused():
    with pytest.raises(InvalidData, match=r"must contain \{prompt\}"):
        Encoder(_tokenizer(), name="mine", template="prompt")


def test_a_tokenizer_without_an_end_is_refused():
    tokenizer = _tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(InvalidData, match="end-of-sequence"):
        Encoder(tokenizer, name="mine", template="{prompt}")


def test_images_are_refused(plain):
    with pytest.raises(InvalidData, match="images"):
        plain.prompt(Prompt(text="q", images=(Image(data=b"x"),)))


def test_a_reply_is_decoded_without_special_tokens_and_outer_space(plain):
    ids = plain.tokenizer("  a b \n", add_special_tokens=False)["input_ids"]
    assert plain.decode([*ids, plain.end]) == "a b"
    assert plain.decode([]) == ""
