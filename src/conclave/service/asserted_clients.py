"""The clients that other members speak for.

Invariant: one is served only while it was found, and not revoked, under the page's present client
generation, or by a look that began after its request came (rule C11).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from conclave import faults
from conclave.errors import NotAllowed
from conclave.ids import ClientId
from conclave.service import page as page_words
from conclave.service.page import SharedPage
from conclave.service.requests import Later, Pins
from conclave.service.store_reader import LoadedClient, StoreReader

MAX_ASSERTED: Final = 4096


class AssertedClients:
    """The clients that other members asserted and this one found in its list."""

    def __init__(self, page: SharedPage, reader: StoreReader) -> None:
        self._words = page.words
        self._reader = reader
        self._found: OrderedDict[ClientId, LoadedClient] = OrderedDict()

    def require(self, client_id: ClientId, pins: Pins) -> LoadedClient:
        """Return a client; refuse one that is unknown or revoked, raise Later to look first."""
        found = self._found.get(client_id)
        if found and found.client_generation == self._words[page_words.CLIENT_GENERATION]:
            return found
        looked: LoadedClient | None = pins.get((AssertedClients, client_id))
        if looked is None:
            raise Later(lambda pins: self._look(client_id, pins))
        return looked

    async def _look(self, client_id: ClientId, pins: Pins) -> None:
        loaded = await self._reader.client_of_id(client_id)
        if loaded.row is None or loaded.row.revoked:
            self._found.pop(client_id, None)
            message = f"Client {client_id.hex()} is not registered or was revoked."
            raise NotAllowed(faults.CLIENT_NOT_FOUND, message)
        self._found[client_id] = loaded
        if len(self._found) > MAX_ASSERTED:
            self._found.popitem(last=False)
        pins[AssertedClients, client_id] = loaded
