"""What this member's role means for its copy of the store.

Invariant: the store is opened for writing only while PostgreSQL runs as the primary of an epoch
that this member may lead, and a copy is opened for reading only when it follows the present
primary, or when there is no primary to be followed; and no earlier than it has replayed what it had
before it was started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from conclave import faults
from conclave.cluster.link.tunnel import Tunnel
from conclave.cluster.store_handle import StoreHandle
from conclave.errors import ConclaveError, Conflict, NotAllowed, Unavailable
from conclave.ids import MemberId, RowRevision
from conclave.store import conversion
from conclave.store.engine import (
    open_postgresql_reader,
    open_postgresql_writer,
    open_writer_engine,
)
from conclave.store.location import StoreLocation, open_reader
from conclave.store.migrations import migrate
from conclave.store.postgresql import Instance, Positions, replacing
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql.account import Account, Directories
from conclave.store.repository import ClusterReader

REPLAY_SECONDS: Final = 10.0
FOLLOW_SECONDS: Final = 3.0
"""How long a new follower waits for its primary before it is opened for reading."""
MEND_STOP_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.02

Progress = Callable[[str, float], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the two engines keep the store."""

    location: StoreLocation
    sqlite: Path
    postgresql: Directories


class Replication:
    """The store of this member, on the engine and in the role that it has now."""

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
    def follows(self) -> bool:
        """Tell whether PostgreSQL runs as a copy."""
        return self.replicated and not self.leads and self.running

    # ------------------------------------------------------------------ roles

    async def lead(self, position: int | None, others: Sequence[MemberId]) -> None:
        """Open the store for writing, after everything up to `position` was replayed.

        `others` are all other members, whose log is kept from now on.
        """
        async with self._changing:
            if self.leads:
                return
            if not self._may_lead():
                message = "This member was to lead, but has given its epoch up meanwhile."
                raise Conflict(faults.EPOCH_STALE, message)
            if not self.replicated:
                await self._use_sqlite()
                return
            instance = await self._prepare()
            if not instance.running:
                # Data that were a copy become primary by a promotion only: a new timeline.
                was_copy = (self._places.postgresql.data / "standby.signal").exists()
                await instance.start("standby" if was_copy else "primary")
            if (await instance.positions()).in_recovery:
                if position is not None:
                    await self.catch_up(position)
                await instance.promote()
            self.tunnel.cut()
            await instance.slots(others)
            await self._open(writable=True)
            self.leads = True

    async def catch_up(self, position: int) -> None:
        """Wait until everything up to `position` is replayed; NotAllowed when it does not come."""
        try:
            async with asyncio.timeout(REPLAY_SECONDS):
                while (await self.instance.positions()).replayed < position:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            message = "This member has not received all that the primary wrote before it closed."
            raise NotAllowed(faults.MEMBER_BEHIND, message) from None

    async def prepare_to_close(self) -> None:
        """Write out what is dirty, so that the stop that follows is quick."""
        if self.replicated and self.running:
            await self.instance.checkpoint()

    async def follow(self, *, wait: bool = True) -> None:
        """Run PostgreSQL as a copy of whatever primary the tunnel leads to."""
        # At once: a copy that is being made of the former primary ends only by that.
        self.tunnel.cut()
        async with self._changing:
            if self._may_lead():
                return  # it was made primary meanwhile
            await self._open_tunnel()
            instance = await self._prepare()
            if self.leads or (instance.running and not await self._in_recovery()):
                self.leads = False
                await self._close()
                await instance.stop()
            if not instance.running:
                await instance.start("standby")
            if wait:
                await _streams_within(self.instance, FOLLOW_SECONDS)
            await self._open(writable=False)

    async def stop(self) -> int | None:
        """Close the store and stop PostgreSQL; return its last position if it ended cleanly."""
        async with self._changing:
            self.leads = False
            await self._close()
            if not self.replicated:
                return None
            instance = await self._prepare()
            if instance.running:
                await instance.stop()
            return await instance.shutdown_position()

    async def kill_hung(self) -> None:
        """End a PostgreSQL that does not answer; whoever waits for it in a thread is freed."""
        self.leads = False
        await self.instance.kill()

    async def close(self) -> None:
        """Stop everything for good."""
        self.tunnel.cut()
        async with self._changing:
            self.leads = False
            await self._close()
            if self.running:
                await self.instance.stop()
            if self._tunnelled:
                await self.tunnel.close()

    async def copy_anew(self, progress: Progress) -> None:
        """Replace this copy by a new one of the present primary, and follow it."""
        async with self._changing:
            await self._copy_anew(progress)

    async def _copy_anew(self, progress: Progress, kept: Path | None = None) -> None:
        self._require_follower()
        self.leads = False
        await self._close()
        await (await self._prepare()).kill()
        await self._open_tunnel()
        await self.instance.base_backup(
            self._places.postgresql.run / "upstream",
            self._member_id,
            lambda fraction: progress("copying the store", fraction),
            kept=kept,
        )
        await self.instance.start("standby")
        await _streams_within(self.instance, FOLLOW_SECONDS)
        self._places.location.choose_postgresql(self._places.postgresql.run)
        await self._open(writable=False)

    async def mend(self, progress: Progress, *, anew: bool = False) -> None:
        """Bring a copy back that cannot follow: take back what differs, or copy `anew`."""
        broken = self.broken
        # What only a broken copy had was kept before it was broken.
        kept = await self.before_loss() if self.before_loss and not broken else None
        async with self._changing:
            self._require_follower()
            if broken and not self.broken:
                return  # replaced meanwhile
            if anew or kept is not None or self.broken:
                await self._copy_anew(progress, kept)
                return
            await self._close()
            # What hangs is killed soon: a copy that did not end cleanly is made anew.
            await self.instance.stop("fast", MEND_STOP_SECONDS)
            if await _rewound(self.instance, self._places.postgresql):
                await self._open(writable=False)
                return
            # Not later: nobody may start what was rewound in part.
            await self._copy_anew(progress)

    async def positions(self) -> Positions | None:
        """Return how far this copy reaches, None while PostgreSQL does not answer."""
        if not self.replicated or not self.running:
            return None
        try:
            return await self.instance.positions()
        except ConclaveError:
            return None

    # ------------------------------------------------------------------ conversion

    async def convert(self, progress: Progress, cancelled: Callable[[], bool]) -> None:
        """Move the store of a cluster of one from SQLite to PostgreSQL; writes wait meanwhile.

        The SQLite file stays as it was.  Once PostgreSQL serves there is no way back.  Raises
        Conflict: when it serves already, with CONVERSION_CANCELLED once `cancelled` says so.
        """
        async with self._changing:
            if self.replicated:
                raise Conflict(faults.CONVERSION_FAILED, "The store is on PostgreSQL already.")
            instance = await self._prepare()
            await instance.initialize()
            await instance.start("primary")
            try:
                await asyncio.to_thread(_convert, self._places, progress, cancelled)
                conversion.require_wanted(cancelled)
            except BaseException:
                await self.instance.kill()
                raise
            # From here on to the end nothing leads: who fails in between opens once more.
            self.leads = False
            await self._close()
            self._places.location.choose_postgresql(self._places.postgresql.run)
            await self._open(writable=True)
            self.leads = True

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

    async def _in_recovery(self) -> bool:
        return (await self.instance.positions()).in_recovery


async def _rewound(instance: Instance, places: Directories) -> bool:
    """Rewind a copy and see it stream; tell whether that was done."""
    try:
        await instance.rewind(places.run / "upstream")
        await instance.start("standby", rewound=True)
        if not await _streams_within(instance, FOLLOW_SECONDS):
            return False
        await asyncio.to_thread(replacing.unmark, places.data)
    except ConclaveError as error:
        logger.warning("This member's copy cannot be rewound: %s", error.message)
        return False
    return True


async def _streams_within(instance: Instance, seconds: float) -> bool:
    """Wait until a copy receives from its primary; tell whether it does."""
    try:
        async with asyncio.timeout(seconds):
            while not (await instance.positions()).streaming:  # noqa: ASYNC110 - another process
                await asyncio.sleep(POLL_SECONDS)
    except (TimeoutError, ConclaveError):
        return False
    return True


def _convert(places: Places, progress: Progress, cancelled: Callable[[], bool]) -> None:
    source = open_writer_engine(places.sqlite)
    target = open_postgresql_writer(places.postgresql.run)
    try:
        conversion.convert(
            source,
            target,
            lambda fraction: progress("converting the store", fraction),
            cancelled,
        )
    finally:
        source.dispose()
        target.dispose()
