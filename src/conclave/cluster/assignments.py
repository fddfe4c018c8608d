"""Which keyrings are a client's, and whether that is asked at all (assignment mode).

Invariant: a change is a write of the primary that bumps the clients' generation, as a revocation
does: once it is acknowledged, every visible member's workers go by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from conclave import faults
from conclave.cluster.client_admin import client_id_of
from conclave.cluster.context import Context, named_keyring, require_client, require_cluster
from conclave.errors import NotFound
from conclave.ids import ClientId
from conclave.service.channel import Handler
from conclave.service.client_messages import (
    AssignedKeyring,
    AssignedKeyringList,
    AssignKeyrings,
    AssignmentMode,
    NamedClient,
    TakeKeyring,
)
from conclave.service.quiet import Nothing
from conclave.store.assignments import (
    assign,
    assigned_keyrings,
    is_assigned_mode,
    put_assigned_mode,
    take_away,
)
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import KeyringRow


@dataclass(slots=True)
class AssignmentAdmin:
    """Handlers of the methods about assignments."""

    context: Context

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by their methods."""
        return {
            "assign_keyrings": self.assign,
            "take_keyring": self.take,
            "assigned_keyrings": self.listed,
            "assignment_mode": self.mode,
            "set_assignment_mode": self.set_mode,
        }

    async def assign(self, params: AssignKeyrings, _role: str) -> Nothing:
        """Assign keyrings to a client, all or none; raise NotFound or NotAllowed."""
        client_id = client_id_of(params.client_id)

        def work(writer: ClusterWriter) -> None:
            require_client(writer, client_id)
            keyrings = [named_keyring(writer, name).keyring_id for name in params.keyrings]
            assign(writer, client_id, keyrings)

        await self.context.write(work)
        return Nothing()

    async def take(self, params: TakeKeyring, _role: str) -> Nothing:
        """Take a keyring away from a client; raise NotFound when it was not assigned."""
        client_id = client_id_of(params.client_id)

        def work(writer: ClusterWriter) -> None:
            row = named_keyring(writer, params.keyring)
            if not take_away(writer, client_id, row.keyring_id):
                message = f"Keyring {row.label!r} is not assigned to client {params.client_id}."
                raise NotFound(faults.KEYRING_NOT_FOUND, message)

        await self.context.write(work)
        return Nothing()

    async def listed(self, params: NamedClient, _role: str) -> AssignedKeyringList:
        """Return the keyrings that are assigned to a client."""
        client_id = client_id_of(params.client_id)
        rows = await self.context.read(lambda reader: assigned_keyrings(reader, [client_id]))
        return AssignedKeyringList(
            keyrings=[
                AssignedKeyring(keyring_id=str(UUID(bytes=bytes(row.keyring_id))), label=row.label)
                for row in rows
            ]
        )

    async def mode(self, _params: Nothing, _role: str) -> AssignmentMode:
        """Tell whether clients use the keyrings that are assigned to them only."""
        return AssignmentMode(assigned=await self.context.read(is_assigned_mode))

    async def set_mode(self, params: AssignmentMode, _role: str) -> Nothing:
        """Have clients use the keyrings that are assigned to them only, or all."""

        def work(writer: ClusterWriter) -> None:
            require_cluster(writer)
            put_assigned_mode(writer, params.assigned)

        await self.context.write(work)
        return Nothing()


def keyrings_of_monitor(reader: ClusterReader, user_id: str) -> list[KeyringRow]:
    """Return the keyrings that are assigned to clients of a monitor user, by their slots."""
    theirs: list[ClientId] = [
        row.client_id for row in reader.clients() if row.monitor_user == user_id and not row.revoked
    ]
    return assigned_keyrings(reader, theirs)
