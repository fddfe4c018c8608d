"""The first words of two members, and who believes whom.

Invariant: nothing that a peer says is believed before its public key was judged, and each side
judges for itself.  A peer without a certificate learns the fault and the sentence of a refusal,
nothing of the cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec

from conclave.cluster.epochs import Epoch
from conclave.cluster.histories import History
from conclave.cluster.link.identity import certificate_key_sha256
from conclave.cluster.link.streams import read_frame
from conclave.errors import Fault, Unavailable
from conclave.ids import MemberId
from conclave.service.channel_errors import fault_name, fault_named
from conclave.service.frames import frame

PROTOCOL_VERSION: Final = 1
MAX_HELLO_BYTES: Final = 64 << 10
NO_HISTORY: Final = History()

Channel = Literal["calls", "postgresql", "join"]
_Word = Annotated[str, msgspec.Meta(max_length=64)]
_Digest = Annotated[bytes, msgspec.Meta(max_length=64)]


class Hello(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a member says of itself; only its certificate's key is proven."""

    protocol_version: int
    cluster_id: _Word
    member_id: _Word
    epoch: Epoch
    membership_hash: _Digest
    software_version: _Word
    channel: Channel


class ListedMember(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A member as the refusing side lists it."""

    member_id: _Word
    address: Annotated[str, msgspec.Meta(max_length=255)]
    key_sha256: _Digest


class Verdict(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Whether a peer may go on; when not, why, and what the refusing side knows.

    `fault` names a row of `conclave.faults`; `reason` is a word for programs, the core's own.
    """

    accepted: bool
    fault: _Word = ""
    message: Annotated[str, msgspec.Meta(max_length=4096)] = ""
    epoch: Epoch | None = None
    primary: _Word = ""
    members: Annotated[tuple[ListedMember, ...], msgspec.Meta(max_length=16)] = ()
    reason: _Word = ""
    history: History = NO_HISTORY
    """Of the refusing side's store: it tells a primary that it has deleted where the two part."""

    @classmethod
    def accept(cls) -> Verdict:
        """Let the peer go on."""
        return cls(True)

    @classmethod
    def refuse(
        cls,
        fault: Fault,
        message: str,
        *,
        reason: str = "",
        epoch: Epoch | None = None,
        primary: str = "",
        members: tuple[ListedMember, ...] = (),
        history: History = NO_HISTORY,
    ) -> Verdict:
        """Send the peer away."""
        return cls(False, fault_name(fault), message, epoch, primary, members, reason, history)

    def for_stranger(self) -> Verdict:
        """Return it without what is no stranger's business."""
        return Verdict(self.accepted, self.fault, self.message, reason=self.reason)


Judge = Callable[[Hello, bytes | None, str], Verdict]
"""Judges a caller by its hello, the hash of its key (None without certificate) and its address."""
JudgePeer = Callable[[Hello, bytes | None], Verdict]
"""Judges the member that was called."""


class LinkRefused(Unavailable):
    """One side refused the other before anything else was sent.

    `by_peer` tells who refused; `verdict` is the refusal, `hello` and `key_sha256` are the
    called member's.  When this side refused, `peer_verdict` is what the other side thought.
    """

    def __init__(
        self,
        verdict: Verdict,
        hello: Hello,
        key_sha256: bytes | None,
        *,
        by_peer: bool,
        peer_verdict: Verdict,
    ) -> None:
        super().__init__(fault_named(verdict.fault), verdict.message or "The member was refused.")
        self.verdict = verdict
        self.hello = hello
        self.key_sha256 = key_sha256
        self.by_peer = by_peer
        self.peer_verdict = peer_verdict


def anonymous_hello(channel: Channel) -> Hello:
    """Return the hello for a stranger who is sent away."""
    return Hello(PROTOCOL_VERSION, "", "", Epoch(0, MemberId("")), b"", "", channel)


_encoder = msgspec.msgpack.Encoder()
_hello_decoder = msgspec.msgpack.Decoder(Hello)
_verdict_decoder = msgspec.msgpack.Decoder(Verdict)


class Peer(msgspec.Struct, frozen=True, gc=False):
    """Who is at the other end; without `key_sha256` the id is a mere claim."""

    member_id: MemberId
    key_sha256: bytes | None
    address: str


def peer_key_sha256(writer: asyncio.StreamWriter) -> bytes | None:
    """Return the hash of the public key that the other side proved, None without certificate."""
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return certificate_key_sha256(certificate) if certificate else None


async def receive_hello(reader: asyncio.StreamReader) -> Hello:
    """Read a caller's hello; raise msgspec.DecodeError or FrameTooLong when it is none."""
    return _hello_decoder.decode(await read_frame(reader, MAX_HELLO_BYTES))


def answer_hello(writer: asyncio.StreamWriter, hello: Hello, verdict: Verdict) -> None:
    """Send this side's hello and its verdict."""
    writer.write(frame(_encoder.encode(hello)) + frame(_encoder.encode(verdict)))


async def introduce(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    my_hello: Hello,
    judge_peer: JudgePeer,
) -> Hello:
    """Exchange hellos as the caller; return the other's, raise LinkRefused when a side refuses."""
    writer.write(frame(_encoder.encode(my_hello)))
    hello = _hello_decoder.decode(await read_frame(reader, MAX_HELLO_BYTES))
    peer_verdict = _verdict_decoder.decode(await read_frame(reader, MAX_HELLO_BYTES))
    key = peer_key_sha256(writer)
    if my_hello.channel == "join" and not peer_verdict.accepted:
        # The refusing member does not name itself to strangers, so there is nobody to judge.
        refusal = peer_verdict.for_stranger()
        raise LinkRefused(refusal, hello, key, by_peer=True, peer_verdict=refusal)
    mine = judge_peer(hello, key)
    if not mine.accepted:
        raise LinkRefused(mine, hello, key, by_peer=False, peer_verdict=peer_verdict)
    if not peer_verdict.accepted:
        raise LinkRefused(peer_verdict, hello, key, by_peer=True, peer_verdict=peer_verdict)
    return hello
