"""Keep the list of users in the cluster store, which is the authority for all appliances.

Invariant: a list replaces only the very list it was made from, so of two changes at the same time
one is refused and none is lost.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgspec

from conclave.cluster.context import Context
from conclave.service.messages import UserRecord, UserRecords, UsersVersion
from conclave.service.quiet import Nothing
from conclave.store.repository import ClusterReader
from conclave.store.rows import UserRow


@dataclass(slots=True)
class UserMirror:
    """Handlers of the methods about users."""

    context: Context

    async def put_users(self, params: UserRecords, _role: str) -> UsersVersion:
        """Make the given users the whole list; raise Conflict unless the version is current."""
        rows = [UserRow(**msgspec.structs.asdict(user)) for user in params.users]
        version = await self.context.write(
            lambda writer: writer.put_users(rows, version=params.version)
        )
        return UsersVersion(version=version)

    async def list_users(self, _params: Nothing, _role: str) -> UserRecords:
        """Return the list of users with its version."""
        version, rows = await self.context.read(_versioned)
        return UserRecords(users=[UserRecord(**asdict(row)) for row in rows], version=version)


def _versioned(reader: ClusterReader) -> tuple[int, list[UserRow]]:
    # In this order: a list that is newer than its version is refused when it is put, not lost.
    return reader.users_version(), reader.users()
