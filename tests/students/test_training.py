import copy
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from dataenv.errors import InvalidData, TrainingFailed
from dataenv.progress import listening
from dataenv.students.memory import footprint
from dataenv.students.training import Recipe, _schedule, grouped_batches, train


@pytest.fixture(scope="module")
def base(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation="eager")


@pytest.fixture
def model(base):
    return copy.deepcopy(base)


def rows(n=24, seed=0, longest=12):
    rng = np.random.default_rng(seed)
    return [
        (rng.integers(3, 90, rng.integers(1, longest)).tolist(), [*rng.integers(3, 90, rng.integers(0, 6)).tolist(), 1])
        for _ in range(n)
    ]


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def naive(model, rows, recipe, seed):
    """The plain loop: one row at a time, full logits, torch's own unfused AdamW."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1.0, weight_decay=recipe.weight_decay, fused=False, foreach=False
    )
    rng = np.random.Generator(np.random.PCG64(seed))
    lengths = [len(p) + len(c) for p, c in rows]
    batches = [b for _ in range(recipe.epochs) for b in grouped_batches(lengths, recipe.batch, recipe.window, rng)]
    summed = counted = 0
    for update, batch in enumerate(batches):
        tokens = sum(len(rows[i][1]) for i in batch)
        loss = 0
        for i in batch:
            prompt, completion = rows[i]
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
            loss = loss + cross_entropy(logits, torch.tensor(completion), reduction="sum")
        optimizer.zero_grad()
        (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(update, len(batches), recipe)
        optimizer.step()
        summed, counted = summed + loss.item(), counted + tokens
    return summed / counted


@pytest.mark.parametrize("options", [{}, {"epochs": 2, "batch": 5}, {"clip": 0.1, "weight_decay": 0.1}])
def test_it_does_what_the_naive_loop_does(model, options):
    recipe = Recipe(learning_rate=1e-3, **options)
    reference = copy.deepcopy(model)
    loss, expected = train(model, rows(), recipe, seed=3), naive(reference, rows(), recipe, seed=3)
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(weights(model), weights(reference), atol=2e-5, rtol=0)
    assert not model.training


@pytest.mark.parametrize("micro_batch", [1, 30, 75])
def test_an_accumulated_batch_is_the_whole_batch(model, micro_batch):
    whole = copy.deepcopy(model)
    loss = train(model, rows(16), Recipe(learning_rate=1e-4, batch=16, micro_batch=micro_batch), seed=0)
    assert loss == pytest.approx(
        train(whole, rows(16), Recipe(learning_rate=1e-4, batch=16, micro_batch=10**6), seed=0), abs=1e-5
    )
    torch.testing.assert_close(weights(model), weights(whole), atol=1e-5, rtol=0)


def test_micro_batches_keep_to_their_size(model, monkeypatch):
    shapes = []
    footprint(model)  # it makes forward passes of its own, once
    forward = type(model).forward
    monkeypatch.setattr(
        type(model),
        "forward",
        lambda self, **inputs: shapes.append(inputs["input_ids"].shape) or forward(self, **inputs),
    )
    train(model, rows(40), Recipe(learning_rate=1e-4, batch=40, micro_batch=50), seed=0)
    assert sum(n for n, _ in shapes) == 40
    assert max(n * length for n, length in shapes) <= 50
    assert len(shapes) < 40


def test_same_seed_same_weights_and_another_seed_others(model):
    one, two, other = (copy.deepcopy(model) for _ in range(3))
    recipe = Recipe(learning_rate=1e-3)
    for m, seed in ((one, 1), (two, 1), (other, 2)):
        train(m, rows(), recipe, seed=seed)
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))


def test_dropout_too_comes_from_the_seed_and_global_generators_stay_untouched(dropout_folder):
    base = AutoModelForCausalLM.from_pretrained(dropout_folder, dtype=torch.float32, attn_implementation="eager")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    one, two, without = (copy.deepcopy(base) for _ in range(3))
    for layer in without.model.layers:
        layer.self_attn.attention_dropout = 0.0
    for past, m in enumerate((one, two, without)):
        with torch.random.fork_rng([]):
            torch.manual_seed(past)  # whatever was drawn before
            train(m, rows(), Recipe(learning_rate=1e-3), seed=1)
    train(copy.deepcopy(base), rows(), Recipe(learning_rate=1e-3), seed=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(without))


def test_only_trainable_weights_move(model):
    model.requires_grad_(False)
    model.model.layers[0].mlp.requires_grad_(True)
    before = {name: p.clone() for name, p in model.named_parameters()}
    train(model, rows(8), Recipe(learning_rate=1e-2), seed=0)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if ".layers.0.mlp." in name}


@pytest.mark.parametrize(
    ("updates", "rate", "words"), [(5, 1e38, "The loss became"), (1, 1e39, "The weights overflowed")]
)
def test_a_blow_up_is_reported_even_when_the_last_update_breaks_the_weights(model, updates, rate, words):
    with pytest.raises(TrainingFailed, match=f"{words} .*lower the learning rate"):
        train(model, rows(8 * updates), Recipe(learning_rate=rate, batch=8), seed=0)


def test_a_hook_does_not_outlive_its_training(model):
    ids = torch.tensor([[5, 6, 7, 8]])
    train(model, rows(4), Recipe(learning_rate=1e-9), seed=0)
    assert model(ids).logits.shape == (1, 4, model.config.vocab_size)
    with pytest.raises(TrainingFailed):
        train(model, rows(40), Recipe(learning_rate=1e38), seed=0)
    assert model(ids).logits.shape == (1, 4, model.config.vocab_size)


@pytest.mark.parametrize("n", [1, 7, 8, 9, 300])
def test_every_row_stands_in_exactly_one_batch_of_exactly_the_size_asked_for(n):
    lengths = np.random.default_rng(0).integers(1, 100, n).tolist()
    batches = grouped_batches(lengths, 8, 4, np.random.default_rng(1))
    assert sorted(i for batch in batches for i in batch) == list(range(n))
    sizes = sorted(map(len, batches))
    assert sizes[1:] == [8] * (len(batches) - 1)
    assert sizes[0] == n % 8 or n % 8 == 0 == sizes[0] % 8


def test_batches_group_similar_lengths_and_the_draw_decides_the_order():
    lengths = np.random.default_rng(0).integers(1, 1000, 128).tolist()
    batches = grouped_batches(lengths, 8, 16, np.random.default_rng(1))
    spread = sum(max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batches)
    assert spread < 1000  # unsorted it would be about 16 x 800
    assert batches != grouped_batches(lengths, 8, 16, np.random.default_rng(2))
    assert batches == grouped_batches(lengths, 8, 16, np.random.default_rng(1))


def test_a_wider_window_makes_batches_more_alike():
    lengths = np.random.default_rng(0).integers(1, 1000, 128).tolist()
    spreads = [
        sum(
            np.ptp([lengths[i] for i in batch])
            for batch in grouped_batches(lengths, 8, window, np.random.default_rng(1))
        )
        for window in (1, 2, 4, 16)
    ]
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > 8 * spreads[-1]


def test_the_schedule_warms_up_to_the_peak_and_falls_to_the_floor():
    recipe = Recipe(learning_rate=1.0, warmup=0.1, floor=0.1)
    shares = [_schedule(i, 100, recipe) for i in range(100)]
    assert shares[:10] == pytest.approx([i / 10 for i in range(1, 11)])
    assert max(shares) == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[-1] == pytest.approx(0.1, abs=0.01)
    assert _schedule(0, 1, recipe) == 1.0


def test_the_constant_schedule_stays_at_the_peak():
    recipe = Recipe(learning_rate=1.0, warmup=0.1, schedule="constant")
    assert [_schedule(i, 20, recipe) for i in range(20)] == [0.5, *[1.0] * 19]


@pytest.mark.slow
def test_a_compiled_training_is_the_same_training(model, monkeypatch):
    """With torch's own graph capture, but a back end that needs no compiler."""
    capture, seen = torch.compile, []

    def back_end(graph, inputs):
        seen.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda call, dynamic: capture(call, dynamic=dynamic, backend=back_end))
    plain = copy.deepcopy(model)
    losses = [
        train(m, rows(16), Recipe(learning_rate=1e-3, compile=on), seed=0) for m, on in ((model, True), (plain, False))
    ]
    assert 1 <= len(seen) <= 3  # all layers share it
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    torch.testing.assert_close(weights(model), weights(plain), atol=1e-5, rtol=0)
    assert not any("forward" in vars(layer) for layer in model.modules())


def test_progress_counts_rows_over_all_epochs(model):
    heard = []
    with listening(lambda *what: heard.append(what)):
        train(model, rows(10), Recipe(learning_rate=1e-4, batch=4, epochs=2), seed=0)
    assert heard[-1] == ("teach", 20, 20)
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0},
        {"learning_rate": -1},
        {"learning_rate": math.nan},
        {"epochs": 0},
        {"batch": 0},
        {"micro_batch": 0},
        {"clip": 0},
        {"beta": 0},
        {"schedule": "linear"},
    ],
)
def test_settings_without_a_meaning_are_refused_by_name(wrong):
    with pytest.raises(InvalidData, match=next(iter(wrong))):
        Recipe(**{"learning_rate": 1e-3, **wrong})
