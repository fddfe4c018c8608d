"""Who is at the door: a client whose key is listed, or the worker of another member.

Invariant: a key that is both is a client's; a member is known by the key in the list of members,
never by a name in its certificate (rule C3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from conclave.ids import ClientId, KeyringId
from conclave.service.store_reader import StoreReader

NO_CLIENT: Final = ClientId(b"")


@dataclass(frozen=True, slots=True)
class Admission:
    """What the store says of a key; `client_id` is None for whom nobody serves."""

    client_generation: int
    client_id: ClientId | None
    keyrings: frozenset[KeyringId] | None
    """What the client may use; None means all."""
    is_member: bool
    reason: str
    """Why it is refused, for the log."""


async def admit(reader: StoreReader, key_sha256: bytes) -> Admission:
    """Look a key up among the clients, then among the members."""
    loaded = await reader.client(key_sha256)
    generation, row = loaded.client_generation, loaded.row
    if row is not None:
        reason = "its client was revoked"
        client_id = None if row.revoked else row.client_id
        return Admission(generation, client_id, loaded.keyrings, False, reason)
    members = await reader.members()
    if any(member.key_sha256 == key_sha256 for member in members.rows):
        return Admission(generation, NO_CLIENT, None, True, "its key is a member's now")
    return Admission(generation, None, None, False, "its key is not registered")
