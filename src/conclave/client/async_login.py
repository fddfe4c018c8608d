"""A keyring's roles, and the one door to the link: every request goes with the ticket of a login.

Login state is the ticket; the password is never kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from conclave import faults
from conclave.client.link import AsyncLink
from conclave.client.refusals import refusal
from conclave.client.ways import Call
from conclave.errors import Ckr, InternalFault, NotAllowed
from conclave.service import wire

Result = TypeVar("Result")


class AsyncLogin:
    """One keyring and, between login and logout, one role's ticket."""

    def __init__(self, link: AsyncLink, keyring_id: bytes) -> None:
        self._link = link
        self._ticket: bytes | None = None
        self._logins = 0
        self._keyring_id = keyring_id
        self._role: wire.Role | None = None

    @property
    def keyring_id(self) -> bytes:
        """Return the keyring's id."""
        return self._keyring_id

    @property
    def role(self) -> wire.Role | None:
        """Return who is logged in."""
        return self._role

    # ---- roles

    async def info(self) -> wire.TokenDetails:
        """Return the keyring's flags, counts and limits."""
        arguments = wire.TokenInfo(self.keyring_id)
        return await self.ask(wire.Operation.TOKEN_INFO, arguments, wire.TokenDetails)

    async def login(self, role: wire.Role, password: bytes) -> None:
        """Log a role in; a wrong password is an answer and is tried once only."""
        if self._role is not None:
            message = f"{self._role.name} is logged in already; log out first."
            raise NotAllowed(faults.ALREADY_LOGGED_IN, message)
        arguments = wire.Login(self.keyring_id, role, password, secrets.token_bytes(16))
        await self._do(wire.Operation.LOGIN, arguments)
        self._role = role

    async def logout(self) -> None:
        """Log out; the ticket is forgotten even when the cluster cannot be told."""
        try:
            await self._do(wire.Operation.LOGOUT, wire.Empty())
        finally:
            self._forget()

    async def change_password(self, role: wire.Role, old: bytes, new: bytes) -> None:
        """Change a role's password; the session stays logged in with a new ticket."""
        write = await self._link.new_write()
        arguments = wire.SetPin(self.keyring_id, role, old, new, write)
        await self._do(wire.Operation.SET_PIN, arguments)

    async def initialize_krco(self, password: bytes) -> None:
        """Give the KRCO its password; the KRSO must be logged in."""
        arguments = wire.InitPin(self.keyring_id, password, await self._link.new_write())
        await self._do(wire.Operation.INIT_PIN, arguments)

    async def initialize_token(self, krso_password: bytes, label: str) -> None:
        """Destroy all objects and the KRCO, and give the keyring this label."""
        arguments = wire.InitToken(
            self.keyring_id, krso_password, label, await self._link.new_write()
        )
        await self._do(wire.Operation.INIT_TOKEN, arguments)
        self._forget()

    # ---- the one door to the link

    async def together(self, calls: Sequence[Call[Result]]) -> list[Result]:
        """Return what these calls return, made at the same time where that can be."""
        return await self._link.together(calls)

    async def ask(
        self, operation: wire.Operation, arguments: wire.Message, shape: type[Result]
    ) -> Result:
        """Ask with the ticket; keep the newer one that an answer brings, drop one that is void."""
        ticket, logins = self._ticket, self._logins
        answer = await self._link.exchange(operation, arguments, ticket)
        if answer.value == Ckr.USER_NOT_LOGGED_IN and ticket is not None and not answer.ticket:
            # Another task's answer may have brought a newer one meanwhile; it is tried once.
            newer = self._ticket
            if newer is not None and newer != ticket:
                ticket = newer
                answer = await self._link.exchange(operation, arguments, ticket)
            if answer.value == Ckr.USER_NOT_LOGGED_IN and self._ticket == ticket:
                self._forget()
        if answer.ticket is not None and logins == self._logins:
            self._ticket = answer.ticket
        if answer.value != 0:
            raise refusal(answer.value, operation.name)
        try:
            return msgspec.msgpack.decode(answer.result, type=shape)
        except msgspec.DecodeError as cause:
            message = f"The answer to {operation.name} has another shape: {cause}."
            raise InternalFault(faults.PROTOCOL_BROKEN, message) from cause

    async def _do(self, operation: wire.Operation, arguments: wire.Message) -> None:
        await self.ask(operation, arguments, object)

    def _forget(self) -> None:
        self._logins += 1
        self._ticket = None
        self._role = None
