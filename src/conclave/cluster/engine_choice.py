"""The engine that a cluster is created with.

A store is made in SQLite, where it needs no member and no role.  PostgreSQL, asked for at creation,
is noted durably and moved to while the first member is authorized, as the first join would do.

Invariant: a member of a cluster that was created with PostgreSQL is authorized only once PostgreSQL
serves; what breaks the move off leaves the SQLite store serving, and the next authorization tries
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from conclave.cluster.replication import Progress
from conclave.settings import PostgresqlSettings
from conclave.store.location import EngineName, StoreLocation
from conclave.store.postgresql import account, binaries

Move = Callable[[Progress, Callable[[], bool]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What was asked for at creation, and what is done about it."""

    location: StoreLocation
    settings: PostgresqlSettings
    move: Move
    """Moves the store of a cluster of one to PostgreSQL while writes wait."""

    async def require(self, engine: EngineName) -> None:
        """Refuse an engine that this appliance cannot run, before anything changes.

        Raises NotFound (POSTGRESQL_MISSING), or BadInput for settings that lead nowhere.
        """
        if engine == "postgresql":
            await asyncio.to_thread(self._find)

    def note(self, engine: EngineName) -> None:
        """Remember what a cluster that is being created is to have; blocks for a write."""
        self.location.choose_sqlite(wanted=engine)

    async def fulfil(self, progress: Progress) -> None:
        """Move the store if PostgreSQL was asked for and does not serve yet."""
        if await asyncio.to_thread(lambda: self.location.is_to_move):
            await self.move(progress, lambda: False)

    def _find(self) -> None:
        account.find(self.settings.account)
        binaries.find(self.settings.directory)
