"""Which keyrings are a client's, in the cluster store.

Invariant: every change is a change of the clients to whoever keeps copies, so that no worker of a
visible member goes by an older list once the change is acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import delete, insert, select

from conclave.ids import ClientId, KeyringId
from conclave.store import schema
from conclave.store.repository import ClusterReader, ClusterWriter

_TABLE = schema.assignments


def assigned_to(reader: ClusterReader, client_id: ClientId) -> frozenset[KeyringId]:
    """Return the keyrings that are assigned to a client."""
    query = select(_TABLE.c.keyring_id).where(_TABLE.c.client_id == client_id)
    return frozenset(KeyringId(bytes(row[0])) for row in reader.connection.execute(query))


def assign(writer: ClusterWriter, client_id: ClientId, keyrings: Iterable[KeyringId]) -> None:
    """Make `keyrings` all that is assigned to a client."""
    writer.connection.execute(delete(_TABLE).where(_TABLE.c.client_id == client_id))
    rows = [{"client_id": client_id, "keyring_id": each} for each in sorted(set(keyrings))]
    if rows:
        writer.connection.execute(insert(_TABLE), rows)
    writer.note_clients()
