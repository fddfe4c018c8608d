"""Log in for one use of a key: check the password as a login does, give a proof, take it back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from conclave.cluster.context import Context, exact_id
from conclave.cluster.member import Member
from conclave.cluster.session_tickets import TicketOffice
from conclave.ids import ClientId, KeyringId, MemberId
from conclave.service.channel import Handler
from conclave.service.context_tickets import (
    CONTEXT_ID_BYTES,
    ContextTicket,
    issue_context,
)
from conclave.service.messages import ContextLogin, ContextResult, SpendContext
from conclave.service.quiet import Nothing

RELAY_SECONDS: Final = 2.0


@dataclass(slots=True)
class ContextLogins:
    """Handlers of the two methods; proofs of other members are taken there."""

    context: Context
    office: TicketOffice
    member: Callable[[], Member | None]
    log_in: Callable[[], Handler]
    """The door of logins, wherever they are checked."""

    def handlers(self) -> dict[str, Handler]:
        """Return the handlers by their methods."""
        return {"context_login": self.login, "spend_context": self.spend}

    async def login(self, params: ContextLogin, role: str) -> ContextResult:
        """Check a password as a login does, with its failures counted, and prove it for one use."""
        exact_id(params.login_id, "login id")
        exact_id(params.object_id, "object id")
        client_id = ClientId(exact_id(params.login.client_id, "client id"))
        keyring_id = KeyringId(exact_id(params.login.keyring_id, "keyring id"))
        checked: Any = await self.log_in()(params.login, role)
        # That login's ticket proves the password and ends here: it is given to nobody.
        ticket = await self.office.open(checked.ticket, client_id, keyring_id)
        authorized = self.context.require_authorized()
        context_id = os.urandom(CONTEXT_ID_BYTES)
        context = ContextTicket(
            context_id=context_id,
            member_id=self._own_id(),
            cluster_id=ticket.cluster_id,
            keyring_id=keyring_id,
            client_id=client_id,
            login_id=params.login_id,
            object_id=params.object_id,
            operation=params.operation,
            expires_ms=self.context.contexts.issue(context_id, self.context.cluster_time_ms()),
        )
        newest = authorized.keys.ticket_keys[0]
        return ContextResult(context=issue_context(context, newest.version, newest.key))

    async def spend(self, params: SpendContext, _role: str) -> Nothing:
        """Take a proof at the member that gave it; raise CredentialRefused if it is spent."""
        member = self.member()
        if member is None or params.member_id == self._own_id():
            return self.context.contexts.spend(params, self.context.cluster_time_ms())
        await member.neighbours.call(
            MemberId(params.member_id), "spend_context", params, timeout_seconds=RELAY_SECONDS
        )
        return Nothing()

    def _own_id(self) -> str:
        member = self.member()
        return str(member.state.member_id) if member is not None else ""
