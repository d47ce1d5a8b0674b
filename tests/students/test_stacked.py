import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from dataenv.errors import TrainingFailed, UnknownId
from dataenv.meeting import together
from dataenv.records import Example, Prompt
from dataenv.students import make_students, memory, stacked
from dataenv.students.adapters import Adapters
from dataenv.students.llama import Llamas
from dataenv.students.stacked import SideBySide, stack

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def rows(n, seed=0, longest=12):
    rng = np.random.default_rng(seed)

    def word():
        return "".join(rng.choice(list(LETTERS), rng.integers(1, longest)))

    return [Example(prompt=word(), completion=word()) for _ in range(n)]


LESSONS = [rows(n, seed) for seed, n in enumerate((20, 7, 1, 13, 24, 16, 9, 3))]
"""Of uneven length, with from one to three updates."""


@pytest.fixture(params=[1, 2], ids=["one core", "two cores"])
def cores(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def full(make):
    """Makes a student that can be stacked."""
    return partial(make, method="full", threads=1, learning_rate=1e-3)


def stacked_students(make, n, **options):
    students = [make(**options) for _ in range(n)]
    stack(students)
    return students


def teach_all(students, lessons=LESSONS):
    """What each `teach` returned or raised, when all are called together."""
    pairs = enumerate(zip(students, lessons, strict=False))
    return together([partial(student.teach, lesson, seed=seed) for seed, (student, lesson) in pairs])


def weights(student):
    return torch.cat([p.detach().flatten() for p in student.model.parameters()])


def learnt(student):
    return torch.cat([p.detach().flatten() for p in student.model.parameters() if p.requires_grad])


@pytest.fixture
def only_alone(monkeypatch):
    """Stacks are an error."""

    def refuse(lessons):
        raise AssertionError("taught in a stack")

    monkeypatch.setattr(stacked, "_train_all", refuse)


# -- teaching ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"epochs": 3, "schedule": "constant"}, {"batch": 1}, {"batch": 64}])
def test_each_learns_what_it_would_alone(full, options):
    students = stacked_students(full, len(LESSONS), **options)
    for seed, (student, report) in enumerate(zip(students, teach_all(students), strict=True)):
        solo = full(**options)
        expected = solo.teach(LESSONS[seed], seed=seed)
        assert report._replace(loss=None) == expected._replace(loss=None)
        assert report.loss == pytest.approx(expected.loss, abs=1e-5)
        torch.testing.assert_close(weights(student), weights(solo), atol=5e-5, rtol=0)
        assert student.version != full().version


LORA = [
    {},
    {"epochs": 3, "schedule": "constant"},
    {"batch": 1},
    {"batch": 64, "threads": 1},
    {"micro_batch": 60},
    {"packing": True},
    {"packing": True, "micro_batch": 50},
]


@pytest.mark.parametrize("options", LORA)
def test_each_adapter_learns_what_it_would_alone(make, options):
    students = stacked_students(make, len(LESSONS), **options)
    for seed, (student, report) in enumerate(zip(students, teach_all(students), strict=True)):
        solo = make(**options)
        expected = solo.teach(LESSONS[seed], seed=seed)
        assert report._replace(loss=None) == expected._replace(loss=None)
        assert report.loss == pytest.approx(expected.loss, abs=1e-5)
        torch.testing.assert_close(learnt(student), learnt(solo), atol=3e-4, rtol=0)
        assert student.version != make().version


def test_adapters_that_differ_already_go_on_each_from_its_own(make):
    students, solos = stacked_students(make, 3), [make() for _ in range(3)]
    for lessons in (LESSONS[:3], LESSONS[3:6]):
        reports = teach_all(students, lessons)
        for seed, (solo, report) in enumerate(zip(solos, reports, strict=True)):
            assert report.loss == pytest.approx(solo.teach(lessons[seed], seed=seed).loss, abs=1e-4)


def test_gradients_are_those_of_autograd_whatever_shares_a_pass(make):
    models = [make().model for _ in range(3)]
    torch.manual_seed(0)
    for model in models:
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(0, 0.1)
    batches = [[([5, 6, 7], [8, 9])], [], [([9, 4], [3]), ([1] * 20, [2] * 9), ([7], [6, 5, 4])]]
    for most, packed in ((1000, False), (30, False), (1, False), (1000, True)):
        adapters = Adapters([models[0], make().model, models[2]], most=most, packed=packed)
        losses = adapters.loss_and_grads(batches)
        assert (losses[1], adapters.grads[1].abs().sum()) == (0.0, 0.0)
        for k in (0, 2):
            models[k].zero_grad()
            total = sum(
                cross_entropy(
                    models[k](torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1],
                    torch.tensor(answer),
                    reduction="sum",
                )
                for prompt, answer in batches[k]
            )
            (total / sum(len(answer) for _, answer in batches[k])).backward()
            assert losses[k] == pytest.approx(total.item(), rel=1e-5)
            own = torch.cat([p.grad.flatten() for p in models[k].parameters() if p.requires_grad])
            torch.testing.assert_close(adapters.grads[k], own, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("other", [{"rank": 2}, {"alpha": 8.0}, {"learning_rate": 1e-3}, {"threads": 1}])
def test_unlike_adapters_are_other_stacks(make, other, monkeypatch):
    sizes, updates = [], stacked._updates
    monkeypatch.setattr(stacked, "_updates", lambda lessons: sizes.append(len(lessons)) or updates(lessons))
    students = [make(), make(**other), make()]
    stack(students)
    reports = teach_all(students)
    assert sorted(sizes) == [1, 2]
    assert reports[1].loss == pytest.approx(make(**other).teach(LESSONS[1], seed=1).loss, abs=1e-5)


def test_adapters_over_other_bases_are_other_stacks(make, chat_folder, monkeypatch):
    sizes, updates = [], stacked._updates
    monkeypatch.setattr(stacked, "_updates", lambda lessons: sizes.append(len(lessons)) or updates(lessons))
    students = [make(), make(chat_folder), make()]
    stack(students)
    teach_all(students)
    assert sorted(sizes) == [1, 2]


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(1, 5), st.integers(2, 40), st.integers(1, 2))
def test_whatever_the_rows_the_loss_is_that_of_a_solo_run(full, sizes, batch, longest, epochs):
    options = {"batch": batch, "epochs": epochs}
    lessons = [rows(n, seed=n, longest=longest) for n in sizes]
    reports = teach_all(stacked_students(full, len(sizes), **options), lessons)
    for seed, (report, lesson) in enumerate(zip(reports, lessons, strict=True)):
        assert report.loss == pytest.approx(full(**options).teach(lesson, seed=seed).loss, abs=1e-5)


def test_untied_heads_of_their_own_size_are_stacked_too(full, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    from dataenv.students.micro import _tokenizer

    tokenizer = _tokenizer()
    shape = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    untied = {"head_dim": 10, "intermediate_size": 9, "tie_word_embeddings": False, "vocab_size": len(tokenizer)}
    LlamaForCausalLM(LlamaConfig(**shape, **untied)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    students = stacked_students(partial(full, str(tmp_path)), 2)
    for seed, report in enumerate(teach_all(students)):
        assert report.loss == pytest.approx(full(str(tmp_path)).teach(LESSONS[seed], seed=seed).loss, abs=1e-5)


def test_company_changes_no_bit(full, cores):
    results = []
    for n in (1, 2, 8, 8):
        students = stacked_students(full, n)
        reports = teach_all(students)
        results.append([(student.version, report.loss) for student, report in zip(students, reports, strict=True)])
    [alone] = stacked_students(full, 1)
    report = alone.teach(LESSONS[0], seed=0)  # outside of any meeting
    assert results[0] == [(alone.version, report.loss)]
    assert results[1][:1] == results[0]
    assert results[2][:2] == results[1]
    assert results[3] == results[2]
    torch.set_num_threads(3 - cores)
    teach_all(students := stacked_students(full, 8))
    assert [student.version for student in students] == [version for version, _ in results[3]]


def test_students_of_other_recipes_are_other_stacks(full, cores, monkeypatch):
    sizes = []
    updates = stacked._updates
    monkeypatch.setattr(stacked, "_updates", lambda lessons: sizes.append(len(lessons)) or updates(lessons))
    recipes = [{}, {}, {"learning_rate": 2e-3}, {"batch": 4}]
    students = [full(**options) for options in recipes]
    stack(students)
    reports = teach_all(students)
    assert sorted(sizes) == ([1, 1, 2] if cores == 1 else [1, 1, 1, 1])
    for seed, (report, options) in enumerate(zip(reports, recipes, strict=True)):
        assert report.loss == pytest.approx(full(**options).teach(LESSONS[seed], seed=seed).loss, abs=1e-5)


def test_one_that_comes_twice_meets_who_is_left(full):
    one, two = stacked_students(full, 2)

    def twice():
        return [one.teach(LESSONS[0], seed=0).loss, one.teach(LESSONS[1], seed=1).loss]

    losses, _ = together([twice, partial(two.teach, LESSONS[2], seed=2)])
    solo = full()
    assert losses == pytest.approx([solo.teach(LESSONS[i], seed=i).loss for i in (0, 1)], abs=1e-5)


def test_threads_are_as_before(full, cores):
    students = stacked_students(full, 3)
    teach_all(students)
    together([partial(student.answer, [Prompt(text="abc")], max_new_tokens=2) for student in students])
    assert torch.get_num_threads() == cores


# -- who is taught alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "lesson"),
    [
        ({"method": "lora", "checkpointing": True}, LESSONS[0]),
        ({"method": "lora"}, [*LESSONS[1], Example(prompt="a", completion="b", rejected="c")]),
        ({"dtype": "bfloat16"}, LESSONS[0]),
        ({"packing": True}, LESSONS[0]),
        ({"checkpointing": True}, LESSONS[0]),
        ({"micro_batch": 60}, LESSONS[0]),
        ({}, [*LESSONS[1], Example(prompt="a", completion="b", rejected="c")]),
    ],
    ids=["lora, checkpointing", "lora, pairs", "dtype", "packing", "checkpointing", "micro_batch", "pairs"],
)
def test_who_cannot_be_stacked_is_taught_as_alone(full, only_alone, options, lesson):
    students, solo = stacked_students(full, 2, **options), full(**options)
    reports = teach_all(students, [lesson] * 2)
    assert reports[0] == solo.teach(lesson, seed=0)
    assert students[0].version == solo.version
    assert students[1].version != solo.version  # another seed


def test_a_student_too_large_is_taught_alone(make, method, only_alone, monkeypatch):
    monkeypatch.setattr(stacked, "LARGEST", 1000)
    students, solo = stacked_students(make, 2, method=method), make(method=method)
    assert teach_all(students)[0] == solo.teach(LESSONS[0], seed=0)


def test_a_student_with_dropout_is_taught_alone(make, only_alone, dropout_folder):
    students, solo = stacked_students(partial(make, dropout_folder), 2), make(dropout_folder)
    assert teach_all(students)[0] == solo.teach(LESSONS[0], seed=0)


def test_lora_students_share_one_base_and_learn_each_their_own(make):
    students = stacked_students(partial(make, method="lora"), 3)
    together([partial(student.teach, lesson, seed=0) for student, lesson in zip(students, LESSONS, strict=False)])
    layers = [student.model.model.layers[0].mlp.up_proj for student in students]
    assert len({layer.base.weight.data_ptr() for layer in layers}) == 1
    assert len({student.version for student in students}) == 3
    asked = [Prompt(text=word) for word in ("abc", "zyx", "q")]
    said = together([partial(student.answer, asked, max_new_tokens=6) for student in students])
    for student, lesson, replies in zip(students, LESSONS, said, strict=False):
        solo = make(method="lora")
        solo.teach(lesson, seed=0)
        torch.testing.assert_close(student.clone_state(), solo.clone_state(), atol=1e-4, rtol=0)
        assert replies == solo.answer(asked, max_new_tokens=6)


def test_more_than_memory_holds_is_taught_one_by_one(full, cores, monkeypatch):
    students, solo = stacked_students(full, 2), [full(), full()]
    monkeypatch.setattr(memory, "available", lambda device: 1e12)
    monkeypatch.setattr(stacked, "_bytes", lambda pile: 1.2e12 / cores)  # a stack on each core
    monkeypatch.setattr(stacked, "_train_pile", None)
    reports = teach_all(students)
    assert reports == [student.teach(LESSONS[seed], seed=seed) for seed, student in enumerate(solo)]
    assert [student.version for student in students] == [student.version for student in solo]


def test_a_lesson_that_does_not_fit_even_alone_is_refused(full, monkeypatch):
    students = stacked_students(full, 2)
    before = students[0].version
    monkeypatch.setattr(memory, "available", lambda device: 1e5)
    assert all("are free; lower" in str(error) for error in teach_all(students))
    assert students[0].version == students[1].version == before


# -- failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 2])
def test_an_adapter_that_breaks_fails_alone(make, bad):
    students, others = stacked_students(make, 3), stacked_students(make, 3)
    with torch.no_grad():
        next(iter(students[bad]._trainable.values()))[1, 2] = float("nan") if students[bad].model else 0
    before = learnt(students[bad])
    reports, expected = teach_all(students), teach_all(others)
    assert "The loss became nan at update 1 of" in str(reports[bad])
    assert torch.equal(learnt(students[bad]).view(torch.int32), before.view(torch.int32))
    for i in {0, 1, 2} - {bad}:
        assert reports[i].loss == pytest.approx(expected[i].loss, abs=1e-5)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError()])
