import copy
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from dataenv.errors import InvalidData
from dataenv.records import Example, Prompt
from dataenv.students.lora import CONFIG, WEIGHTS, LoraLinear, add_lora, merged

IDS = torch.tensor([[5, 6, 7, 8, 9]])
ROWS = [Example(prompt=f"rev {w}", completion=w[::-1]) for w in ("abc", "de", "fghi", "j")]


@pytest.fixture(scope="module")
def base(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture
def adapted(base):
    model = copy.deepcopy(base)
    add_lora(model, rank=4, alpha=8.0, seed=0)
    return model


def scramble(model, seed=1):
    """Give the adapters weights that show in the logits."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(0, 0.3, generator=generator)


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_it_starts_as_the_base_and_adapts_all_linear_layers_but_the_output(base, adapted):
    assert torch.equal(logits(adapted), logits(base))
    layers = {name for name, layer in adapted.named_modules() if isinstance(layer, LoraLinear)}
    assert len(layers) == 2 * 7
    assert not any("lm_head" in name for name in layers)
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(trainable) == 2 * 14
    assert all(".lora_A" in name or ".lora_B" in name for name in trainable)
    assert sum(p.numel() for p in trainable.values()) == sum(
        4 * (layer.base.in_features + layer.base.out_features)
        for layer in adapted.modules()
        if isinstance(layer, LoraLinear)
    )


def test_the_correction_is_b_a_times_alpha_over_rank():
    layer = LoraLinear(torch.nn.Linear(3, 5), 2, 6.0, torch.Generator().manual_seed(0))
    layer.lora_B.data.normal_()
    x = torch.randn(7, 3)
    expected = x @ layer.base.weight.T + layer.base.bias + 3.0 * x @ layer.lora_A.T @ layer.lora_B.T
    torch.testing.assert_close(layer(x), expected)


def test_starting_values_come_from_the_seed_and_no_global_generator(base):
    before = torch.get_rng_state()
    models = [copy.deepcopy(base) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        add_lora(model, rank=4, alpha=8.0, seed=seed)
    one, two, other = ([p for n, p in m.named_parameters() if "lora_A" in n] for m in models)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_merged_it_says_the_same_and_unmerged_it_is_the_old_model(base, adapted):
    scramble(adapted)
    before, weights = logits(adapted), {n: p.clone() for n, p in adapted.named_parameters()}
    assert not torch.allclose(before, logits(base), atol=0.1)
    for _ in range(2):
        with merged(adapted):
            assert not torch.equal(logits(adapted), before)  # other roundings: it is computed another way
            torch.testing.assert_close(logits(adapted), before, atol=1e-4, rtol=1e-4)
        assert torch.equal(logits(adapted), before)
        assert all(torch.equal(p, weights[n]) for n, p in adapted.named_parameters())


def test_an_untaught_adapter_merges_to_the_base_bit_for_bit(base, adapted):
    with merged(adapted):
        assert torch.equal(logits(adapted), logits(base))


def test_what_was_merged_before_is_not_what_is_merged_now(adapted):
    with merged(adapted):
        old = logits(adapted)
    scramble(adapted)
    with merged(adapted):
        assert not torch.allclose(logits(adapted), old, atol=0.1)


def test_a_merge_that_fails_leaves_the_model_as_it_was(adapted, monkeypatch):
    scramble(adapted)
    before, made, merge = logits(adapted), [], LoraLinear.merge

    def failing(self):
        made.append(1)
        if len(made) == 5:
            raise MemoryError
        merge(self)

    monkeypatch.setattr(LoraLinear, "merge", failing)
    with pytest.raises(MemoryError), merged(adapted):
        pass
    assert len(made) == 5
    assert torch.equal(logits(adapted), before)


def test_peft_loads_what_is_saved_with_equal_logits(make, tiny_folder, tmp_path):
    peft = pytest.importorskip("peft")
    student = make(method="lora", learning_rate=1e-2, alpha=8.0)
    student.teach(ROWS * 8, seed=0)
    student.save(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation="eager")
    untaught = logits(base)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert not torch.allclose(logits(theirs), untaught, atol=1e-2)
    torch.testing.assert_close(logits(theirs), logits(student._load()), atol=1e-4, rtol=1e-4)


def test_what_peft_saves_is_loaded_with_equal_logits(make, tiny_folder, tmp_path):
    peft = pytest.importorskip("peft")
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation="eager")
    theirs = peft.get_peft_model(
        base, peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    scramble(theirs)
    theirs.eval().save_pretrained(tmp_path)
    student = make(method="lora", alpha=8.0)
    student.load(tmp_path)
    torch.testing.assert_close(logits(student._load()), logits(theirs), atol=1e-4, rtol=1e-4)


def test_an_adapter_of_another_base_is_refused_by_name(make, tmp_path):
    student = make(method="lora")
    student.save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "base_model_name_or_path": "other/model"}))
    version = student.version
    with pytest.raises(InvalidData, match=f"belongs to 'other/model', not to '{student.base.id}'"):
        student.load(tmp_path)
    assert student.version == version


def test_an_adapter_of_another_shape_or_scale_is_refused(make, tmp_path):
    make(method="lora", rank=4).save(tmp_path)
    with pytest.raises(InvalidData, match="do not fit"):
        make(method="lora", rank=8).load(tmp_path)
    with pytest.raises(InvalidData, match=r"lora_alpha=32.*alpha 16 "):
        make(method="lora", rank=4, alpha=16.0).load(tmp_path)


@pytest.mark.parametrize(
    "damage", ["no folder", "no config", "no weights", "torn weights", "torn config", "config is a list"]
)
def test_damaged_files_are_invalid_data_and_leave_the_student_alone(make, tmp_path, damage):
    student = make(method="lora")
    student.save(tmp_path)
    student.teach(ROWS, seed=0)
    version, folder = student.version, tmp_path
    match damage:
        case "no folder":
            folder = tmp_path / "absent"
        case "no config":
            (tmp_path / CONFIG).unlink()
        case "no weights":
            (tmp_path / WEIGHTS).unlink()
        case "torn weights":
            (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:100])
        case "torn config":
            (tmp_path / CONFIG).write_text("{")
        case "config is a list":
            (tmp_path / CONFIG).write_text("[1]")
    with pytest.raises(InvalidData, match="no readable adapter"):
        student.load(folder)
    assert student.version == version
    assert student.answer([Prompt(text="x")], max_new_tokens=2)


def test_a_model_without_linear_layers_is_refused():
    with pytest.raises(InvalidData, match="method='full'"):
        add_lora(torch.nn.Sequential(torch.nn.ReLU()), rank=4, alpha=8.0, seed=0)
