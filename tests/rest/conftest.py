"""Houses for the REST tests: one to look at and fill, one to break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.hsm_bench import CO
from tests.support.rest_house import Client, House, make_cluster, open_house, settle_users

CUSTOMER_PASSWORD = "Customer-Cust-1"


@dataclass
class Town:
    """A house with an authorized cluster."""

    house: House
    cluster_id: str


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[House]:
    """Open an appliance as it comes from the factory."""
    with open_house(tmp_path / "appliance") as house:
        yield house


@pytest.fixture
def house(fresh: House) -> House:
    """Open an appliance whose users have changed their passwords; the HSM is fresh."""
    settle_users(fresh)
    return fresh


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Open an appliance with an authorized cluster once; tests add, never break."""
    with open_house(tmp_path_factory.mktemp("town") / "appliance") as opened:
        settle_users(opened)
        yield Town(opened, make_cluster(opened))


@pytest.fixture
def customer_name() -> str:
    """Return a name of its own: who was a customer once stays one in a town that others share."""
    return f"customer-{uuid4().hex[:8]}"


@pytest.fixture
def customer(town: Town, customer_name: str) -> Iterator[Client]:
    """Make a user of the role monitor, who has changed the first password."""
    make_customer(town, customer_name)
    yield town.house.client((customer_name, CUSTOMER_PASSWORD))
    assert town.house.client().delete(f"/users/{customer_name}").status_code == 204


def make_customer(town: Town, name: str) -> None:
    """Make a user of the role monitor, who has changed the first password."""
    admin = town.house.client()
    new = {"userId": name, "password": "First-Password-1", "role": "monitor"}
    assert admin.post("/users", new).status_code == 204
    change = {"currentPassword": "First-Password-1", "password": CUSTOMER_PASSWORD}
    first = town.house.client((name, "First-Password-1"))
    assert first.post(f"/users/{name}/actions/changePassword", change).status_code == 204


def make_keyring(town: Town, label: str = "") -> dict[str, str]:
    """Make a keyring; return its label and id as they are listed."""
    body = {
        "authentication": [{"type": "CO", "password": CO.decode(), "partitionLabel": "par"}],
        "keyRingLabel": label or f"ring-{uuid4().hex[:8]}",
        "keyRingPassword": "keyringpassword",
    }
    answer = town.house.client().post("/api/keyrings", body)
    assert answer.status_code == 201, answer.text
    (made,) = answer.json()["data"]
    keyring: dict[str, str] = made
    return keyring
