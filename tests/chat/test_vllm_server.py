"""SmolLM2-135M as the teacher, behind the real vLLM's HTTP interface: `make test-vllm`; skipped without vLLM."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from dataenv.chat import make_client
from dataenv.chat.question import Answer, Question
from dataenv.records import Example
from dataenv.runs.config import RunConfig
from dataenv.runs.episode import start
from dataenv.runs.report import write_report
from dataenv.students.vllm_engine import SERVER
from dataenv.students.weights import _find_smollm2, smollm2_present
from dataenv.tasks import tasks

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make test-vllm"),
    pytest.mark.skipif(not smollm2_present(), reason="the SmolLM2 weights are absent"),
]

SKILLS = ["addition", "copying"]
TOKENS = {"max_tokens": 160}
RUN = {
    "task": "drills", "student": "micro", "engine": "llm", "steps": 2, "rows": 4, "feedback": 4, "exam": 2,
    "options": {
        "task": {"skills": SKILLS},
        "student": {"epochs": 1},
        "teacher": {"errors": 2, **TOKENS},
        "engine": {"batch": 2, "tries": 2, "solutions": 2, "agreement": 1.0, **TOKENS},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-P",
                    "-m",
                    SERVER,
                    "--model",
                    str(_find_smollm2()),
                    "--served-model-name",
                    "smollm2",
                ),
                *("--host", "127.0.0.1", "--port", str(port), "--max-model-len", "4096", "--enforce-eager"),
            ],
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_for(port, server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _wait_for(port, server, log):
    for _ in range(1200):
        if server.poll() is not None:
            pytest.fail(log.read_text()[-3000:])
        with socket.socket() as knock:
            if knock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    pytest.fail("the server did not start: " + log.read_text()[-3000:])


def test_its_own_grammar_keeps_the_form(address):
    form = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "green"]}, "n": {"type": "integer"}},
        "required": ["colour", "n"],
        "additionalProperties": False,
    }
    with make_client(f"vllm:{address}", seconds=600) as client:
        assert client.check() is None
        results = client.ask([Question.of(f"Say {i}.", json_schema=form, max_tokens=64, seed=i) for i in range(8)])
        told = [result for result in results if isinstance(result, Answer)]
        assert len(told) >= 6  # a number may go on until the tokens are used up
        assert all(answer.data["colour"] in ("red", "green") and isinstance(answer.data["n"], int) for answer in told)
        assert not client.model._no_grammar


@pytest.mark.parametrize("kind", ["open-ended", "skill-list"])
def test_a_run_of_two_steps_completes_and_what_is_bad_is_rejected(kind, address, tmp_path):
    options = {**RUN["options"], "model": {"seconds": 600}}
    config = RunConfig(**{**RUN, "env": kind, "teacher": f"{kind}-llm", "model": f"vllm:{address}", "options": options})
    result = start(config, tmp_path)
    assert result["steps"] == 2
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert all(step["chat"]["calls"] and step["dialogue"] for step in steps)
    dropped = {reason: n for step in steps for reason, n in step["dropped"].items() if n}
    assert dropped
    task = tasks.make("drills", skills=SKILLS)
    for step in steps:
        lines = (tmp_path / f"steps/{step['step']:03d}/rows.jsonl").read_bytes().splitlines()
        rows = [Example.model_validate_json(line) for line in lines]
        assert len(rows) == step["accepted"] <= 4
        for row in rows:
            truth = task.recognise(row.prompt) or row.as_problem()
            assert task.verify(truth, row.completion).correct
    page = write_report(tmp_path).read_text()
    assert all(reason in page for reason in dropped)
