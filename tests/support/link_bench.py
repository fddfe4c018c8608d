"""Members that speak over the link, with real certificates on loopback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import uvloop
from cryptography.hazmat.primitives.serialization import Encoding

from conclave.appliance.tls import key_to_pem, new_private_key, public_key_der
from conclave.cluster.ca import CertificateAuthority, key_sha256
from conclave.cluster.epochs import Epoch
from conclave.cluster.link.client import LinkClient
from conclave.cluster.link.hello import PROTOCOL_VERSION, Channel, Hello, Verdict
from conclave.cluster.link.identity import LinkIdentity
from conclave.cluster.link.messages import Pong
from conclave.cluster.link.server import Handler, LinkServer
from conclave.cluster.link.streams import StreamPair
from conclave.ids import ClusterId, MemberId

CLUSTER = ClusterId("00000000-0000-4000-8000-0000000000cc")
FIRST = MemberId("00000000-0000-4000-8000-000000000001")
SECOND = MemberId("00000000-0000-4000-8000-000000000002")
DEADLINE_SECONDS = 90.0


class Credentials(msgspec.Struct, frozen=True):
    """A member's certificate, its key, its trust, and the hash that it is listed by."""

    certificate_pem: bytes
    key_pem: bytes
    ca_pem: bytes
    member_id: str
    key_sha256: bytes

    def identity(self) -> LinkIdentity:
        return LinkIdentity(self.certificate_pem, self.key_pem, self.ca_pem, self.member_id)


def new_authority() -> CertificateAuthority:
    return CertificateAuthority.create(CLUSTER, "link", datetime.now(UTC))


def certify(authority: CertificateAuthority, member_id: MemberId) -> Credentials:
    return certify_at(authority, member_id, years_ago=0)


def certify_at(
    authority: CertificateAuthority, member_id: MemberId, *, years_ago: int
) -> Credentials:
    key = new_private_key()
    spki = public_key_der(key)
    certificate = authority.certify_member(
        spki,
        member_id,
        common_name="conclave",
        other_names=["127.0.0.1"],
        now=datetime.now(UTC) - timedelta(days=366 * years_ago),
    )
    return Credentials(
        pem_of(certificate),
        key_to_pem(key),
        pem_of(authority.certificate),
        member_id,
        key_sha256(spki),
    )


def pem_of(certificate: Any) -> bytes:
    return bytes(certificate.public_bytes(Encoding.PEM))


def hello_of(member_id: str) -> Callable[[Channel], Hello]:
    def hello(channel: Channel) -> Hello:
        epoch = Epoch(1, FIRST)
        return Hello(PROTOCOL_VERSION, CLUSTER, member_id, epoch, b"hash", "1.0", channel)

    return hello


def accept_all(_hello: Hello, _key: bytes | None, _address: str = "") -> Verdict:
    return Verdict.accept()


async def no_postgresql() -> StreamPair:
    raise ConnectionRefusedError("no PostgreSQL in this test")


PONG = Pong(
    epoch_number=1,
    epoch_promoter="",
    accepted_number=1,
    accepted_promoter="",
    gave_up=False,
    authorized=True,
    read_write=True,
    restart_required=False,
    version="0",
)


async def pong(_params: Any, _peer: Any) -> Pong:
    return PONG


@asynccontextmanager
async def serving(
    credentials: Credentials, handlers: Mapping[str, Handler] | None = None, **options: Any
) -> AsyncIterator[tuple[LinkServer, int]]:
    judge = options.pop("judge", accept_all)
    postgresql = options.pop("postgresql", no_postgresql)
    server = LinkServer(
        credentials.identity(),
        judge,
        hello_of(credentials.member_id),
        {"ping": pong, **(handlers or {})},
        postgresql,
        **options,
    )
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.close(grace_seconds=0.2)


@asynccontextmanager
async def calling(
    credentials: Credentials, port: int, judge_peer: Any = accept_all
) -> AsyncIterator[LinkClient]:
    client = LinkClient(
        credentials.identity(),
        lambda: ("127.0.0.1", port),
        hello_of(credentials.member_id),
        judge_peer,
    )
    try:
        yield client
    finally:
        await client.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await scenario()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bounded())


async def until(condition: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110 - it looks at the other end of a connection
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


def main() -> None:
    """Serve `ping` with the credentials that come on stdin; print the port; end with stdin."""
    credentials = msgspec.json.decode(sys.stdin.buffer.readline(), type=Credentials)

    async def serve() -> None:
        async with serving(credentials) as (_, port):
            sys.stdout.write(f"{port}\n")
            sys.stdout.flush()
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)

    uvloop.run(serve())


if __name__ == "__main__":
    main()
