"""Calls over the module's network side: what comes back, whatever the connection goes through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from conclave.crypto.standard import Ckm
from conclave.errors import Ckr
from tests.native.driver import Driver, write_configuration
from tests.native.echo_server import EchoServer, Misbehave
from tests.native.waiting import SOON_MS, wait_until

ECHO = 40
HOST_RESERVE = 4096


def test_a_call_brings_its_answer(driver: Driver) -> None:
    answer = driver.call(ECHO, b"data", 7, None)
    assert (answer["value"], answer["result"]) == (Ckr.OK, [b"data", 7, None])


def test_an_error_brings_its_value_and_no_result(driver: Driver) -> None:
    answer = driver.call(Misbehave.VALUE, int(Ckr.PIN_INCORRECT))
    assert (answer["value"], answer["result"]) == (Ckr.PIN_INCORRECT, None)


def test_a_wrong_password_is_sent_once(driver: Driver, server: EchoServer) -> None:
    driver.call(Misbehave.VALUE, int(Ckr.PIN_INCORRECT))
    assert len(server.requests) == 1


def test_a_renewed_ticket_is_handed_up(driver: Driver) -> None:
    assert driver.call(Misbehave.TICKET, b"a new ticket")["ticket"] == b"a new ticket".hex()


def test_unknown_elements_and_unknown_answers_are_ignored(driver: Driver) -> None:
    for _ in range(3):
        assert driver.call(Misbehave.EXTRA, "mine")["result"] == ["mine"]


@pytest.mark.parametrize("size", [0, 1, 16000, 16384, 70000, (1 << 20) - HOST_RESERVE])
def test_frames_of_every_size_pass(driver: Driver, size: int) -> None:
    # A line of hex is long; the driver takes it all the same.
    assert driver.call(ECHO, b"x" * size)["result"] == [b"x" * size]


def test_a_request_beyond_the_frame_limit_is_refused_here(
    driver: Driver, server: EchoServer
) -> None:
    assert driver.do(f"call {ECHO} {'00' * (1 << 20)}")["value"] == Ckr.DATA_LEN_RANGE
    assert driver.do(f"call {ECHO} {'00' * ((1 << 20) + 1)}")["value"] == Ckr.DATA_LEN_RANGE
    assert server.greeted == []


def test_a_write_has_a_fresh_key_and_a_deadline_in_cluster_time(driver: Driver) -> None:
    writes = []
    for _ in range(2):
        answer = driver.do("write")
        assert answer["value"] == Ckr.OK
        writes.append(
            msgspec.msgpack.decode(bytes.fromhex(answer["result"]), type=tuple[bytes, int])
        )
    (first_key, first_deadline), (second_key, _) = writes
    assert len(first_key) == 16
    assert first_key != second_key
    assert 0 <= first_deadline - (1_700_000_000_000 + 30_000) < 10_000


def test_hello_carries_one_process_id_for_all_connections(
    driver: Driver, server: EchoServer
) -> None:
    driver.call(ECHO)
    server.hang_up()
    driver.call(ECHO)
    driver.do("stop")
    driver.do("start")
    driver.call(ECHO)
    first, second, third = server.process_ids
    assert first == second != third


# --- repetition -----------------------------------------------------------------------------


def test_a_call_is_repeated_byte_for_byte_when_its_connection_breaks(
    driver: Driver, server: EchoServer
) -> None:
    answer = driver.call(Misbehave.DROP, b"a key", 3)
    assert answer["result"] == [b"a key", 3]
    assert len(server.requests) == 4
    assert len({args for _, args in server.requests}) == 1


def test_a_busy_member_is_asked_again_after_a_pause(driver: Driver, server: EchoServer) -> None:
    answer = driver.call(Misbehave.BUSY, b"a key", 5)
    assert answer["result"] == [b"a key", 5]
    assert len(server.requests) == 6
    assert answer["milliseconds"] >= 5 * 2
    assert len(server.greeted) == 1


def test_a_member_that_stays_busy_is_a_device_error_at_the_deadline(
    plain_driver: Path, directory: Path, server: EchoServer
) -> None:
    with Driver(plain_driver, directory, call_time_ms=600) as driver:
        driver.do("start")
        answer = driver.call(Misbehave.BUSY, b"a key", 10_000)
    assert answer["value"] == Ckr.DEVICE_ERROR
    assert answer["milliseconds"] < SOON_MS


def test_a_worker_that_never_answers_is_a_device_error_at_the_deadline(
    plain_driver: Path, directory: Path, server: EchoServer
) -> None:
    write_configuration(directory, server.port, receive_timeout_ms=200)
    with Driver(plain_driver, directory, call_time_ms=700) as driver:
        driver.do("start")
        answer = driver.call(Misbehave.SILENT)
        assert answer["value"] == Ckr.DEVICE_ERROR
        assert 600 <= answer["milliseconds"] < SOON_MS
        assert driver.call(ECHO)["value"] == Ckr.OK
    assert len(server.requests) >= 3


def test_an_answer_that_comes_too_late_harms_nobody(
    plain_driver: Path, directory: Path, server: EchoServer
) -> None:
    write_configuration(directory, server.port, receive_timeout_ms=300)
    with Driver(plain_driver, directory, call_time_ms=250) as driver:
        driver.do("start")
        assert driver.call(ECHO)["value"] == Ckr.OK
        assert driver.call(Misbehave.DELAY, 400)["value"] == Ckr.DEVICE_ERROR
        assert wait_until(lambda: driver.call(ECHO, b"mine")["result"] == [b"mine"])


def test_a_member_that_restarts_is_found_again(
    driver: Driver, server: EchoServer, servers: Callable[..., EchoServer]
) -> None:
    assert driver.call(ECHO)["value"] == Ckr.OK
    port = server.port
    server.stop()
    driver.begin("stress 4 50 100")
    wait_until(lambda: False, seconds=0.3)
    servers(port=port)
    answer = driver.end()
    assert (answer["good"], answer["failed"], answer["wrong"]) == (200, 0, 0)


# --- connections ----------------------------------------------------------------------------


def test_c26_one_caller_opens_one_connection(driver: Driver, server: EchoServer) -> None:
    assert driver.do("stress 1 200 100")["good"] == 200
    assert len(server.greeted) == 1


def test_c26_concurrent_callers_open_one_connection_to_each_worker(
    driver: Driver, server: EchoServer
) -> None:
    assert driver.do("stress 8 200 100")["good"] == 1600
    assert sorted(server.greeted) == [0, 1]
    assert server.connections == 2


def test_c26_connections_stop_at_the_number_of_workers(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers(workers=3)
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        assert driver.do("stress 16 200 100")["good"] == 3200
        assert set(server.greeted) == {0, 1, 2}
        assert server.connections == 3


def test_c26_a_second_connection_to_the_same_worker_is_closed_again(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers(always_worker=1)
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        assert driver.do("stress 8 100 100")["good"] == 800
        assert len(server.greeted) > 1
        assert wait_until(lambda: server.connections == 1)


def test_light_calls_go_to_one_worker_over_two_connections(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers(workers=3)
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        assert driver.do(f"encrypt 8 300 {int(Ckm.AES_GCM)}")["good"] == 2400
        assert server.connections == 4
        server.served_by.clear()
        assert driver.do(f"encrypt 8 100 {int(Ckm.AES_GCM)}")["good"] == 800
        (packed,) = server.served_by
        assert server.greeted.count(packed) == 2


def test_light_calls_of_many_threads_go_to_more_than_one_worker(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers(workers=2)
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        assert driver.do(f"encrypt 48 100 {int(Ckm.AES_GCM)}")["good"] == 4800
        server.served_by.clear()
        assert driver.do(f"encrypt 48 100 {int(Ckm.AES_GCM)}")["good"] == 4800
        assert min(server.served_by[0], server.served_by[1]) > 1000


def test_heavy_calls_go_to_every_worker_whatever_connections_there_are(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    server = servers(workers=2)
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        assert driver.do(f"encrypt 8 300 {int(Ckm.ECDSA)}")["good"] == 2400
        assert server.connections == 2
        assert driver.do(f"encrypt 8 300 {int(Ckm.AES_GCM)}")["good"] == 2400
        assert server.connections == 3
        server.served_by.clear()
        assert driver.do(f"encrypt 8 300 {int(Ckm.ECDSA)}")["good"] == 2400
        assert min(server.served_by[0], server.served_by[1]) > 800


def test_answers_come_in_any_order(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    servers(shuffle=True)
    with Driver(plain_driver, directory) as driver:
        driver.do("start")
        answer = driver.do("stress 24 100 2000")
    assert (answer["good"], answer["wrong"], answer["failed"]) == (2400, 0, 0)


def test_an_answer_that_trickles_ends_with_the_deadline_and_with_its_connection(
    plain_driver: Path, directory: Path, server: EchoServer
) -> None:
    """Bytes that arrive are no answer: the next call must not wait behind them."""
    write_configuration(directory, server.port, receive_timeout_ms=2500)
    with Driver(plain_driver, directory, call_time_ms=3000) as driver:
        driver.do("start")
        answer = driver.call(Misbehave.TRICKLE)
        assert answer["value"] == Ckr.DEVICE_ERROR
        assert answer["milliseconds"] < SOON_MS
        greeted = len(server.greeted)
        assert driver.call(ECHO, "still there")["result"] == ["still there"]
        assert len(server.greeted) > greeted
