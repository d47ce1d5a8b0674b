"""A model in this process: a tiny Llama with random weights and a chat template."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from dataenv.chat import make_model
from dataenv.chat.local import Local
from dataenv.chat.question import Answer, Failure, Question
from dataenv.errors import CallFailed, InvalidData, ModelRefused, UnknownId

CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("chat"), CHAT)


def save(folder, template):
    from transformers import LlamaConfig, LlamaForCausalLM

    from dataenv.students.micro import _tokenizer

    tokenizer = _tokenizer()
    tokenizer.chat_template = template
    config = LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=128,
        initializer_range=0.3,
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def local(folder):
    return Local(folder, device="cpu", dtype="float32", batch=4)


def questions(n, **settings):
    return [Question(messages=f"number {i}", max_tokens=8, **settings) for i in range(n)]


def test_it_answers_as_the_model_does_alone(local, make, folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    results = make(local).ask(questions(10))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for i, result in enumerate(results):
        ids = tokenizer(f"<user>number {i}<assistant>", return_tensors="pt", add_special_tokens=False)["input_ids"]
        made = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
        assert result.text == tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip()
        assert result.prompt_tokens == ids.shape[1]
        assert result.completion_tokens == made.shape[1] - ids.shape[1]


def test_equal_calls_have_equal_answers_and_seeds_make_them_differ(local, make, folder):
    asked = questions(6, temperature=1.0, seed=0)
    first = [answer.text for answer in make(local).ask(asked)]
    again = [answer.text for answer in make(Local(folder, device="cpu", dtype="float32", batch=4)).ask(asked)]
    other = [answer.text for answer in make(local).ask(questions(6, temperature=1.0, seed=1))]
    assert first == again != other


def test_questions_of_different_kinds_share_a_batch(local, make):
    asked = [Question(messages="a", max_tokens=n, temperature=t) for n in (2, 5) for t in (None, 0.0, 0.9)]
    results = make(local).ask(asked)
    assert all(result.completion_tokens <= question.max_tokens for result, question in zip(results, asked, strict=True))
    assert results[0].text == results[1].text


def test_roles_and_forms_reach_the_model(local, schema):
    seen = []
    _, tokenizer, _ = local._load()
    original = tokenizer.apply_chat_template
    tokenizer.apply_chat_template = lambda messages, **options: seen.append(messages) or original(messages, **options)
    try:
        turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
        local._answer([Question(messages=turns, json_schema=schema, max_tokens=2)])
    finally:
        del tokenizer.apply_chat_template
    (messages,) = seen
    assert messages[0] == {"role": "system", "content": "S"}
    assert messages[1]["content"].startswith("U\n\nReply with one JSON object")


def test_a_question_that_does_not_fit_fails_by_itself(local, make):
    results = make(local).ask(["short", "x" * 500, "short"])
    assert [type(result) for result in results] == [Answer, Failure, Answer]
    assert isinstance(results[1].error, CallFailed)
    assert "reads 128 tokens" in str(results[1].error)


def test_a_conversation_that_the_template_refuses_fails_by_itself(tmp_path, make):
    """As Gemma's refuses a system message."""
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role.') }}{% endif %}"
    local = Local(save(tmp_path, refusing + CHAT), device="cpu", dtype="float32")
    system = Question(messages=[{"role": "system", "content": "S"}, {"role": "user", "content": "U"}], max_tokens=8)
    results = make(local).ask(["short", system, "short"])
    assert [type(result) for result in results] == [Answer, Failure, Answer]
    assert "takes no such conversation (No system role.)" in str(results[1].error)


def test_it_can_be_closed_and_used_again(local, make):
    client = make(local)
    before = client.ask(["a"])[0].text
    client.close()
    assert client.ask(["a"])[0].text == before


def test_a_model_without_a_chat_template_says_so(tmp_path, make):
    client = make(Local(save(tmp_path, None), device="cpu"))
    with pytest.raises(ModelRefused, match="has no chat template"):
        client.check()
    with pytest.raises(ModelRefused, match="has no chat template"):
        client.ask(["a"])


def test_what_is_no_model_is_said_when_it_is_made():
    with pytest.raises(UnknownId, match="did you mean 'smollm2-135m'"):
        make_model("local:smolm2-135m")
    with pytest.raises(InvalidData, match="no folder"):
        make_model("local:./nowhere")
    with pytest.raises(InvalidData, match="at least 1"):
        Local("smollm2-135m", batch=0)
    for id in ("simulated:chain", "micro-vision", "vlm:org/name", "sharded:smollm2-135m"):
        with pytest.raises(InvalidData, match=f"'{id}' has no model of text alone to talk to"):
            make_model(f"local:{id}")


def test_making_one_loads_nothing():
    assert make_model("local:smollm2-135m").id == "local:smollm2-135m"
    assert make_model("vllm:smollm2-135m").id == "vllm:HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.mark.slow
def test_smollm2_answers(make):
    from dataenv.students.weights import smollm2_present

    if not smollm2_present():
        pytest.skip("needs the weights of SmolLM2")
    (answer,) = make("local:smollm2-135m").ask([Question(messages="What is the capital of France?", max_tokens=12)])
    assert "Paris" in answer.text
