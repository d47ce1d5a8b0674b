"""What the parts that ask a language model have in common: the client they were given, or word that there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataenv.given import Given

if TYPE_CHECKING:
    from dataenv.chat.client import Client


class Converses:
    """Base of parts that ask a language model; see `protocols.Conversing`."""

    name: str
    client: Given[Client] = Given(
        "asks a language model: call converse(client) first, as environments with a client do."
    )

    def converse(self, client: Client) -> None:
        """Ask through `client` from now on."""
        self.client = client
