"""Two sessions that change the same settings of the appliance at once: neither change is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from conclave.appliance.appliance import Appliance
from conclave.appliance.remote_logs import RemoteHost
from conclave.errors import Conflict, NotFound
from tests.support.appliance_bench import random_loopback
from tests.support.rest_house import House, open_house

pytestmark = pytest.mark.system


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with open_house(tmp_path / "state") as opened:
        yield opened


def test_time_servers_of_two_sessions_are_all_listed(house: House) -> None:
    ntp = house.appliance.ntp
    names = [f"192.0.2.{number}" for number in range(1, 6)]

    async def add() -> None:
        await asyncio.gather(ntp.set_enabled(True), *(ntp.add(name) for name in names))

    house.loop.run(add())
    assert (sorted(ntp.servers), ntp.enabled) == (names, True)

    async def add_twice() -> list[BaseException | None]:
        return await asyncio.gather(*(ntp.add("twice") for _ in "ab"), return_exceptions=True)

    first, second = house.loop.run(add_twice())
    assert (first, type(second)) == (None, Conflict)


def test_lines_go_to_no_host_that_is_not_listed(house: House) -> None:
    syslog = house.appliance.syslog
    address = random_loopback()
    hosts = [RemoteHost(address, port) for port in range(20001, 20006)]

    async def add() -> None:
        await asyncio.gather(*(syslog.add_remote(host) for host in hosts))

    house.loop.run(add())
    assert set(syslog.remote_hosts) == set(hosts)

    async def remove_twice() -> list[BaseException | None]:
        both = [syslog.remove_remote(hosts[0].host_id) for _ in "ab"]
        return await asyncio.gather(*both, return_exceptions=True)

    first, second = house.loop.run(remove_twice())
    assert (first, type(second)) == (None, NotFound)

    async def reset_while_one_is_added() -> None:
        await asyncio.gather(syslog.reset(), syslog.add_remote(hosts[0]))

    house.loop.run(reset_while_one_is_added())
    assert syslog.remote_hosts == (hosts[0],)


def test_settings_of_two_sessions_hold_both(house: House) -> None:
    appliance: Appliance = house.appliance
    webserver, time = appliance.webserver, appliance.time

    async def change() -> None:
        await asyncio.gather(
            webserver.change(max_file_bytes=2 << 20),
            webserver.change(net_device="eth0"),
            time.set(zone="Europe/Paris"),
            time.synchronize(3_600_000),
        )

    house.loop.run(change())
    assert (webserver.max_file_bytes, webserver.net_device) == (2 << 20, "eth0")
    assert (time.zone, time.offset_ms) == ("Europe/Paris", 3_600_000)
