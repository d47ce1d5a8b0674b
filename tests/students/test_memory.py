import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from dataenv.errors import GenerationFailed, TrainingFailed
from dataenv.records import Example, Prompt
from dataenv.students import generation, memory
from dataenv.students.generation import generate
from dataenv.students.generators import Sampling
from dataenv.students.memory import GIB, Plan, _free_ram, _saved, footprint, out_of_memory, plan
from dataenv.students.packing import lay_out, split
from dataenv.students.training import Recipe, _CompletionLosses, train

CPU = torch.device("cpu")
ROWS = [([5] * 10, [7] * 6)] * 8


@pytest.fixture
def model(tiny_folder):
    return AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation="eager").eval()


@pytest.fixture
def free(monkeypatch):
    """Set how much memory there is."""
    return lambda amount: monkeypatch.setattr(memory, "available", lambda device: amount)


def need(model, rows, checkpointing=False):
    sequences = len(rows)
    return footprint(model).bytes(sequences, 16, sum(len(c) for _, c in rows), checkpointing=checkpointing)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize(("n", "length"), [(1, 80), (4, 40), (9, 17)])
def test_what_is_kept_for_the_backward_pass_follows_from_three_short_ones(tiny_folder, attention, n, length):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32, attn_implementation=attention)
    cost, kept = footprint(model), {}
    weights = {p.data_ptr() for p in (*model.parameters(), *model.buffers())}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = model(torch.full((n, length), 3), use_cache=False, logits_to_keep=1)
    measured = sum(kept.values())
    assert n * length * (cost.token + cost.square * length) == pytest.approx(measured, rel=0.1)
    assert (cost.square > 0) == (attention == "eager")
    del out


