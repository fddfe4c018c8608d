"""What monitoring reads: true numbers, under the names that existing clients look for."""

from __future__ import annotations

import os
import re

import pytest

from conclave import __version__
from conclave.appliance.host_state import parse_memory, parse_traffic
from conclave.service.meters import Meters, Use
from conclave.versions import BUILD
from tests.rest.conftest import Town
from tests.rest.test_rest_guide import SO
from tests.support.rest_house import MONITOR, OPERATOR, House

ROOT = "/api/lunasa"


def test_a_monitor_reads_everything_that_the_overview_asks_for(town: Town) -> None:
    client = town.house.client(MONITOR).open_session()
    links = client.get(ROOT).json()
    for name in ("cpu", "memory", "disk", "services", "time", "sensors", "network", "ntp", "hsms"):
        assert client.get(links[name]).status_code == 200, name
    status = client.get(f"{ROOT}/ntp/status").json()
    assert (status["synchronizedTo"], status["offsetMilliseconds"]) == ("host", 0)
    services = client.get(f"{ROOT}/services").json()["services"]
    states = [client.get(each["url"]).json()["state"] for each in services]
    assert "running" in states
    (hsm,) = client.get(f"{ROOT}/hsms").json()["hsms"]
    space = client.get(f"{hsm['url']}/storageSpace").json()
    assert space["total"] == space["used"] + space["free"] > space["used"] > 0
    assert client.get(f"{hsm['url']}/firmware").json()["firmwareVersion"] == "7.8.4"


def test_every_readable_child_of_the_appliance_is_linked_by_its_path(town: Town) -> None:
    links = set(town.house.client(MONITOR).get(ROOT).json().values())
    document = town.house.client().get("/api/openapi.json").json()
    children = {
        path
        for path, methods in document["paths"].items()
        if "get" in methods and re.fullmatch(rf"{ROOT}/\w+", path)
    }
    assert f"{ROOT}/packages" in children
    assert children <= links


def test_d6_the_appliances_version_is_the_emulated_one_with_conclaves_own_beside(
    town: Town,
) -> None:
    shown = town.house.client(MONITOR).get(ROOT).json()
    emulated = town.house.appliance.config.emulated
    assert shown["version"] == f"{emulated.appliance}-{BUILD}"
    assert shown["conclaveVersion"] == __version__


def test_numbers_are_the_hosts(town: Town) -> None:
    client = town.house.client(MONITOR)
    cpu = client.get(f"{ROOT}/cpu").json()
    assert cpu["cores"] == os.cpu_count()
    assert len(cpu["loadAverage"]) == 3
    memory = client.get(f"{ROOT}/memory").json()
    assert memory["total"] == memory["used"] + memory["available"] > 1 << 20
    disk = client.get(f"{ROOT}/disk").json()
    (partition,) = client.get(disk["partitions"]).json()["partitions"]
    assert disk["total"] == partition["total"] >= disk["free"] > 0


def test_network_devices_lead_to_their_traffic(town: Town) -> None:
    client = town.house.client(MONITOR)
    (listed,) = client.get(f"{ROOT}/network/devices").json()["devices"]
    shown = client.get(listed["url"]).json()
    assert shown["ipAddress"] == town.house.appliance.config.interfaces["eth0"]
    assert client.get(shown["stats"]).status_code == 200
    assert client.get(f"{ROOT}/network/devices/eth9").status_code == 404


def test_a_set_clock_is_told(house: House) -> None:
    client = house.client()
    assert client.put(f"{ROOT}/time", {"date": "2031-05-27"}).status_code == 204
    told = client.get(f"{ROOT}/ntp/status").json()
    assert told["synchronizedTo"] == "manual"
    assert told["offsetMilliseconds"] > 0


def test_there_is_no_other_firmware(house: House) -> None:
    client = house.client(OPERATOR).open_session()
    firmware = f"{house.hsm_url}/firmware/actions"
    assert client.post(f"{firmware}/upgrade").status_code == 401
    admin = house.client().open_session()
    new = {"label": "hsm", "password": SO, "domain": "d"}
    assert admin.put(house.hsm_url, new).status_code == 204
    assert client.post(f"{house.hsm_url}/login", {"password": SO}).status_code == 204
    assert client.post(f"{firmware}/upgrade").status_code == 422
    assert client.post(f"{firmware}/explode").status_code == 404


def test_the_kernels_pages_are_read_as_they_are() -> None:
    memory = parse_memory(
        "MemTotal:        1000 kB\nMemFree: 10 kB\nMemAvailable:  400 kB\nEmpty:\n"
    )
    assert (memory.total, memory.available) == (1_024_000, 409_600)
    page = (
        "Inter-|   Receive                            |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes packets errs\n"
        "  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
    )
    traffic = parse_traffic(page)["eth0"]
    assert (traffic.received_bytes, traffic.received_errors) == (1, 3)
    assert (traffic.sent_bytes, traffic.sent_packets, traffic.sent_errors) == (9, 10, 11)


def test_usage_is_read_as_billing_agents_read_it(town: Town) -> None:
    client = town.house.client(MONITOR)
    usage = client.get(f"{town.house.hsm_url}/metrics").json()["metrics"]
    listed = client.get(f"{town.house.hsm_url}/partitions").json()["partitions"]
    assert [each["partitionId"] for each in usage] == [each["id"] for each in listed]
    assert usage[0]["label"]
    bins = {
        each["binId"]: {row["counterId"]: row["count"] for row in each["counters"]}
        for each in usage[0]["bins"]
    }
    assert list(bins) == [each.name for each in Use]
    assert all(row["REQUESTS"] >= row["ERRORS"] >= 0 for row in bins.values())


def test_what_the_workers_counted_is_the_v1_partitions(town: Town) -> None:
    processes = town.house.appliance.cluster.processes
    assert processes is not None
    counted = Meters.create()
    writer = Meters(os.dup(counted.fd), writable=True)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(processes, "_meters", {0: counted})
        writer.done(Use.SIGN, 1, 0)
        writer.failed(Use.SIGN, 2)
        (usage,) = town.house.client(MONITOR).get(f"{town.house.hsm_url}/metrics").json()["metrics"]
    (signed,) = [each["counters"] for each in usage["bins"] if each["binId"] == "SIGN"]
    assert signed == [{"counterId": "REQUESTS", "count": 2}, {"counterId": "ERRORS", "count": 1}]


def test_the_only_licence_is_the_softwares(town: Town) -> None:
    client = town.house.client(MONITOR)
    url = client.get(town.house.hsm_url).json()["licenses"]
    assert [each["id"] for each in client.get(url).json()["licenses"]] == ["Apache-2.0"]


@pytest.mark.parametrize("name", ["utilization", "counter"])
def test_what_is_not_kept_is_not_there(town: Town, name: str) -> None:
    answer = town.house.client(MONITOR).get(f"{town.house.hsm_url}/{name}")
    assert (answer.status_code, answer.json()["id"]) == (404, "FRAMEWORK_RESOURCE_NOT_FOUND")


def test_to_say_when_the_webserver_starts_does_not_stop_it(town: Town) -> None:
    client, path = town.house.client().open_session(), f"{ROOT}/services/webserver"
    refused = client.patch(path, {"onBoot": False})
    assert (refused.status_code, client.get(path).json()["state"]) == (400, "running")
    assert "onBoot of service webserver is always True" in refused.json()["details"]
    assert client.patch(path, {"onBoot": True}).status_code == 200
