"""Fixtures that start a real Conclave, shared by every test that needs one."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.demo import Demo, start_demo, stop_demo

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# A loaded machine, or Hypothesis's first run of all, makes no property untrue.
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None]:
    """Keep the tests of a file on one worker, unless they share nothing; the long ones go first.

    Else a worker that begins a long file last keeps all the others waiting.
    """
    for item in items:
        if item.get_closest_marker("spread") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    yield
    items.sort(key=_order)


def _order(item: pytest.Item) -> tuple[bool, bool]:
    """Put whole files of system tests first, then the other system tests, then what is short."""
    marks = {mark.name for mark in item.iter_markers()}
    return "system" not in marks, "spread" in marks


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