def test_measuring_changes_nothing(model):
    weights, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    footprint(model)
    assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())
    assert torch.equal(rng, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert not model.training


def test_checkpointing_keeps_less_and_gives_the_same_weights(model):
    other, rows = copy.deepcopy(model), [([5, 6, 7], [8, 9, 1]), ([9], [3, 1])] * 4
    losses = [
        train(m, rows, Recipe(learning_rate=1e-3, checkpointing=on), seed=0)
        for m, on in ((model, True), (other, False))
    ]
    assert losses[0] == losses[1]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert not model.is_gradient_checkpointing
    kept = []
    for on in (True, False):
        model.train()
        if on:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            model.gradient_checkpointing_disable()
        kept.append(_saved(model, [3] * 64))
    assert kept[0] < kept[1] / 2


def test_it_trains_whole_then_accumulates_then_checkpoints_then_refuses(model, free):
    batch, cost = list(range(8)), need(model, ROWS)
    ask = {"most": 128, "checkpointing": None, "packed": False}
    one, one_again = need(model, ROWS[:1]), need(model, ROWS[:1], checkpointing=True)
    assert one_again < one < cost
    for amount, expected in (
        (None, Plan(128, False)),
        (cost, Plan(128, False)),
        (cost - 1, Plan(64, False)),
        (one, Plan(16, False)),
    ):
        free(amount)
        assert plan(model, ROWS, [batch], **ask) == expected
    free(one - 1)
    assert plan(model, ROWS, [batch], **ask).checkpointing
    free(one_again - 1)
    with pytest.raises(TrainingFailed, match=r"single row of 16 tokens with checkpointing.*lower max_length or rank"):
        plan(model, ROWS, [batch], **ask)


def test_a_setting_is_obeyed(model, free):
    batch = list(range(8))
    free(1e12)
    assert plan(model, ROWS, [batch], 128, True, packed=False) == Plan(128, True)
    free(need(model, ROWS[:1]) - 1)
    with pytest.raises(TrainingFailed, match="allow checkpointing"):
        plan(model, ROWS, [batch], 128, False, packed=False)


def test_packed_rows_see_each_other_in_eager_attention_and_cost_more(model, free):
    parts = split(list(range(8)), ROWS, 128, packed=True)
    assert len(parts) == 1
    free(need(model, ROWS))
    assert plan(model, ROWS, parts, 128, None, packed=True).micro_batch == 64


def test_a_training_that_cannot_fit_leaves_the_student_as_it_was(make, method, free):
    student = make(method=method)
    version, rows = student.version, [Example(prompt="q", completion="ab")]
    free(1000.0)
    with pytest.raises(TrainingFailed, match=r"GiB are free.*as it was before this step"):
        student.teach(rows, seed=0)
    assert student.version == version
    free(1e12)
    assert student.teach(rows, seed=0).rows == 1


def test_memory_that_runs_out_all_the_same_is_told_with_what_was_tried(model, monkeypatch):
    def failing(self, *args, **options):
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(torch.optim.AdamW, "step", failing)
    words = "16 tokens, 128 tokens at a time without checkpointing; lower micro_batch.*checkpointing to true"
    with pytest.raises(TrainingFailed, match=words) as caught:
        train(model, ROWS, Recipe(learning_rate=1e-3, micro_batch=128), seed=0)
    assert caught.value.__cause__.__traceback__ is None  # nothing holds on to the tensors
    assert not model.training
    with pytest.raises(TrainingFailed, match=r"with checkpointing; lower micro_batch, max_length or rank\."):
        train(model, ROWS, Recipe(learning_rate=1e-3, checkpointing=True), seed=0)
    assert not model.is_gradient_checkpointing


def test_a_completion_token_costs_its_logits(model):
    inputs = lay_out(ROWS, CPU, packed=False)
    kept = []

    def keep(tensor):
        kept.append((tensor.numel(), tensor.element_size()))
        return tensor

    with (
        _CompletionLosses(model) as losses,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        losses(inputs, "sum")
    assert (48 * model.config.vocab_size, 4) in kept
    assert footprint(model).completion >= 3 * 4 * model.config.vocab_size


def test_cache_bytes_are_those_of_a_real_cache(model):
    cache = model(torch.full((3, 11), 5), use_cache=True).past_key_values
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert memory.cache_bytes(model) * 33 == real


# -- answering --------------------------------------------------------------------------------------------------------


def test_replies_decoded_together_stay_within_memory(model, free, monkeypatch):
    ask = {"longest": 40, "shared": 0, "new": 24, "most": 64}
    monkeypatch.setattr(model.config, "_attn_implementation", "sdpa")
    one = 64 * memory.cache_bytes(model)
    for amount, expected in ((None, 64), (1e15, 64), (20 * one, 10), (one, 1)):
        free(amount)
        assert memory.replies_at_once(model, **ask) == expected
    free(one - 1)
    with pytest.raises(GenerationFailed, match="lower max_new_tokens or shots"):
        memory.replies_at_once(model, **ask)
    free(20 * one)
    monkeypatch.setattr(model.config, "_attn_implementation", "eager")
    alone, after = (memory.replies_at_once(model, **ask | {"shared": shared}) for shared in (0, 39))
    assert alone < after <= 10  # scores of the whole prompt, and of its last token


def test_on_a_cpu_the_most_that_replies_take_is_the_same_everywhere(model, free, monkeypatch):
    monkeypatch.setattr(memory, "REPLIES", 2000 * memory.cache_bytes(model))
    found = set()
    for amount in (None, 1e9, 1e15):
        free(amount)
        found.add(memory.replies_at_once(model, longest=40, shared=39, new=60, most=512))
    assert len(found) == 1
    assert 1 < found.pop() <= 20


def test_small_batches_say_what_large_ones_say(model, monkeypatch):
    asked = [[5, 6, 7, 8 + n % 9, *[9 + n] * (n % 5)] for n in range(20)]
    expected, sizes, decode = generate(model, asked, Sampling(9, frozenset({1}))), [], generation._decode
    monkeypatch.setattr(memory, "REPLIES", 50 * memory.cache_bytes(model))
    monkeypatch.setattr(
        generation, "_decode", lambda model, few, *rest: sizes.append(len(few)) or decode(model, few, *rest)
    )
    assert generate(model, asked, Sampling(9, frozenset({1}))) == expected
    assert sum(sizes) == 20
    assert max(sizes) <= 4


def test_memory_that_runs_out_while_answering_is_told(make, method, monkeypatch):
    def failing(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    student = make(method=method)
    before = student.answer([Prompt(text="rev abc")], max_new_tokens=4)
    with monkeypatch.context() as patch, pytest.raises(GenerationFailed, match=r"1 replies.*lower answer_batch"):
        patch.setattr(generation, "_decode", failing)
        student.answer([Prompt(text="rev abc")], max_new_tokens=4)
    assert student.answer([Prompt(text="rev abc")], max_new_tokens=4) == before


# -- how much there is ------------------------------------------------------------------------------------------------


def machine(root, *, free_kib, group=None, name=""):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemFree: 1 kB\nMemAvailable:   {free_kib} kB\n")
    (root / "proc/self/cgroup").write_text(f"0::/{name}\n")
    folder = root / "sys/fs/cgroup" / name
    folder.mkdir(parents=True)
    for file, text in (group or {}).items():
        (folder / file).write_text(text)
    return root


GROUP = {"memory.max": "5000000\n", "memory.current": "2000000\n", "memory.stat": "anon 7\ninactive_file 500000\n"}


def test_a_containers_limit_counts_and_its_cached_files_do_not(tmp_path):
    assert list(_free_ram(machine(tmp_path / "a", free_kib=2048))) == [2048 * 1024]
    assert list(_free_ram(machine(tmp_path / "b", free_kib=2048, group=GROUP))) == [2048 * 1024, 3500000]
    root = machine(tmp_path / "c", free_kib=2048, group=GROUP | {"memory.max": "max\n"}, name="x/y")
    for file, text in GROUP.items():
        (root / "sys/fs/cgroup/x" / file).write_text(text)
    assert list(_free_ram(root)) == [2048 * 1024, 3500000]


@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_without_a_word_from_the_system_there_is_no_limit(tmp_path, damage):
    root = machine(tmp_path, free_kib=5)
    if damage == "gone":
        (root / "proc/meminfo").unlink()
    else:
        (root / "proc/meminfo").write_text("MemTotal")
    assert list(_free_ram(root)) == []


def test_this_machine_has_memory():
    found = memory.available(CPU)
    assert found is None or GIB / 8 < found < 2**50
    assert memory.available(torch.device("meta")) is None


def test_out_of_memory_is_told_from_other_errors():
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(ValueError("out of memory"))
    assert not out_of_memory(RuntimeError("shape mismatch"))
