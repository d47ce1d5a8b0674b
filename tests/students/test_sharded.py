import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dataenv.errors import GenerationFailed, InvalidData, TrainingFailed
from dataenv.progress import listening
from dataenv.protocols import Student
from dataenv.records import Example, Prompt
from dataenv.students import make_student, sharded_rank
from dataenv.students.packing import lay_out
from dataenv.students.sharded import sharded
from dataenv.students.training import _CompletionLosses

WORDS = ["abc", "de", "fghij", "k", "lmnop", "qrs", "tu", "vwxyz"]
ROWS = [Example(prompt=f"rev {w}", completion=w[::-1]) for w in WORDS]
PAIRS = [Example(prompt=f"rev {w}", completion=w[::-1], rejected=w + "!") for w in WORDS[:5]]
PROMPTS = [Prompt(text=f"rev {w}") for w in WORDS]
OPTIONS = {"template": "{prompt}=", "device": "cpu", "dtype": "float32", "learning_rate": 3e-3, "rank": 4, "threads": 1}


def says(student, prompts=PROMPTS, **options):
    return student.answer(prompts, **{"max_new_tokens": 8, **options})


def workers(student):
    """Process ids of the processes behind `student`, by rank: each the one child of its guard."""
    crew = student.generator._crew
    guards = [process.pid for process in crew._processes] if crew is not None else []
    return [int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]) for pid in guards]


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pids, seconds=15):
    end = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    return not any(map(running, pids))


def difference(one, two):
    one, two = one.clone_state(), two.clone_state()
    assert one.keys() == two.keys()
    return max((one[name] - two[name]).abs().max().item() for name in one)


@pytest.fixture(scope="module")
def crews(tiny_folder):
    """By method, a student over two processes, which stay for all tests of this file; adapters are asked shard by
    shard, full weights gathered."""
    made = {
        method: sharded(f"hf:{tiny_folder}", processes=2, method=method, gather=method == "full", **OPTIONS)
        for method in ("lora", "full")
    }
    yield made
    for student in made.values():
        student.close()


@pytest.fixture
def two(crews, method):
    student = crews[method]
    recipe = student.recipe
    yield student
    student.recipe = recipe
    student.reset()


@pytest.fixture
def one(make, method):
    return make(method=method, threads=1)


@pytest.fixture
def adapted(crews):
    """The student of adapters; its processes may be lost."""
    yield crews["lora"]
    crews["lora"].reset()


# -- the same student -------------------------------------------------------------------------------------------------


def test_it_keeps_the_protocol_and_starts_nothing_before_its_first_use(tiny_folder):
    student = make_student(f"sharded:hf:{tiny_folder}", processes=2, **OPTIONS)
    student.reset()
    assert student._model is None
    again = pickle.loads(pickle.dumps(student))
    assert isinstance(again, Student)
    assert again.version == make_student(tiny_folder, **OPTIONS).version == student.version
    assert workers(student) == []
    student.close()


def test_of_the_base_the_front_holds_adapters_only(crews):
    frozen = [p for p in crews["lora"].model.parameters() if not p.requires_grad]
    assert sum(p.untyped_storage().nbytes() for p in frozen) == 4 * len(frozen)


def test_untaught_it_is_the_student_of_one_process(one, two):
    assert two.version == one.version
    assert says(two) == says(one)


@pytest.mark.parametrize("rows", [ROWS * 3, ROWS[:1], PAIRS + ROWS[:3]], ids=["rows", "one", "pairs"])
def test_a_lesson_is_that_of_one_process(one, two, rows):
    """24 rows in batches of 8; a single row, which leaves a process idle; and preference pairs."""
    done, expected = two.teach(rows, seed=1), one.teach(rows, seed=1)
    assert done.loss == pytest.approx(expected.loss, abs=1e-5)
    assert done._replace(loss=None) == expected._replace(loss=None)
    assert difference(one, two) < 1e-5
    assert says(two) == says(one)


@pytest.mark.parametrize(
    "recipe",
    [{"packing": True}, {"micro_batch": 20}, {"batch": 3, "epochs": 2}, {"checkpointing": False}],
    ids=lambda recipe: next(iter(recipe)),
)
def test_so_it_is_with_every_recipe(one, two, recipe):
    rows = [*ROWS, *PAIRS]
    losses = []
    for student in (one, two):
        student.recipe = replace(student.recipe, **recipe)
        losses.append(student.teach(rows, seed=2).loss)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert difference(one, two) < 1e-5


