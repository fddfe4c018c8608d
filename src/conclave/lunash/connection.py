"""One session of an SSH connection, from the channel's request to its exit status."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import asyncssh
from asyncssh import SSHServerProcess

from conclave.appliance.users import Login
from conclave.lunash.catalogue import Offered
from conclave.lunash.execution import House, Identity
from conclave.lunash.plain import PlainTerminal
from conclave.lunash.session import Session
from conclave.lunash.terminal import Terminal
from conclave.operations.commands import Command
from conclave.operations.login_state import LoginState

if TYPE_CHECKING:
    from conclave.lunash.editing import EditingTerminal

DRAIN_SECONDS: Final = 60.0
_READ_CHARACTERS: Final = 4096
_INTERRUPT: Final = "\x03"


@dataclass(slots=True, kw_only=True)
class Shared:
    """What all connections of a listener share."""

    house: House
    commands: Sequence[Command]
    offered: Offered
    last_logins: dict[str, str] = field(default_factory=dict)


async def serve_process(
    shared: Shared,
    process: SSHServerProcess[str],
    login: Login,
    first_password: str | None,
    source: str,
) -> Login:
    """Carry a session out and set its exit status; return the login, which may be renewed."""
    identity = Identity(login=login, source=source, state=LoginState())
    try:
        async with _terminal(shared, process) as terminal:
            commands = [each for each in shared.commands if shared.offered(each)]
            absent = [each for each in shared.commands if each not in commands]
            session = Session(shared.house, identity, terminal, commands, absent)
            terminal.use(session.root)
            status = 1
            if process.subsystem is not None:
                terminal.write_error("There is no such subsystem.\n")
            elif await _settle_password(shared, session, identity, first_password):
                status = await _run(shared, session, process, identity)
            await terminal.drain()
        process.exit(status)
    except (OSError, asyncssh.Error):
        # The client is gone, or reads nothing; its tasks go on.
        process.close()
    finally:
        identity.state.forget()
    return identity.login


async def _settle_password(
    shared: Shared, session: Session, identity: Identity, first_password: str | None
) -> bool:
    """Let a first password be changed; tell whether the session may go on."""
    user = shared.house.appliance.users.current(identity.login)
    if user is None or not user.must_change:
        return user is not None
    return await session.change_first_password(first_password)


async def _run(
    shared: Shared, session: Session, process: SSHServerProcess[str], identity: Identity
) -> int:
    if process.command is not None:
        return await session.run_one(process.command)
    user_id = identity.login.user_id
    last_login = shared.last_logins.get(user_id, "")
    now = shared.house.appliance.clock.now()
    shared.last_logins[user_id] = f"{now:%a %b %e %H:%M:%S %Y} from {identity.source}"
    return await session.run_all(last_login)


@contextlib.asynccontextmanager
async def _terminal(shared: Shared, process: SSHServerProcess[str]) -> AsyncIterator[Terminal]:
    """Yield the client's end: an edited terminal where it asked for one, else plain lines."""
    idle_seconds = shared.house.appliance.config.ssh.idle_minutes * 60.0

    def write(text: str) -> None:
        # A client that is gone is found out by the next read.
        with contextlib.suppress(BrokenPipeError):
            process.stdout.write(text)

    def write_error(text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            process.stderr.write(text)

    async def drain() -> None:
        async with asyncio.timeout(DRAIN_SECONDS):
            await process.stdout.drain()

    if process.term_type is None:
        yield PlainTerminal(_Input(process), write, write_error, drain, idle_seconds=idle_seconds)
        return
    # Imported at the first terminal: it is large, and scripts have none.
    from conclave.lunash.editing import EditingTerminal

    terminal = EditingTerminal(
        write,
        drain,
        lambda: process.term_size[:2],
        kind=process.term_type,
        idle_seconds=idle_seconds,
    )
    pump = asyncio.create_task(_pump(process, terminal))
    try:
        yield terminal
    finally:
        pump.cancel()
        await asyncio.wait({pump})
        terminal.close()


async def _pump(process: SSHServerProcess[str], terminal: EditingTerminal) -> None:
    """Carry what the user types to the terminal."""
    source = _Input(process)
    while True:
        try:
            text = await source.read(_READ_CHARACTERS)
        except OSError:
            text = ""
        if not text:
            terminal.ended()
            return
        terminal.typed(text)
        await terminal.room()


class _Input:
    """What the client sends, as text: a signal is the key that would have sent it."""

    def __init__(self, process: SSHServerProcess[str]) -> None:
        self._process = process

    async def read(self, count: int) -> str:
        """Return up to so many characters, "" at the end."""
        while True:
            try:
                return await self._process.stdin.read(count)
            except asyncssh.TerminalSizeChanged:
                continue
            except (asyncssh.BreakReceived, asyncssh.SignalReceived):
                return _INTERRUPT
