"""Keep the appliance's users in the cluster store, where other members will find them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import msgspec

from conclave.cluster.context import Context
from conclave.service.messages import Nothing, UserRecord, UserRecords
from conclave.store.rows import UserRow


@dataclass(slots=True)
class UserMirror:
    """Handlers of the methods about users."""

    context: Context

    async def put_users(self, params: UserRecords, _role: str) -> Nothing:
        """Make the given users the whole list."""
        rows = [UserRow(**msgspec.structs.asdict(user)) for user in params.users]
        if await self.context.read(lambda reader: reader.users()) != rows:
            await self.context.write(lambda writer: writer.put_users(rows))
        return Nothing()

    async def list_users(self, _params: Nothing, _role: str) -> UserRecords:
        """Return the list of users."""
        rows = await self.context.read(lambda reader: reader.users())
        return UserRecords(users=[UserRecord(**asdict(row)) for row in rows])