def test_a_failure_in_the_middle_leaves_all_adapters_as_they_were(make, monkeypatch, error):
    students = stacked_students(make, 3)
    before = [student.version for student in students]
    work, calls = Adapters.loss_and_grads, []

    def breaks(self, batches):
        calls.append(1)
        if len(calls) == 2:
            raise error
        return work(self, batches)

    monkeypatch.setattr(Adapters, "loss_and_grads", breaks)
    if isinstance(error, MemoryError):
        assert all("Memory ran out while teaching 3 students at once" in str(one) for one in teach_all(students))
    else:
        with pytest.raises(KeyboardInterrupt):
            teach_all(students)
    assert [student.version for student in students] == before
    monkeypatch.undo()
    assert [report.loss for report in teach_all(students)] == [r.loss for r in teach_all(stacked_students(make, 3))]


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_student_that_breaks_fails_alone(full, cores, bad):
    others = stacked_students(full, 3)
    teach_all(others)
    students = stacked_students(full, 3)
    with torch.no_grad():
        students[bad].model.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    before = weights(students[bad])
    reports = teach_all(students)
    assert isinstance(reports[bad], TrainingFailed)
    assert "The loss became nan at update 1 of" in str(reports[bad])
    assert torch.equal(weights(students[bad]).view(torch.int32), before.view(torch.int32))
    for i in {0, 1, 2} - {bad}:
        assert students[i].version == others[i].version


