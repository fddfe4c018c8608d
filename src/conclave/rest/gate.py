"""Decide who calls.

Invariant: nothing of an operation runs, and no argument is read, before its caller is known (and
then has the right: `conclave.operations.rights`).  A cookie that is no session's is refused even
beside a good password, so nobody goes on without the HSM logins of an ended session unawares.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from conclave import faults
from conclave.appliance.users import Users
from conclave.errors import CredentialRefused
from conclave.operations.login_state import LoginState
from conclave.operations.model import NOBODY, AnyOperation, Caller
from conclave.operations.rights import current_user
from conclave.rest.sessions import COOKIE, SessionTable

MAX_CREDENTIALS_CHARACTERS: Final = 1024
_OPENS_SESSION: Final = "session.open"


@dataclass(frozen=True, slots=True)
class Admitted:
    """A caller who may go on; both are None for operations that ask for no login."""

    caller: Caller | None
    session: LoginState | None


@dataclass(frozen=True, slots=True)
class _Credentials:
    user_id: str
    password: str

    def __repr__(self) -> str:
        return "_Credentials()"


class Gate:
    """The gate of one door; `sessions` None means that the door keeps none."""

    def __init__(self, users: Users, sessions: SessionTable | None, door: str) -> None:
        self._users = users
        self._door = door
        self._sessions = sessions

    async def admit(self, request: Request, operation: AnyOperation, source: str) -> Admitted:
        """Return the caller; raise CredentialRefused or Unavailable."""
        if operation.roles == NOBODY:
            return Admitted(None, None)
        if self._sessions is not None:
            # Here, so that no call, with a cookie or without, uses logins of a dead session.
            self._sessions.expire()
        credentials = _basic(request)
        cookie = request.cookies.get(COOKIE)
        session = None
        if cookie is not None and self._sessions is not None and operation.name != _OPENS_SESSION:
            login, session = self._sessions.use(cookie)
            if credentials is not None and credentials.user_id != login.user_id:
                message = "The session of this cookie belongs to another user."
                raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
        elif credentials is not None:
            login = await self._users.authenticate(
                credentials.user_id, credentials.password, source=source, door=self._door
            )
        else:
            message = "Send the header Authorization (Basic) or the cookie of a session."
            raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
        user = current_user(self._users, login)
        # For the log, which says who was refused.
        request.state.caller = user.user_id
        return Admitted(Caller(user=user, login=login, source=source), session)


def _basic(request: Request) -> _Credentials | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic" or len(encoded) > MAX_CREDENTIALS_CHARACTERS:
        raise _bad_header()
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _bad_header() from None
    user_id, colon, password = decoded.partition(":")
    if not colon:
        raise _bad_header()
    return _Credentials(user_id, password)


def _bad_header() -> CredentialRefused:
    message = "The header Authorization must be Basic with base64 of user:password in UTF-8."
    return CredentialRefused(faults.NOT_AUTHENTICATED, message)
