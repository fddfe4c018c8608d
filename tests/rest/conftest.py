"""Houses for the REST tests: one to look at and fill, one to break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

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
    admin = town.house.client()
    user, password = customer_name, CUSTOMER_PASSWORD
    new = {"userId": user, "password": "First-Password-1", "role": "monitor"}
    assert admin.post("/users", new).status_code == 204
    change = {"currentPassword": "First-Password-1", "password": password}
    first = town.house.client((user, "First-Password-1"))
    changed = first.post(f"/users/{user}/actions/changePassword", change)
    assert changed.status_code == 204
    yield town.house.client((user, password))
    assert admin.delete(f"/users/{user}").status_code == 204
