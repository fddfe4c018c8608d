"""PostgreSQL for tests: members with a plain proxy in the place of the member link."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from conclave.ids import MemberId
from conclave.store.postgresql import account, binaries
from conclave.store.postgresql.account import SOCKET_NAME, Account, Directories
from conclave.store.postgresql.binaries import Binaries
from conclave.store.postgresql.instance import Instance
from conclave.store.postgresql.server import processes_in

DEADLINE_SECONDS = 90.0
T = TypeVar("T")


def found(directory: str = "") -> tuple[Binaries, Account]:
    """Return the programs that a member of this machine would use, and their account."""
    owner = account.find()
    return binaries.reachable(binaries.find(directory), owner), owner


def distribution() -> str:
    """Return the directory with the programs of the distribution, which `make setup` installs."""
    newest = max(binaries.DISTRIBUTION.glob("*/bin"), key=lambda path: int(path.parent.name))
    return str(newest)


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a condition with a deadline."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE_SECONDS
    while not await holds():
        assert loop.time() < end, f"{what} did not come true"
        await asyncio.sleep(0.01)


class Proxy:
    """The upstream socket of a member: connections go to the server of another one."""

    def __init__(self, places: Directories) -> None:
        self._path = places.upstream_socket
        self._target: Path | None = None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.turned_away = 0
        """How many connections more end as soon as they begin."""

    async def lead_to(self, places: Directories | None) -> None:
        """Let new connections go there, and end those that there are."""
        self._target = places.run / SOCKET_NAME if places else None
        for writer in list(self._writers):
            writer.close()
        if self._server is None:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._relay, self._path)
            self._path.chmod(0o666)

    async def close(self) -> None:
        await self.lead_to(None)
        assert self._server
        self._server.close()
        await until(self._is_idle, "the end of all relays")

    async def _is_idle(self) -> bool:
        return not self._writers

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._target is None:
                return
            if self.turned_away:
                self.turned_away -= 1
                return
            there, away = await asyncio.open_unix_connection(self._target)
            self._writers.add(away)
            try:
                await asyncio.gather(_pump(reader, away), _pump(there, writer))
            finally:
                self._writers.discard(away)
                away.close()
        except OSError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@dataclass
class Member:
    """One member's PostgreSQL and what stands for its link."""

    member_id: MemberId
    state_dir: Path
    places: Directories
    owner: Account
    instance: Instance
    exits: list[int] = field(default_factory=list)
    proxy: Proxy = field(init=False)

    def __post_init__(self) -> None:
        self.proxy = Proxy(self.places)

    @property
    def upstream(self) -> Path:
        return self.places.upstream_socket.parent

    async def end(self) -> None:
        hang(self, signal.SIGCONT)
        await self.instance.kill()
        await self.proxy.close()
        account.remove(self.state_dir, self.owner)


async def new_member(state_dir: Path, directory: str = "") -> Member:
    """Make a member without data, whose upstream leads nowhere yet."""
    programs, owner = found(directory)
    places = account.directories(state_dir, owner)
    exits: list[int] = []
    member_id = MemberId(str(uuid.uuid4()))
    instance = Instance(
        programs, places.data, places.run, owner, member_id=member_id, on_exit=exits.append
    )
    account.prepare(places, owner)
    member = Member(member_id, state_dir, places, owner, instance, exits)
    await member.proxy.lead_to(None)
    return member


@asynccontextmanager
async def new_members(
    directory: Path, count: int, pristine: Directories
) -> AsyncIterator[list[Member]]:
    """Yield members; the first is a primary with data, nobody else runs."""
    members = [await new_member(directory / str(number)) for number in range(count)]
    try:
        copy_data(pristine, members[0])
        await members[0].instance.start("primary")
        yield members
    finally:
        for member in members:
            await member.end()


def copy_data(pristine: Directories, member: Member) -> None:
    """Give a member the data of a server that is stopped."""
    shutil.copytree(pristine.data, member.places.data, dirs_exist_ok=True)
    for path in (member.places.data, *member.places.data.rglob("*")):
        os.chown(path, member.owner.uid, member.owner.gid, follow_symlinks=False)


async def follow(standby: Member, primary: Member) -> None:
    """Copy the primary's data and stream from it."""
    await standby.proxy.lead_to(primary.places)
    await standby.instance.base_backup(standby.upstream, standby.member_id, lambda _part: None)
    await standby.instance.start("standby")
    await streams(standby, primary)


async def follow_from(pristine: Directories, standby: Member, primary: Member) -> None:
    """Stream everything since the data were made, which is quicker than a copy."""
    copy_data(pristine, standby)
    slots = [row.member_id for row in await primary.instance.replication()]
    await primary.instance.slots([*slots, standby.member_id])
    await standby.proxy.lead_to(primary.places)
    await standby.instance.start("standby")
    await streams(standby, primary)


async def streams(standby: Member, primary: Member) -> None:
    """Wait until a standby is connected and has caught up."""

    goal = (await primary.instance.positions()).written

    async def is_streaming() -> bool:
        known = {row.member_id: row.state for row in await primary.instance.replication()}
        there = await standby.instance.positions()
        caught_up = there.streaming and there.replayed >= goal
        return caught_up and known.get(standby.member_id) == "streaming"

    await until(is_streaming, "streaming")


def hang(member: Member, number: signal.Signals = signal.SIGSTOP) -> None:
    """Stop every process of a member's server, or let them go on."""
    for pid in processes_in(member.places.data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class House:
    """A server for a whole session of tests, run by an event loop in a thread of its own."""

    def __init__(self, state_dir: Path, directory: str = "") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._numbers: Iterator[int] = iter(range(1_000_000))
        self.member = self.run(new_member(state_dir, directory))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"test_{next(self._numbers)}"
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def end_sessions(self, name: str) -> None:
        """Break the connections of that application, as a server that is ending does."""
        self._execute(
            sql.SQL(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = {}"
            ).format(sql.Literal(name))
        )

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(
            host=str(self.member.places.run), user="conclave", dbname="postgres", autocommit=True
        ) as connection:
            connection.execute(statement)

    def close(self) -> None:
        self.run(self.member.end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
