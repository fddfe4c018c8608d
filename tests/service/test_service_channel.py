"""The internal channel: results, errors, deadlines, and what a lost connection means."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from conclave import faults
from conclave.errors import BadInput, InternalFault, LimitReached, NotAllowed, Unavailable
from conclave.service.channel import ChannelClient, ChannelServer, Handler
from conclave.service.messages import (
    ClientLogin,
    ClientLogout,
    DerivedKey,
    HashPassword,
    KeyringList,
    ListKeyrings,
    TicketResult,
)
from conclave.service.quiet import Nothing, Quiet

DAEMON = bytes(32)
WORKER = bytes([1]) * 32
HASH = HashPassword(b"password", b"salt", "here")
LOGIN = ClientLogin(bytes(16), "here", bytes(16), 1, b"password", bytes(16))


@asynccontextmanager
async def serving(path: Path, **handlers: Handler) -> AsyncIterator[ChannelServer]:
    server = ChannelServer(path, {"daemon": DAEMON, "worker": WORKER}, handlers)
    await server.start()
    try:
        yield server
    finally:
        await server.close(grace_seconds=0.1)


async def echo_hash(params: HashPassword, _role: str) -> Quiet:
    return DerivedKey(params.password)


async def never(_params: Quiet, _role: str) -> Quiet:
    await asyncio.sleep(3600)
    return Nothing()


CLIENTS: list[ChannelClient] = []
"""Those of the running test."""


def client_of(path: Path, secret: bytes) -> ChannelClient:
    """Return a client whose connection ends with the test: the server's end may come too late."""
    CLIENTS.append(ChannelClient(path, secret))
    return CLIENTS[-1]


def run(tmp_path: Path, scenario: Callable[[Path], Awaitable[None]]) -> None:
    async def bounded() -> None:
        try:
            async with asyncio.timeout(60):
                await scenario(tmp_path / "socket")
        finally:
            while CLIENTS:
                await CLIENTS.pop().close()

    asyncio.run(bounded())


def test_a_thousand_calls_in_flight_get_their_own_answers(tmp_path: Path) -> None:
    async def slow_echo(params: HashPassword, _role: str) -> Quiet:
        await asyncio.sleep(0.02 if params.password[0] % 2 else 0)
        return DerivedKey(params.password)

    async def scenario(path: Path) -> None:
        async with serving(path, hash_password=slow_echo):
            client = client_of(path, DAEMON)
            words = [os.urandom(40) for _ in range(1000)]
            calls = [client.call("hash_password", HashPassword(w, b"", "")) for w in words]
            assert [answer.key for answer in await asyncio.gather(*calls)] == words

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "error",
    [
        LimitReached(faults.KEYRING_LIMIT, "Keyring 3501 is one too many."),
        NotAllowed(faults.PIN_LOCKED, "The keyring is locked."),
        BadInput(faults.KEYRING_PASSWORD, "Field password has 3 characters; 8 are needed."),
    ],
)
def test_an_error_crosses_as_the_same_class_row_and_sentence(
    tmp_path: Path, error: BadInput
) -> None:
    async def refuse(_params: Quiet, _role: str) -> Quiet:
        raise error

    async def scenario(path: Path) -> None:
        async with serving(path, hash_password=refuse):
            with pytest.raises(type(error)) as caught:
                await client_of(path, DAEMON).call("hash_password", HASH)
            assert type(caught.value) is type(error)
            assert caught.value.fault is error.fault
            assert caught.value.message == error.message

    run(tmp_path, scenario)


def test_a_crash_of_a_handler_tells_the_caller_nothing_of_its_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def crash(_params: Quiet, _role: str) -> Quiet:
        raise ZeroDivisionError("inner detail")

    async def scenario(path: Path) -> None:
        async with serving(path, hash_password=crash):
            with pytest.raises(InternalFault) as caught:
                await client_of(path, DAEMON).call("hash_password", HASH)
            assert "inner detail" not in caught.value.message

    run(tmp_path, scenario)
    assert "inner detail" in caplog.text


