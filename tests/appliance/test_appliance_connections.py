"""No peer keeps others from a door, whatever it leaves open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from conclave.appliance.network import bind_all
from conclave.appliance.tls import ensure_webserver_certificate
from conclave.appliance.tls_contexts import rest_context
from conclave.clock import ApplianceClock
from conclave.rest import server
from conclave.rest.server import HttpsDoor
from tests.support.appliance_bench import random_loopback

PORT = 8443
LIMIT = 8
SHARE = LIMIT // 2


async def answer_ok(
    _scope: object, _receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


@contextlib.asynccontextmanager
async def open_door(directory: Path) -> AsyncIterator[str]:
    """Serve on a loopback address and yield it."""
    address = random_loopback()
    now = ApplianceClock(offset_ms=lambda: 0).now()
    tls = rest_context(*ensure_webserver_certificate(directory, "door", [address], now))
    door = HttpsDoor(answer_ok, max_connections=LIMIT)
    await door.start(bind_all([address], PORT, what="test"), tls)
    try:
        yield address
    finally:
        await door.stop(deadline_seconds=1)


def careless() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def ask(address: str, source: str) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(verify=careless(), local_address=source)
    async with httpx.AsyncClient(transport=transport, timeout=10) as client:
        return await client.get(f"https://{address}:{PORT}/")


async def linger(
    held: ExitStack, address: str, source: str, *, tls: bool
) -> ssl.SSLSocket | socket.socket:
    """Connect and say nothing more."""
    return await asyncio.to_thread(_linger, held, address, source, tls)


def _linger(held: ExitStack, address: str, source: str, tls: bool) -> ssl.SSLSocket | socket.socket:
    plain = socket.create_connection((address, PORT), timeout=10, source_address=(source, 0))
    if not tls:
        return held.enter_context(plain)
    return held.enter_context(careless().wrap_socket(plain))


async def is_served(address: str, source: str) -> bool:
    try:
        return (await ask(address, source)).status_code == 200
    except httpx.TransportError:
        return False


async def served_in_time(address: str, source: str) -> bool:
    async with asyncio.timeout(60):
        while not await is_served(address, source):  # noqa: ASYNC110 - a peer, so no event
            await asyncio.sleep(0.05)
    return True


@pytest.mark.parametrize("tls", [True, False])
def test_one_source_cannot_take_all_connections(tmp_path: Path, tls: bool) -> None:
    async def scene() -> None:
        hostile, other = random_loopback(), random_loopback()
        async with open_door(tmp_path) as address:
            with ExitStack() as held:
                for _ in range(SHARE):
                    await linger(held, address, hostile, tls=tls)
                assert not await is_served(address, hostile)
                assert await is_served(address, other)
            assert await served_in_time(address, hostile)

    asyncio.run(scene())


def test_a_door_holds_no_more_connections_than_its_limit(tmp_path: Path) -> None:
    async def scene() -> None:
        sources = [random_loopback(), random_loopback()]
        async with open_door(tmp_path) as address:
            with ExitStack() as held:
                for source in sources * SHARE:
                    await linger(held, address, source, tls=False)
                assert not await is_served(address, random_loopback())
            assert await served_in_time(address, random_loopback())

    asyncio.run(scene())


def test_a_peer_that_does_not_answer_the_end_of_tls_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(server, "GOODBYE_SECONDS", 0.2)

    async def scene() -> None:
        source = random_loopback()
        async with open_door(tmp_path) as address:
            with ExitStack() as held:
                for _ in range(SHARE):
                    await linger(held, address, source, tls=True)
                assert await served_in_time(address, source)

    asyncio.run(scene())
