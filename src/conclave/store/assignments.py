"""Which keyrings are a client's, in the cluster store.

Invariant: every change is a change of the clients to whoever keeps copies, so that no worker of a
visible member goes by an older list once the change is acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, insert, select, update

from conclave.ids import ClientId, KeyringId
from conclave.store import mapping, schema
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import KeyringRow

_TABLE = schema.assignments
_MODE = select(schema.cluster_state.c.assigned)


def is_assigned_mode(reader: ClusterReader) -> bool:
    """Tell whether a client uses the keyrings that are assigned to it only."""
    return bool(reader.connection.execute(_MODE).scalar_one_or_none())


def put_assigned_mode(writer: ClusterWriter, assigned: bool) -> None:
    """Have clients use the keyrings that are assigned to them, or all."""
    writer.connection.execute(update(schema.cluster_state).values(assigned=assigned))
    writer.note_clients()


def assigned_to(reader: ClusterReader, client_id: ClientId) -> frozenset[KeyringId]:
    """Return the keyrings that are assigned to a client."""
    query = select(_TABLE.c.keyring_id).where(_TABLE.c.client_id == client_id)
    return frozenset(KeyringId(bytes(row[0])) for row in reader.connection.execute(query))


def usable_by(reader: ClusterReader, client_id: ClientId) -> frozenset[KeyringId] | None:
    """Return the keyrings that a client may use, None when it may use all."""
    return assigned_to(reader, client_id) if is_assigned_mode(reader) else None


def assigned_keyrings(reader: ClusterReader, clients: Sequence[ClientId]) -> list[KeyringRow]:
    """Return the keyrings that are assigned to any of these clients, in the order of slots."""
    theirs = select(_TABLE.c.keyring_id).where(_TABLE.c.client_id.in_(clients))
    query = select(schema.keyrings).where(schema.keyrings.c.keyring_id.in_(theirs))
    rows = reader.connection.execute(query.order_by(schema.keyrings.c.slot))
    return [mapping.keyring(row) for row in rows]


def assign(writer: ClusterWriter, client_id: ClientId, keyrings: Iterable[KeyringId]) -> None:
    """Assign keyrings to a client, besides those that are assigned to it already."""
    new = set(keyrings) - assigned_to(writer, client_id)
    rows = [{"client_id": client_id, "keyring_id": each} for each in sorted(new)]
    if rows:
        writer.connection.execute(insert(_TABLE), rows)
    writer.note_clients()


def take_away(writer: ClusterWriter, client_id: ClientId, keyring_id: KeyringId) -> bool:
    """Take a keyring away from a client; tell whether it was assigned."""
    this = (_TABLE.c.client_id == client_id) & (_TABLE.c.keyring_id == keyring_id)
    found = writer.connection.execute(delete(_TABLE).where(this))
    writer.note_clients()
    return found.rowcount == 1
