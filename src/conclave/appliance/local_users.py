"""The appliance's own copy of the users, durable, and what was changed in it without the cluster.

Invariant: there is always an enabled administrator; a list without one is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from conclave import faults
from conclave.appliance.store import ApplianceStore
from conclave.appliance.user_list import Change, UserTable, has_admin
from conclave.appliance.user_store import load_users, replace_users
from conclave.errors import InternalFault
from conclave.keyed_locks import KeyedLocks

_LONGEST_QUEUE: Final = 64

_log = logging.getLogger(__name__)


class LocalUsers:
    """All users of this appliance; whoever changes them does so within `hold`."""

    def __init__(self, store: ApplianceStore, table: UserTable, changed: frozenset[str]) -> None:
        self._store = store
        self._table = table
        self._changed = changed
        self._changing = KeyedLocks[str](longest_queue=_LONGEST_QUEUE)
        self._gone_listeners: list[Callable[[frozenset[str]], None]] = []

    @classmethod
    async def open(cls, store: ApplianceStore) -> LocalUsers:
        """Read the users; there are none the first time."""
        table, changed = await load_users(store)
        return cls(store, table, changed)

    def hold(self) -> AbstractAsyncContextManager[None]:
        """Let one change at a time be made; raise Unavailable when it would wait too long."""
        return self._changing.hold("users")

    def on_gone(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Call `listener` with the names of users and roles that are no more."""
        self._gone_listeners.append(listener)

    @property
    def table(self) -> UserTable:
        """Return all users."""
        return self._table

    @property
    def changed(self) -> frozenset[str]:
        """Return the names that were changed since the cluster's list was taken last."""
        return self._changed

    async def change(self, change: Change) -> None:
        """Make a change that the cluster does not know yet, durably."""
        table = change(self._table)
        names = self._table.keys() | table.keys()
        changed = {name for name in names if table.get(name) != self._table.get(name)}
        await self._replace(table, self._changed | changed)

    async def take_over(self, table: UserTable) -> None:
        """Make the cluster's list this appliance's, durably, and log what that undoes.

        Raises InternalFault, with nothing changed, for a list without an enabled administrator.
        """
        if not has_admin(table):
            message = "The cluster's list of users has no enabled administrator: it is refused."
            raise InternalFault(faults.INTERNAL, message)
        undone = sorted(name for name in self._changed if table.get(name) != self._table.get(name))
        if self._changed or table != self._table:
            await self._replace(table, frozenset())
        if undone:
            _log.warning(
                "the cluster's users overwrote what was changed on this appliance alone: %s",
                ", ".join(undone),
            )

    async def _replace(self, table: UserTable, changed: frozenset[str]) -> None:
        await replace_users(self._store, table.values(), changed)
        gone = frozenset(self._table.keys() - table.keys())
        self._table, self._changed = table, changed
        if gone:
            for listener in self._gone_listeners:
                listener(gone)
