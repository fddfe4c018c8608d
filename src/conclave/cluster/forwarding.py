"""Where a call of this member's daemon and workers is carried out (rules C16 and C22).

Invariant: a method that changes something runs on the primary or not at all; wherever it was
called, it is carried out once and under the primary's eyes.  A member that has lost the primary
checks passwords itself, and counts what fails against its own share.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from conclave import faults
from conclave.cluster.attempts import AttemptGate
from conclave.cluster.context import Context, exact_id
from conclave.cluster.credentials import Credentials
from conclave.cluster.link.messages import DenyLogin, Forward, MergeFailures
from conclave.cluster.local_failures import FailureFile, merge_here
from conclave.cluster.local_logins import LocalDesk, LocalLogins
from conclave.cluster.member import Member
from conclave.cluster.member_states import (
    FORWARDED_METHODS,
    Course,
    State,
    course_of,
    state_of,
)
from conclave.cluster.session_tickets import TicketOffice
from conclave.errors import CredentialRefused, NotAllowed, Unavailable
from conclave.ids import ClientId
from conclave.service.channel import ChannelClient, Handler
from conclave.service.messages import ClientLogin, ClientLogout
from conclave.service.methods import METHODS
from conclave.service.quiet import Nothing, Quiet
from conclave.service.tickets import login_id_of

FORWARD_SECONDS: Final = 32.0
MERGE_SECONDS: Final = 10.0
LEAST_LOOK_MS: Final = 50
LONGEST_LOOK_MS: Final = 5000
"""Between two looks whether the primary is lost: at the end of its lease, within these bounds."""
UNAUTHORIZED: Final = (
    "The primary is not authorized, and nothing was done; authorize it, or try again when another"
    " member has done so."
)
READ_ONLY: Final = "This member has lost the others and is Read-Only; nothing was changed."


class PrimaryUnauthorized(Unavailable):
    """The primary has returned and waits for its authorization."""


@dataclass(slots=True)
class Forwarding:
    """The doors of this process that may lead to another member."""

    context: Context
    member: Callable[[], Member | None]
    credentials: Credentials
    office: TicketOffice
    logins: LocalLogins
    run: Callable[[Awaitable[Any]], None]
    """Run something beside the calls."""

    def doors(self, local: dict[str, Handler]) -> dict[str, Handler]:
        """Return what answers each method, wherever it is carried out."""
        doors = {
            name: self._door(name, handler) if name in FORWARDED_METHODS else handler
            for name, handler in local.items()
        }
        return doors | {"logout": self._logout}

    def _door(self, name: str, handler: Handler) -> Handler:
        async def run(params: Any, role: str) -> Quiet:
            course = course_of(name, self._state())
            if name == "login" and course is Course.HERE and self.context.page.lease_valid():
                await self.logins.merge()
                course = course_of(name, self._state())
            match course:
                case Course.HERE:
                    return await handler(params, role)
                case Course.FORWARD if name == "login":
                    return await self._log_in_at_primary(params, role)
                case Course.FORWARD:
                    return await self._forward(name, params, role)
                case Course.BY_SHARE:
                    return await self.logins.login(params, role)
                case Course.REFUSE:
                    raise NotAllowed(faults.MEMBER_READ_ONLY, READ_ONLY)

        return run

    async def _log_in_at_primary(self, params: ClientLogin, role: str) -> Quiet:
        """Have a password checked by the primary, or here as soon as the primary is lost.

        A primary that hangs may have counted the attempt: its id makes it count once.  One that has
        returned and waits for its authorization can check none.
        """
        page = self.context.page
        asked = asyncio.ensure_future(self._merge_and_forward(params, role))
        try:
            while not asked.done():
                if course_of("login", self._state()) is Course.BY_SHARE:
                    return await self.logins.login(params, role)
                left_ms = page.lease_end_ms() - page.boot_time_ms()
                patience_ms = min(max(left_ms, LEAST_LOOK_MS), LONGEST_LOOK_MS)
                await asyncio.wait({asked}, timeout=patience_ms / 1000)
            result: Quiet = asked.result()
            return result
        except PrimaryUnauthorized:
            return await self.logins.login(params, role)
        finally:
            asked.cancel()

    async def _merge_and_forward(self, params: ClientLogin, role: str) -> Quiet:
        await self.logins.merge()
        return await self._forward("login", params, role)

    def _state(self) -> State:
        member, lease_valid = self.member(), self.context.page.lease_valid()
        if member is None:
            return state_of(None, lease_valid=lease_valid, closed=False)
        # A primary that opens or hands over has no lease either, but is worth waiting for.
        strict = member.home.times.strict_primary and member.primary.active
        closed = strict and not lease_valid
        return state_of(member.state, lease_valid=lease_valid, closed=closed)

    async def _forward(self, name: str, params: Quiet, role: str) -> Quiet:
        """Run a method on the primary."""
        member = self.member()
        if member is None:
            message = "This appliance has just left its cluster; try again."
            raise Unavailable(faults.BUSY, message)
        forward = Forward(method=name, params=msgspec.msgpack.encode(params), role=role)
        try:
            answer = await member.neighbours.call(
                member.state.configuration.primary,
                "forward",
                forward,
                timeout_seconds=FORWARD_SECONDS,
            )
        except NotAllowed as refusal:
            if refusal.fault is not faults.MEMBER_NOT_AUTHORIZED:
                raise
            self.context.require_authorized()
            # Whoever calls must not take it for this member's own answer.
            raise PrimaryUnauthorized(faults.BUSY, UNAUTHORIZED) from None
        result: Quiet = msgspec.msgpack.decode(answer.result, type=METHODS[name].result)
        return result

    async def _logout(self, params: ClientLogout, role: str) -> Nothing:
        """Deny a login here, and tell the other members, best effort (rule C13)."""
        result = await self.credentials.logout(params, role)
        member = self.member()
        if member is None or not member.state.others():
            return result
        try:
            client_id = ClientId(exact_id(params.client_id, "client id"))
            ticket = await self.office.open_any(params.ticket, client_id)
        except CredentialRefused:
            return result
        ids = [peer.member_id for peer in member.state.others()]
        message = DenyLogin(login_id=bytes(login_id_of(ticket)))
        self.run(member.neighbours.tell_all(ids, "deny_login", message, 1.0))
        return result


def make_local_logins(
    context: Context,
    member: Callable[[], Member | None],
    office: TicketOffice,
    login: ChannelClient,
    file: FailureFile,
) -> LocalLogins:
    """Return what checks logins here; it holds nothing open before the first one."""

    def members() -> int:
        present = member()
        return len(present.state.configuration.peers) if present is not None else 1

    async def send(batch: MergeFailures) -> None:
        present = member()
        if present is None or present.state.is_primary:
            await merge_here(context, batch)
            return
        primary = present.state.configuration.primary
        await present.neighbours.call(
            primary, "merge_failures", batch, timeout_seconds=MERGE_SECONDS
        )

    def may_send() -> bool:
        return member() is not None and context.page.lease_valid()

    # A gate of its own: what is in flight here has nothing to do with what the primary admits.
    desk = LocalDesk(context, login, AttemptGate(context.limits), file, members)
    return LocalLogins(context, Credentials(context, desk, office), file, send, may_send)
