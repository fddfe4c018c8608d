"""When those who read the store may connect to a server, which is no earlier than it is safe.

Invariant: no reader of a standby ever sees less than the standby had replayed, and acknowledged,
before it was last started (rule C17).  PostgreSQL alone does not give that: it answers as soon as
its data files are consistent, which may lie before what it had applied.  But it replays nothing
that it has not flushed to its own disk, so everything it ever acknowledged lies there; and it asks
for a stream only once it has replayed all of that.  So a standby starts closed to readers by its
own access list, which holds however this process ends, and is opened after that moment.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.errors import Unavailable
from conclave.store.postgresql import configuration
from conclave.store.postgresql.account import Account, Directories
from conclave.store.postgresql.control import Control
from conclave.store.postgresql.server import Server
from conclave.store.postgresql.status import Positions

ADMIT_SECONDS: Final = 5.0
"""How long readers wait at most; asked again, it goes on where it was."""
_POLL_SECONDS: Final = 0.01


@dataclass(slots=True)
class Admission:
    """Who may connect to one server."""

    places: Directories
    account: Account
    server: Server
    control: Control
    positions: Callable[[], Awaitable[Positions]]
    closed: bool = True
    """Readers are refused by the server that runs."""

    async def open(self) -> None:
        """Let readers connect from now on, once the server has replayed its own log.

        Raises Unavailable when it has not within `ADMIT_SECONDS`.
        """
        if not self.closed:
            return
        try:
            async with asyncio.timeout(ADMIT_SECONDS):
                while not (await self.positions()).own_log_replayed:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(_POLL_SECONDS)
                await self._open()
        except TimeoutError as cause:
            message = (
                "PostgreSQL has not replayed its own log yet: the store is opened when it has."
            )
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from cause
        self.closed = False

    async def _open(self) -> None:
        before = await self._loaded()
        await asyncio.to_thread(
            configuration.write_access, self.places.run, self.account, readers=True
        )
        self.server.signal(signal.SIGHUP)
        # The postmaster tells its children and reads the list before it accepts anybody else.
        while await self._loaded() == before:  # noqa: ASYNC110 - another process
            await asyncio.sleep(_POLL_SECONDS)

    async def _loaded(self) -> object:
        return await self.control.ask("SELECT pg_conf_load_time()")
