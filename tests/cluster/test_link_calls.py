"""Calls between members: answers, errors, deadlines, and what a lost connection means."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from conclave import faults
from conclave.cluster.link import client as client_module
from conclave.cluster.link.client import LinkClient
from conclave.cluster.link.hello import Peer
from conclave.cluster.link.messages import Bump, DenyLogin, Forward, Forwarded
from conclave.errors import BadInput, InternalFault, NotAllowed, Unavailable
from conclave.service.quiet import Nothing
from tests.support.link_bench import (
    FIRST,
    PONG,
    SECOND,
    calling,
    certify,
    new_authority,
    run,
    serving,
    until,
)

AUTHORITY = new_authority()
SERVER = certify(AUTHORITY, FIRST)
CALLER = certify(AUTHORITY, SECOND)


async def echo(params: Forward, _peer: Peer) -> Forwarded:
    return Forwarded(params.params)


async def never(_params: Any, _peer: Peer) -> Nothing:
    await asyncio.sleep(3600)
    return Nothing()


def test_nine_hundred_calls_in_flight_get_their_own_answers() -> None:
    async def slow_echo(params: Forward, _peer: Peer) -> Forwarded:
        await asyncio.sleep(0.02 if params.params[0] % 2 else 0)
        return Forwarded(params.params)

    async def scenario() -> None:
        async with (
            serving(SERVER, {"forward": slow_echo}) as (_, port),
            calling(CALLER, port) as client,
        ):
            words = [os.urandom(40) for _ in range(900)]
            calls = [
                client.call("forward", Forward("x", word, "daemon"), timeout_seconds=60)
                for word in words
            ]
            assert [answer.result for answer in await asyncio.gather(*calls)] == words

    run(scenario)


def test_no_more_than_the_bound_of_calls_wait_and_writes_leave_room_for_a_ping() -> None:
    async def scenario() -> None:
        handlers = {"bump": never, "forward": never}
        async with serving(SERVER, handlers) as (_, port), calling(CALLER, port) as client:
            bump = Bump(1, FIRST, [], True, True, 1)
            forward = Forward("x", b"", "daemon")
            calls = [
                asyncio.ensure_future(client.call("forward", forward, timeout_seconds=60))
                for _ in range(960)
            ]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as caught:
                await client.call("forward", forward, timeout_seconds=1)
            assert caught.value.fault is faults.BUSY
            assert await client.call("ping", Nothing(), timeout_seconds=60) == PONG
            calls += [
                asyncio.ensure_future(client.call("bump", bump, timeout_seconds=60))
                for _ in range(64)
            ]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as caught:
                await client.call("ping", Nothing(), timeout_seconds=1)
            assert caught.value.fault is faults.BUSY
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    run(scenario)


def test_a_handler_learns_whose_call_it_is() -> None:
    async def scenario() -> None:
        seen: list[Peer] = []

        async def deny(_params: DenyLogin, peer: Peer) -> Nothing:
            seen.append(peer)
            return Nothing()

        async with (
            serving(SERVER, {"deny_login": deny}) as (_, port),
            calling(CALLER, port) as client,
        ):
            await client.call("deny_login", DenyLogin(bytes(16)), timeout_seconds=60)
        assert seen == [Peer(SECOND, CALLER.key_sha256, "127.0.0.1")]

    run(scenario)


def test_an_error_crosses_as_the_same_class_row_and_sentence() -> None:
    async def refuse(_params: Any, _peer: Peer) -> Nothing:
        raise BadInput(faults.KEYRING_LABEL, "Field label has 80 characters; 64 are allowed.")

    async def scenario() -> None:
        async with (
            serving(SERVER, {"deny_login": refuse}) as (_, port),
            calling(CALLER, port) as client,
        ):
            with pytest.raises(BadInput) as caught:
                await client.call("deny_login", DenyLogin(bytes(16)), timeout_seconds=60)
            assert caught.value.fault is faults.KEYRING_LABEL
            assert "64 are allowed" in caught.value.message

    run(scenario)


def test_a_crash_of_a_handler_tells_the_caller_nothing_of_its_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def crash(_params: Any, _peer: Peer) -> Nothing:
        raise ZeroDivisionError("inner detail")

    async def scenario() -> None:
        async with (
            serving(SERVER, {"deny_login": crash}) as (_, port),
            calling(CALLER, port) as client,
        ):
            with pytest.raises(InternalFault) as caught:
                await client.call("deny_login", DenyLogin(bytes(16)), timeout_seconds=60)
            assert "inner detail" not in caught.value.message

    run(scenario)
    assert "inner detail" in caplog.text


def test_a_method_without_handler_is_refused_and_the_connection_lives_on() -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (_, port), calling(CALLER, port) as client:
            with pytest.raises(NotAllowed):
                await client.call("deny_login", DenyLogin(bytes(16)), timeout_seconds=60)
            assert await client.call("ping", Nothing(), timeout_seconds=60) == PONG

    run(scenario)


def test_nothing_was_done_when_nobody_listens() -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (server, port):
            await server.close()
            async with calling(CALLER, port) as client:
                with pytest.raises(Unavailable) as caught:
                    await client.call("forward", Forward("x", b"", "daemon"), timeout_seconds=0.3)
                assert caught.value.fault is faults.BUSY

    run(scenario)


def test_the_caller_finds_a_member_that_comes_back() -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (server, port), calling(CALLER, port) as client:
            assert await client.call("ping", Nothing(), timeout_seconds=60) == PONG
            await server.close()
            waiting = asyncio.ensure_future(client.call("ping", Nothing(), timeout_seconds=60))
            await until(lambda: not client.connected, "the loss is noticed")
            await server.start("127.0.0.1", port)
            assert await waiting == PONG

    run(scenario)


def test_a_lost_call_that_writes_has_an_unknown_outcome() -> None:
    async def scenario() -> None:
        started = asyncio.Event()

        async def begin(_params: Forward, _peer: Peer) -> Forwarded:
            started.set()
            await asyncio.sleep(3600)
            return Forwarded(b"")

        async with (
            serving(SERVER, {"forward": begin}) as (server, port),
            calling(CALLER, port) as client,
        ):
            call = asyncio.ensure_future(
                client.call("forward", Forward("x", b"", "daemon"), timeout_seconds=60)
            )
            await started.wait()
            server.cut(SECOND)
            with pytest.raises(Unavailable) as caught:
                await call
            assert caught.value.fault is faults.OUTCOME_UNKNOWN

    run(scenario)


def test_a_closed_client_gives_calls_up_and_does_not_connect_by_itself() -> None:
    async def scenario() -> None:
        started = asyncio.Event()

        async def begin(_params: Bump, _peer: Peer) -> Nothing:
            started.set()
            await asyncio.sleep(3600)
            return Nothing()

        async with (
            serving(SERVER, {"bump": begin}) as (server, port),
            calling(CALLER, port) as client,
        ):
            bump = Bump(1, FIRST, [], True, True, 1)
            call = asyncio.ensure_future(client.call("bump", bump, timeout_seconds=60))
            await started.wait()
            await client.close()
            with pytest.raises(Unavailable) as caught:
                await call
            assert caught.value.fault is faults.BUSY
            await until(lambda: not server.connected("calls"), "the connection is gone")
            assert await client.call("ping", Nothing(), timeout_seconds=60) == PONG

    run(scenario)


def test_a_call_that_takes_longer_than_its_deadline_disturbs_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_SECONDS", 0.2)

    async def scenario() -> None:
        let_go = asyncio.Event()

        async def wait(params: Forward, _peer: Peer) -> Forwarded:
            await let_go.wait()
            return Forwarded(params.params)

        async with (
            serving(SERVER, {"forward": wait, "bump": never}) as (_, port),
            calling(CALLER, port) as client,
        ):
            call = asyncio.ensure_future(
                client.call("forward", Forward("x", b"y", "daemon"), timeout_seconds=60)
            )
            for _ in range(4):
                with pytest.raises(Unavailable):
                    bump = Bump(1, FIRST, [], True, True, 1)
                    await client.call("bump", bump, timeout_seconds=0.15)
            let_go.set()
            assert (await call).result == b"y"

    run(scenario)


def test_a_call_larger_than_a_frame_is_not_sent() -> None:
    async def scenario() -> None:
        async with serving(SERVER, {"forward": echo}) as (_, port), calling(CALLER, port) as client:
            large = Forward("x", bytes((8 << 20) + 1), "daemon")
            with pytest.raises(InternalFault):
                await client.call("forward", large, timeout_seconds=60)
            fitting = Forward("x", bytes((8 << 20) - 100), "daemon")
            answer = await client.call("forward", fitting, timeout_seconds=60)
            assert answer.result == fitting.params

    run(scenario)


def test_an_answer_larger_than_a_frame_is_an_internal_fault() -> None:
    async def large(_params: Forward, _peer: Peer) -> Forwarded:
        return Forwarded(bytes((8 << 20) + 1))

    async def scenario() -> None:
        async with (
            serving(SERVER, {"forward": large}) as (_, port),
            calling(CALLER, port) as client,
        ):
            with pytest.raises(InternalFault):
                await client.call("forward", Forward("x", b"", "daemon"), timeout_seconds=60)
            assert await client.call("ping", Nothing(), timeout_seconds=60) == PONG

    run(scenario)


def test_a_stopped_member_ends_a_call_at_its_deadline_and_later_calls_reach_it_again() -> None:
    async def scenario(port: int, pid: int) -> None:
        async with calling(CALLER, port) as client:
            assert await client.call("ping", Nothing(), timeout_seconds=60) == PONG
            os.kill(pid, signal.SIGSTOP)
            await expect_busy(client)
            assert client.connected
            os.kill(pid, signal.SIGCONT)
            assert await client.call("ping", Nothing(), timeout_seconds=60) == PONG
            os.kill(pid, signal.SIGSTOP)
            await expect_busy(client)
            await until(lambda: not client.connected, "the silent connection is dropped")
            await expect_busy(client)
            os.kill(pid, signal.SIGCONT)
            assert await client.call("ping", Nothing(), timeout_seconds=60) == PONG

    async def expect_busy(client: LinkClient) -> None:
        with pytest.raises(Unavailable) as caught:
            await client.call("ping", Nothing(), timeout_seconds=0.2)
        assert caught.value.fault is faults.BUSY

    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.link_bench"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(SERVER) + b"\n")
        process.stdin.flush()
        port = int(process.stdout.readline())
        run(lambda: scenario(port, process.pid))
    finally:
        os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()
