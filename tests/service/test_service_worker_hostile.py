"""Hostile input ends its own connection, unanswered, and costs the worker next to nothing."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from conclave.crypto.standard import Ckm
from conclave.service import wire
from conclave.service.wire import MAX_FRAME_BYTES, Operation
from tests.service.conftest import Member, Tenant
from tests.support.worker_bench import WireClient

MEGABYTE = 1 << 20


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


def request(*parts: Any) -> bytes:
    return framed(msgspec.msgpack.encode(list(parts)))


DEEP = b"\x91" * 5000 + b"\xc0"
RING = bytes(16)

HOSTILE = {
    "a huge length": b"\xff\xff\xff\xff",
    "one byte too long": (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
    "an empty frame": b"\0\0\0\0",
    "no msgpack": framed(b"\xc1"),
    "no array": framed(b"\x81\x01\x02"),
    "too short an array": request(1, 1),
    "a string for an id": request("1", 1, None, []),
    "id 0": request(0, 1, None, []),
    "a negative id": request(-1, 1, None, []),
    "an id beyond 32 bits": request(1 << 32, 1, None, []),
    "no such operation": request(1, 9999, None, []),
    "a negative operation": request(1, -1, None, []),
    "a ticket of the wrong type": request(1, 1, 5, []),
    "arguments of the wrong type": request(1, 20, None, ["x", [], 1]),
    "missing arguments": request(1, 40, None, [RING]),
    "a second HELLO": request(1, 0, None, [bytes(16), "again"]),
    "a template of numbers": request(1, 20, None, [RING, [1, 2], 1]),
    "arguments 5000 deep": framed(b"\x94\x01\x01\xc0" + DEEP),
    "a frame 5000 deep": framed(DEEP),
    "trailing bytes": framed(msgspec.msgpack.encode([1, 1, None, []]) + b"\0"),
    "an array that promises four thousand million": framed(b"\xdd\xff\xff\xff\xff"),
    "bytes that promise four thousand million": framed(b"\x94\x01\x01\xc6\xff\xff\xff\xff"),
    "TLS in TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_bytes_end_their_connection_unanswered(member: Member, name: str) -> None:
    async def scenario(tenant: Tenant) -> None:
        attacker = await tenant.another(role=None)
        attacker.send_raw(HOSTILE[name])
        assert await attacker.closed()
        assert (await tenant.client.call(Operation.PING)).value == 0

    member.run(scenario)


def test_a_parameter_that_nests_too_deep_ends_the_connection(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        _, private = await tenant.ec_key()
        deep: Any = None
        for _ in range(8):
            deep = [deep]
        use = [tenant.keyring, private, int(Ckm.ECDSA), deep, bytes(32)]
        attacker = await tenant.another()
        with pytest.raises(ConnectionResetError):
            await attacker.call(Operation.SIGN, use)
        assert (await tenant.client.call(Operation.PING)).value == 0

    member.run(scenario)


def test_a_request_before_hello_ends_the_connection(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        for first in (
            request(1, Operation.PING, None, []),
            request(1, Operation.HELLO, None, [b"short", "tests"]),
            request(1, Operation.HELLO, None, [bytes(16), "x" * 1000]),
        ):
            client = await tenant.bench.open(tenant.identity)
            await client.begin(hello=False)
            client.send_raw(first)
            assert await client.closed()

    member.run(scenario)


def test_a_source_is_logged_once_however_often_it_misbehaves(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        for _ in range(10):
            attacker = await tenant.another(role=None)
            attacker.send_raw(HOSTILE["a huge length"])
            assert await attacker.closed()

    member.run(scenario)
    for log in member.bench.directory.glob("worker-*.log"):
        assert log.read_text().count("was ended") <= 2


def resident_bytes(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGESIZE")


def worker_of(tenant: Tenant, client: WireClient) -> int:
    return tenant.bench.processes[f"worker-{client.greeting.worker_index}"].pid


def test_a_client_that_takes_no_answers_is_not_served_and_costs_little(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        deaf = await tenant.bench.open(tenant.identity)
        deaf.greeting = msgspec.convert(await deaf.frame(), wire.Greeting)
        before = resident_bytes(worker_of(tenant, deaf))
        deaf.send_raw(request(1, Operation.HELLO, None, [os.urandom(16), "deaf"]))
        transport = deaf.writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        # Answers of 640 MB in all, if anybody made them.
        for number in range(2, 10_002):
            deaf.send_raw(request(number, Operation.RANDOM, None, [65_536]))
        for _ in range(20):
            await asyncio.sleep(0.02)
            assert (await tenant.client.call(Operation.PING)).value == 0
        assert resident_bytes(worker_of(tenant, deaf)) - before < 32 * MEGABYTE
        transport.resume_reading()
        for number in range(1, 10_002):
            assert (await deaf.frame())[0] == number

    member.run(scenario)


def test_one_who_floods_with_slow_requests_does_not_starve_another(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        public, private = await tenant.ec_key()
        signature = await tenant.client.ok(Operation.SIGN, tenant.sign_arguments(private))
        verify = tenant.verify_arguments(public, signature)
        flooding = await tenant.another()
        while flooding.greeting.worker_index != tenant.client.greeting.worker_index:
            flooding = await tenant.another()
        sent = [flooding.send(Operation.VERIFY, verify) for _ in range(20_000)]
        for _ in range(20):
            assert (await tenant.client.call(Operation.PING)).value == 0
        # Each was answered before its turn came behind the flood, however long that takes.
        assert not sent[-1].done()
        assert {(await future).value for future in sent} == {0}

    member.run(scenario)


def test_more_waiting_requests_than_may_be_under_way_are_all_answered(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        client = tenant.client
        sent = [
            client.send(Operation.LOGIN, [tenant.keyring, 1, b"a-password", os.urandom(16)])
            for _ in range(300)
        ]
        values = {(await future).value for future in sent}
        assert values <= {0, wire.BUSY}
        assert (await client.call(Operation.PING)).value == 0

    member.run(scenario)


def test_half_a_frame_waits_and_its_rest_is_served(member: Member) -> None:
    async def scenario(tenant: Tenant) -> None:
        whole = request(77, Operation.RANDOM, None, [16])
        client = await tenant.another(role=None)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        client._waiting[77] = future
        for position in range(len(whole)):
            client.send_raw(whole[position : position + 1])
            await asyncio.sleep(0)
        assert len((await asyncio.wait_for(future, 10)).result) == 16

    member.run(scenario)
