"""A server with the right certificate and bad manners."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from conclave.errors import Ckr
from tests.native.driver import Driver, build
from tests.native.echo_server import EchoServer, Misbehave, frame
from tests.native.waiting import SOON_MS

ECHO = 40
TOKEN_NOT_RECOGNIZED = 0xE1

FRAMES = {
    "length zero": struct.pack(">I", 0),
    "one byte too long": struct.pack(">I", (1 << 20) + 1),
    "the longest length": b"\xff\xff\xff\xff",
    "not an array": frame(b"\xa5hello"),
    "an empty array": frame(b"\x90"),
    "an id alone": frame(b"\x91\x02"),
    "a negative id": frame(b"\x92\xff\x00"),
    "an id of text": frame(b"\x92\xa1a\x00"),
    "id zero": frame(b"\x92\x00\x00"),
    "an id beyond 32 bits": frame(b"\x92\xcf\x00\x00\x00\x01\x00\x00\x00\x00\x00"),
    "a map": frame(b"\x81\x01\x02"),
    "an array that promises four thousand million": frame(b"\xdd\xff\xff\xff\xff\x02\x00"),
    "the type that msgpack never uses": frame(b"\xc1"),
    "a greeting again": frame(
        msgspec.msgpack.encode([0, "conclave", 1, 0, 1, "cluster", "member", 1, True])
    ),
}

BODIES = {
    # The id is right: it is the second request of the connection, after HELLO.
    "a value of text": b"\x92\x02\xa2ok",
    "a result that is cut off": b"\x93\x02\x00\xc4\x10abc",
    "a result that nests too deep": b"\x93\x02\x00" + b"\x91" * 7 + b"\x01",
    "a ticket that is a number": b"\x94\x02\x00\xc0\x07",
    "bytes behind the array": b"\x93\x02\x00\xc0\xc0",
    "fewer elements than promised": b"\x94\x02\x00\xc0",
    "an element that never ends": b"\x95\x02\x00\xc0\xc0\xdd\xff\xff\xff\xff",
}

GREETINGS = {
    "not a frame": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "another protocol": frame(msgspec.msgpack.encode([0, "concave", 1, 0, 1, "c", "m", 1, True])),
    "a version to come": frame(msgspec.msgpack.encode([0, "conclave", 2, 0, 1, "c", "m", 1, True])),
    "a worker beyond the last": frame(
        msgspec.msgpack.encode([0, "conclave", 1, 3, 3, "c", "m", 1, True])
    ),
    "too short": frame(msgspec.msgpack.encode([0, "conclave", 1])),
    "more than a greeting": frame(
        msgspec.msgpack.encode([0, "conclave", 1, 0, 1, "c", "m", 1, True])
    )
    + b"\0",
}


@pytest.fixture(scope="module")
def plain_driver() -> Path:
    """Let ASan and UBSan watch."""
    return build("address,undefined") / "drive_calls"


@pytest.mark.parametrize("bad", FRAMES.values(), ids=FRAMES)
def test_a_frame_that_is_none_ends_the_connection(
    driver: Driver, server: EchoServer, bad: bytes
) -> None:
    answer = driver.call(Misbehave.RAW, bad)
    assert (answer["value"], answer["result"]) == (Ckr.DEVICE_ERROR, None)
    assert answer["milliseconds"] < SOON_MS
    assert driver.call(ECHO, "still there")["result"] == ["still there"]


@pytest.mark.parametrize("bad", BODIES.values(), ids=BODIES)
def test_an_answer_of_the_wrong_shape_ends_the_connection(
    driver: Driver, server: EchoServer, bad: bytes
) -> None:
    answer = driver.call(Misbehave.RAW, frame(bad))
    assert (answer["value"], answer["result"]) == (Ckr.DEVICE_ERROR, None)
    assert answer["ticket"] == ""
    assert driver.call(ECHO, "still there")["result"] == ["still there"]


@pytest.mark.parametrize("greeting", GREETINGS.values(), ids=GREETINGS)
def test_who_does_not_greet_as_a_worker_is_no_token_of_ours(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer], greeting: bytes
) -> None:
    servers(greeting=greeting)
    with Driver(plain_driver, directory, call_time_ms=3000) as driver:
        driver.do("start")
        assert driver.call(ECHO)["value"] in (TOKEN_NOT_RECOGNIZED, Ckr.TOKEN_NOT_PRESENT)


def test_a_greeting_that_never_ends_is_given_up(
    plain_driver: Path, directory: Path, servers: Callable[..., EchoServer]
) -> None:
    servers(greeting=struct.pack(">I", 1 << 20) + b"\x99")
    with Driver(plain_driver, directory, call_time_ms=700) as driver:
        driver.do("start")
        answer = driver.call(ECHO)
    assert answer["value"] == Ckr.TOKEN_NOT_PRESENT
    assert answer["milliseconds"] < SOON_MS
