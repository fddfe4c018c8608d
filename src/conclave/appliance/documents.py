"""Small typed documents of the appliance: each is read whole and replaced whole."""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec
from sqlalchemy import Connection, text

from conclave import faults
from conclave.appliance.store import ApplianceStore
from conclave.errors import InternalFault

COMPONENT: Final = "documents"
MIGRATIONS: Final = ("CREATE TABLE document (name TEXT PRIMARY KEY, body BLOB NOT NULL)",)

Document = TypeVar("Document", bound=msgspec.Struct)

_SELECT: Final = text("SELECT body FROM document WHERE name = :name")
_DELETE: Final = text("DELETE FROM document WHERE name = :name")
_UPSERT: Final = text(
    "INSERT INTO document (name, body) VALUES (:name, :body)"
    " ON CONFLICT (name) DO UPDATE SET body = excluded.body"
)


class Documents:
    """Load and save documents by name; a structure's defaults are the document nobody saved."""

    def __init__(self, store: ApplianceStore) -> None:
        self._store = store

    @classmethod
    async def open(cls, store: ApplianceStore) -> Documents:
        """Make the table when it is missing."""
        await store.migrate(COMPONENT, MIGRATIONS)
        return cls(store)

    async def load(self, name: str, kind: type[Document]) -> Document:
        """Return the document, or one of defaults; raise InternalFault when it does not fit."""
        body = await self._store.run(lambda connection: _read(connection, name))
        if body is None:
            return kind()
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as cause:
            message = f"Document {name} of the appliance store makes no sense: {cause}."
            raise InternalFault(faults.INTERNAL, message) from cause

    async def save(self, name: str, document: msgspec.Struct) -> None:
        """Replace the document durably."""
        body = msgspec.json.encode(document)
        await self._store.run(
            lambda connection: connection.execute(_UPSERT, {"name": name, "body": body}) and None
        )

    async def remove(self, name: str) -> None:
        """Forget the document."""
        await self._store.run(
            lambda connection: connection.execute(_DELETE, {"name": name}) and None
        )


def _read(connection: Connection, name: str) -> bytes | None:
    body = connection.execute(_SELECT, {"name": name}).scalar()
    return None if body is None else bytes(body)
