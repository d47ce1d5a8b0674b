import copy
import math

import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM

from dataenv.errors import TrainingFailed
from dataenv.records import Example, Prompt
from dataenv.students.packing import lay_out
from dataenv.students.preference import dpo_loss, log_probabilities, references
from dataenv.students.recipe import Recipe
from dataenv.students.training import _CompletionLosses, train

CPU = torch.device("cpu")
PAIRS = [([5, 6], [7, 8, 1], [9, 1]), ([10], [11, 1], [12, 13, 14, 1]), ([5, 6, 7], [20, 1], [21, 1])]
ROWS = [([30, 31], [32, 33, 1]), ([34], [35, 36, 37, 1])]


@pytest.fixture
def model(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation="eager").eval()


def by_hand(model, pair):
    """ln p of both answers, from the whole sequence's logits."""
    sums = []
    for answer in pair[1:]:
        with torch.no_grad():
            shares = log_softmax(model(torch.tensor([pair[0] + answer])).logits[0], -1)
        sums.append(sum(shares[len(pair[0]) - 1 + k, id].item() for k, id in enumerate(answer)))
    return sums


def test_the_loss_is_the_formula():
    policy, reference = torch.tensor([[-3.0, -5.0], [-4.0, -1.0]]), torch.tensor([[-4.0, -4.5], [-4.0, -1.0]])
    margin = 0.1 * ((-3 + 4) - (-5 + 4.5))
    assert dpo_loss(policy, reference, 0.1).tolist() == pytest.approx(
        [-math.log(1 / (1 + math.exp(-margin))), math.log(2)]
    )


def test_the_loss_stays_finite_where_one_answer_is_hopeless():
    policy = torch.tensor([[-1e4, 0.0]], requires_grad=True)
    loss = dpo_loss(policy, torch.zeros(1, 2), 0.1)
    loss.sum().backward()
    assert loss.item() == pytest.approx(1000)
    assert policy.grad.tolist()[0] == pytest.approx([-0.1, 0.1])


@pytest.mark.parametrize("packed", [False, True])
def test_log_probabilities_are_sums_over_the_answers_tokens_alone(model, packed):
    with _CompletionLosses(model) as losses, torch.no_grad():
        inputs = lay_out(PAIRS, CPU, packed=packed)
        found = log_probabilities(losses(inputs), inputs)
        split = references([ROWS[0], *PAIRS, ROWS[1]], losses, CPU, most=1, packed=packed)
    expected = torch.tensor([by_hand(model, pair) for pair in PAIRS])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert sorted(split) == [1, 2, 3]
    torch.testing.assert_close(torch.stack([split[i] for i in (1, 2, 3)]), expected, atol=1e-4, rtol=0)


def test_the_first_loss_is_ln_2_and_then_it_falls_and_the_margin_grows(model):
    before = {name: p.clone() for name, p in model.named_parameters()}
    margins = [a - b for a, b in (by_hand(model, pair) for pair in PAIRS)]
    assert train(copy.deepcopy(model), PAIRS, Recipe(learning_rate=1e-9), seed=0) == pytest.approx(math.log(2))
    loss = train(model, PAIRS, Recipe(learning_rate=3e-3, epochs=20), seed=0)
    assert loss < 0.5
    assert all(a - b > m + 5 for (a, b), m in zip((by_hand(model, p) for p in PAIRS), margins, strict=True))
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_the_reference_is_the_model_at_the_start_of_the_call_in_every_epoch(model):
    """One update with the formula spelt out, at weights that an earlier update has moved away from the reference."""
    recipe = Recipe(learning_rate=1e-2, schedule="constant", warmup=0, epochs=2, batch=8, clip=1e9)
    reference = torch.tensor([by_hand(model, pair) for pair in PAIRS])
    moved = copy.deepcopy(model)
    train(moved, PAIRS, Recipe(learning_rate=1e-2, schedule="constant", warmup=0, batch=8, clip=1e9), seed=0)
    second = dpo_loss(torch.tensor([by_hand(moved, pair) for pair in PAIRS]), reference, 0.1).mean().item()
    assert abs(second - math.log(2)) > 0.1
    assert train(model, PAIRS, recipe, seed=0) == pytest.approx((math.log(2) + second) / 2, abs=1e-4)


