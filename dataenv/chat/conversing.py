"""What the parts that ask a language model have in common: the client they were given, or word that there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dataenv.errors import InvalidData

if TYPE_CHECKING:
    from dataenv.chat.client import Client


class Converses:
    """Base of parts that ask a language model; see `protocols.Conversing`."""

    name: str
    _client: Client | None = None

    def converse(self, client: Client) -> None:
        """Ask through `client` from now on."""
        self._client = client

    @property
    def client(self) -> Client:
        """Raises InvalidData before `converse`."""
        if self._client is None:
            raise InvalidData(
                f"'{self.name}' asks a language model: call converse(client) first, as environments with a client do."
            )
        return self._client
