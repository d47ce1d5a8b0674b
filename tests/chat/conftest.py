"""An OpenAI-compatible server that misbehaves on demand, in a thread of its own."""

import asyncio
import json
import threading

import pytest

pytest.importorskip("openai")
pytest.importorskip("jsonschema")

from dataenv.chat.client import Client
from dataenv.chat.openai import OpenAI

KEY = "sk-test-3f9a1c7e5b"


class FaultServer:
    """Answers every chat with `answer(body)`, unless `fault(number, body)` says otherwise.

    A fault is a dict: `status` with `words` and `headers`; `stall` seconds before anything; `reset` instead of a
    response; `cut` after so many bytes of it; `raw` bytes as its body. `number` counts chats from 0.
    """

    def __init__(self, socket=None):
        self.socket = socket
        """The file it listens at, in place of a port."""
        self.answer = lambda body: "fine: " + body["messages"][-1]["content"]
        self.fault = lambda number, body: {}
        self.models = ["stub"]
        self.deaf = False
        """Whether the list of models is silent, too."""
        self.usage = {"prompt_tokens": 5, "completion_tokens": 7}
        self.chats, self.headers, self.answered = [], [], []
        self.under_way = self.most_under_way = 0
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._ready.wait()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def stop(self):
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    async def _serve(self):
        self._loop, self._stopped, self._tasks = asyncio.get_running_loop(), asyncio.Event(), set()
        if self.socket:
            server = await asyncio.start_unix_server(self._connection, self.socket)
        else:
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0, backlog=512)
            self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for task in self._tasks:
            task.cancel()

    async def _connection(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            self._tasks.discard(asyncio.current_task())
            writer.transport.abort()

    async def _exchange(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        content = await reader.readexactly(int(lines.get("content-length", 0)))
        if head.startswith("GET"):
            await asyncio.sleep(30 if self.deaf else 0)
            self._write(writer, 200, {"data": [{"id": name} for name in self.models]})
            return True
        body = json.loads(content)
        number = len(self.chats)
        self.chats.append(body)
        self.headers.append(lines)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            fault = self.fault(number, body)
            await asyncio.sleep(fault.get("stall", 0))
            if fault.get("reset"):
                return False
            if "status" in fault:
                error = {"error": {"message": fault.get("words", "out of order"), "code": fault.get("code")}}
                self._write(writer, fault["status"], error, fault.get("headers"))
                return True
            text = self.answer(body)
            message = {"role": "assistant", "content": text}
            reply = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": self.usage}
            self.answered.append(body)
            self._write(writer, 200, reply, raw=fault.get("raw"), cut=fault.get("cut"))
            await writer.drain()
            return "cut" not in fault
        finally:
            self.under_way -= 1

    def _write(self, writer, status, reply, headers=None, raw=None, cut=None):
        content = json.dumps(reply).encode() if raw is None else raw
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n{more}\r\n"
        writer.write(head.encode() + content[:cut])


@pytest.fixture
def server():
    server = FaultServer()
    yield server
    server.stop()


@pytest.fixture
def served_at():
    """A fault server at a socket file."""
    servers = []

    def served_at(path):
        servers.append(FaultServer(str(path)))
        return servers[-1]

    yield served_at
    for server in servers:
        server.stop()


@pytest.fixture
def make(server):
    """A client of the fault server, with waits that a test can wait for."""
    made = []

    def make(model=None, **options):
        settings = {name: options.pop(name) for name in ("seconds", "silence", "extra") if name in options}
        model = model or OpenAI("stub", base_url=server.url, key=KEY, **settings)
        client = Client(model, **{"wait": 0.002, "longest_wait": 0.01, "patience": 30.0, **options})
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def scripted():
    """A model without a server: `Scripted(answer)`, where `answer(question)` gives text, a Completion or an error."""
    from dataenv.chat.question import Completion

    class Scripted:
        id, where = "scripted", "The scripted model"

        def __init__(self, answer=lambda question: question.messages[-1].content, seconds=0.0):
            self.answer, self.seconds = answer, seconds
            self.asked = []
            self.under_way = self.most_under_way = 0

        async def complete(self, question):
            self.asked.append(question)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            try:
                await asyncio.sleep(self.seconds)
                found = self.answer(question)
            finally:
                self.under_way -= 1
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, str):
                found = Completion(text=found, prompt_tokens=3, completion_tokens=4)
            return found

        async def check(self):
            return True

        async def close(self):
            pass

    return Scripted


@pytest.fixture
def key():
    return KEY


@pytest.fixture
def schema():
    """The form of an answer: one integer."""
    return {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0}},
        "required": ["n"],
        "additionalProperties": False,
    }
