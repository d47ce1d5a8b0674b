"""How parts that ask a language model come by their client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dataenv.errors import InvalidData
from dataenv.protocols import Conversing

if TYPE_CHECKING:
    from dataenv.chat.client import Client


def introduce(client: Client | None, *parts: Any) -> int:
    """Hand `client` to each part that is `Conversing`, and to those it is made of (`parts.parts`, as a mixture has
    them); returns to how many.

    Raises InvalidData where there is one and no client: before anything is asked or taught.
    """
    met = 0
    for part in parts:
        met += introduce(client, *getattr(part, "parts", ()))
        if isinstance(part, Conversing):
            if client is None:
                raise InvalidData(
                    f"'{getattr(part, 'name', type(part).__name__)}' asks a language model: name one by --model (in "
                    "Python, client=), such as openai:gpt-5-mini, vllm:http://HOST:PORT or local:smollm2-135m."
                )
            part.converse(client)
            met += 1
    return met
