"""Stands in for vLLM's server in tests of the generator: same endpoints, same arguments, no model.

A reply is made of the adapter's bytes, the prompt and the seed; so two versions of a student never reply alike. As
vLLM does, it keeps what it computed for a prompt under the adapter's name. $FAKE_VLLM (JSON) says how to misbehave,
and where to note every call.
"""

import json
import os
import socketserver
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zlib import crc32

HOW = json.loads(os.environ.get("FAKE_VLLM", "{}"))
ARGUMENTS = sys.argv[1:]
ADAPTERS, CACHE = {}, {}
STATE = {"asleep": False, "calls": 0}


def argument(name, default=None):
    at = [i for i, argument in enumerate(ARGUMENTS) if argument == name]
    return ARGUMENTS[at[-1] + 1] if at else default


def note(**what):
    with Path(HOW["notes"]).open("a") as file:
        file.write(json.dumps(what) + "\n")


BASE = argument("--served-model-name")


def reply(model, prompt, seed, limit, stop):
    key = (model, tuple(prompt))
    if key not in CACHE:
        CACHE[key] = crc32(ADAPTERS.get(model, b"base"), crc32(repr(prompt).encode()))
    drawn = crc32(repr((CACHE[key], seed)).encode())
    ids = [3 + (drawn >> shift) % 90 for shift in range(0, 24, 4)]
    ids = [*ids, *ids]
    ids[drawn % 12] = stop[0]
    ids = ids[:limit]
    return ids[: ids.index(stop[0]) + 1] if stop[0] in ids else ids


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/v1/models":
            served = [{"id": BASE, "parent": None, "max_model_len": int(argument("--max-model-len"))}]
            return self.say({"data": served + [{"id": name, "parent": BASE} for name in ADAPTERS]})
        return self.say(None)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
        note(path=self.path, body=body, key=self.headers["Authorization"])
        if self.path == "/v1/completions":
            return self.complete(body)
        if self.path == "/v1/load_lora_adapter" and not HOW.get("no_lora"):
            folder = Path(body["lora_path"])
            if HOW.get("blind"):
                return self.say({"error": {"message": f"No adapter found for {folder}"}}, 404)
            assert json.loads((folder / "adapter_config.json").read_text())["peft_type"] == "LORA"
            assert body["lora_name"] not in ADAPTERS
            ADAPTERS[body["lora_name"]] = (folder / "adapter_model.safetensors").read_bytes()
        elif self.path == "/v1/unload_lora_adapter" and body["lora_name"] in ADAPTERS:
            del ADAPTERS[body["lora_name"]]
        elif self.path in ("/sleep?level=1", "/wake_up"):
            STATE["asleep"] = self.path != "/wake_up"
        else:
            return self.say({"detail": "Not Found"}, 404)
        return self.say(None)

    def complete(self, body):
        STATE["calls"] += 1
        order = Path(HOW["notes"] + ".die")
        if order.exists():
            order.unlink()
            print("ValueError: out of cheese", flush=True)
            os._exit(1)
        if STATE["calls"] == HOW.get("hang_at"):
            time.sleep(60)
        if STATE["asleep"] or body["model"] not in {BASE, *ADAPTERS}:
            return self.say({"error": {"message": f"The model `{body['model']}` does not exist."}}, 404)
        assert body["ignore_eos"] and body["return_token_ids"] and body["top_p"] == 1
        made = [
            reply(body["model"], p, body.get("seed"), body["max_tokens"], body["stop_token_ids"])
            for p in body["prompt"]
        ]
        choices = [{"index": i, "token_ids": ids} for i, ids in enumerate(made)]
        return self.say({"choices": choices[::-1]})

    def say(self, what, status=200):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"" if what is None else json.dumps(what).encode())
        return None

    def address_string(self):
        return "here"

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_bind(self):  # without the look-up of a host name
        socketserver.TCPServer.server_bind(self)


class SocketServer(Server):
    address_family = socketserver.socket.AF_UNIX


if __name__ == "__main__":
    core = subprocess.Popen(["sleep", "600"])  # vLLM's engine core is a process of its own
    guard = [] if "--port" in ARGUMENTS else [os.getppid()]
    note(start=ARGUMENTS, pids=[os.getpid(), core.pid, *guard], kv=os.environ.get("VLLM_CPU_KVCACHE_SPACE"))
    if HOW.get("at_start") == "crash":
        print("INFO loading\nEngine: ValueError: no such quantisation\nRuntimeError: see root cause above", flush=True)
        sys.exit(1)
    if HOW.get("at_start") == "hang":
        time.sleep(600)
    at = argument("--uds")
    server = SocketServer(at, Handler) if at else Server(("127.0.0.1", int(argument("--port"))), Handler)
    if not at:
        note(port=server.server_address[1])
    server.serve_forever()
