"""Issue tickets, and believe those of callers, inside the cluster process (rules C10, C11, C20)."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from conclave import faults
from conclave.cluster.context import Authorized, Context
from conclave.errors import CredentialRefused
from conclave.ids import ClientId, KeyringId, LoginId
from conclave.service.page import DENIED_LOGINS, SharedPage
from conclave.service.tickets import (
    Bearer,
    Ticket,
    issue,
    key_version_of,
    login_id_of,
    new_ticket,
    open_ticket,
    prove,
    refused,
)
from conclave.service.wire import Role
from conclave.store.rows import KeyringRow

LOGIN_ID_BYTES: Final = 16


@dataclass(slots=True)
class DeniedLogins:
    """The login ids that were logged out, as far as the page's bounded ring remembers (C13)."""

    page: SharedPage
    _head: int = 0
    _known: deque[LoginId] = field(default_factory=lambda: deque(maxlen=DENIED_LOGINS))

    def __contains__(self, login_id: LoginId) -> bool:
        self._head, new = self.page.denied_since(self._head)
        self._known.extend(new)
        return login_id in self._known


@dataclass(slots=True)
class TicketOffice:
    """Issue and open tickets with the keys of the authorized member."""

    context: Context
    denied: DeniedLogins
    reload: Callable[[], Awaitable[None]]
    """Reads the cluster's keys anew; raises Unavailable while the store is closed."""

    def issue(
        self, row: KeyringRow, role: Role, key: bytes, client_id: ClientId, login_id: LoginId
    ) -> bytes:
        """Return a ticket for `row` as it is now; `key` is KK, or empty for a first password."""
        authorized = self.context.require_authorized()
        ticket = new_ticket(
            row,
            role,
            key,
            login_id,
            self._bearer(authorized, client_id),
            idle_days=self.context.limits.ticket_idle_days,
        )
        newest = authorized.keys.ticket_keys[0]
        return issue(ticket, newest.version, newest.key)

    async def open(self, blob: bytes, client_id: ClientId, keyring_id: KeyringId) -> Ticket:
        """Return a caller's ticket for a keyring; raise CredentialRefused with NOT_LOGGED_IN.

        The ticket is not proven against the keyring's row yet: see `prove_login`.
        """
        ticket = await self.open_any(blob, client_id)
        if ticket.keyring_id != keyring_id:
            raise refused("it belongs to another keyring")
        if login_id_of(ticket) in self.denied:
            raise refused("it was logged out")
        return ticket

    async def open_any(self, blob: bytes, client_id: ClientId) -> Ticket:
        """Return a caller's ticket for whatever keyring, logged out or not."""
        authorized = self.context.require_authorized()
        if key_version_of(blob) > authorized.keys.ticket_keys[0].version:
            # The replication has brought that key, perhaps, a moment before it is heard of.
            await self.reload()
            authorized = self.context.require_authorized()
        keys = {key.version: key.key for key in authorized.keys.ticket_keys}
        return open_ticket(blob, keys, self._bearer(authorized, client_id))

    def _bearer(self, authorized: Authorized, client_id: ClientId) -> Bearer:
        return Bearer(authorized.cluster_id, client_id, self.context.cluster_time_ms())


def new_login_id() -> LoginId:
    """Return a new random login id."""
    return LoginId(os.urandom(LOGIN_ID_BYTES))


def prove_login(ticket: Ticket, row: KeyringRow, *roles: Role) -> None:
    """Hold a ticket against its keyring as it is now, and demand one of `roles`.

    A login with a first password may do nothing but change it: PIN_EXPIRED.
    """
    prove(ticket, row)
    if ticket.is_first_password:
        message = "The first password of this keyring must be changed before anything else."
        raise CredentialRefused(faults.PIN_EXPIRED, message)
    if ticket.role not in roles:
        names = " or ".join(role.name for role in roles)
        raise CredentialRefused(faults.NOT_LOGGED_IN, f"This needs a login as {names}.")