def test_a_wrong_secret_is_served_nothing(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        async with serving(path, hash_password=echo_hash):
            client = client_of(path, bytes([9]) * 32)
            with pytest.raises(Unavailable) as caught:
                await client.call("hash_password", HASH, timeout_seconds=0.3)
            assert caught.value.fault is faults.BUSY

    run(tmp_path, scenario)


def test_a_role_gets_its_own_methods_only(tmp_path: Path) -> None:
    async def no_keyrings(_params: ListKeyrings, _role: str) -> Quiet:
        return KeyringList([], 0)

    async def scenario(path: Path) -> None:
        async with serving(path, list_keyrings=no_keyrings):
            assert await client_of(path, DAEMON).call("list_keyrings", ListKeyrings())
            with pytest.raises(NotAllowed):
                await client_of(path, WORKER).call("list_keyrings", ListKeyrings())

    run(tmp_path, scenario)


def test_a_deadline_ends_a_read_as_busy_and_a_write_as_unknown(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        async with serving(path, hash_password=never, login=never):
            client = client_of(path, WORKER)
            with pytest.raises(Unavailable) as read:
                await client.call("hash_password", HASH, timeout_seconds=0.1)
            assert read.value.fault is faults.BUSY
            with pytest.raises(Unavailable) as write:
                await client.call("login", LOGIN, timeout_seconds=0.1)
            assert write.value.fault is faults.OUTCOME_UNKNOWN

    run(tmp_path, scenario)


def test_without_a_server_nothing_was_done_and_the_wait_is_bounded(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        started = asyncio.get_running_loop().time()
        with pytest.raises(Unavailable) as caught:
            await client_of(path, WORKER).call("login", LOGIN, connect_seconds=0.2)
        assert caught.value.fault is faults.BUSY
        assert asyncio.get_running_loop().time() - started < 10

    run(tmp_path, scenario)


def test_a_call_waits_for_a_server_that_is_being_respawned(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        client = client_of(path, DAEMON)
        waiting = asyncio.create_task(client.call("hash_password", HASH, timeout_seconds=5))
        await asyncio.sleep(0.05)
        async with serving(path, hash_password=echo_hash):
            assert (await waiting).key == b"password"
        async with serving(path, hash_password=echo_hash):
            assert (await client.call("hash_password", HASH)).key == b"password"

    run(tmp_path, scenario)


def test_cut_off_callers_are_those_that_send_nonsense(tmp_path: Path) -> None:
    async def scenario(path: Path) -> None:
        async with serving(path, hash_password=echo_hash):
            for nonsense in (
                b"\xff\xff\xff\xff",
                b"\0\0\0\0",
                b"\0\0\0\x01\xc1",
                b"\0\0\0\x02\x91\x01",
            ):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(nonsense)
                assert await reader.read() == b""
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            assert (await client_of(path, DAEMON).call("hash_password", HASH)).key

    run(tmp_path, scenario)


KILLED_SERVER = """
    import asyncio, os, signal, sys
    from conclave.service.channel import ChannelServer

    async def die(_params, _role):
        os.kill(os.getpid(), signal.SIGKILL)

    async def main():
        handlers = {"login": die, "hash_password": die}
        server = ChannelServer(sys.argv[1], {"worker": bytes([1]) * 32}, handlers)
        await server.start()
        await asyncio.sleep(60)

    asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("method", "params", "fault"),
    [("login", LOGIN, faults.OUTCOME_UNKNOWN), ("hash_password", HASH, faults.BUSY)],
)
def test_a_server_killed_within_a_call_leaves_a_write_unknown(
    tmp_path: Path, method: str, params: Quiet, fault: object
) -> None:
    path = tmp_path / "socket"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(KILLED_SERVER), str(path)])
    try:

        async def scenario(path: Path) -> None:
            client = client_of(path, WORKER)
            with pytest.raises(Unavailable) as caught:
                await client.call(method, params, timeout_seconds=15, connect_seconds=3)
            assert caught.value.fault is fault

        run(tmp_path, scenario)
        assert process.wait(10) == -signal.SIGKILL
    finally:
        process.kill()
        process.wait()


def test_reprs_name_fields_and_show_no_secret() -> None:
    assert repr(TicketResult(b"secret ticket")) == "TicketResult(ticket)"
    assert "ticket" in repr(ClientLogout(b"client", b"hidden"))
    assert "hidden" not in repr(ClientLogout(b"client", b"hidden"))
