"""Private sessions: who has which secret cookie, until ten idle minutes.

Invariant: only the SHA-256 of a secret is kept, so no copy of the table opens a session; a session
ends with its user's rights, and its HSM logins end with it.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.appliance.users import Login
from conclave.clock import boot_time_ms
from conclave.errors import CredentialRefused, Unavailable
from conclave.operations.login_state import LoginState

COOKIE: Final = "conclave_session"
IDLE_MS: Final = 10 * 60_000
MAX_SESSIONS: Final = 1024
MAX_PER_USER: Final = 64


@dataclass(slots=True, eq=False)
class _Session:
    login: Login
    state: LoginState
    used_ms: int


class SessionTable:
    """All private sessions of one appliance, least recently used first."""

    def __init__(self, *, now_ms: Callable[[], int] = boot_time_ms) -> None:
        self._now_ms = now_ms
        self._sessions: OrderedDict[bytes, _Session] = OrderedDict()

    def open(self, login: Login) -> str:
        """Open a session and return its secret; a user's oldest makes room for a new one."""
        self.expire()
        own = [key for key, each in self._sessions.items() if each.login.user_id == login.user_id]
        if len(own) >= MAX_PER_USER:
            self._end(own[0])
        elif len(self._sessions) >= MAX_SESSIONS:
            message = f"There are {MAX_SESSIONS} open sessions; try again later."
            raise Unavailable(faults.BUSY, message)
        secret = secrets.token_urlsafe(32)
        self._sessions[_digest(secret)] = _Session(login, LoginState(), self._now_ms())
        return secret

    def use(self, secret: str) -> tuple[Login, LoginState]:
        """Return whose session this is; raise CredentialRefused when it ended."""
        self.expire()
        digest = _digest(secret)
        session = self._sessions.get(digest)
        if session is None:
            message = "The session has ended or never was; open one with POST /auth/session."
            raise CredentialRefused(faults.NOT_AUTHENTICATED, message)
        session.used_ms = self._now_ms()
        self._sessions.move_to_end(digest)
        return session.login, session.state

    def renew(self, session: LoginState, login: Login) -> None:
        """Keep a session over its user's change of password."""
        for each in self._sessions.values():
            if each.state is session:
                each.login = login

    def close(self, session: LoginState) -> None:
        """End a session."""
        for digest, each in tuple(self._sessions.items()):
            if each.state is session:
                self._end(digest)

    def expire(self) -> None:
        """End the sessions that were idle too long."""
        oldest = self._now_ms() - IDLE_MS
        while self._sessions:
            first = next(iter(self._sessions))
            if self._sessions[first].used_ms >= oldest:
                return
            self._end(first)

    def _end(self, digest: bytes) -> None:
        self._sessions.pop(digest).state.forget()


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
