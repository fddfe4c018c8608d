"""Fixtures of the module's network tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.native.certificates import write_all
from tests.native.driver import Driver, build, write_configuration
from tests.native.echo_server import EchoServer, server_context


@pytest.fixture(scope="session")
def plain_driver() -> Path:
    """Build the driver without sanitizers."""
    return build() / "drive_calls"


@pytest.fixture(scope="session", params=["", "address,undefined", "thread"])
def any_driver(request: pytest.FixtureRequest) -> Path:
    """Build the driver in each variant in turn."""
    return build(request.param) / "drive_calls"


@pytest.fixture(scope="session", params=["", "thread"])
def forking_driver(request: pytest.FixtureRequest) -> Path:
    """Build the driver in each variant whose allocator survives a fork of a busy process.

    The run-time of gcc 12's address sanitizer does not: a child of a process whose other threads
    were allocating waits for a lock of that allocator for ever.
    """
    return build(request.param) / "drive_calls"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Make a directory with an authority, a server and a client."""
    write_all(tmp_path)
    return tmp_path


@pytest.fixture
def servers(directory: Path) -> Iterator[Callable[..., EchoServer]]:
    """Start servers with the directory's certificate, and a Chrystoki.conf that names the last."""
    started = []

    def start(**settings: Any) -> EchoServer:
        server = EchoServer(server_context(directory), **settings)
        started.append(server)
        write_configuration(directory, server.port)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def server(servers: Callable[..., EchoServer]) -> EchoServer:
    """Start one server of two workers."""
    return servers()


@pytest.fixture
def driver(plain_driver: Path, directory: Path, server: EchoServer) -> Iterator[Driver]:
    """Run a started driver against the server."""
    with Driver(plain_driver, directory) as running:
        assert running.do("start") == {"value": 0, "clusters": 1}
        yield running
