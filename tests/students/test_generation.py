import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from dataenv.progress import listening
from dataenv.students import generation
from dataenv.students.generators import Sampling

END = 1


def generate(model, asked, *, max_new_tokens, stop, temperature=0.0, seed=0, **rest):
    return generation.generate(model, asked, Sampling(max_new_tokens, frozenset(stop), temperature, seed), **rest)


@pytest.fixture(scope="module")
def model(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def stop(model):
    """Stop tokens that this model does say now and then, so that rows leave a batch at different times."""
    said = [id for reply in reference_all(model, prompts(20), 12, {END}) for id in reply]
    values, counts = np.unique(said, return_counts=True)
    return {END, int(values[np.argsort(-counts)[len(values) // 4]])}


def prompts(n, shared=0, seed=0, longest=20):
    rng = np.random.default_rng(seed)
    head = rng.integers(3, 90, shared).tolist()
    return [head + rng.integers(3, 90, rng.integers(1, longest)).tolist() for _ in range(n)]


def reference(model, prompt, limit, stop):
    out = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=sorted(stop),
        pad_token_id=0,
    )
    return out[0, len(prompt) :].tolist()


def reference_all(model, prompts, limit, stop):
    return [reference(model, prompt, limit, stop) for prompt in prompts]


@pytest.mark.parametrize("shared", [0, 1, 15])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_greedy_equals_transformers_token_for_token(model, stop, shared, batch):
    asked = prompts(12, shared)
    expected = reference_all(model, asked, 12, stop)
    assert {reply[-1] in stop for reply in expected} == {True, False}  # some end by themselves, some are cut
    assert generate(model, asked, max_new_tokens=12, stop=stop, batch=batch) == expected


def test_a_prompt_that_is_the_prefix_of_the_others(model, stop):
    head = prompts(1, 10)[0]
    asked = [head, [*head, 5], [*head, 6, 7, 8], head]
    assert generate(model, asked, max_new_tokens=8, stop=stop) == reference_all(model, asked, 8, stop)


def test_equal_prompts_get_equal_replies_and_one_token_prompts_work(model, stop):
    asked = [[7], [9], [7], [7]]
    replies = generate(model, asked, max_new_tokens=6, stop=stop)
    assert replies == reference_all(model, asked, 6, stop)
    assert replies[0] == replies[2] == replies[3]


def test_no_prompts_no_replies(model):
    assert generate(model, [], max_new_tokens=5, stop={END}) == []


@pytest.mark.parametrize("limit", [1, 2])
def test_the_limit_counts_new_tokens(model, limit):
    assert [len(reply) for reply in generate(model, prompts(5), max_new_tokens=limit, stop=set())] == [limit] * 5


@pytest.mark.parametrize("batch", [1, 64])
def test_a_reply_ends_where_the_context_does(model, batch):
    asked = [[5] * n for n in (10, 95, 50, 94)]  # of 96 tokens
    replies = generate(model, asked, max_new_tokens=60, stop=set(), batch=batch)
    assert [len(reply) for reply in replies] == [60, 1, 46, 2]
    assert replies == [reference(model, prompt, min(60, 96 - len(prompt)), set()) for prompt in asked]


def test_a_reply_ends_with_its_stop_token_and_holds_no_other(model, stop):
    for reply in generate(model, prompts(30), max_new_tokens=12, stop=stop):
        assert not stop & set(reply[:-1])
        assert reply[-1] in stop or len(reply) == 12


def test_sampling_is_seeded_leaves_global_generators_alone_and_follows_the_model(model):
    def sample(seed, temperature=1.0, n=200):
        return generate(model, [[5, 6]] * n, max_new_tokens=1, stop=set(), temperature=temperature, seed=seed, batch=64)

    before = torch.get_rng_state()
    assert sample(1) == sample(1) != sample(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert len({tuple(r) for r in sample(1)}) > 3
    greedy = generate(model, [[5, 6]], max_new_tokens=1, stop=set())
    assert sample(3, temperature=1e-4) == greedy * 200
    shares = model(torch.tensor([[5, 6]])).logits[0, -1].softmax(-1)
    drawn = torch.bincount(torch.tensor(sample(4, n=2000)).flatten(), minlength=len(shares)) / 2000
    assert (drawn - shares).abs().max() < 0.05


def test_a_sampled_reply_does_not_depend_on_who_else_is_asked(model):
    asked = prompts(12, 5)
    ask = {"max_new_tokens": 12, "stop": {END}, "temperature": 1.0, "seed": 3}
    replies = generate(model, asked, **ask)
    assert generate(model, asked[::-1], batch=5, **ask) == replies[::-1]
    assert [generate(model, [one], **ask)[0] for one in asked] == replies
    assert generate(model, asked, **{**ask, "max_new_tokens": 4}) == [reply[:4] for reply in replies]


def test_equal_prompts_are_sampled_apart_and_the_first_ones_stay_when_more_are_asked(model):
    ask = {"max_new_tokens": 8, "stop": set(), "temperature": 1.0}
    nine = generate(model, [[5, 6]] * 9, **ask)
    assert len({tuple(reply) for reply in nine}) == 9
    assert generate(model, [[7], *[[5, 6]] * 3, [7]], **ask)[1:4] == nine[:3]


def test_a_token_that_cannot_be_is_never_drawn():
    logits = torch.full((64, 9), -torch.inf)
    logits[:, [2, 5]] = 0.0
    draw = generation._Choice(1.0, range(64), 20, logits.device)
    drawn = torch.stack([draw(logits, torch.arange(64), place) for place in range(20)])
    assert sorted(set(drawn.flatten().tolist())) == [2, 5]
    assert (drawn == 2).float().mean() == pytest.approx(0.5, abs=0.05)


def test_progress_counts_prompts(model):
    heard = []
    with listening(lambda *what: heard.append(what)):
        generate(model, prompts(7), max_new_tokens=2, stop=set(), batch=3)
    assert heard == [("answer", 3, 7), ("answer", 6, 7), ("answer", 7, 7)]


ARCHITECTURES = {
    "mistral, sliding window": ("MistralConfig", {"sliding_window": 6}),
    "qwen3": ("Qwen3Config", {"head_dim": 8}),
    "gemma2, sliding and soft-capped": (
        "Gemma2Config",
        {"head_dim": 8, "sliding_window": 6, "query_pre_attn_scalar": 8},
    ),
    "gpt2, learned positions": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_too(name):
    import transformers

    config_class, settings = ARCHITECTURES[name]
    shape = (
        {}
        if "gpt2" in name
        else {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 48,
            "max_position_embeddings": 96,
        }
    )
    config = getattr(transformers, config_class)(
        vocab_size=99, bos_token_id=None, eos_token_id=END, pad_token_id=0, initializer_range=0.3, **shape, **settings
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for shared in (0, 9):
        asked = prompts(6, shared)
        assert generate(model, asked, max_new_tokens=10, stop={END}) == reference_all(model, asked, 10, {END})
