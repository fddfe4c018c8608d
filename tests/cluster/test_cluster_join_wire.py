"""A join over the link itself: TLS on loopback, without a certificate on the joiner's side."""

from __future__ import annotations

import asyncio
import hashlib
import ssl

import pytest

from conclave import faults
from conclave.clock import host_time_ms
from conclave.cluster.join_exchange import (
    JoinerSide,
    JoiningMember,
    JoinOffer,
    JoinRequest,
    MemberChecks,
    MemberSide,
    Trust,
    run_joiner,
    run_member,
)
from conclave.cluster.join_limiter import JoinLimiter
from conclave.cluster.join_wire import StreamWire
from conclave.cluster.link.client import open_join
from conclave.cluster.link.hello import Peer
from conclave.errors import ConclaveError, Unavailable
from conclave.service.frames import frame
from tests.support.link_bench import (
    CLUSTER,
    FIRST,
    SECOND,
    accept_all,
    certify,
    hello_of,
    new_authority,
    run,
    serving,
)

MEMBER = certify(new_authority(), FIRST)
CA_DER = ssl.PEM_cert_to_DER_cert(MEMBER.ca_pem.decode())
FINGERPRINT = hashlib.sha256(CA_DER).digest().hex(":")
OFFER = JoinOffer(b"s" * 32, b"domain", CLUSTER, "label", False, b"", [], [], 1, FIRST, FIRST)


class House:
    """A member that joiners may knock at; it remembers how each exchange ended."""

    def __init__(self) -> None:
        self.limiter = JoinLimiter()
        self.ended: list[JoinOffer | ConclaveError] = []
        self.done = asyncio.Event()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer
    ) -> None:
        checks = MemberChecks(CLUSTER, host_time_ms, self._fits, self._is_admin, offer)
        side = MemberSide(
            b"domain",
            FIRST,
            checks,
            self.limiter,
            server_certificate_der=ssl.PEM_cert_to_DER_cert(MEMBER.certificate_pem.decode()),
            ca_certificate_der=CA_DER,
        )
        try:
            self.ended.append(await run_member(side, StreamWire(reader, writer), peer.address))
        except ConclaveError as error:
            self.ended.append(error)
        self.done.set()

    @staticmethod
    async def _fits(_request: JoinRequest) -> None:
        """Refuse no version."""

    @staticmethod
    async def _is_admin(user: str, password: bytes) -> bool:
        return (user, password) == ("admin", b"password")


async def offer(_request: JoinRequest) -> JoinOffer:
    return OFFER


async def join(port: int, domain: bytes) -> JoinOffer:
    reader, writer, certificate = await open_join(
        "127.0.0.1", port, hello_of(SECOND)("join"), accept_all, 5
    )
    member = JoiningMember(SECOND, "joiner", "127.0.0.2", 8443, 1792, 50051, b"key")
    request = JoinRequest(CLUSTER, "admin", b"password", member, host_time_ms(), "0.1.0")
    trust = Trust.given(default_domain=True, fingerprint=FINGERPRINT)
    side = JoinerSide(domain, request, trust, server_certificate_der=certificate)
    try:
        return await run_joiner(side, StreamWire(reader, writer))
    finally:
        writer.close()


def test_join_over_the_link() -> None:
    async def scenario() -> None:
        house = House()
        async with serving(MEMBER, join_handler=house.serve) as (_, port):
            assert await join(port, b"domain") == OFFER
            await house.done.wait()
        assert house.ended == [OFFER]

    run(scenario)


def test_wrong_domain_over_the_link() -> None:
    async def scenario() -> None:
        house = House()
        async with serving(MEMBER, join_handler=house.serve) as (_, port):
            with pytest.raises(ConclaveError) as caught:
                await join(port, b"another domain")
            assert caught.value.fault is faults.CLONING_DOMAIN_MISMATCH
            await house.done.wait()
        (ended,) = house.ended
        assert isinstance(ended, ConclaveError)
        assert ended.fault is faults.CLONING_DOMAIN_MISMATCH

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (b"", faults.BUSY),
        (b"\x00\x00", faults.BUSY),
        (b"\xff\xff\xff\xff", faults.JOIN_BROKEN),
        (frame(b"garbage"), faults.JOIN_BROKEN),
    ],
)
def test_peer_that_leaves_or_talks_nonsense(sent: bytes, fault: object) -> None:
    async def scenario() -> None:
        house = House()
        async with serving(MEMBER, join_handler=house.serve) as (_, port):
            _, writer, _ = await open_join(
                "127.0.0.1", port, hello_of(SECOND)("join"), accept_all, 5
            )
            writer.write(sent)
            writer.close()
            await house.done.wait()
        (ended,) = house.ended
        assert isinstance(ended, Unavailable)
        assert ended.fault is fault

    run(scenario)


def test_silent_peer_is_given_up() -> None:
    async def scenario() -> None:
        reader = asyncio.StreamReader()
        async with serving(MEMBER, join_handler=House().serve) as (_, port):
            _, writer, _ = await open_join(
                "127.0.0.1", port, hello_of(SECOND)("join"), accept_all, 5
            )
            with pytest.raises(Unavailable, match="in time"):
                await StreamWire(reader, writer, seconds=0.01).receive()
            writer.close()

    run(scenario)
