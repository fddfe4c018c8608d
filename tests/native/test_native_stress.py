"""Many threads, in each build: plain, with ASan and UBSan, with TSan."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.native.driver import Driver
from tests.native.echo_server import EchoServer
from tests.native.waiting import SOON_MS, wait_until


@pytest.mark.parametrize("load", ["2 1000 50", "16 250 300", "48 60 0"])
@pytest.mark.parametrize("workers", [1, 2])
def test_no_wake_up_is_lost_when_the_readers_role_is_handed_over(
    any_driver: Path,
    directory: Path,
    servers: Callable[..., EchoServer],
    workers: int,
    load: str,
) -> None:
    threads, calls, _size = map(int, load.split())
    servers(workers=workers, shuffle=True)
    with Driver(any_driver, directory) as driver:
        driver.do("start")
        answer = driver.do(f"stress {load}")
        driver.do("stop")
    assert (answer["good"], answer["wrong"], answer["failed"]) == (threads * calls, 0, 0)
    assert answer["slowest_us"] < SOON_MS * 1000


@pytest.mark.parametrize("load", ["3 30", "12 12"])
def test_calls_that_are_given_up_at_random_take_no_wake_up_with_them(
    any_driver: Path, directory: Path, servers: Callable[..., EchoServer], load: str
) -> None:
    """One link; the reader's role falls vacant wherever its holder's patience ends."""
    threads, rounds = map(int, load.split())
    servers(workers=1)
    with Driver(any_driver, directory) as driver:
        driver.do("start")
        assert driver.do("stress 1 1 10")["good"] == 1
        answer = driver.do(f"cancels {load}")
        driver.do("stop")
    assert (answer["wrong"], answer["failed"]) == (0, 0)
    assert answer["good"] + answer["stopped"] == threads * rounds
    assert answer["good"] >= rounds
    assert answer["slowest_us"] < SOON_MS * 1000


def test_large_and_small_frames_share_a_connection(
    any_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    """The peer stops taking more than once: the writer waits while others read."""
    servers(workers=1)
    with Driver(any_driver, directory) as driver:
        driver.do("start")
        answer = driver.do("stress 12 12 1000000")
        driver.do("stop")
    assert (answer["good"], answer["wrong"], answer["failed"]) == (144, 0, 0)


def has_greeted(server: EchoServer, clients: int) -> bool:
    return len(server.greeted) >= clients


def is_connected(server: EchoServer) -> bool:
    return server.connections > 0


def test_connections_that_break_under_load_lose_no_call(
    any_driver: Path, directory: Path, server: EchoServer
) -> None:
    with Driver(any_driver, directory) as driver:
        driver.do("start")
        driver.begin("stress 8 300 200")
        for _ in range(8):
            wait_until(partial(has_greeted, server, len(server.greeted) + 1), 0.3)
            server.hang_up()
        answer = driver.end()
        driver.do("stop")
    assert (answer["good"], answer["wrong"], answer["failed"]) == (2400, 0, 0)


def test_a_server_that_dies_and_returns_under_load_loses_no_call(
    any_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers()
    with Driver(any_driver, directory) as driver:
        driver.do("start")
        driver.begin("stress 8 300 200")
        for _ in range(3):
            wait_until(partial(is_connected, server), 2)
            port = server.port
            server.stop()
            wait_until(lambda: False, 0.1)
            server = servers(port=port)
        answer = driver.end()
        driver.do("stop")
    assert (answer["good"], answer["wrong"], answer["failed"]) == (2400, 0, 0)


def test_a_stop_wakes_every_caller(any_driver: Path, directory: Path, server: EchoServer) -> None:
    with Driver(any_driver, directory) as driver:
        driver.do("start")
        answer = driver.do("storm 8 1500")
        driver.do("stop")
    assert answer["good"] > 0
    assert (answer["wrong"], answer["failed"]) == (0, 0)
    assert answer["rounds"] > 5
    assert answer["slowest_stop_us"] < 2_000_000


def test_a_stop_ends_the_wait_for_a_deaf_member(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    servers(deaf=True)
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        answer = driver.do("storm 4 300")
    assert answer["failed"] == 0
    assert answer["slowest_stop_us"] < 1_000_000


def test_children_of_a_busy_process_call_for_themselves(
    forking_driver: Path, directory: Path, server: EchoServer
) -> None:
    """The first fork falls into the other threads' first use of OpenSSL, the worst moment."""
    with Driver(forking_driver, directory) as driver:
        driver.do("start")
        answer = driver.do("forks 6 10")
        driver.do("stop")
    assert (answer["bad_children"], answer["wrong"], answer["failed"]) == (0, 0, 0)
    assert answer["good"] > 0


def test_children_of_a_quiet_process_call_for_themselves(
    any_driver: Path, directory: Path, server: EchoServer
) -> None:
    with Driver(any_driver, directory) as driver:
        driver.do("start")
        assert driver.do("stress 2 10 50")["good"] == 20
        answer = driver.do("forks 0 10")
        driver.do("stop")
    assert answer["bad_children"] == 0


def test_a_child_lets_go_of_its_parents_connection(
    plain_driver: Path, directory: Path, server: EchoServer
) -> None:
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        driver.do("stress 4 50 50")
        assert server.connections == 2
        child = driver.do("linger")["child"]
        try:
            assert driver.do("stress 4 50 50")["good"] == 200
            driver.do("stop")
            assert wait_until(lambda: server.connections == 0)
        finally:
            os.kill(child, signal.SIGKILL)
