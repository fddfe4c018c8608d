"""Fixtures that start a real Conclave, shared by every test that needs one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.demo import Demo, start_demo, stop_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Run one installation with four keyrings for the whole session; tests add, never break."""
    running = start_demo(tmp_path_factory.mktemp("demo") / "state", "--keyrings", "4")
    yield running
    stop_demo(running)


@pytest.fixture
def own_demo(tmp_path: Path) -> Iterator[Demo]:
    """Run an installation for one test that may kill and break it."""
    running = start_demo(tmp_path / "state", "--keyrings", "2")
    yield running
    stop_demo(running)