@pytest.mark.parametrize(("rate", "words"), [(1e38, "The loss became"), (1e39, "The weights overflowed")])
def test_a_learning_rate_too_high_is_reported_as_alone(full, rate, words):
    students = [full(learning_rate=rate), full()]
    stack(students)
    before, lesson = students[0].version, LESSONS[0] if rate == 1e38 else LESSONS[2]
    error, fine = teach_all(students, [lesson, LESSONS[1]])
    with pytest.raises(TrainingFailed) as alone:
        full(learning_rate=rate).teach(lesson, seed=0)
    assert words in str(error)
    assert str(error) == str(alone.value)
    assert students[0].version == before
    assert fine.loss < 20
    assert students[1].version != before
    students[0].recipe = students[1].recipe
    students[0].teach(LESSONS[0], seed=0)  # and it can be taught again


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError(), RuntimeError("out of memory"), RuntimeError("else"), SystemExit(3)]
)
def test_a_failure_in_the_middle_leaves_all_as_they_were(full, cores, monkeypatch, error):
    students = stacked_students(full, 4)
    before = [student.version for student in students]
    work, calls = Llamas.loss_and_grads, []

    def breaks(self, batches):
        calls.append(1)
        if len(calls) == 3:
            raise error
        return work(self, batches)

    monkeypatch.setattr(Llamas, "loss_and_grads", breaks)
    lessons = [LESSONS[0], LESSONS[4], LESSONS[0], LESSONS[4]]
    if isinstance(error, Exception):
        failed = [outcome for outcome in teach_all(students, lessons) if isinstance(outcome, Exception)]
        assert len(failed) == 4 // cores  # one stack on each core
        if "else" not in str(error):
            assert all(isinstance(one, TrainingFailed) and "lower batch" in str(one) for one in failed)
        outcomes = [student.version for student in students]
        assert sum(now == then for now, then in zip(outcomes, before, strict=True)) == len(failed)
    else:
        with pytest.raises(type(error)):
            teach_all(students, lessons)
        assert [student.version for student in students] == before
    assert torch.get_num_threads() == cores


