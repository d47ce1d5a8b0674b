"""What the client adds to a call: python -m dataenv.benchmarks.speed.chat

A stub of an OpenAI-compatible server runs in a process of its own; "client overhead" is this process's processor time
per call, the `openai` package's included.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dataenv.chat.client import Client
from dataenv.chat.openai import OpenAI
from dataenv.chat.question import Question
from dataenv.chat.tape import Tape

CALLS = 2000


async def stub(latency: float) -> None:
    """Answers every request after `latency` seconds, and prints its port and, at the end, how many it held at once."""
    message = {"role": "assistant", "content": "a row of data, " * 20}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 100}}).encode()
    response = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    held = most = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal held, most
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                await reader.readexactly(int(length))
                held += 1
                most = max(most, held)
                await asyncio.sleep(latency)
                held -= 1
                writer.write(response)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(most, flush=True)


def measure(label: str, latency: float, concurrency: int) -> None:
    command = [sys.executable, "-m", "dataenv.benchmarks.speed.chat", str(latency)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    with Client(OpenAI("stub", base_url=url), concurrency=concurrency) as client:
        client.ask(["warm up"] * concurrency)
        begun, used = time.perf_counter(), time.process_time()
        client.ask([f"question {i}" for i in range(CALLS)])
        seconds, used = time.perf_counter() - begun, time.process_time() - used
    process.stdin.close()
    most = int(process.stdout.readline())
    process.wait()
    print(f"{label}: {CALLS / seconds:,.0f} calls/s, {1000 * used / CALLS:.2f} ms of processor a call, {most} at once")


def replay(label: str, client: Client, questions: list[Question]) -> None:
    begun = time.perf_counter()
    results = client.ask(questions)
    seconds = time.perf_counter() - begun
    assert client.ledger.cached == len(results) == len(questions)
    print(f"{label}: {len(questions) / seconds:,.0f} calls/s")


class Echo:
    """A model that costs nothing."""

    id = where = "echo"

    async def complete(self, question: Question):  # type: ignore[no-untyped-def]
        from dataenv.chat.question import Completion

        return Completion(text='{"n": 1}')

    async def check(self) -> bool:
        return True

    async def close(self) -> None:
        pass


def main() -> None:
    measure("one call at a time", 0.0, 1)
    measure("256 calls in flight, 0.3 s each", 0.3, 256)
    form = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    questions = [Question.of(f"question {i} " * 50, json_schema=form) for i in range(CALLS)]
    with tempfile.TemporaryDirectory() as folder:
        tape = Path(folder) / "tape"
        with Client(Echo(), cache=folder, tape=Tape.record(tape)) as client:
            begun = time.perf_counter()
            client.ask(questions)
            print(
                f"without any server, kept in cache and on tape: {CALLS / (time.perf_counter() - begun):,.0f} calls/s"
            )
        replay("replayed from the cache, form checked", Client(Echo(), cache=folder), questions)
        replay("replayed from the tape, form checked", Client(Echo(), tape=Tape.replay(tape)), questions)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(stub(float(sys.argv[1])))
    else:
        main()