def test_in_a_mixed_update_each_kind_counts_by_its_share_of_the_rows(model):
    recipe = Recipe(learning_rate=1e-9, batch=8)
    singles, pairs = (train(copy.deepcopy(model), rows, recipe, seed=0) for rows in (ROWS, PAIRS))
    assert train(copy.deepcopy(model), PAIRS + ROWS, recipe, seed=0) == pytest.approx(0.4 * singles + 0.6 * pairs)

    def gradient(rows):
        model.zero_grad()
        kept = {}
        hooks = [p.register_post_accumulate_grad_hook(lambda p: kept.update({p: p.grad.clone()})) for p in parameters]
        train(model, rows, Recipe(learning_rate=1e-30, batch=8, clip=1e9), seed=0)
        for hook in hooks:
            hook.remove()
        return torch.cat([kept[p].flatten() for p in parameters])

    parameters = list(model.parameters())
    torch.testing.assert_close(gradient(ROWS + PAIRS), 0.4 * gradient(ROWS) + 0.6 * gradient(PAIRS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("micro_batch", [1, 20])
def test_an_accumulated_batch_of_both_kinds_is_the_whole_batch(model, micro_batch):
    whole, rows = copy.deepcopy(model), (ROWS + PAIRS) * 3
    losses = [
        train(m, rows, Recipe(learning_rate=1e-4, batch=15, micro_batch=size), seed=0)
        for m, size in ((model, micro_batch), (whole, 10**6))
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


# -- through the student ----------------------------------------------------------------------------------------------


def answers(student, prompt):
    return student.answer([Prompt(text=prompt)], max_new_tokens=8)[0][0].text


def test_a_student_learns_from_its_own_wrong_answers(make, method):
    student = make(method=method, learning_rate=3e-3 if method == "lora" else 1e-3, epochs=4)
    prompts = ["rev abc", "rev de", "rev k"]
    wrong = {p: answers(student, p) for p in prompts}
    version = student.version
    pairs = [Example(prompt=p, completion=p[4:][::-1], rejected=wrong[p]) for p in prompts]
    first = student.teach(pairs, seed=0)
    for seed in range(1, 5):
        last = student.teach(pairs, seed=seed)
    assert student.version != version
    assert first.loss < math.log(2)
    assert last.loss < math.log(2)  # again from its own start, which is the new reference
    assert all(answers(student, p) != wrong[p] for p in prompts)


def test_both_kinds_in_one_call_are_counted_and_repeatable(make, method):
    rows = [Example(prompt="q", completion="ab", rejected="c"), Example(prompt="qq", completion="a")]
    one, two = make(method=method), make(method=method)
    report = one.teach(rows, seed=0)
    assert (report.rows, report.overlong) == (2, 0)
    assert report.tokens == (2 + 3) + (2 + 2) + (3 + 2)
    assert two.teach(list(rows), seed=0) == report
    assert one.version == two.version


def test_a_pair_whose_rejected_answer_is_too_long_is_left_out_and_counted(make):
    student = make(max_length=20)
    pair = Example(prompt="x" * 10, completion="y", rejected="z" * 9)
    version = student.version
    assert student.teach([pair], seed=0) == (0, 0, None, 1)
    assert student.version == version


def test_a_blow_up_on_pairs_leaves_the_student_as_it_was(make, method):
    student = make(method=method, learning_rate=1e38, epochs=5)
    version = student.version
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        student.teach([Example(prompt="q", completion="ab", rejected="c")], seed=0)
    student._version = None
    assert student.version == version
