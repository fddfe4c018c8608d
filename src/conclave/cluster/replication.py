"""What this member's role means for its copy of the store.

Invariant: the store is opened for writing only while PostgreSQL runs as the primary of an epoch
that this member may lead, and a copy is opened for reading only when it follows the present
primary, or when there is no primary to be followed; and no earlier than it has replayed what it had
before it was started.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.cluster.copy_watch import MendPause
from conclave.cluster.replication_base import Places, ReplicationBase
from conclave.errors import ConclaveError, Conflict, NotAllowed, Unavailable
from conclave.ids import MemberId
from conclave.store import conversion
from conclave.store.engine import (
    open_postgresql_writer,
    open_writer_engine,
)
from conclave.store.postgresql import replacing
from conclave.store.postgresql.account import Directories
from conclave.store.postgresql.instance import Instance
from conclave.store.postgresql.status import Positions

REPLAY_SECONDS: Final = 10.0
FOLLOW_SECONDS: Final = 3.0
"""How long a new follower waits for its primary before it is opened for reading."""
MEND_STOP_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.02

Progress = Callable[[str, float], None]

logger = logging.getLogger(__name__)


class Replication(ReplicationBase):
    """The store of this member, on the engine and in the role that it has now."""

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
        """Run PostgreSQL as a copy of whatever primary the tunnel leads to.

        A copy that was rewound in part is left to `mend`, which may begin at once.
        """
        # At once: a copy that is being made of the former primary ends only by that.
        self.tunnel.cut()
        async with self._changing:
            if self._may_lead():
                return  # it was made primary meanwhile
            if self.broken:
                # No failure of whoever told of a new primary, whose copy is yet to be made.
                self._pause = MendPause()
                return
            await self._open_tunnel()
            instance = await self._prepare()
            if self.leads or (instance.running and not await self._in_recovery()):
                self.leads = False
                await self._close()
                await instance.stop()
            if not instance.running:
                await instance.start("standby")
            if wait:
                with self._question():
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

    async def _copy_anew(self, progress: Progress, kept: Path | None = None) -> bool:
        """Copy, open the copy, and tell whether it streams."""
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
        streams = await _streams_within(self.instance, FOLLOW_SECONDS)
        self._places.location.choose_postgresql(self._places.postgresql.run)
        await self._open(writable=False)
        return streams

    async def mend(self, progress: Progress, *, anew: bool = False) -> None:
        """Bring a copy back that cannot follow: take back what differs, or copy `anew`.

        Does nothing until the pause is over after it failed, or the copy did not stream then.
        """
        if not self.may_mend:
            return
        try:
            streams = await self._mend(progress, anew=anew)
        except ConclaveError as error:
            # Unavailable is the primary, of which nothing was copied then.
            reached = not isinstance(error, Unavailable)
            self._pause = self._pause.longer(boot_time_ms(), reached=reached)
            raise
        if streams is not None:
            longer = self._pause.longer(boot_time_ms(), reached=True)
            self._pause = MendPause() if streams else longer

    async def _mend(self, progress: Progress, *, anew: bool) -> bool | None:
        """Tell whether the copy streams, None when there is nothing to be mended any more."""
        broken = self.broken
        # What only a broken copy had was kept before it was broken.
        kept = await self.before_loss() if self.before_loss and not broken else None
        async with self._changing:
            self._require_follower()
            if (broken and not self.broken) or not self.may_mend:
                return None  # replaced meanwhile, or tried in vain
            if anew or kept is not None or self.broken:
                return await self._copy_anew(progress, kept)
            await self._close()
            # What hangs is killed soon: a copy that did not end cleanly is made anew.
            await self.instance.stop("fast", MEND_STOP_SECONDS)
            if await _rewound(self.instance, self._places.postgresql):
                await self._open(writable=False)
                return True
            # Not later: nobody may start what was rewound in part.
            return await self._copy_anew(progress)

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


async def _rewound(instance: Instance, places: Directories) -> bool:
    """Rewind a copy and see it stream; tell whether that was done.

    Once it has started it is whole, whether it streams or not; see the invariant of `replacing`.
    """
    try:
        await instance.rewind(places.run / "upstream")
        await instance.start("standby", rewound=True)
        await asyncio.to_thread(replacing.unmark, places.data)
        return await _streams_within(instance, FOLLOW_SECONDS)
    except ConclaveError as error:
        logger.warning("This member's copy cannot be rewound: %s", error.message)
        return False


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
