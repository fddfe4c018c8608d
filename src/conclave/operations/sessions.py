"""Private sessions."""

from __future__ import annotations

from conclave.operations.model import (
    EVERYBODY,
    Call,
    Doors,
    NoArguments,
    Reply,
    operation,
)


@operation(
    "session.open",
    "POST",
    "/auth/session",
    summary="Open a private session: the answer sets its cookie.",
    only="REST: a connection to LunaSH is a session.",
    chapter="2",
    arguments=NoArguments,
    roles=EVERYBODY,
    before_password_change=True,
)
async def open_session(call: Call, _arguments: NoArguments) -> Reply:
    """Open a private session for whoever proved a password in this very call."""
    return Reply(session_secret=call.sessions.open(call.by.login))


@operation(
    "session.close",
    "DELETE",
    "/auth/session",
    summary="End the private session that the cookie names, and its HSM logins.",
    only="REST: a session of LunaSH ends with its connection.",
    arguments=NoArguments,
    roles=EVERYBODY,
    before_password_change=True,
    doors=Doors.REST,
)
async def close_session(call: Call, _arguments: NoArguments) -> Reply:
    """End the caller's private session; without one there is nothing to do."""
    if call.session is not None:
        call.sessions.close(call.session)
    return Reply(session_closed=True)
