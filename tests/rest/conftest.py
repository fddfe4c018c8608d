"""Houses for the REST tests: one to look at and fill, one to break."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.rest_house import House, make_cluster, open_house, settle_users


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
