"""What names a keyring, its id, label, serial number and slot, outlives every process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.appliance_bench import random_loopback
from tests.support.hsm_bench import CO
from tests.support.rest_house import Client, House, make_cluster, open_house, settle_users

CREDENTIAL = [{"type": "CO", "password": CO.decode()}]
NAMES = ("keyRingUUID", "keyRingLabel", "serialNumber", "slot")


def identities(client: Client) -> list[tuple[Any, ...]]:
    """Return what names each keyring, in the order of the list."""
    listed = client.get("/api/keyrings").json()["data"]
    shown = [client.get(f"/api/keyrings/{each['keyRingUUID']}").json() for each in listed]
    return [tuple(keyring[name] for name in NAMES) for keyring in shown]


def make_keyrings(client: Client) -> list[tuple[Any, ...]]:
    """Make keyrings, delete one in their midst, and return what names the others."""
    new = {
        "authentication": CREDENTIAL,
        "keyRingLabel": "ring",
        "keyRingPassword": "first-password",
        "total": 4,
    }
    assert client.post("/api/keyrings", new).status_code == 202
    deleted = client.delete("/api/keyrings/ring2", {"authentication": CREDENTIAL})
    assert deleted.status_code == 204
    made = identities(client)
    assert [label for _, label, _, _ in made] == ["ring1", "ring3", "ring4"]
    return made


def restart(house: House) -> None:
    house.loop.run(house.appliance.cluster.stop())
    house.loop.run(house.appliance.cluster.start())


def test_k3_label_and_serial_stay_over_a_restart_of_the_service_and_of_the_appliance(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "appliance"
    interfaces = {"eth0": random_loopback()}
    with open_house(directory, interfaces=interfaces) as house:
        settle_users(house)
        make_cluster(house)
        made = make_keyrings(house.client())
        restart(house)
        assert identities(house.client()) == made
    with open_house(directory, interfaces=interfaces) as house:
        house.loop.run(house.appliance.cluster.start())
        assert identities(house.client()) == made
