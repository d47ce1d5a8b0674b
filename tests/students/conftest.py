"""A tiny Llama with random weights and the micro student's tokenizer: two layers, 96 tokens of context."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

CHAT = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}<end>"
    "{% else %}{{ '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def _save(folder, tokenizer, seed=0, **settings):
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
        "max_position_embeddings": 96,
        "tie_word_embeddings": True,
        "initializer_range": 0.3,  # far from flat, so that greedy choices are no ties
        **settings,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=0, **settings
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    from dataenv.students.micro import _tokenizer

    return _save(tmp_path_factory.mktemp("tiny"), _tokenizer())


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory):
    """As wide as vLLM's kernels ask for, with room for prompts of several cache blocks."""
    from dataenv.students.micro import _tokenizer

    shape = {"hidden_size": 128, "intermediate_size": 256, "max_position_embeddings": 256}
    return _save(tmp_path_factory.mktemp("served"), _tokenizer(), initializer_range=0.1, **shape)


@pytest.fixture(scope="session")
def dropout_folder(tmp_path_factory):
    from dataenv.students.micro import _tokenizer

    return _save(tmp_path_factory.mktemp("dropout"), _tokenizer(), attention_dropout=0.5)


@pytest.fixture(scope="session")
def chat_tokenizer():
    """The same tokenizer with a begin token, which it adds by itself, and a chat template that writes it, too."""
    from tokenizers.processors import TemplateProcessing

    from dataenv.students.micro import _tokenizer

    tokenizer = _tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<begin>"})
    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", begin)]
    )
    tokenizer.chat_template = CHAT
    assert tokenizer("x")["input_ids"][0] == begin
    return tokenizer


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory, chat_tokenizer):
    return _save(tmp_path_factory.mktemp("chat"), chat_tokenizer)


@pytest.fixture(params=["full", "lora"])
def method(request):
    return request.param


@pytest.fixture
def make(tiny_folder):
    from dataenv.students.causal_lm import CausalLM

    def make(folder=tiny_folder, **options):
        options = {
            "template": "{prompt}=",
            "device": "cpu",
            "dtype": "float32",
            "learning_rate": 3e-3,
            "rank": 4,
            **options,
        }
        return CausalLM(folder, **options)

    return make
