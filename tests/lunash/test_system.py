"""Time, time servers, state of the host and webserver over ssh; time servers are real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conclave.appliance.documents import Documents
from conclave.appliance.ntp import DOCUMENT, NtpService, StoredNtp, query, split_server
from conclave.appliance.store import ApplianceStore
from conclave.clock import host_time_ms
from conclave.errors import BadInput
from tests.support.appliance_bench import random_loopback, until
from tests.support.ssh_house import Answer, SshHouse, open_ssh_house
from tests.support.time_server import NTP_TO_UNIX_SECONDS, TimeServer

pytestmark = pytest.mark.system
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshHouse]:
    with open_ssh_house(tmp_path_factory.mktemp("system")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def reset(house: SshHouse) -> Iterator[None]:
    yield
    appliance = house.appliance
    house.loop.run(appliance.ntp.set_enabled(False))
    for server in appliance.ntp.servers:
        house.loop.run(appliance.ntp.remove(server))
    house.loop.run(appliance.ntp.synchronize())


@pytest.fixture
def server() -> Iterator[TimeServer]:
    with TimeServer(random_loopback(), ahead_seconds=600) as serving:
        yield serving


def done(answer: Answer) -> str:
    assert answer.status == 0, answer
    return answer.out


def shown(house: SshHouse, command: str) -> Any:
    return json.loads(done(house.ssh(f"{command} -json")))


def test_t1_the_clock_is_set_and_the_hosts_is_not(house: SshHouse) -> None:
    before = host_time_ms()
    assert "2031 " not in done(house.ssh("status date"))
    assert "Tue May 27 15:04:" in done(house.ssh("sysconf time 15:04 20310527"))
    assert shown(house, "status date")["date"] == "2031-05-27"
    assert abs(host_time_ms() - before) < HOUR_MS
    assert house.ssh("sysconf time 15:04 2031-5-27").status == 1
    assert house.ssh("sysconf time 25:04").status == 1


def test_zones_are_listed_set_and_shown(house: SshHouse) -> None:
    assert "Europe/Paris" in done(house.ssh("sysconf timezone list"))
    done(house.ssh("sysconf timezone set EST5EDT"))
    for command in ("sysconf timezone show", "status zone", "status date"):
        assert "EST5EDT" in done(house.ssh(command))
    refused = house.ssh("sysconf timezone set Nowhere/Land")
    assert (refused.status, "timeZone" in refused.out) == (1, False)
    done(house.ssh("sysconf timezone set UTC"))


def test_a_time_server_is_asked_once_by_ntpdate(house: SshHouse, server: TimeServer) -> None:
    answer = done(house.ssh(f"sysconf ntp ntpdate {server.name}"))
    assert "Current time before running ntpdate:" in answer
    assert "Current time after running ntpdate:" in answer
    assert abs(house.appliance.time.offset_ms - 600_000) < 5000
    status = shown(house, "sysconf ntp status")
    assert (status["synchronizedTo"], status["server"]) == ("server", server.name)
    # Without a server, and with none listed, the host's clock holds.
    done(house.ssh("sysconf ntp ntpdate"))
    assert house.appliance.time.offset_ms == 0


def test_the_time_service_keeps_the_clock_while_it_is_enabled(
    house: SshHouse, server: TimeServer
) -> None:
    added = done(house.ssh(f"sysconf ntp addserver {server.name}"))
    assert f"NTP server 'server {server.name}' added." in added
    assert f"server {server.name}" in done(house.ssh("sysconf ntp list")).splitlines()
    assert house.ssh(f"sysconf ntp addserver {server.name}").status == 1
    stopped = done(house.ssh("sysconf ntp status"))
    assert "NTP is not running" in stopped
    assert server.asked == 0
    done(house.ssh("sysconf ntp enable"))
    follows = house.appliance.ntp
    house.loop.run(until(lambda: follows.follows is not None, "an answer was taken"))
    assert abs(house.appliance.time.offset_ms - 600_000) < 5000
    assert "NTP is running" in done(house.ssh("sysconf ntp status"))
    refused = house.ssh(f"sysconf ntp ntpdate {server.name}")
    assert (refused.status, "stop it first" in refused.out) == (1, True)
    done(house.ssh("sysconf ntp disable"))
    deleted = done(house.ssh(f"sysconf ntp deleteserver {server.name}"))
    assert f"NTP server {server.name} deleted" in deleted
    assert house.ssh(f"sysconf ntp deleteserver {server.name}").status == 1


def test_the_service_believes_no_answer_that_is_far_away(
    house: SshHouse, server: TimeServer
) -> None:
    server.ahead_seconds = 5000
    service = house.appliance.ntp
    house.loop.run(service.add(server.name))
    house.loop.run(service.set_enabled(True))
    house.loop.run(until(lambda: "away" in service.last_error, "the answer was refused"))
    assert house.appliance.time.offset_ms == 0


def test_answers_that_are_none_are_not_taken(house: SshHouse, server: TimeServer) -> None:
    address, port = split_server(server.name)
    server.stratum = 16
    assert query(address, port, 4) == "it has no time itself"
    server.stratum, server.echoes = 2, False
    assert query(address, port, 4) == "not an answer to this question"
    refused = house.ssh(f"sysconf ntp ntpdate {server.name}")
    assert (refused.status, "No time server gave a usable answer" in refused.out) == (1, True)
    assert house.appliance.time.offset_ms == 0


@pytest.mark.parametrize("at_seconds", [None, 1.0, NTP_TO_UNIX_SECONDS + 5.0])
def test_t1_no_server_takes_the_clock_to_where_nobody_could_set_it(
    house: SshHouse, server: TimeServer, at_seconds: float | None
) -> None:
    server.at_seconds = at_seconds or 0.0
    refused = house.ssh(f"sysconf ntp ntpdate {server.name}")
    assert (refused.status, "outside of the years" in refused.out) == (1, True), refused
    assert house.appliance.time.offset_ms == 0


def test_an_answer_whose_times_contradict_each_other_is_not_taken(
    house: SshHouse, server: TimeServer
) -> None:
    for before_seconds in (3600.0, -3600.0):
        server.received_before_seconds = before_seconds
        refused = house.ssh(f"sysconf ntp ntpdate {server.name}")
        assert (refused.status, "contradict each other" in refused.out) == (1, True), refused
    assert house.appliance.time.offset_ms == 0


def test_a_server_without_a_possible_name_is_passed_over(
    house: SshHouse, server: TimeServer, tmp_path: Path
) -> None:
    async def served() -> None:
        store = await ApplianceStore.open(tmp_path / "appliance.db")
        documents = await Documents.open(store)
        # As it was stored while such names were taken.
        await documents.save(DOCUMENT, StoredNtp(("a..b", server.name), enabled=True))
        service = await NtpService.open(documents, house.appliance.time)
        service.start()
        await until(lambda: service.last is not None, "the other server was asked")
        await service.stop()
        await store.close()

    house.loop.run(served())
    assert abs(house.appliance.time.offset_ms - 600_000) < 5000


def test_the_last_answer_is_dated_by_the_clock_that_it_set(
    house: SshHouse, server: TimeServer
) -> None:
    server.ahead_seconds = -40 * 86_400.0
    done(house.ssh(f"sysconf ntp ntpdate {server.name}"))
    last, now = house.appliance.ntp.last, house.appliance.time.clock.now()
    assert last is not None
    assert abs((now - last.at).total_seconds()) < 3600


@pytest.mark.parametrize(
    "name",
    ["", "a b", "h:0", "h:70000", "-h", "h;id", "[::1", "::1", "a..b", f"{64 * 'a'}.org", "a-.b"],
)
def test_names_of_time_servers_have_a_rule(name: str) -> None:
    with pytest.raises(BadInput):
        split_server(name)
    assert split_server("[::1]:124") == ("::1", 124)
    assert split_server("pool.ntp.org") == ("pool.ntp.org", 123)


def test_the_state_of_the_host_is_shown_to_monitors(house: SshHouse) -> None:
    lines = (
        "status cpu\nstatus mem\nstatus disk\nstatus sensors\nstatus interface\nnetwork show\n"
        "status sysstat show\nstatus time\nwebserver show\n"
    )
    answer = house.ssh(stdin=lines, user="monitor")
    assert answer.status == 0, answer
    address = house.appliance.config.interfaces["eth0"]
    wanted = (
        "Processors:",
        "1K-blocks",
        "RX packets:",
        "In Service Okay",
        "Max File Size",
        "no sen",
    )
    for word in (*wanted, f"inet addr:{address}"):
        assert word in answer.out, word
    assert shown(house, "network show")["devices"][0]["ipAddress"] == address
    assert shown(house, "status interface")["interfaces"][0]["device"]["id"] == "eth0"


def test_the_webserver_is_shown_and_set(house: SshHouse) -> None:
    done(house.ssh("webserver set -maxfilesize 2097152"))
    assert shown(house, "webserver show")["maxFileSize"] == 2_097_152
    assert house.ssh("webserver set -maxfilesize 5").status == 1
    assert house.ssh(stdin="webserver disable\nwebserver bind -netdevice eth0\n").status == 0
    after = shown(house, "webserver show")
    assert (after["enabled"], after["netDevice"], after["maxFileSize"]) == (
        False,
        "eth0",
        2_097_152,
    )
    assert house.ssh("webserver bind -netdevice eth7").status == 1
    assert house.ssh(stdin="webserver enable\nwebserver bind -n all\n").status == 0
    assert shown(house, "webserver blocklist list") == {"blocklist": []}
    assert house.ssh("webserver blocklist list", user="monitor").status == 1


def test_services_are_started_stopped_and_restarted_by_their_names(house: SshHouse) -> None:
    for name, family in (("ntp", "sysconf ntp status"), ("webserver", "webserver show")):
        for action, runs in (("stop", False), ("start", True), ("restart", True), ("stop", False)):
            done(house.ssh(f"service {action} {name}"))
            assert shown(house, f"service status {name}")["status"] == (
                "running" if runs else "stopped"
            )
            assert shown(house, family)["enabled"] is runs
        done(house.ssh(f"service restart {name}"))
        assert shown(house, family)["enabled"] is True
    done(house.ssh("service stop ntp"))
    refused = house.ssh("service restart ssh")
    assert (refused.status, "has no action 'restart'" in refused.out) == (1, True)


def test_services_are_set_back_to_what_they_were(house: SshHouse, server: TimeServer) -> None:
    first = shown(house, "sysconf config show")
    lines = (
        f"sysconf ntp addserver {server.name}\nsyslog remotehost add 127.0.0.1 -port 9\n"
        "webserver set -maxfilesize 3145728\nsysconf ntp enable\n"
    )
    assert house.ssh(stdin=lines).status == 0
    assert shown(house, "sysconf config show") == {
        "ntpEnabled": True,
        "ntpServers": [server.name],
        "syslogRemoteHosts": ["127.0.0.1:9/udp"],
        "webserverEnabled": True,
        "webserverNetDevice": "all",
        "webserverMaxFileSize": 3_145_728,
    }
    assert house.ssh("sysconf config factoryReset -service ntp", stdin="quit\n").status == 1
    done(house.ssh("sysconf config factoryReset -service ntp -force"))
    now = shown(house, "sysconf config show")
    assert (now["ntpEnabled"], now["ntpServers"]) == (False, [])
    assert now["syslogRemoteHosts"]
    done(house.ssh("sysconf config factoryReset -service all", stdin="proceed\n"))
    assert shown(house, "sysconf config show") == first | {"webserverMaxFileSize": 256 << 20}
    assert house.ssh("sysconf config factoryReset -service ssh -force").status == 1


def test_a_new_certificate_is_made(house: SshHouse) -> None:
    files = [house.appliance.paths.webserver / name for name in ("server.pem", "server.key")]
    before = [each.read_bytes() for each in files]
    assert house.ssh("sysconf regenCert", stdin="quit\n").status == 1
    assert [each.read_bytes() for each in files] == before
    done(house.ssh("sysconf regenCert -force"))
    assert all(each.read_bytes() != old for each, old in zip(files, before, strict=True))


def test_d8_an_appliance_that_was_not_installed_reboots_no_host(house: SshHouse) -> None:
    for action in ("reboot", "poweroff"):
        refused = house.ssh(f"sysconf appliance {action} -force")
        assert (refused.status, "may not reboot its host" in refused.out) == (1, True)
    assert house.ssh("sysconf appliance reboot -force", user="operator").status == 1


def test_d8_an_installed_appliance_asks_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = tmp_path / "asked"
    systemctl = tmp_path / "bin/systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(
        f'#!/bin/sh\necho "$*" >> {asked}\n[ "$2" = reboot ] || {{ echo denied >&2; exit 1; }}\n'
    )
    systemctl.chmod(0o755)
    with open_ssh_house(tmp_path / "h", host_power=True) as installed:
        # Never the host's own.
        monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
        assert installed.ssh("sysconf appliance reboot", stdin="quit\n").status == 1
        assert not asked.exists()
        answer = done(installed.ssh("sysconf appliance reboot", stdin="proceed\n"))
        assert "Reboot commencing" in answer
        refused = installed.ssh("sysconf appliance poweroff -force")
        assert (refused.status, "denied" in refused.out) == (1, True)
    assert asked.read_text().split("\n")[:2] == [
        "--no-ask-password reboot",
        "--no-ask-password poweroff",
    ]