def test_lessons_repeat_bit_by_bit(two):
    versions = set()
    for _ in range(2):
        two.reset()
        two.teach(ROWS, seed=0)
        two.teach(PAIRS, seed=1)
        versions.add(two.version)
    assert len(versions) == 1


def test_a_state_put_back_is_asked_and_taught_from(one, two):
    two.teach(ROWS, seed=0)
    state, before = two.clone_state(), says(two)
    two.teach(ROWS * 3, seed=1)
    after = two.version
    assert says(two) != before
    two.restore_state(state)
    assert says(two) == before
    two.teach(ROWS * 3, seed=1)
    assert two.version == after
    two.reset()
    assert two.version == one.version
    assert says(two) == says(one)


def test_its_files_are_those_of_one_process(one, two, tmp_path):
    two.teach(ROWS * 2, seed=0)
    two.save(tmp_path / "two")
    one.load(tmp_path / "two")
    assert one.version == two.version
    assert says(one) == says(two)
    one.save(tmp_path / "one")
    two.reset()
    two.load(tmp_path / "one")
    assert two.version == one.version
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


# -- answering --------------------------------------------------------------------------------------------------------


def test_replies_come_in_the_order_asked_whoever_makes_them(one, two):
    two.teach(ROWS * 3, seed=0)
    one.restore_state(two.clone_state())
    odd = [*PROMPTS, Prompt(text="x" * 300), Prompt(text="rev " + "y" * 60), PROMPTS[0]]
    assert says(two, odd, max_new_tokens=20) == says(one, odd, max_new_tokens=20)
    assert says(two, PROMPTS[2:3], max_new_tokens=30) == says(one, PROMPTS[2:3], max_new_tokens=30)
    assert says(two, []) == []
    assert says(two, shots=ROWS[:2]) == says(one, shots=ROWS[:2])


def test_samples_differ_and_are_those_of_one_process(one, two):
    one.restore_state(two.clone_state())
    once = says(one, PROMPTS[:1], samples=6, temperature=1.5, seed=1)
    assert len({reply.text for reply in once[0]}) > 2
    assert says(two, PROMPTS[:1], samples=6, temperature=1.5, seed=1) == once
    assert says(two, PROMPTS[:1], samples=6, temperature=1.5, seed=2) != once


def test_progress_is_heard_here(two):
    heard = []
    with listening(lambda *told: heard.append(told)):
        two.teach(ROWS, seed=0)
        says(two)
    assert ("teach", len(ROWS), len(ROWS)) in heard
    assert ("answer", len(PROMPTS), len(PROMPTS)) in heard


@pytest.mark.parametrize("packed", [False, True])
def test_a_share_of_a_forward_pass_has_the_losses_of_its_sequences(make, packed):
    model = make(method="full").model
    rows = [([5, 6, 7], [8, 9]), ([4], [5, 6, 7], [9]), ([3, 4], [5])]
    inputs = lay_out(rows, torch.device("cpu"), packed=packed)
    with _CompletionLosses(model) as losses, torch.no_grad():
        whole = losses(inputs)
        for sequences in ([0], [1, 3], [0, 2], [0, 1, 2, 3]):
            share, places = sharded_rank.take(inputs, sequences)
            assert torch.allclose(losses(share), whole[places], atol=1e-6)
            assert sorted(set(inputs.owner[places].tolist())) == sequences


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [({"processes": 0}, "processes"), ({"seconds": 0}, "seconds"), ({"method": "both"}, "method")],
)
def test_settings_without_a_meaning_are_refused_at_once(tiny_folder, options, word):
    with pytest.raises(InvalidData, match=word):
        sharded(f"hf:{tiny_folder}", **{**OPTIONS, **options})


def test_what_is_no_text_student_or_sharded_already_is_refused(registered, tiny_folder):
    for id in ("scripted", f"sharded:hf:{tiny_folder}"):
        with pytest.raises(InvalidData, match="cannot be sharded"):
            make_student(f"sharded:{id}")
    with pytest.raises(InvalidData, match="write sharded:"):
        make_student("sharded")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is such a device")
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_device_that_is_not_there_is_refused(tiny_folder, method):
    student = sharded(f"hf:{tiny_folder}", processes=1, method=method, **{**OPTIONS, "device": "cuda"})
    with pytest.raises(InvalidData, match="device 'cuda'"):
        says(student)
    assert workers(student) == []


def test_weights_for_which_there_is_no_room_are_refused_before_they_are_loaded(make, monkeypatch):
    model = make(method="full").model
    need = 4 * 4 * sum(p.numel() for p in model.parameters())
    for free, fits in ((need, True), (0.9 * need, False)):
        monkeypatch.setattr(sharded_rank, "available", lambda device, free=free: free + 1.0)
        with nullcontext() if fits else pytest.raises(MemoryError, match="more processes"):
            sharded_rank._must_fit(model, torch.device("cpu"), 2)


