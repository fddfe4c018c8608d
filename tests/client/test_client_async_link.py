"""The link in an event loop against scripted workers: pipelining, silence, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from conclave.client.async_session import AsyncClient, AsyncKeyringSession
from conclave.client.link import AsyncLink
from conclave.client.ways import LoopWays, TaskGate, Waiting, finish
from conclave.errors import BadInput, CredentialRefused, InternalFault, Unavailable
from conclave.service import wire
from tests.support.scripted_worker import (
    CLUSTER_TIME_MS,
    DROP,
    HOLD,
    KEYRING,
    SERVER_NAME,
    SILENCE,
    Start,
    Step,
    Worker,
    pair_of_members,
)

LIMIT_SECONDS = 60.0


@contextlib.asynccontextmanager
async def link_to(worker: Worker, *, timeout_seconds: float = 20.0) -> AsyncIterator[AsyncLink]:
    link = AsyncLink(worker.entry(SERVER_NAME), LoopWays(), timeout_seconds=timeout_seconds)
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            yield link
    finally:
        link.close()


def test_requests_share_a_connection_and_answers_come_in_any_order(start: Start) -> None:
    worker = start(HOLD, HOLD, (0, b"last"))

    async def scenario() -> list[bytes]:
        async with link_to(worker) as link:
            await link.new_write()
            session = AsyncKeyringSession(link, KEYRING)
            return await asyncio.gather(*(session.sign(b"o" * 16, 1, b"x") for _ in range(3)))

    assert asyncio.run(scenario()) == [b"held", b"held", b"last"]
    assert worker.connections == 1


def test_a_lost_connection_is_replaced_and_the_same_write_is_sent_again(start: Start) -> None:
    worker = start(DROP, DROP, (0, None))

    async def scenario() -> None:
        async with link_to(worker) as link:
            await AsyncKeyringSession(link, KEYRING).destroy_object(b"o" * 16)

    asyncio.run(scenario())
    assert worker.connections == 3
    assert len(set(worker.bodies)) == 1


def test_a_name_that_no_host_can_have_is_out_of_reach(start: Start) -> None:
    entry = replace(start().entry(), host="two..dots")

    async def scenario() -> None:
        with pytest.raises(Unavailable, match=r"entry member two\.\.dots"):
            await AsyncClient(AsyncLink(entry, LoopWays(), timeout_seconds=0.3)).ping()

    asyncio.run(scenario())


def test_c21_a_wrong_password_is_sent_once(start: Start) -> None:
    worker = start((0xA0,), (0, None))

    async def scenario() -> None:
        async with link_to(worker) as link:
            with pytest.raises(CredentialRefused):
                await AsyncKeyringSession(link, KEYRING).login(wire.Role.KRCO, b"wrong")

    asyncio.run(scenario())
    assert len(worker.requests) == 1


@pytest.mark.parametrize("step", [b"\xff\xff\xff\xff", b"\0\0\0\x03\x92\x63\0"])
def test_a_peer_that_breaks_the_protocol_is_dropped(start: Start, step: Step) -> None:
    worker = start(step, (0, None))

    async def scenario() -> None:
        async with link_to(worker) as link:
            client = AsyncClient(link)
            with pytest.raises(InternalFault, match="protocol"):
                await client.ping()
            await client.ping()

    asyncio.run(scenario())
    assert worker.connections == 2


def test_a_silent_member_is_left_and_another_asked_the_same(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conclave.client.trials.SILENT_SECONDS", 2.0)
    one, other = pair_of_members(start, (0, None), SILENCE)

    async def scenario() -> None:
        async with link_to(one) as link:
            await AsyncClient(link).ping()
            await AsyncKeyringSession(link, KEYRING).destroy_object(b"o" * 16)

    asyncio.run(scenario())
    assert set(other.bodies) == {one.bodies[-1]}


def test_a_member_that_may_not_write_passes_a_change_on(start: Start) -> None:
    one, other = pair_of_members(start, (0xE2,))

    async def scenario() -> None:
        async with link_to(one) as link:
            await AsyncKeyringSession(link, KEYRING).destroy_object(b"o" * 16)

    asyncio.run(scenario())
    assert one.bodies == other.bodies


def test_a_cancelled_call_leaves_the_connection_to_the_others(start: Start) -> None:
    worker = start(HOLD, (0, b"done"), (0, b"more"))

    async def scenario() -> list[bytes]:
        async with link_to(worker) as link:
            await link.new_write()
            session = AsyncKeyringSession(link, KEYRING)
            given_up = asyncio.create_task(session.sign(b"o" * 16, 1, b"x"))
            await asyncio.to_thread(worker.asked.wait, LIMIT_SECONDS)
            given_up.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await given_up
            return [await session.sign(b"o" * 16, 1, b"x") for _ in range(2)]

    assert asyncio.run(scenario()) == [b"done", b"more"]
    assert worker.connections == 1


def test_a_call_under_way_when_the_link_is_closed_is_sent_again(start: Start) -> None:
    worker = start(HOLD, (0, None))

    async def scenario() -> None:
        async with link_to(worker) as link:
            call = asyncio.create_task(AsyncClient(link).ping())
            await asyncio.to_thread(worker.asked.wait, LIMIT_SECONDS)
            link.close()
            await call

    asyncio.run(scenario())
    assert worker.connections == 2
    assert len(worker.requests) == 2


def test_too_long_a_request_is_refused_before_it_is_sent(start: Start) -> None:
    worker = start((0, b""))

    async def scenario() -> None:
        async with link_to(worker) as link:
            session = AsyncKeyringSession(link, KEYRING)
            with pytest.raises(BadInput, match="longer than"):
                await session.sign(b"o" * 16, 1, b"x" * wire.MAX_FRAME_BYTES)
            await session.sign(b"o" * 16, 1, b"x")

    asyncio.run(scenario())
    assert len(worker.requests) == 1


def test_an_answer_to_an_earlier_login_does_not_bring_its_ticket_back(start: Start) -> None:
    worker = start((0, None, b"one"), HOLD, (0, None), (0, None, b"two"))

    async def scenario() -> list[bytes | None]:
        async with link_to(worker) as link:
            session = AsyncKeyringSession(link, KEYRING)
            await session.login(wire.Role.KRCO, b"password")
            await asyncio.gather(session.sign(b"o" * 16, 1, b"x"), session.logout())
            await session.login(wire.Role.KRSO, b"password")
        return [request.ticket for request in worker.requests]

    assert asyncio.run(scenario()) == [None, b"one", b"one", None]


def test_a_deadline_begins_when_a_request_is_sent(start: Start) -> None:
    worker = start((0, None))
    waited_seconds = 0.0
    ways = LoopWays()
    ways.seats = TaskGate(1)
    ways.waiting = Waiting(monotonic=lambda: time.monotonic() + waited_seconds)

    async def scenario() -> None:
        nonlocal waited_seconds
        link = AsyncLink(worker.entry(SERVER_NAME), ways, timeout_seconds=20.0)
        try:
            write = await link.new_write()
            assert await ways.seats.enter(LIMIT_SECONDS)
            arguments = wire.DestroyObject(KEYRING, b"o" * 16, write)
            call = asyncio.create_task(link.request(wire.Operation.DESTROY_OBJECT, arguments))
            waited_seconds = 100.0
            ways.seats.leave()
            await call
        finally:
            link.close()

    asyncio.run(scenario())
    sent = msgspec.msgpack.decode(worker.bodies[0], type=wire.DestroyObject).write
    assert sent.deadline_ms >= CLUSTER_TIME_MS + 119_000


def test_what_ends_a_block_is_told_even_if_the_logout_is_not_heard(start: Start) -> None:
    row = (1, KEYRING, "ring", "s", 0, 8, 255)
    worker = start((0, [row]), (0, None, b"ticket"), SILENCE)

    async def scenario() -> None:
        async with link_to(worker, timeout_seconds=5.0) as link:
            with pytest.raises(ZeroDivisionError):
                async with AsyncClient(link).keyring("ring", "password"):
                    raise ZeroDivisionError

    asyncio.run(scenario())
    assert len(worker.requests) == 3


def test_a_coroutine_that_would_suspend_is_no_blocking_call() -> None:
    with pytest.raises(InternalFault, match="suspended"):
        finish(asyncio.sleep(0))
