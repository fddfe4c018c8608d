"""Make changes of users in the cluster, and take over what the cluster has.

Invariants: in a cluster whose service runs, a change is acknowledged only once the cluster has it,
and what the cluster refuses changes nothing here; the cluster's list replaces the appliance's.
Alone the appliance decides: without a cluster or with a stopped service a change is made here and
noted.  The next start carries it into a cluster of one; a cluster of several overwrites it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from conclave import faults
from conclave.appliance.local_users import LocalUsers
from conclave.appliance.user_list import (
    Change,
    UserTable,
    from_records,
    has_admin,
    merged,
    to_records,
)
from conclave.errors import ConclaveError, Conflict, InternalFault, NotFound
from conclave.service.messages import MemberList, UserRecords
from conclave.service.quiet import Nothing, Quiet

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0
CALL_SECONDS: Final = 10.0
RETRIES: Final = 5
_LONGEST_PAUSE_SECONDS: Final = 0.02
"""Of the first retry; each further one may pause twice as long."""

_ALONE: Final = frozenset({"stopped", "removed"})
"""States of a service that nobody can ask."""

_log = logging.getLogger(__name__)


class ServiceStatus(Protocol):
    """What is needed of the cluster service's status."""

    @property
    def state(self) -> str:
        """Return `running`, `starting`, `stopped` or `removed`."""


class ClusterState(Protocol):
    """What is needed of the cluster service."""

    def status(self) -> ServiceStatus:
        """Return how the service is."""

    def call(self, method: str, params: Quiet, *, timeout_seconds: float) -> Awaitable[Any]:
        """Call a method of the cluster process."""


@dataclass(frozen=True, slots=True)
class _Newest:
    """What a change is made on: the cluster's list, and what only this appliance knows yet."""

    table: UserTable
    version: int
    unpublished: bool
    """`table` is not what the cluster has, and this member may tell it."""


class ClusterUsers:
    """The users of a cluster as one appliance sees and changes them."""

    def __init__(
        self,
        local: LocalUsers,
        cluster: ClusterState,
        *,
        first_delay_seconds: float = FIRST_DELAY_SECONDS,
    ) -> None:
        self._local = local
        self._cluster = cluster
        self._first_delay_seconds = first_delay_seconds
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to wait for `wake`."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="cluster-users")

    async def stop(self) -> None:
        """End, whatever is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    def wake(self) -> None:
        """Take the cluster's users over soon; returns at once.

        To be called when the service serves and whenever the cluster's list has another version.
        """
        self._wanted.set()

    async def pull(self) -> None:
        """Take the cluster's users over now; to be awaited after a join.

        Does nothing without a cluster.  Raises what the cluster process raises, and InternalFault
        for a list without an enabled administrator.
        """
        async with self._local.hold():
            await self._repeated(lambda table: table)

    async def change(self, change: Change) -> None:
        """Make a change where it belongs; raise what forbids it, with nothing changed.

        Only OUTCOME_UNKNOWN says that it may have been made.
        """
        async with self._local.hold():
            alone = self._cluster.status().state in _ALONE
            if alone or not await self._repeated(change):
                await self._local.change(change)

    # ---- inside, while the list is held

    async def _repeated(self, change: Change) -> bool:
        """Make a change on the newest list until it is; tell whether there is a cluster."""
        pause = _LONGEST_PAUSE_SECONDS
        for _ in range(RETRIES):
            try:
                return await self._once(change)
            except Conflict as conflict:
                if conflict.fault is not faults.WRITE_CONFLICT:
                    raise
            # By chance, so that two appliances do not meet again and again.
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
            pause *= 2
        return await self._once(change)

    async def _once(self, change: Change) -> bool:
        newest = await self._newest()
        if newest is None:
            return False
        wanted = change(newest.table)
        if newest.unpublished or wanted != newest.table:
            await self._put_and_take_over(wanted, newest.version)
        elif newest.version > 0:  # else the primary has not told its users yet
            await self._local.take_over(wanted)
        return True

    async def _newest(self) -> _Newest | None:
        """Return the list to change; None without a cluster."""
        try:
            members = cast(MemberList, await self._call("list_members", Nothing())).members
        except NotFound:
            return None
        listed = cast(UserRecords, await self._call("list_users", Nothing()))
        local = self._local
        if listed.version == 0:
            primary = any(member.local and member.primary for member in members)
            return _Newest(local.table, 0, unpublished=primary)
        table = from_records(listed.users)
        if len(members) == 1 and local.changed:
            carried = merged(table, local.table, local.changed)
            if has_admin(carried):
                return _Newest(carried, listed.version, unpublished=carried != table)
        return _Newest(table, listed.version, unpublished=False)

    async def _put_and_take_over(self, table: UserTable, version: int) -> None:
        if not has_admin(table):
            message = "The cluster's list of users has no enabled administrator: mend that first."
            raise InternalFault(faults.INTERNAL, message)
        records = UserRecords(users=to_records(table), version=version)
        try:
            await self._call("put_users", records)
        except BaseException:
            self.wake()  # it may have been made all the same
            raise
        try:
            await self._local.take_over(table)
        except ConclaveError as failure:
            # The cluster has it, so it is made; this appliance follows as soon as it can.
            _log.error("a change of the users was not stored here: %s", failure.message)
            self.wake()
        except BaseException:
            self.wake()
            raise

    async def _call(self, method: str, params: Quiet) -> Any:
        return await self._cluster.call(method, params, timeout_seconds=CALL_SECONDS)

    # ---- the task

    async def _run(self) -> None:
        delay = self._first_delay_seconds
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if await self._pulled():
                delay = self._first_delay_seconds
                continue
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)
            self._wanted.set()

    async def _pulled(self) -> bool:
        """Tell whether nothing is left to do until somebody wakes us."""
        try:
            await self.pull()
        except ConclaveError as error:
            if error.fault in (faults.SERVICE_STOPPED, faults.MEMBER_REMOVED):
                return True  # its next start wakes us
            _log.error("the cluster's users were not taken over, trying again: %s", error.message)
            return False
        except Exception:  # noqa: BLE001 - the boundary of a task
            # Without this one surprise would end following for good.
            _log.exception("following the cluster's users failed, trying again")
            return False
        return True
