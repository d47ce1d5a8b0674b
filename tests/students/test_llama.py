"""The written-out Llama against the one of transformers and autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from dataenv.students.llama import NO_BATCH, Llamas, Rows, written_out

VOCABULARY = 23


def llama(seed=0, **shape):
    shape = {
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 20,
        "initializer_range": 0.4,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        **shape,
    }
    config = LlamaConfig(vocab_size=VOCABULARY, **shape)
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM._from_config(config, attn_implementation="eager")
        for name, p in model.named_parameters():
            if "norm" in name:  # they start at 1, where a wrong scale would not show
                torch.nn.init.uniform_(p, 0.5, 1.5)
    return model


def autograd(model, rows):
    """Summed loss, and the gradient of its mean per completion token; one row at a time."""
    model.zero_grad()
    loss = sum(
        cross_entropy(
            model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1],
            torch.tensor(completion),
            reduction="sum",
        )
        for prompt, completion in rows
    )
    (loss / sum(len(completion) for _, completion in rows)).backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


tokens = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=7)
batches = st.lists(st.tuples(tokens, tokens), min_size=0, max_size=4)
shapes = st.fixed_dictionaries(
    {
        "tie_word_embeddings": st.booleans(),
        "num_hidden_layers": st.integers(1, 3),
        "hidden_size": st.sampled_from([4, 12]),
        "intermediate_size": st.sampled_from([3, 16]),
        "head_dim": st.sampled_from([2, 6]),
        "pad_token_id": st.sampled_from([None, 0, 5]),
        "rms_norm_eps": st.sampled_from([1e-6, 1e-2]),
    }
)
heads = st.sampled_from([(1, 1), (2, 2), (4, 2), (4, 1)])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(batches, min_size=1, max_size=3).filter(any), shapes, heads)
def test_losses_and_gradients_are_those_of_autograd(rows, shape, heads):
    shape = {**shape, "num_attention_heads": heads[0], "num_key_value_heads": heads[1]}
    models = [llama(seed, **shape) for seed in range(len(rows))]
    assert all(map(written_out, models))
    stacked = Llamas(models)
    losses = stacked.loss_and_grads([Rows(own).batch(range(len(own))) if own else NO_BATCH for own in rows])
    for model, own, loss, grads in zip(models, rows, losses, stacked.grads, strict=True):
        if not own:  # it sat out
            assert loss == 0
            continue
        expected, gradient = autograd(model, own)
        assert loss == pytest.approx(expected, rel=1e-5, abs=1e-5)
        torch.testing.assert_close(grads, gradient, atol=1e-5, rtol=1e-3)


def test_confident_models_and_long_rows_lose_no_digits():
    """Scores so far apart that their shares underflow, over a hundred tokens."""
    model = llama(initializer_range=1.0)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight *= 30
    rng = np.random.default_rng(0)
    rows = [(rng.integers(0, VOCABULARY, n).tolist(), rng.integers(0, VOCABULARY, 9).tolist()) for n in (3, 90)]
    stacked = Llamas([model])
    [loss] = stacked.loss_and_grads([Rows(rows).batch([0, 1])])
    expected, gradient = autograd(model, rows)
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(stacked.grads[0], gradient, atol=1e-4 * float(gradient.abs().max()), rtol=1e-3)


def test_a_batch_is_the_chosen_rows_in_their_order():
    rows = Rows([([1, 2], [3]), ([4], [5, 6, 7]), ([8], [9])])
    batch = rows.batch([1, 0])
    assert batch.shape == (2, 3)
    assert batch.ids.view(2, 3).tolist() == [[4, 5, 6], [1, 2, 3]]
    assert (batch.picked.tolist(), batch.targets.tolist()) == ([0, 1, 2, 4], [5, 6, 7, 3])


def test_no_student_sees_anothers_numbers():
    """A student full of NaN leaves the others' losses and gradients as they are, bit for bit."""
    models = [llama(seed) for seed in range(3)]
    batches = [Rows([([1, 2, 3], [4, 5])] * n).batch(range(n)) for n in (1, 2, 3)]
    stacked = Llamas(models)
    losses, grads = stacked.loss_and_grads(batches), stacked.grads.clone()
    stacked.weights[1] = torch.nan
    now = stacked.loss_and_grads(batches)
    assert (now[0], now[2]) == (losses[0], losses[2])
    assert np.isnan(now[1])
    assert torch.equal(stacked.grads[::2], grads[::2])


def test_models_stay_as_they_are_until_their_own_weights_are_written_back():
    models = [llama(seed) for seed in range(2)]

    def weights():
        return [torch.cat([p.detach().flatten() for p in model.parameters()]) for model in models]

    before, stacked = weights(), Llamas(models)
    stacked.weights += 1
    assert all(map(torch.equal, weights(), before))
    stacked.write_back(1)
    assert all(map(torch.equal, weights(), [before[0], before[1] + 1]))


@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"attention_dropout": 0.1},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ],
    ids=lambda shape: next(iter(shape)),
)
def test_what_it_does_not_compute_it_does_not_take(shape):
    assert written_out(llama())
    assert not written_out(llama(**shape))


def test_frozen_weights_other_types_and_other_architectures_are_not_taken(tiny_folder):
    from transformers import MistralConfig

    assert not written_out(llama().bfloat16())
    frozen = llama()
    frozen.model.norm.requires_grad_(False)
    assert not written_out(frozen)
    mistral = MistralConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=8,
    )  # fmt: skip
    assert not written_out(AutoModelForCausalLM.from_config(mistral))
