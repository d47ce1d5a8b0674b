import pickle

import pytest
import torch

from dataenv.errors import InvalidData, TrainingFailed
from dataenv.protocols import Student
from dataenv.records import Example, Image, Prompt

WORDS = ["abc", "de", "fghij", "k", "lmnop", "qrs", "tu", "vwxyz"]
ROWS = [Example(prompt=f"rev {w}", completion=w[::-1]) for w in WORDS]
PROMPTS = [Prompt(text=f"rev {w}") for w in WORDS]


@pytest.fixture
def student(make, method):
    student = make(method=method)
    yield student
    student.close()


def says(student, prompts=PROMPTS, **options):
    return student.answer(prompts, **{"max_new_tokens": 8, **options})


# -- weights ----------------------------------------------------------------------------------------------------------


def test_it_keeps_the_protocol_and_opens_nothing_before_its_first_use(student):
    assert student._model is None
    student.reset()
    assert student._model is None
    again = pickle.loads(pickle.dumps(student))
    assert isinstance(again, Student)
    assert again.version == student.version


def test_reset_brings_back_the_untaught_student(student):
    version, before = student.version, says(student)
    student.teach(ROWS * 4, seed=0)
    assert student.version != version
    assert says(student) != before
    student.reset()
    assert student.version == version
    assert says(student) == before


def test_a_clone_is_put_back_exactly_and_does_not_change_with_the_student(student):
    student.teach(ROWS, seed=0)
    state, version, before = student.clone_state(), student.version, says(student)
    student.teach(ROWS * 4, seed=1)
    student.restore_state(state)
    assert student.version == version
    assert says(student) == before
    student.teach(ROWS * 4, seed=1)
    student.restore_state(state)  # a second time
    assert student.version == version


def test_what_is_saved_is_loaded_by_another_student(make, method, tmp_path):
    one, two = make(method=method), make(method=method)
    untaught = one.version
    one.save(tmp_path / "deep" / "untaught")
    one.teach(ROWS * 4, seed=0)
    one.save(tmp_path / "taught")
    two.load(tmp_path / "taught")
    assert two.version == one.version
    assert says(two) == says(one)
    two.load(tmp_path / "deep" / "untaught")
    assert two.version == untaught
    two.load(tmp_path / "taught")
    two.reset()
    assert two.version == untaught


def test_the_version_changes_when_and_only_when_the_weights_do(student):
    versions = [student.version]
    says(student)
    student.teach([], seed=0)
    student.restore_state(student.clone_state())
    assert student.version == versions[0]
    for seed in (0, 1):
        student.teach(ROWS, seed=seed)
        versions.append(student.version)
    assert len(set(versions)) == 3


def test_two_students_over_one_base_do_not_touch_each_other(make, method):
    one, two = make(method=method), make(method=method)
    before, version = says(two), two.version
    one.teach(ROWS * 4, seed=0)
    assert two._version == version
    two._version = None
    assert two.version == version
    assert says(two) == before != says(one)
    fresh = make(method=method)
    assert fresh.version == version


def test_the_adapters_share_the_bases_weights(make):
    one, two = make(method="lora")._load(), make(method="lora")._load()
    assert one.get_input_embeddings().weight.data_ptr() == two.get_input_embeddings().weight.data_ptr()


def test_closed_it_starts_again_untaught(student):
    version = student.version
    student.teach(ROWS, seed=0)
    student.close()
    student.close()
    assert student.version == version


@pytest.mark.parametrize("name", ["model.safetensors", "student.json"])
@pytest.mark.parametrize("damage", ["gone", "torn"])
def test_damaged_weights_of_a_full_student_are_invalid_data(make, tmp_path, name, damage):
    student = make(method="full")
    student.save(tmp_path)
    version, file = student.version, tmp_path / name
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:9])
    else:
        file.unlink()
    with pytest.raises(InvalidData, match="no readable student"):
        student.load(tmp_path)
    assert student.version == version


def test_weights_of_another_base_are_refused_by_name(make, method, dropout_folder, tmp_path):
    other = make(dropout_folder, method=method)
    other.save(tmp_path)
    student = make(method=method)
    with pytest.raises(InvalidData, match=f"'{dropout_folder}', not to '{student.base.id}'"):
        student.load(tmp_path)


# -- teaching ---------------------------------------------------------------------------------------------------------


def test_it_learns_what_it_is_taught(student):
    first = student.teach(ROWS * 10, seed=0)
    for seed in range(1, 9):
        report = student.teach(ROWS * 10, seed=seed)
    assert report.loss < first.loss / 2
    assert (report.rows, report.overlong) == (80, 0)


def test_same_seed_same_rows_same_weights(make, method):
    versions = []
    for seed in (0, 0, 1):
        student = make(method=method)
        student.teach(ROWS * 2, seed=seed)
        versions.append(student.version)
    assert versions[0] == versions[1] != versions[2]


