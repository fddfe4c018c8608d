"""PostgreSQL's way between members: a pipe from a local socket to the other member's socket."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from conclave import faults
from conclave.cluster.link.hello import LinkRefused, Verdict
from conclave.cluster.link.messages import DenyLogin
from conclave.cluster.link.server import LinkServer
from conclave.cluster.link.streams import StreamPair
from conclave.cluster.link.tunnel import Tunnel
from conclave.errors import Unavailable
from conclave.service.quiet import Nothing
from tests.support.link_bench import (
    FIRST,
    SECOND,
    calling,
    certify,
    new_authority,
    run,
    serving,
    until,
)

AUTHORITY = new_authority()
SERVER = certify(AUTHORITY, FIRST)
CALLER = certify(AUTHORITY, SECOND)
MEGABYTE = 1 << 20

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


@asynccontextmanager
async def tunnelled(
    tmp_path: Path, talk: Talk = echo, **options: Any
) -> AsyncIterator[tuple[LinkServer, Tunnel]]:
    """Run a local server behind a member, and a tunnel of another member to it."""
    far = tmp_path / "far"
    local = await asyncio.start_unix_server(talk, str(far))

    async def postgresql() -> StreamPair:
        return await asyncio.open_unix_connection(str(far))

    async with (
        serving(SERVER, postgresql=postgresql, **options) as (server, port),
        calling(CALLER, port) as client,
    ):
        tunnel = Tunnel(tmp_path, lambda: client.open_postgresql(5))
        await tunnel.start()
        try:
            yield server, tunnel
        finally:
            await tunnel.close()
            local.close()


async def ended(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(60):
        with suppress(ConnectionError):
            assert await reader.read() == b""


def test_fifty_megabytes_come_back_as_they_were_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with tunnelled(tmp_path) as (_, tunnel):
            reader, writer = await asyncio.open_unix_connection(str(tunnel.path))
            block = os.urandom(MEGABYTE)
            sent, received = hashlib.sha256(), hashlib.sha256()

            async def send() -> None:
                for number in range(50):
                    data = number.to_bytes(4, "big") + block
                    sent.update(data)
                    writer.write(data)
                    await writer.drain()

            sending = asyncio.ensure_future(send())
            left = 50 * (MEGABYTE + 4)
            while left:
                data = await reader.read(left)
                assert data
                received.update(data)
                left -= len(data)
            await sending
            assert received.digest() == sent.digest()
            writer.close()
            await until(lambda: not len(tunnel), "the tunnel's connection ends")

    run(scenario)


def test_what_was_sent_before_the_end_arrives_wholly_each_way(tmp_path: Path) -> None:
    taken: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == b"w":
            taken.append(await reader.read())
        else:
            writer.write(bytes(4 * MEGABYTE))
        writer.close()

    async def scenario() -> None:
        async with tunnelled(tmp_path, talk) as (_, tunnel):
            reader, writer = await asyncio.open_unix_connection(str(tunnel.path))
            writer.write(b"w" + bytes(4 * MEGABYTE))
            writer.close()
            await until(lambda: taken, "the far side read to the end")
            assert len(taken[0]) == 4 * MEGABYTE
            reader, writer = await asyncio.open_unix_connection(str(tunnel.path))
            writer.write(b"r")
            assert len(await reader.read()) == 4 * MEGABYTE
            writer.close()

    run(scenario)


def test_a_receiver_that_does_not_read_holds_the_sender_back(tmp_path: Path) -> None:
    go = asyncio.Event()
    taken: list[int] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        taken.append(len(await reader.read()))
        writer.close()

    async def scenario() -> None:
        async with tunnelled(tmp_path, talk) as (_, tunnel):
            _, writer = await asyncio.open_unix_connection(str(tunnel.path))
            sent = 0
            try:
                while sent < 256 * MEGABYTE:
                    writer.write(bytes(MEGABYTE))
                    sent += MEGABYTE
                    async with asyncio.timeout(1):
                        await writer.drain()
            except TimeoutError:
                pass
            assert sent < 64 * MEGABYTE
            go.set()
            writer.close()
            await until(lambda: taken, "everything arrives once it is read")
            assert taken == [sent]

    run(scenario)


def test_a_cut_of_the_tunnel_ends_its_connections_and_the_next_one_is_new(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with tunnelled(tmp_path) as (server, tunnel):
            reader, writer = await asyncio.open_unix_connection(str(tunnel.path))
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            tunnel.cut()
            await ended(reader)
            writer.close()
            await until(lambda: not server.connected("postgresql"), "the far end is told")
            reader, writer = await asyncio.open_unix_connection(str(tunnel.path))
            writer.write(b"y")
            assert await reader.read(1) == b"y"
            writer.close()

    run(scenario)


def test_a_removed_member_is_cut_on_all_channels_while_its_call_is_under_way(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        started, let_go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def slow(_params: Any, _peer: Any) -> Nothing:
            started.set()
            await let_go.wait()
            done.set()
            return Nothing()

        async with tunnelled(tmp_path, handlers={"deny_login": slow}) as (server, tunnel):
            port = server.port
            reader, writer = await asyncio.open_unix_connection(str(tunnel.path))
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            async with calling(CALLER, port) as client:
                call = asyncio.ensure_future(
                    client.call("deny_login", DenyLogin(b""), timeout_seconds=2)
                )
                await started.wait()
                server.cut("another member")
                writer.write(b"y")
                assert await reader.read(1) == b"y"
                await client.call("ping", Nothing(), timeout_seconds=5)
                assert not call.done()
                server.cut(SECOND)
                await until(lambda: not server.connected("postgresql"), "the pipe is cut")
                await ended(reader)
                with pytest.raises(Unavailable):
                    await call
                let_go.set()
                await done.wait()
            writer.close()

    run(scenario)


def test_postgresql_alone_can_be_cut(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with tunnelled(tmp_path) as (server, tunnel):
            reader, writer = await asyncio.open_unix_connection(str(tunnel.path))
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            async with calling(CALLER, server.port) as client:
                await client.call("ping", Nothing(), timeout_seconds=5)
                server.cut_postgresql(SECOND)
                await ended(reader)
                assert client.connected
            writer.close()

    run(scenario)


def test_the_tunnel_refuses_while_the_other_side_cannot_be_reached(tmp_path: Path) -> None:
    async def refuse() -> StreamPair:
        raise Unavailable(faults.BUSY, "Nobody is there.")

    async def scenario() -> None:
        tunnel = Tunnel(tmp_path, refuse, mode=0o660, uid=os.getuid(), gid=os.getgid())
        await tunnel.start()
        try:
            assert stat.S_IMODE(tunnel.path.stat().st_mode) == 0o660
            reader, writer = await asyncio.open_unix_connection(str(tunnel.path))
            await ended(reader)
            writer.close()
        finally:
            await tunnel.close()
        assert not tunnel.path.exists()

    run(scenario)


def test_a_member_without_postgresql_says_so() -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (_, port), calling(CALLER, port) as client:
            with pytest.raises(LinkRefused) as caught:
                await client.open_postgresql(5)
            assert caught.value.verdict.reason == "no-postgresql"

    run(scenario)


def test_the_judge_sees_which_channel_is_wanted() -> None:
    def calls_only(hello: Any, _key: bytes | None, _address: str) -> Verdict:
        if hello.channel == "calls":
            return Verdict.accept()
        return Verdict.refuse(faults.EPOCH_STALE, "Another member is primary.", reason="primary")

    async def scenario() -> None:
        async with (
            serving(SERVER, judge=calls_only) as (_, port),
            calling(CALLER, port) as client,
        ):
            await client.call("ping", Nothing(), timeout_seconds=5)
            with pytest.raises(LinkRefused) as caught:
                await client.open_postgresql(5)
            assert caught.value.fault is faults.EPOCH_STALE

    run(scenario)