def test_an_interrupt_while_weights_are_written_back_undoes_those_too(full, monkeypatch):
    students = stacked_students(full, 3)
    before, write_back = [student.version for student in students], Llamas.write_back

    def breaks(self, k):
        write_back(self, k)
        if k == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Llamas, "write_back", breaks)
    with pytest.raises(KeyboardInterrupt):
        teach_all(students)
    assert [student.version for student in students] == before


# -- answering --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_students_answer_as_alone(full, cores, temperature):
    students, solos = stacked_students(full, 3), [full() for _ in range(3)]
    asked = [Prompt(text=example.prompt.text) for example in LESSONS[0]]
    for seed, pair in enumerate(zip(students, solos, strict=True)):
        for student in pair:
            student.trainer = stacked.train_alone
            student.teach(LESSONS[seed], seed=seed)
    ask = {"max_new_tokens": 8, "temperature": temperature, "samples": 2, "seed": 4}
    said = together([partial(student.answer, asked, **ask) for student in students])
    assert said == [student.answer(asked, **ask) for student in solos]
    assert said[0] != said[1]
    assert students[0].answer(asked, **ask) == said[0]


def test_an_error_while_answering_is_that_students_alone(full, cores, monkeypatch):
    students = stacked_students(full, 3)
    monkeypatch.setattr(students[1].model, "forward", lambda **_: 1 / 0)
    said = together([partial(student.answer, [Prompt(text="abc")], max_new_tokens=3) for student in students])
    assert isinstance(said[1], ZeroDivisionError)
    assert said[0] == said[2] == full().answer([Prompt(text="abc")], max_new_tokens=3)


def test_only_ordinary_parts_are_replaced(full, fakes):
    class Own:
        def close(self):
            pass

    def own(student, rows, *, seed):
        return 0.0

    students = [full(), full(generator=Own()), fakes.Scripted(), full()]
    students[3].trainer = own
    stack(students)
    assert isinstance(students[0].generator, SideBySide)
    assert isinstance(students[1].generator, Own)
    assert not hasattr(students[2], "trainer")
    assert students[3].trainer is own


def test_students_of_one_id_are_made_stacked(tiny_folder):
    assert [student.trainer for student in make_students(f"hf:{tiny_folder}", 2)] == [stacked.train] * 2
    assert make_students(tiny_folder, 1)[0].trainer is stacked.train_alone
    with pytest.raises(UnknownId):
        make_students("macro", 2)


def test_a_copy_of_a_stacked_student_is_one(full):
    [student] = stacked_students(full, 1)
    twin = copy.deepcopy(student)
    student.teach(LESSONS[0], seed=0)
    twin.teach(LESSONS[0], seed=0)
    assert twin.version == student.version