def test_nothing_taught_is_nothing_done(student):
    version = student.version
    assert student.teach([], seed=0) == (0, 0, None, 0)
    assert student.version == version


def test_every_row_is_trained_on_and_every_token_counted(make):
    student = make(epochs=2)
    report = student.teach(ROWS[:3], seed=0)
    lengths = [len(p) + len(c) for p, c in map(student._encoder.row, ROWS[:3])]
    assert lengths == [len(f"rev {w}=") + len(w) + 1 for w in WORDS[:3]]
    assert report.rows == 3
    assert report.tokens == 2 * sum(lengths)


def test_rows_that_are_too_long_are_left_out_and_counted(make):
    student = make(max_length=20)
    fits, too_long = Example(prompt="x" * 10, completion="y" * 8), Example(prompt="x" * 10, completion="y" * 9)
    assert student.teach([fits, too_long, fits], seed=0)[::3] == (2, 1)
    version = student.version
    assert student.teach([too_long], seed=0) == (0, 0, None, 1)
    assert student.version == version
    with_context_of_96 = make(max_length=10**6)
    long = [Example(prompt="x" * 90, completion="y" * n) for n in (4, 5)]
    assert with_context_of_96.teach(long, seed=0)[::3] == (1, 1)


@pytest.mark.parametrize("rate", [1e38, 1e39])
def test_a_blow_up_leaves_the_student_as_it_was(make, method, rate):
    student = make(method=method, learning_rate=rate, batch=4)
    version, before = student.version, says(student)
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        student.teach(ROWS * 4, seed=0)
    student._version = None  # from the weights, not from memory
    assert student.version == version
    assert says(student) == before
    assert all(p.grad is None for p in student._trainable.values())


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (RuntimeError("CUDA out of memory. Tried"), TrainingFailed),
        (MemoryError(), TrainingFailed),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), TrainingFailed),
        (RuntimeError("a bug"), RuntimeError),
    ],
)
def test_an_error_midway_leaves_the_student_as_it_was(student, monkeypatch, error, raised):
    version = student.version
    step, done = torch.optim.AdamW.step, []

    def failing(self, *args, **options):
        done.append(step(self, *args, **options))
        if len(done) == 2:
            raise error

    monkeypatch.setattr(torch.optim.AdamW, "step", failing)
    with pytest.raises(raised) as caught:
        student.teach(ROWS * 4, seed=0)
    if raised is TrainingFailed:
        assert "micro_batch" in str(caught.value)
    monkeypatch.undo()
    student._version = None
    assert student.version == version
    assert not student._load().training
    student.teach(ROWS, seed=0)


def test_global_generators_stay_untouched(make, method):
    before = torch.get_rng_state()
    student = make(method=method)
    student.teach(ROWS, seed=0)
    says(student, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), before)


# -- answering --------------------------------------------------------------------------------------------------------


def test_batched_is_one_by_one_in_the_order_asked(student, make, method):
    student.teach(ROWS * 4, seed=0)
    together = says(student)
    assert [len(replies) for replies in together] == [1] * len(PROMPTS)
    assert together == [says(student, [prompt])[0] for prompt in PROMPTS]
    assert says(student, PROMPTS[::-1]) == together[::-1]
    assert says(student, PROMPTS + PROMPTS) == together + together
    small = make(method=method, answer_batch=3)
    small.restore_state(student.clone_state())
    assert says(small) == together


def test_answers_come_from_the_adapted_weights_and_teaching_goes_on_after_them(make):
    asked, silent = make(method="lora"), make(method="lora")
    for student in (asked, silent):
        student.teach(ROWS, seed=0)
        if student is asked:
            says(student)
        student.teach(ROWS, seed=1)
    assert asked.version == silent.version


def test_no_prompts_and_one_prompt(student):
    assert says(student, []) == []
    assert len(says(student, PROMPTS[:1])) == 1
    assert says(student, [Prompt(text="")])[0][0].finish in ("stop", "length")


def test_k_samples_stay_with_their_prompt(student):
    for seed in range(20):
        student.teach(ROWS * 10, seed=seed)
    replies = says(student, [*PROMPTS[:3], Prompt(text="x" * 200), *PROMPTS[3:6]], samples=4, temperature=0.1, seed=3)
    assert [len(few) for few in replies] == [4] * 7
    assert {reply.finish for reply in replies[3]} == {"overlong"}
    right = sum(
        reply.text == row.completion
        for row, few in zip(ROWS[:6], replies[:3] + replies[4:], strict=True)
        for reply in few
    )
    assert right > 12  # of 24: it knows these rows, and would hit none with answers shifted


def test_samples_differ_and_are_repeatable(student):
    once = says(student, samples=5, temperature=1.0, seed=1)
    assert len({reply.text for reply in once[0]}) > 1
    assert says(student, samples=5, temperature=1.0, seed=1) == once
    assert says(student, samples=5, temperature=1.0, seed=2) != once


def asked(length):
    return Prompt(text="x" * (length - 1))  # the template adds one token


