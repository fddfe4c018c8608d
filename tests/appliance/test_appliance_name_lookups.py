"""Other hosts that the daemon asks or tells: names nobody answers for, and odd certificates."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conclave.appliance.name_lookups import MAX_AT_ONCE, look_up
from conclave.appliance.ntp import NtpService
from conclave.appliance.remote_log_trust import RemoteLogTrust
from conclave.appliance.remote_logs import RemoteHost, RemoteLog
from conclave.errors import Unavailable
from tests.support.appliance_bench import random_loopback
from tests.support.rest_house import House, open_house
from tests.support.time_server import TimeServer

DEAD = "dead.example"
PATIENCE_SECONDS = 60.0


class DeadNames:
    """The host's resolver, which answers for DEAD once it is released."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.released = threading.Event()
        self.late_address = ""
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, *args: Any, **options: Any) -> Any:
        if host == DEAD:
            self.asked.release()
            self.released.wait(2 * PATIENCE_SECONDS)
            if self.late_address:
                return self._real(self.late_address, *args, **options)
            raise socket.gaierror(socket.EAI_AGAIN, "no name server answers")
        return self._real(host, *args, **options)

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.asked.acquire(timeout=PATIENCE_SECONDS)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[DeadNames]:
    dead = DeadNames()
    monkeypatch.setattr(socket, "getaddrinfo", dead)
    yield dead
    dead.released.set()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path / "house") as opened:
        yield opened


async def one_thread_answers(names: DeadNames, count: int) -> None:
    """Fail unless the pool of threads has a free one while names are being looked up."""
    with ThreadPoolExecutor(1) as beside:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.get_running_loop().run_in_executor(beside, names.wait_for, count)
            assert await asyncio.to_thread(int) == 0


def test_a_dead_time_server_holds_no_thread_of_the_pool(house: House, names: DeadNames) -> None:
    async def scene() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        ntp = house.appliance.ntp
        asking = asyncio.create_task(ntp.synchronize(DEAD))
        await one_thread_answers(names, 1)
        names.released.set()
        with pytest.raises(Unavailable, match=f"{DEAD}: no (name server answers|answer in time)"):
            await asking

    house.loop.run(scene())


@pytest.mark.parametrize("how", ["switched off", "removed", "left as it is"])
def test_an_answer_that_comes_after_the_service_was_changed_sets_no_clock(
    house: House, names: DeadNames, how: str
) -> None:
    async def scene(server: TimeServer) -> None:
        names.late_address, _, port = server.name.partition(":")
        # One of its own, of which only the round below asks.
        ntp = await NtpService.open(house.appliance.documents, house.appliance.time)
        await ntp.add(f"{DEAD}:{port}")
        await ntp.set_enabled(True)
        asking = asyncio.create_task(ntp._round())
        await asyncio.to_thread(names.wait_for, 1)
        if how == "switched off":
            await ntp.set_enabled(False)
        elif how == "removed":
            await ntp.remove(f"{DEAD}:{port}")
        names.released.set()
        await asking
        assert server.asked == 1
        moved = abs(house.appliance.time.offset_ms - 100_000) < 5000
        assert moved == (how == "left as it is")

    with TimeServer(random_loopback(), ahead_seconds=100.0) as server:
        house.loop.run(scene(server))


@pytest.mark.parametrize("protocol", ["udp", "tcp", "tls"])
def test_a_dead_remote_log_host_holds_no_thread_of_the_pool(
    house: House, names: DeadNames, protocol: Any
) -> None:
    async def scene() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        trust = RemoteLogTrust("", house.appliance.time.clock)
        remote = RemoteLog(RemoteHost(DEAD, 514, protocol), trust)
        try:
            await one_thread_answers(names, 1)
            names.released.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "no name server answers" not in remote.last_error:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.02)
        finally:
            await remote.stop()

    house.loop.run(scene())


def test_a_certificate_that_cannot_be_read_ends_no_sender(house: House) -> None:
    trust = RemoteLogTrust("", house.appliance.time.clock)
    with pytest.raises(ssl.SSLCertVerificationError, match="cannot be read"):
        trust.check_dates(b"\x30\x03\x02\x01\x00")


def test_look_ups_are_bounded_and_given_up_ones_end_alone(names: DeadNames) -> None:
    async def scene() -> None:
        asking = [
            asyncio.create_task(look_up(DEAD, 1, socket.SOCK_DGRAM)) for _ in range(MAX_AT_ONCE)
        ]
        await one_thread_answers(names, MAX_AT_ONCE)
        with pytest.raises(OSError, match="too many names"):
            await look_up("localhost", 1, socket.SOCK_STREAM)
        assert await look_up("192.0.2.1", 1, socket.SOCK_STREAM) == ("192.0.2.1",)
        asking.pop().cancel()
        names.released.set()
        for each in asking:
            with pytest.raises(socket.gaierror):
                await each
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    assert "127.0.0.1" in await look_up("localhost", 1, socket.SOCK_STREAM)
                except OSError as cause:
                    assert "too many names" in str(cause)
                    await asyncio.sleep(0.02)
                else:
                    return

    asyncio.run(scene())