# -- when it breaks ---------------------------------------------------------------------------------------------------


def fails(student, raised, match, call):
    """`call` fails, no process is left, and the student is as before."""
    version, pids = student.version, workers(student)
    assert len(pids) == 2
    with pytest.raises(raised, match=match):
        call()
    assert gone(pids)
    assert workers(student) == []
    student._version = None  # from the weights, not from memory
    assert student.version == version


def lesson(student, listener):
    with listening(listener):
        student.teach(ROWS * 20, seed=1)


def test_after_a_lesson_that_broke_the_student_is_as_before_and_the_next_call_starts_afresh(adapted):
    """Once by a loss that is no number, and once by a process that was killed."""
    adapted.teach(ROWS, seed=0)
    before, recipe = says(adapted), adapted.recipe
    adapted.recipe = replace(recipe, learning_rate=1e30)
    fails(adapted, TrainingFailed, "lower the learning rate", lambda: adapted.teach(ROWS * 4, seed=1))
    adapted.recipe = recipe
    assert says(adapted) == before

    def kill(*_):
        os.kill(workers(adapted)[1], signal.SIGKILL)

    fails(adapted, TrainingFailed, "Process 2 of 2 .* ended.*unchanged", lambda: lesson(adapted, kill))


@pytest.mark.slow
def test_so_it_is_after_an_interrupt_and_after_silence(adapted):
    adapted.teach(ROWS, seed=0)
    before = says(adapted)

    def interrupt(*_):
        raise KeyboardInterrupt

    fails(adapted, KeyboardInterrupt, None, lambda: lesson(adapted, interrupt))
    assert says(adapted) == before
    os.kill(workers(adapted)[0], signal.SIGSTOP)
    adapted.generator._crew.seconds = 0.5
    fails(adapted, GenerationFailed, r"Process 1 of 2 .* gave no sign for 0\.5 s.*unchanged", lambda: says(adapted))


PARENT = """
import json, sys
from dataenv.records import Prompt
from dataenv.students.sharded import sharded
student = sharded(f"hf:{sys.argv[1]}", processes=2, **json.loads(sys.argv[2]))
student.answer([Prompt(text="a")], max_new_tokens=1)
print(*(p.pid for p in student.generator._crew._processes), flush=True)
input()
"""


@pytest.mark.slow
def test_nothing_outlives_its_parent_killed(tiny_folder):
    command = [sys.executable, "-c", PARENT, tiny_folder, json.dumps(OPTIONS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        guards = [int(word) for word in parent.stdout.readline().split()]
        assert len(guards) == 2
        pids = [int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]) for pid in guards]
        parent.kill()
    assert gone(guards + pids)


# -- a run ------------------------------------------------------------------------------------------------------------

RUN = """
import sys
from pathlib import Path
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import start

class Watcher:
    def event(self, event):
        if event["event"] == "step":
            print("step", flush=True)
            input()

start(RunConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Watcher())
"""


@pytest.mark.slow
def test_a_run_is_that_of_one_process_and_goes_on_after_a_kill(tmp_path):
    from dataenv.runs.config import RunConfig
    from dataenv.runs.episode import resume, start
    from dataenv.runs.folder import RunFolder

    def config(student, **options):
        return RunConfig(
            task="drills", student=student, steps=2, rows=32, feedback=1, exam=1,
            options={"student": {"epochs": 1, **options}},
        )  # fmt: skip

    def events(folder):
        with RunFolder(folder) as files:
            return files.hash, files.events

    start(config("micro"), tmp_path / "one")
    shared = config("sharded:micro", processes=2)
    start(shared, tmp_path / "two")
    (_, alone), (undisturbed, together) = events(tmp_path / "one"), events(tmp_path / "two")
    assert [event["event"] for event in together] == ["start", "reset", "step", "step", "exam", "end"]
    for one, two in zip(alone[1:4], together[1:4], strict=True):
        assert one["scores"] == two["scores"]
    for one, two in zip(alone[2:4], together[2:4], strict=True):
        assert one["teach"]["loss"] == pytest.approx(two["teach"]["loss"], abs=1e-4)

    folder = tmp_path / "killed"
    command = [sys.executable, "-c", RUN, shared.model_dump_json(), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "step\n"
        process.kill()
    resume(folder)
    assert events(folder)[0] == undisturbed