def test_a_prompt_that_leaves_no_room_for_any_reply_is_overlong_and_disturbs_no_other(student):
    expected = says(student, [asked(5), asked(88)])
    replies = says(student, [asked(5), asked(96), asked(88), asked(500)])  # of 96 tokens of context
    assert [few[0].finish == "overlong" for few in replies] == [False, True, False, True]
    assert replies[1][0] == ("", "overlong", 0)
    assert [replies[0], replies[2]] == expected
    assert says(student, [asked(500)])[0][0].finish == "overlong"


def test_a_prompt_with_less_room_than_the_limit_is_asked_and_its_reply_cut_where_the_context_ends(student):
    student.teach([Example(prompt=asked(n).text, completion="y" * 40) for n in (5, 40, 50)] * 20, seed=0)
    lengths = [5, 90, 60, 95, 50]
    replies = [few[0] for few in says(student, list(map(asked, lengths)), max_new_tokens=1000)]
    assert {reply.finish for reply in replies} <= {"stop", "length"}
    for reply, length in zip(replies, lengths, strict=True):
        assert 0 < reply.tokens <= 96 - length
        assert reply.tokens == 96 - length or reply.finish == "stop"
    assert [r.finish for r, n in zip(replies, lengths, strict=True) if n >= 90] == ["length", "length"]
    alone = [says(student, [asked(n)], max_new_tokens=96 - n)[0][0] for n in lengths]
    assert replies == alone  # the others' room is no one's business


def test_a_row_that_does_not_fit_the_context_is_left_out_never_cut(student):
    fits, over = ({"prompt": "x" * 49, "completion": "y" * n} for n in (45, 46))  # 50 + n + 1 tokens
    assert student.teach([Example(**fits), Example(**over)], seed=0)[:2] == (1, 96)


def test_the_finish_says_whether_a_reply_ended_or_was_cut(student):
    for seed in range(20):
        student.teach(ROWS * 10, seed=seed)
    for few, row in zip(says(student, PROMPTS), ROWS, strict=True):
        if few[0].text == row.completion:
            assert few[0].finish == "stop"
            assert few[0].tokens == len(row.completion) + 1  # the end token counts
    cut = says(student, PROMPTS, max_new_tokens=1)
    assert {(few[0].finish, few[0].tokens) for few in cut} == {("length", 1)}


def test_shots_stand_before_the_prompt(student):
    bare, shown = says(student), says(student, shots=ROWS[:2])
    assert shown != bare
    written = Prompt(text=f"rev abc=cba\n\nrev de=ed\n\n{PROMPTS[3].text}")
    assert says(student, [written]) == [shown[3]]


def test_it_is_taught_the_very_tokens_it_is_asked_with(student, monkeypatch):
    trained, asked = [], []
    monkeypatch.setattr("dataenv.students.training.train", lambda model, rows, *_, **__: trained.extend(rows) or 0.0)
    student.teach(ROWS, seed=0)
    monkeypatch.setattr(
        "dataenv.students.generation.generate",
        lambda model, prompts, *_, **__: asked.extend(prompts) or [[1]] * len(prompts),
    )
    says(student)
    assert [prompt for prompt, _ in trained] == asked


def test_a_chat_student_is_taught_and_asked_through_its_template(make, chat_folder):
    student = make(chat_folder, template=None)
    for seed in range(12):
        report = student.teach(ROWS * 6, seed=seed)
    assert report.loss < 1
    begin = student._load() and student._encoder.tokenizer.bos_token_id
    ids = student._encoder.prompt(PROMPTS[0], ROWS[:2])
    assert ids.count(begin) == 1
    assert all(reply.finish in ("stop", "length") for few in says(student, shots=ROWS[:1]) for reply in few)


def test_images_are_refused_in_words(student):
    with pytest.raises(InvalidData, match="images"):
        says(student, [Prompt(text="q", images=(Image(data=b"x"),))])


def test_the_models_own_end_tokens_stop_it_too(student):
    model = student._load()
    greedy = says(student, PROMPTS[:1])[0][0]
    first = student._encoder.tokenizer(greedy.text, add_special_tokens=False)["input_ids"][0]
    end = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [end, first]
    try:
        assert says(student, PROMPTS[:1])[0][0] == ("", "stop", 1)
    finally:
        model.generation_config.eos_token_id = end


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"method": "both"}, "method"),
        ({"rank": 0}, "rank"),
        ({"shots": -1}, "shots"),
        ({"max_length": 0}, "max_length"),
        ({"answer_batch": 0}, "answer_batch"),
    ],
)
def test_settings_without_a_meaning_are_refused_at_once(make, options, word):
    with pytest.raises(InvalidData, match=word):
        make(**options)


def test_a_student_without_a_chat_template_says_what_to_do(make):
    with pytest.raises(InvalidData, match="template="):
        make(template=None).answer(PROMPTS, max_new_tokens=1)
