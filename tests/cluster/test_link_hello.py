"""Who may speak with a member, and what those learn who may not."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from conclave import faults
from conclave.cluster.epochs import Epoch
from conclave.cluster.link.client import LinkClient, open_join
from conclave.cluster.link.hello import (
    PROTOCOL_VERSION,
    Hello,
    LinkRefused,
    ListedMember,
    Peer,
    Verdict,
)
from conclave.cluster.link.identity import LinkIdentity, join_context
from conclave.cluster.link.server import LinkLimits, LinkServer
from conclave.cluster.link.streams import read_frame
from conclave.errors import BadInput, InternalFault, Unavailable
from conclave.ids import MemberId
from conclave.service.frames import frame
from conclave.service.quiet import Nothing
from tests.support.link_bench import (
    CLUSTER,
    FIRST,
    PONG,
    SECOND,
    accept_all,
    calling,
    certify,
    certify_at,
    hello_of,
    new_authority,
    no_postgresql,
    run,
    serving,
    until,
)

AUTHORITY = new_authority()
SERVER = certify(AUTHORITY, FIRST)
CALLER = certify(AUTHORITY, SECOND)
REMOVED = Verdict.refuse(
    faults.MEMBER_REMOVED,
    "This member was deleted from the cluster.",
    reason="removed",
    epoch=Epoch(7, FIRST),
    primary=FIRST,
    members=(ListedMember(FIRST, "127.0.0.1", SERVER.key_sha256),),
)


async def ping(client: LinkClient, seconds: float = 5.0) -> Any:
    return await client.call("ping", Nothing(), timeout_seconds=seconds)


def test_both_sides_judge_the_key_that_the_other_proved() -> None:
    judged: list[tuple[Hello, bytes | None]] = []

    def judge(hello: Hello, key: bytes | None, _address: str = "") -> Verdict:
        judged.append((hello, key))
        return Verdict.accept()

    async def scenario() -> None:
        async with (
            serving(SERVER, judge=judge) as (_, port),
            calling(CALLER, port, judge) as client,
        ):
            await ping(client)

    run(scenario)
    assert judged == [
        (hello_of(SECOND)("calls"), CALLER.key_sha256),
        (hello_of(FIRST)("calls"), SERVER.key_sha256),
    ]


def test_a_refused_member_learns_what_the_other_side_knows() -> None:
    async def scenario() -> None:
        async with (
            serving(SERVER, judge=lambda *_: REMOVED) as (_, port),
            calling(CALLER, port) as client,
        ):
            with pytest.raises(LinkRefused) as caught:
                await ping(client)
            refusal = caught.value
            assert refusal.fault is faults.MEMBER_REMOVED
            assert refusal.verdict == REMOVED
            assert (refusal.by_peer, refusal.hello.member_id) == (True, FIRST)
            assert refusal.key_sha256 == SERVER.key_sha256

    run(scenario)


def test_a_refusal_ends_when_the_other_side_changes_its_mind() -> None:
    verdicts = [REMOVED, Verdict.accept()]

    async def scenario() -> None:
        async with (
            serving(SERVER, judge=lambda *_: verdicts.pop(0)) as (_, port),
            calling(CALLER, port) as client,
        ):
            with pytest.raises(LinkRefused):
                await ping(client)
            assert await ping(client) == PONG

    run(scenario)


def test_a_caller_refuses_a_member_whose_key_it_does_not_list() -> None:
    async def scenario() -> None:
        async with (
            serving(SERVER, judge=lambda *_: REMOVED) as (_, port),
            calling(
                CALLER, port, lambda *_: Verdict.refuse(faults.WRONG_CLUSTER, "Not listed.")
            ) as client,
        ):
            with pytest.raises(LinkRefused) as caught:
                await ping(client)
            assert not caught.value.by_peer
            assert caught.value.fault is faults.WRONG_CLUSTER
            assert caught.value.peer_verdict == REMOVED

    run(scenario)


def test_certificates_of_another_authority_are_refused_on_both_sides() -> None:
    foreign = certify(new_authority(), SECOND)
    mixed = LinkIdentity(foreign.certificate_pem, foreign.key_pem, SERVER.ca_pem, SECOND)
    judged: list[Hello] = []

    def judge(hello: Hello, _key: bytes | None, _address: str) -> Verdict:
        judged.append(hello)
        return Verdict.accept()

    async def scenario() -> None:
        async with serving(SERVER, judge=judge) as (_, port):
            for identity in (foreign.identity(), mixed):
                client = LinkClient(
                    identity, lambda: ("127.0.0.1", port), hello_of(SECOND), accept_all
                )
                with pytest.raises(Unavailable) as caught:
                    await ping(client, 0.5)
                assert caught.value.fault is faults.BUSY
                await client.close()

    run(scenario)
    assert judged == []


def test_a_member_with_a_certificate_of_another_authority_is_not_even_judged() -> None:
    foreign = certify(new_authority(), FIRST)
    judged: list[Hello] = []

    def judge_peer(hello: Hello, _key: bytes | None) -> Verdict:
        judged.append(hello)
        return Verdict.accept()

    async def scenario() -> None:
        async with serving(foreign) as (server, port), calling(CALLER, port, judge_peer) as client:
            both = foreign.ca_pem + SERVER.ca_pem
            server.identity.replace(foreign.certificate_pem, foreign.key_pem, both)
            with pytest.raises(Unavailable) as caught:
                await ping(client, 0.5)
            assert caught.value.fault is faults.BUSY

    run(scenario)
    assert judged == []


def test_a_renewed_authority_serves_connections_made_after_it() -> None:
    renewed = new_authority()
    new_server, new_caller = certify(renewed, FIRST), certify(renewed, SECOND)

    async def scenario() -> None:
        async with serving(SERVER) as (server, port), calling(CALLER, port) as client:
            assert await ping(client) == PONG
            both = SERVER.ca_pem + new_server.ca_pem
            server.identity.replace(new_server.certificate_pem, new_server.key_pem, both)
            assert await ping(client) == PONG
            async with calling(new_caller, port) as other:
                assert await ping(other) == PONG
            server.identity.replace(
                new_server.certificate_pem, new_server.key_pem, new_server.ca_pem
            )
            await client.close()
            with pytest.raises(Unavailable):
                await ping(client, 0.5)

    run(scenario)


def test_a_host_clock_outside_the_certificate_disturbs_nobody() -> None:
    past = certify_at(AUTHORITY, SECOND, years_ago=8)

    async def scenario() -> None:
        async with serving(SERVER) as (_, port), calling(past, port) as client:
            assert await ping(client) == PONG

    run(scenario)


# ------------------------------------------------------------------ joins


async def echo_join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _peer: Peer
) -> None:
    writer.write(frame(await read_frame(reader, 1000)))
    await writer.drain()


def test_a_joiner_without_certificate_reaches_the_join_and_sees_the_certificate() -> None:
    async def scenario() -> None:
        peers: list[Peer] = []

        async def join(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
        ) -> None:
            peers.append(peer)
            await echo_join(reader, writer, peer)

        async with serving(SERVER, join_handler=join) as (server, port):
            reader, writer, certificate = await open_join(
                "127.0.0.1", port, hello_of(SECOND)("join"), accept_all, 5
            )
            assert certificate == server.identity.certificate_der()
            writer.write(frame(b"knock"))
            assert await read_frame(reader, 1000) == b"knock"
            assert await reader.read() == b""
            writer.close()
        assert peers == [Peer(SECOND, None, "127.0.0.1")]

    run(scenario)


def test_a_peer_without_certificate_reaches_nothing_but_the_join() -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (_, port):
            for channel in ("calls", "postgresql"):
                hello = hello_of(SECOND)("calls" if channel == "calls" else "postgresql")
                with pytest.raises(LinkRefused) as caught:
                    await open_join("127.0.0.1", port, hello, accept_all, 5)
                assert caught.value.fault is faults.NOT_AUTHENTICATED
                assert caught.value.hello.cluster_id == ""

    run(scenario)


def test_a_stranger_learns_nothing_of_the_cluster_by_a_refusal() -> None:
    async def scenario() -> None:
        async with serving(SERVER, judge=lambda *_: REMOVED, join_handler=echo_join) as (_, port):
            with pytest.raises(LinkRefused) as caught:
                await open_join("127.0.0.1", port, hello_of(SECOND)("join"), accept_all, 5)
            verdict = caught.value.verdict
            assert (verdict.fault, verdict.reason) == ("MEMBER_REMOVED", "removed")
            assert (verdict.epoch, verdict.primary, verdict.members) == (None, "", ())
            hello = caught.value.hello
            assert (hello.cluster_id, hello.member_id, hello.epoch.number) == ("", "", 0)
            assert (hello.membership_hash, hello.software_version) == (b"", "")

    run(scenario)


def test_what_is_sent_to_a_stranger_names_no_member() -> None:
    async def scenario() -> None:
        async with serving(SERVER, judge=lambda *_: REMOVED, join_handler=echo_join) as (_, port):
            reader, writer = await raw(port, member=False)
            writer.write(frame(msgspec.msgpack.encode(hello_of(SECOND)("join"))))
            sent = await reader.read()
            assert b"deleted from the cluster" in sent
            assert FIRST.encode() not in sent
            assert CLUSTER.encode() not in sent
            assert SERVER.key_sha256 not in sent
            writer.close()

    run(scenario)


def test_joins_are_bounded_in_number_and_time() -> None:
    async def hang(
        _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter, _peer: Peer
    ) -> None:
        await asyncio.sleep(3600)

    async def scenario() -> None:
        limits = LinkLimits(joins=1, join_seconds=0.5)
        hello = hello_of(SECOND)("join")
        async with serving(SERVER, join_handler=hang, limits=limits) as (_, port):
            reader, writer, _ = await open_join("127.0.0.1", port, hello, accept_all, 5)
            with pytest.raises(LinkRefused) as caught:
                await open_join("127.0.0.1", port, hello, accept_all, 5)
            assert caught.value.fault is faults.JOIN_IN_PROGRESS
            assert await reader.read() == b""
            writer.close()

    run(scenario)


# ------------------------------------------------------------------ hostile peers


async def raw(port: int, *, member: bool = True) -> Any:
    context = CALLER.identity().client_context() if member else join_context()
    return await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def expect_end(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(60):
        with suppress(ConnectionError, ssl.SSLError):
            while await reader.read(65_536):
                pass


@pytest.mark.parametrize(
    "first",
    [
        b"\xff\xff\xff\xff" + bytes(100),
        (64 * 1024 + 1).to_bytes(4, "big"),
        bytes(4),
        frame(b"\xc1garbage"),
        frame(msgspec.msgpack.encode([1, "x" * 100, "y", [1, "z"], b"", "1", "calls"])),
        frame(msgspec.msgpack.encode([1, CLUSTER, SECOND, [1, FIRST], b"", "1", "shell"])),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_a_first_frame_that_is_none_ends_the_connection(first: bytes) -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (_, port):
            reader, writer = await raw(port)
            writer.write(first)
            await expect_end(reader)
            writer.close()
            async with calling(CALLER, port) as client:
                assert await ping(client) == PONG

    run(scenario)


@pytest.mark.parametrize(
    "later", [(8 * 1024 * 1024 + 1).to_bytes(4, "big"), frame(b"\xc1"), frame(b"\x93\x01\x01\x01")]
)
def test_nonsense_after_the_hello_ends_that_connection_alone(later: bytes) -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (server, port), calling(CALLER, port) as client:
            assert await ping(client) == PONG
            reader, writer = await raw(port)
            writer.write(frame(msgspec.msgpack.encode(hello_of(SECOND)("calls"))) + later)
            await expect_end(reader)
            writer.close()
            assert await ping(client) == PONG
            await until(lambda: server.connected("calls") == [SECOND], "one is left")

    run(scenario)


def test_tls_before_1_3_is_refused() -> None:
    async def scenario() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with serving(SERVER) as (_, port):
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port, ssl=context)

    run(scenario)


@pytest.mark.parametrize("how", ["silent", "slow hello", "garbage"])
def test_a_slow_handshake_ends_and_makes_room(how: str) -> None:
    async def scenario() -> None:
        limits = LinkLimits(connections_per_source=2, handshake_seconds=0.4)
        async with serving(SERVER, limits=limits) as (_, port):
            streams = []
            for _ in range(2):
                if how == "slow hello":
                    reader, writer = await raw(port)
                    writer.write(b"\x00\x00")
                else:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(b"" if how == "silent" else b"\x16\x03\x01\x00\x05garbage")
                streams.append((reader, writer))
            for reader, _ in streams:
                await expect_end(reader)
            for _, writer in streams:
                writer.close()
            async with calling(CALLER, port) as client:
                assert await ping(client) == PONG

    run(scenario)


def test_one_source_has_a_bound_of_connections() -> None:
    async def scenario() -> None:
        async with (
            serving(SERVER, limits=LinkLimits(connections_per_source=1)) as (_, port),
            calling(CALLER, port) as client,
            calling(CALLER, port) as second,
        ):
            assert await ping(client) == PONG
            with pytest.raises(Unavailable):
                await ping(second, 0.5)
            await client.close()
            assert await ping(second) == PONG

    run(scenario)


def test_without_a_certificate_there_is_no_listener_and_no_call() -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (_, port):
            nobody = LinkIdentity(b"", b"", b"", SECOND)
            other = LinkServer(nobody, accept_all, hello_of(SECOND), {}, no_postgresql)
            with pytest.raises(InternalFault):
                await other.start("127.0.0.1", 0)
            client = LinkClient(nobody, lambda: ("127.0.0.1", port), hello_of(SECOND), accept_all)
            with pytest.raises(InternalFault):
                await ping(client)

    run(scenario)


def test_who_holds_the_core_port_is_named() -> None:
    async def scenario() -> None:
        async with serving(SERVER) as (_, port):
            other = LinkServer(SERVER.identity(), accept_all, hello_of(FIRST), {}, no_postgresql)
            with pytest.raises(BadInput, match=r"in use.*held by a listener of process"):
                await other.start("127.0.0.1", port)

    run(scenario)


@pytest.mark.parametrize("address", ["192.0.2.1", "not an address", ""])
def test_an_address_that_cannot_be_listened_on_is_named(address: str) -> None:
    async def scenario() -> None:
        other = LinkServer(SERVER.identity(), accept_all, hello_of(FIRST), {}, no_postgresql)
        with pytest.raises(BadInput, match=f"core address {address}"):
            await other.start(address, 50_051)

    run(scenario)


def test_a_hello_of_the_protocol_is_an_array_of_seven() -> None:
    hello = Hello(PROTOCOL_VERSION, CLUSTER, SECOND, Epoch(3, MemberId(FIRST)), b"h", "1", "calls")
    assert len(msgspec.msgpack.decode(msgspec.msgpack.encode(hello))) == 7
