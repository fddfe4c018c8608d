"""The module on a keyring of the running demo."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conclave.errors import Ckr
from tests.support.cryptoki import Cryptoki, Session
from tests.support.demo import Demo


@dataclass(frozen=True)
class Place:
    """Where a test works: the initialised module, a slot and its passwords."""

    library: Cryptoki
    slot: int
    pin: str
    so_pin: str
    label: str

    def logged_in(self) -> Session:
        """Open a read/write session and log in."""
        session = self.library.open(self.slot)
        assert session.login(self.pin) == Ckr.OK
        return session


def place_of(demo: Demo, index: int, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Initialise the module for one of the demo's keyrings."""
    for name, value in demo.document["client"]["environment"].items():
        monkeypatch.setenv(name, value)
    library = Cryptoki(demo.module, directory)
    library.do("C_Initialize", None)
    keyring = demo.keyring(index)
    return Place(library, keyring["slot"], keyring["pin"], keyring["soPin"], keyring["label"])


@pytest.fixture
def place(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Work on the demo's last keyring."""
    made = place_of(demo, 3, tmp_path, monkeypatch)
    yield made
    made.library.value("C_Finalize", None)


@pytest.fixture
def session(place: Place) -> Session:
    """Be logged in."""
    return place.logged_in()
