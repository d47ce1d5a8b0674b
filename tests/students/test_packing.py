import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from dataenv.errors import InvalidData
from dataenv.students.packing import can_pack, lay_out, length, split
from dataenv.students.recipe import Recipe
from dataenv.students.training import _CompletionLosses, train

CPU = torch.device("cpu")
IDS = st.lists(st.integers(3, 90), min_size=1, max_size=9)
ROWS = st.lists(st.one_of(st.tuples(IDS, IDS), st.tuples(IDS, IDS, IDS)), min_size=1, max_size=12)


def draw(n=10, seed=0, pairs=False):
    rng = np.random.default_rng(seed)
    return [
        tuple(rng.integers(3, 90, rng.integers(1, 12)).tolist() for _ in range(3 if pairs and i % 2 else 2))
        for i in range(n)
    ]


@pytest.fixture(params=["eager", "sdpa"])
def model(tiny_folder, request):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation=request.param)


def gradients(model, rows, packed):
    model.zero_grad()
    inputs = lay_out(rows, CPU, packed=packed)
    with _CompletionLosses(model) as losses:
        loss = losses(inputs, "sum")
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("pairs", [False, True])
def test_packed_and_padded_have_the_same_loss_and_gradients(model, pairs):
    (loss, grads), (expected, padded) = (gradients(model, draw(pairs=pairs), packed) for packed in (True, False))
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(grads, padded, atol=1e-5 * padded.abs().max().item(), rtol=0)


@pytest.mark.parametrize("pairs", [False, True])
def test_packed_and_padded_trainings_end_with_the_same_weights(model, pairs):
    padded, rows = copy.deepcopy(model), draw(20, pairs=pairs)
    loss, expected = (
        train(m, rows, Recipe(learning_rate=1e-4, packing=packing, micro_batch=60), seed=0)
        for m, packing in ((model, True), (padded, False))
    )
    assert loss == pytest.approx(expected, abs=1e-5)
    for one, other in zip(model.parameters(), padded.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


ARCHITECTURES = {
    "mistral, sliding window": ("MistralConfig", {"sliding_window": 4}),
    "gemma2, sliding and soft-capped": ("Gemma2Config", {"head_dim": 8, "sliding_window": 4}),
    "gpt2, learned positions": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4}),
}


def build(config_class, extra):
    import transformers

    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
    }
    config = getattr(transformers, config_class)(
        vocab_size=99,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.3,
        **(extra if config_class == "GPT2Config" else shape | extra),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_keep_rows_apart_too(name):
    model = build(*ARCHITECTURES[name])
    assert can_pack(model)
    (loss, grads), (expected, padded) = (gradients(model, draw(), packed) for packed in (True, False))
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(grads, padded, atol=1e-5 * padded.abs().max().item(), rtol=0)


def test_a_model_that_carries_state_is_found_out_and_refused():
    model = build("MambaConfig", {"state_size": 4})
    assert not can_pack(model)
    with pytest.raises(InvalidData, match="MambaForCausalLM cannot keep packed rows apart"):
        train(model, draw(), Recipe(learning_rate=1e-3, packing=True), seed=0)


@given(ROWS, st.booleans())
@settings(max_examples=50, deadline=None)
def test_every_completion_token_is_predicted_from_the_token_before_it_once(rows, packed):
    inputs = lay_out(rows, CPU, packed=packed)
    sequences = [(row[0], answer) for row in rows for answer in row[1:]]
    flat = inputs.ids.flatten().tolist()
    places = [
        (p + c)[len(p) - 1 + k] for p, c in sequences for k in range(len(c))
    ]  # the token before each completion token
    assert [flat[i] for i in inputs.picked.tolist()] == places
    assert inputs.targets.tolist() == [id for _, c in sequences for id in c]
    assert inputs.owner.tolist() == [n for n, (_, c) in enumerate(sequences) for _ in c]
    if packed:
        assert inputs.ids.numel() == sum(len(p) + len(c) - 1 for p, c in sequences)
        assert (inputs.positions == 0).sum() == len(sequences)
    else:
        assert inputs.positions is None


@given(ROWS, st.integers(1, 80), st.booleans())
@settings(max_examples=50, deadline=None)
def test_parts_hold_every_row_once_and_keep_to_their_size(rows, most, packed):
    batch = list(range(len(rows)))[::-1]
    parts = split(batch, rows, most, packed=packed)
    assert [i for part in parts for i in part] == batch
    for part in parts:
        sequences = [len(rows[i][0]) + len(answer) for i in part for answer in rows[i][1:]]
        tokens = sum(sequences) if packed else len(sequences) * max(length(rows[i]) for i in part)
        assert tokens <= most or len(part) == 1
