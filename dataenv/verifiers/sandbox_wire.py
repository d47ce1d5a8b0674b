"""How the sandbox's processes talk: JSON messages over a socket, values as plain data. Standard library only.

A value that comes out of untrusted code is never unpickled, evaluated or compared by methods of its own: `encode` makes
it plain builtins on one side, `decode` builds new ones on the other. Whatever bytes the untrusted side sends, the other
side holds None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, or an `Opaque`.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

LONGEST = 1 << 23
"""Bytes of the longest message read from untrusted code (8 MiB)."""

_SCALARS = (type(None), bool, int, float, str)
_SEQUENCES: dict[str, Any] = {"tuple": tuple, "set": set, "frozenset": frozenset}


class Opaque:
    """Stands for a value of any other type (a generator, a match, an object): it is not None, and equals nothing."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind}>"

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return id(self)


def encode(value: Any) -> Any:
    """`value` as JSON data, deeply; subclasses of builtins as their base (a named tuple as a tuple).

    Raises RecursionError for a value that contains itself or is nested too deeply.
    """
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list):
        return [encode(item) for item in value]
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return {name: [encode(item) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    return {"object": type(value).__name__[:100]}


def decode(data: Any) -> Any:
    """What `encode` gave, as new builtins. Raises ValueError for anything that it cannot have given."""
    if isinstance(data, _SCALARS):
        return data
    if isinstance(data, list):
        return [decode(item) for item in data]
    try:
        [(name, content)] = data.items()
        if name in _SEQUENCES:
            return _SEQUENCES[name](decode(item) for item in content)
        if name == "dict":
            return {decode(key): decode(item) for key, item in content}
        if name == "complex":
            return complex(*content)
        if name == "bytes":
            return bytes.fromhex(content)
        if name == "object":
            return Opaque(str(content)[:100])
    except (TypeError, AttributeError) as error:
        raise ValueError(f"no such value: {error}") from error
    raise ValueError(f"no such type: {name}")


class Gone(Exception):
    """The other side ended, or sent what cannot be read."""


class Line:
    """One end of a socket, for whole messages."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def send(self, message: Any) -> None:
        """Raises Gone when nobody listens, RecursionError or ValueError when it cannot be sent."""
        data = json.dumps(message).encode("utf-8", "surrogatepass")
        try:
            self.end.sendall(struct.pack("!I", len(data)) + data)
        except OSError as error:
            raise Gone("the program ended") from error

    def receive(self, longest: int = LONGEST) -> Any:
        """The next message. Raises Gone at the end, and for one that is too long or no JSON."""
        (size,) = struct.unpack("!I", self._read(4))
        if size > longest:
            raise Gone("the answer is too long")
        try:
            return json.loads(self._read(size).decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise Gone("the answer cannot be read") from error

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                part = self.end.recv(min(size - len(data), 1 << 20))
            except OSError as error:
                raise Gone("the program ended") from error
            if not part:
                raise Gone("the program ended before it answered")
            data += part
        return data
