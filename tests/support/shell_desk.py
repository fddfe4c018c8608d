"""A LunaSH session without SSH: a real appliance, a real session, and what a user types."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from conclave.appliance.appliance import Appliance, open_appliance
from conclave.appliance.users import Login
from conclave.lunash.catalogue import COMMANDS, OPERATIONS_BY_NAME
from conclave.lunash.editing import EditingTerminal
from conclave.lunash.execution import House, Identity
from conclave.lunash.plain import PlainTerminal
from conclave.lunash.session import Session
from conclave.operations.commands import Command
from conclave.operations.login_state import LoginState
from conclave.operations.model import AnyOperation
from conclave.operations.task_table import TaskTable
from tests.support.appliance_bench import make_config
from tests.support.rest_house import DEADLINE_SECONDS, Loop
from tests.support.ssh_house import settle

SOURCE = "192.0.2.7"
PATIENCE_SECONDS = 60.0


class Typed:
    """A stream of what was typed; it ends unless somebody goes on typing."""

    def __init__(self, text: str, *, ended: bool = True) -> None:
        self._text = text
        self._ended = ended

    async def read(self, count: int) -> str:
        if not self._text and not self._ended:
            await asyncio.Event().wait()
        piece, self._text = self._text[:count], self._text[count:]
        return piece


@dataclass
class Screen:
    """What was printed; `wait_for` looks behind what was waited for last."""

    text: str = ""
    _mark: int = 0
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, text: str) -> None:
        self.text += text
        self._more.set()

    async def wait_for(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while text not in self.text[self._mark :]:
                self._more.clear()
                await self._more.wait()
        self._mark = self.text.index(text, self._mark) + len(text)


async def drained() -> None:
    """Nothing is kept back."""


@dataclass
class Desk:
    """An appliance and its tasks; sessions are opened one by one."""

    loop: Loop
    appliance: Appliance
    tasks: TaskTable

    def session(
        self,
        text: str,
        *,
        login: Login | None = None,
        ended: bool = True,
        idle_seconds: float = DEADLINE_SECONDS,
        commands: Sequence[Command] = COMMANDS,
        operations: Sequence[AnyOperation] = (),
    ) -> tuple[int, str]:
        """Let lines of standard input be carried out; return status and all that was printed."""
        screen = Screen()

        async def play() -> int:
            terminal = PlainTerminal(
                Typed(text, ended=ended),
                screen.write,
                screen.write,
                drained,
                idle_seconds=idle_seconds,
            )
            session = self.open(terminal, commands, operations, login=login)
            return await session.run_all()

        return self.loop.run(play()), screen.text

    def open(
        self,
        terminal: PlainTerminal | EditingTerminal,
        commands: Sequence[Command],
        operations: Sequence[AnyOperation] = (),
        *,
        login: Login | None = None,
    ) -> Session:
        """Open a session on a terminal, with further operations where they are given."""
        known = {**OPERATIONS_BY_NAME, **{each.name: each for each in operations}}
        identity = Identity(login=login or self.admin, source=SOURCE, state=LoginState())
        house = House(appliance=self.appliance, operations=known, tasks=self.tasks)
        session = Session(house, identity, terminal, commands)
        terminal.use(session.root)
        return session

    def terminal(self, screen: Screen, *, idle_seconds: float) -> EditingTerminal:
        """Return a terminal of 80 columns that draws on a screen; needs the running loop."""
        return EditingTerminal(
            screen.write, drained, lambda: (80, 24), kind="xterm", idle_seconds=idle_seconds
        )

    @property
    def admin(self) -> Login:
        """Return a login of the user admin."""
        return self.login("admin")

    def login(self, user_id: str) -> Login:
        """Return a login of a user who has shown a key."""
        login = self.appliance.users.logged_in_by_key(user_id)
        assert login is not None
        return login


@contextmanager
def open_desk(directory: Path) -> Iterator[Desk]:
    """Open an appliance whose built-in users need no change of password any more."""
    loop = Loop()
    try:
        opening = open_appliance(make_config(directory))
        appliance = loop.run(opening.__aenter__())
        loop.run(settle(appliance))
        try:
            yield Desk(loop, appliance, TaskTable(appliance.clock))
        finally:
            loop.run(opening.__aexit__(None, None, None))
    finally:
        loop.close()
