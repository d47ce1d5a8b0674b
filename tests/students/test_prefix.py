import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.models.llama.modeling_llama import eager_attention_forward

from dataenv.students import generation, prefix
from dataenv.students.generators import Sampling


@pytest.fixture
def model(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation="eager").eval()


class Layer(torch.nn.Module):
    num_key_value_groups = 3


@pytest.mark.parametrize(("rows", "new", "own"), [(1, 1, 1), (5, 1, 7), (4, 3, 3), (2, 3, 8)])
def test_attention_is_that_to_a_repeated_prefix(rows, new, own):
    torch.manual_seed(0)
    layer, d, p = Layer().eval(), 8, 11
    first = torch.randn(1, 6, p, d), torch.randn(1, 2, p, d), torch.randn(1, 2, p, d)
    query, key, value = torch.randn(rows, 6, new, d), torch.randn(rows, 2, own, d), torch.randn(rows, 2, own, d)
    mask = torch.full((rows, 1, new, own), torch.finfo(torch.float32).min).triu_(own - new + 1)
    mask[0, :, :, : own // 2] = torch.finfo(torch.float32).min  # padding on the left
    out, _ = prefix.attend(layer, *first, None, d**-0.5)
    torch.testing.assert_close(out, eager_attention_forward(layer, *first, None, d**-0.5)[0])
    out, _ = prefix.attend(layer, query, key, value, mask, d**-0.5)
    whole = [torch.cat([head.expand(rows, -1, -1, -1), x], 2) for head, x in zip(first[1:], (key, value), strict=True)]
    seen = torch.cat([mask.new_zeros(rows, 1, new, p), mask], -1)
    torch.testing.assert_close(out, eager_attention_forward(layer, query, *whole, seen, d**-0.5)[0])


def test_the_cache_holds_no_copies_of_the_prefix(model, monkeypatch):
    lengths, seen = [], DynamicCache.update

    def update(self, keys, *rest):
        lengths.append(tuple(keys.shape[::2]))
        return seen(self, keys, *rest)

    monkeypatch.setattr(DynamicCache, "update", update)
    generation.generate(model, [[*range(3, 40), n] for n in range(5)], Sampling(2, frozenset()))
    assert lengths == [(1, 37)] * 2 + [(5, 1)] * 4  # in each of two layers


def test_the_model_is_as_before_even_after_an_error(model, monkeypatch):
    assert prefix.can_share(model)
    before = model(torch.tensor([[3, 4, 5]])).logits
    monkeypatch.setattr(generation._Choice, "__call__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generation.generate(model, [[3, 4, 5], [3, 4, 6]], Sampling(4, frozenset()))
    assert model.config._attn_implementation == "eager"
    assert not any(hasattr(module, "prefix") for module in model.modules())
    assert torch.equal(model(torch.tensor([[3, 4, 5]])).logits, before)


@pytest.mark.parametrize(
    ("name", "settings", "able"),
    [
        ("Qwen3", {"head_dim": 8}, True),
        ("Mistral", {"sliding_window": None}, True),
        ("Mistral", {"sliding_window": 6}, False),
        ("Gemma2", {"head_dim": 8}, False),
        ("GPT2", {"n_embd": 32, "n_layer": 1, "n_head": 4}, False),
        ("GptOss", {"head_dim": 8, "layer_types": ["full_attention"], "num_local_experts": 2}, False),
    ],
)
def test_only_models_that_attend_as_llama_share(name, settings, able):
    import transformers

    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_key_value_heads": 2}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=9, **({} if name == "GPT2" else {**shape, "num_attention_heads": 4}), **settings
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    assert prefix.can_share(model) is able
    model.set_attn_implementation("sdpa") if name == "Qwen3" else None
    assert name != "Qwen3" or not prefix.can_share(model)
