"""The two listeners over real TLS, as the daemon starts them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import pytest

from conclave.appliance.appliance import Appliance
from conclave.appliance.daemon import serve
from conclave.appliance.network import bind_all, bind_socket
from conclave.appliance.tls import server_context
from conclave.appliance.users import DEFAULT_PASSWORD
from conclave.rest import server
from tests.support.appliance_bench import make_authorized_cluster, make_config, random_loopback
from tests.support.rest_house import ADMIN, VENDOR

T = TypeVar("T")
HEADERS = {"Content-Type": VENDOR}


def play(directory: Path, scene: Callable[[Appliance], Awaitable[T]]) -> T:
    async def run() -> T:
        async with serve(make_config(directory)) as appliance:
            await appliance.users.change_own_password(
                "admin", DEFAULT_PASSWORD, ADMIN[1], source="test"
            )
            return await scene(appliance)

    return asyncio.run(run())


def address_of(appliance: Appliance) -> str:
    (address,) = appliance.config.interfaces.values()
    return address


def trusting(pem: str | Path) -> ssl.SSLContext:
    """Return a context that trusts one certificate, whatever it is named."""
    text = pem if isinstance(pem, str) else pem.read_text()
    context = ssl.create_default_context(cadata=text)
    context.check_hostname = False
    return context


def webserver_trust(appliance: Appliance) -> ssl.SSLContext:
    certificate = ssl.get_server_certificate(
        (address_of(appliance), appliance.config.rest_port), timeout=10
    )
    return trusting(certificate)


def test_a_session_over_tls(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        trust = await asyncio.to_thread(webserver_trust, appliance)
        base = f"https://{address_of(appliance)}:{appliance.config.rest_port}"
        async with httpx.AsyncClient(verify=trust, base_url=base) as client:
            opened = await client.post("/auth/session", auth=ADMIN, headers=HEADERS)
            assert opened.status_code == 204
            # The jar sends the cookie back although nothing else is sent.
            shown = await client.get("/api/lunasa", headers=HEADERS)
            assert shown.status_code == 200
            assert "server" not in shown.headers
            encoded = await client.get("/api/keyrings/a%2Fb", headers=HEADERS)
            assert encoded.status_code == 409

    play(tmp_path / "appliance", scene)


def test_the_admin_port_lives_with_the_cluster_service(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        base = f"https://{address_of(appliance)}:{appliance.config.admin_port}"
        await make_authorized_cluster(appliance)
        trust = await asyncio.to_thread(webserver_trust, appliance)
        async with httpx.AsyncClient(verify=trust, base_url=base) as before:
            with pytest.raises(httpx.ConnectError):
                await before.get("/api/cluster/ca")
        insecure = trusting(await asyncio.to_thread(_presented, appliance))
        insecure.verify_mode = ssl.CERT_NONE
        async with httpx.AsyncClient(verify=insecure, base_url=base) as client:
            authority = (await client.get("/api/cluster/ca")).json()
        confirmed = trusting(authority["caCertificate"])
        async with httpx.AsyncClient(verify=confirmed, base_url=base, auth=ADMIN) as client:
            assert (await client.get("/api/clusters")).status_code == 200
            assert (await client.get("/users")).status_code == 404
            assert (await client.post("/auth/session")).status_code == 404
        await appliance.cluster.stop()
        async with httpx.AsyncClient(verify=confirmed, base_url=base) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get("/api/cluster/ca")
        await appliance.cluster.start()
        async with httpx.AsyncClient(verify=confirmed, base_url=base) as client:
            assert (await client.get("/api/cluster/ca")).json() == authority

    play(tmp_path / "appliance", scene)


def _presented(appliance: Appliance) -> str:
    return ssl.get_server_certificate(
        (address_of(appliance), appliance.config.admin_port), timeout=10
    )


def test_a_head_that_does_not_arrive_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.2)

    async def scene(appliance: Appliance) -> None:
        trust = await asyncio.to_thread(webserver_trust, appliance)
        reader, writer = await asyncio.open_connection(
            address_of(appliance), appliance.config.rest_port, ssl=trust
        )
        writer.write(b"GET /api/lunasa HTTP/1.1\r\nHost: x\r\n")
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()

    play(tmp_path / "appliance", scene)


@pytest.mark.parametrize(
    "sent", [b"\x00" * 64, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"]
)
def test_what_is_no_request_ends_the_connection(tmp_path: Path, sent: bytes) -> None:
    async def scene(appliance: Appliance) -> None:
        trust = await asyncio.to_thread(webserver_trust, appliance)
        reader, writer = await asyncio.open_connection(
            address_of(appliance), appliance.config.rest_port, ssl=trust
        )
        writer.write(sent)
        async with asyncio.timeout(60):
            answer = await reader.read()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400")
        writer.close()

    play(tmp_path / "appliance", scene)


def test_plain_tcp_gets_nothing(tmp_path: Path) -> None:
    async def scene(appliance: Appliance) -> None:
        where = (address_of(appliance), appliance.config.rest_port)
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"GET /api/lunasa HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            with contextlib.suppress(ConnectionResetError):
                assert not (await reader.read()).startswith(b"HTTP")
        writer.close()

    play(tmp_path / "appliance", scene)


def test_the_rest_port_is_free_again_after_the_end(tmp_path: Path) -> None:
    where: list[tuple[str, int]] = []

    async def scene(appliance: Appliance) -> None:
        where.append((address_of(appliance), appliance.config.rest_port))

    play(tmp_path / "appliance", scene)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where[0])


def test_a_stop_that_is_broken_off_can_be_finished() -> None:
    async def nothing(_scope: object, _receive: object, _send: object) -> None:
        """Serve nobody."""

    async def scene() -> None:
        address = random_loopback()
        (listener,) = bind_all([address], 0, what="test")
        port = listener.getsockname()[1]
        door = server.HttpsDoor(nothing, max_connections=4)
        await door.start([listener], server_context())
        begun = asyncio.create_task(door.stop(deadline_seconds=5))
        await asyncio.sleep(0)
        begun.cancel()
        await asyncio.wait({begun})
        await door.stop(deadline_seconds=5)
        bind_socket(address, port, what="test").close()

    asyncio.run(scene())
