"""The parts of a member's store: its engines, its PostgreSQL, its tunnel to the primary.

Invariant: all that changes the role or the copy holds `_changing`; `openings` grows whenever such a
change ended with the copy open to readers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.cluster.copy_watch import MendPause
from conclave.cluster.link.tunnel import Tunnel
from conclave.cluster.store_handle import StoreHandle
from conclave.errors import ConclaveError, Conflict, Unavailable
from conclave.ids import MemberId, RowRevision
from conclave.store.engine import (
    open_postgresql_reader,
    open_postgresql_writer,
    open_writer_engine,
)
from conclave.store.location import StoreLocation, open_reader
from conclave.store.migrations import migrate
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql import replacing
from conclave.store.postgresql.account import Account, Directories
from conclave.store.postgresql.instance import Instance
from conclave.store.repository import ClusterReader

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the two engines keep the store."""

    location: StoreLocation
    sqlite: Path
    postgresql: Directories


class ReplicationBase:
    """The store of this member on its engine, without what a role does with it."""

    def __init__(
        self,
        places: Places,
        make_instance: Callable[[], Instance],
        tunnel: Tunnel,
        store: StoreHandle,
        *,
        member_id: MemberId,
        account: Account,
        on_open: Callable[[RowRevision], None],
        may_lead: Callable[[], bool],
    ) -> None:
        self._places = places
        self._make_instance = make_instance
        self._instance: Instance | None = None
        self.tunnel = tunnel
        self._store = store
        self._member_id = member_id
        self._account = account
        self._on_open = on_open
        self._may_lead = may_lead
        """What the durable state says; asked again once it is this change's turn, since the state
        may have moved on while an earlier change of the role was under way."""
        self._tunnelled = False
        self._changing = asyncio.Lock()
        self._asking = False
        self._pause = MendPause()
        self.openings = 0
        """How often a change of the role has ended with the copy open to readers."""
        self.before_loss: Callable[[], Awaitable[Path | None]] | None = None
        """Awaited before anything of this copy is taken back or replaced; it returns where the
        whole copy is to be kept, which must not be rewound then."""
        self.leads = False
        """True while the store is open for writing."""

    @property
    def replicated(self) -> bool:
        """Tell whether PostgreSQL serves; a cluster of one may be on SQLite."""
        return self._places.location.choice().engine == "postgresql"

    @property
    def instance(self) -> Instance:
        """Return the PostgreSQL of this member, which exists once it was needed."""
        if self._instance is None:
            message = "PostgreSQL does not run on this member yet."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message)
        return self._instance

    @property
    def running(self) -> bool:
        """Tell whether PostgreSQL runs."""
        return self._instance is not None and self._instance.running

    async def _prepare(self) -> Instance:
        """Find PostgreSQL, which a cluster of one need not have; NotFound when there is none."""
        if self._instance is None:
            self._instance = await asyncio.to_thread(self._make_instance)
        return self._instance

    @property
    def broken(self) -> bool:
        """Tell whether this copy was rewound in part: it cannot be started, only replaced."""
        return self.replicated and replacing.is_half_rewound(self._places.postgresql.data)

    @property
    def changing(self) -> bool:
        """Tell whether the role or the copy is being changed now."""
        return self._changing.locked()

    @property
    def under_orders(self) -> bool:
        """Tell whether PostgreSQL may be silent, since a change of the role gives it work to do.

        A change that only waits for what it says of itself is no reason not to answer.
        """
        return self.changing and not self._asking

    @property
    def may_mend(self) -> bool:
        """Tell whether the pause after a mend that failed is over."""
        return self._pause.over(boot_time_ms())

    @property
    def follows(self) -> bool:
        """Tell whether PostgreSQL runs as a copy."""
        return self.replicated and not self.leads and self.running

    # ------------------------------------------------------------------ parts

    async def _open_tunnel(self) -> None:
        """Let PostgreSQL find the present primary; whoever it followed is cut off."""
        if self._tunnelled:
            self.tunnel.cut()
            return
        try:
            await asyncio.to_thread(accounts.prepare, self._places.postgresql, self._account)
            await self.tunnel.start()
        except OSError as error:
            message = f"PostgreSQL's directories cannot be prepared: {error}."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from error
        self._tunnelled = True

    async def _use_sqlite(self) -> None:
        engine = open_writer_engine(self._places.sqlite)
        await asyncio.to_thread(migrate, engine)
        self._store.use(lambda: open_reader(self._places.location), engine)
        self.leads = True

    async def _open(self, *, writable: bool) -> None:
        engine: Engine | None = None
        await asyncio.to_thread(self._store.close)
        with self._question():
            await self.instance.admit_readers()
        try:
            if writable:
                engine = open_postgresql_writer(self._places.postgresql.run)
                await asyncio.to_thread(migrate, engine)
            self._store.use(self._open_reader, engine)
            position = await self._store.read(lambda reader: reader.revision())
        except DBAPIError as error:
            message = f"PostgreSQL does not open the store: {error.orig}."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from error
        self._on_open(position)
        self.openings += not writable

    def _open_reader(self) -> ClusterReader:
        return ClusterReader(open_postgresql_reader(self._places.postgresql.run).connect())

    async def _close(self) -> None:
        """Let go of the store; a commit that waits for others ends with its outcome unknown."""
        if self._store.busy and self.replicated and self.running:
            try:
                await self.instance.set_synchronous(())
            except ConclaveError as error:
                logger.warning("Commits under way could not be released: %s", error.message)
        await asyncio.to_thread(self._store.close)

    def _require_follower(self) -> None:
        """Refuse to replace the store of a primary by whatever the tunnel leads to."""
        if self._may_lead():
            message = "This member leads: there is nobody whose store it could copy."
            raise Conflict(faults.EPOCH_STALE, message)

    @contextmanager
    def _question(self) -> Iterator[None]:
        """Within a change, wait for nothing but answers: whoever gives none hangs (rule C27)."""
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    async def _in_recovery(self) -> bool:
        with self._question():
            return (await self.instance.positions()).in_recovery
