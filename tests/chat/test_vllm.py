"""An engine of vLLM's, started and ended by its model; what stands in for it here listens at a socket file, too."""

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

from dataenv.chat import make_model
from dataenv.chat.question import Question
from dataenv.errors import GenerationFailed, InvalidData, ServerFailing


@pytest.fixture
def engines(served_at, tmp_path, monkeypatch):
    """The engines that were started, each with the arguments it was given."""
    started = []

    def start(arguments, device, *, start_seconds, reply_seconds):
        path = tmp_path / f"socket-{len(started)}"
        engine = SimpleNamespace(url=f"unix:{path}", arguments=arguments, dead=False, closed=0, server=served_at(path))
        engine.close = lambda: setattr(engine, "closed", engine.closed + 1)
        started.append(engine)
        return engine

    monkeypatch.setattr("dataenv.students.vllm_engine.start", start)
    monkeypatch.setattr("dataenv.students.weights._find_smollm2", lambda: str(tmp_path))
    return started


def test_an_engine_is_started_once_at_the_first_question(engines, make, schema):
    client = make(make_model("vllm:smollm2-135m", arguments=["--max-model-len", "512"]))
    assert engines == []
    assert [answer.text for answer in client.ask([str(i) for i in range(40)])] == [f"fine: {i}" for i in range(40)]
    (engine,) = engines
    name = "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert engine.arguments[2:] == ["--served-model-name", name, "--max-model-len", "512"]
    assert {chat["model"] for chat in engine.server.chats} == {name}
    engine.server.answer = lambda body: '{"n": 1}'
    assert client.ask([Question.of("a", json_schema=schema)])[0].data == {"n": 1}
    assert "response_format" in engine.server.chats[-1]
    client.close()
    client.close()
    assert engine.closed == 1


def test_an_engine_that_died_is_started_again(engines, make):
    client = make(make_model("vllm:smollm2-135m"))
    client.check()
    engines[0].dead = True
    assert client.ask(["a"])[0].text == "fine: a"
    assert [engine.closed for engine in engines] == [1, 0]


def test_an_engine_that_does_not_start_says_why(make, monkeypatch, tmp_path):
    def start(*_, **__):
        raise GenerationFailed("The vLLM engine did not start (no room).")

    monkeypatch.setattr("dataenv.students.vllm_engine.start", start)
    monkeypatch.setattr("dataenv.students.weights._find_smollm2", lambda: str(tmp_path))
    client = make(make_model("vllm:smollm2-135m"))
    for call in (client.check, lambda: client.ask(["a"])):
        with pytest.raises(ServerFailing, match="did not start"):
            call()


def test_what_it_cannot_serve_is_said_when_it_is_made():
    with pytest.raises(InvalidData, match="no folder"):
        make_model("vllm:./nowhere")
