"""The exchange of a join, without sockets: bytes in, bytes out, for joiner and member.

::

    joiner                         member
    Opening           ──────────▶
                      ◀──────────  Challenge        fingerprint checked here, if one is given
    JoinerProof       ──────────▶                   domain checked
                      ◀──────────  MemberProof      domain checked
    sealed JoinRequest ─────────▶                   cluster, clock, versions, admin password checked
                      ◀──────────  sealed JoinOffer, or a sealed Refusal

Invariants: the joiner tells the admin's password, and the member the SMK, only under the keys of
`conclave.cluster.pake`, after both have proven the domain; with the default domain, which everybody
knows, the joiner goes on only when the member's certificate was issued by the CA whose fingerprint
the administrator gave.  A member that refuses has changed nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from conclave import error_table, faults
from conclave.cluster.join_limiter import JoinLimiter
from conclave.cluster.pake import (
    BELIEVED_IN_CLEAR,
    UNREADABLE,
    Challenge,
    JoinerPake,
    MemberPake,
    Opening,
    Refusal,
    SealedStream,
    broken,
    decode,
    encode,
    error_of,
    refusal_of,
)
from conclave.errors import BadInput, ConclaveError, CredentialRefused, NotAllowed
from conclave.ids import MemberId

MAX_SKEW_MS: Final = 30_000
_KNOWN_FAULTS: Final = {fault.rest_id: fault for _, fault in error_table.rows()}


class JoinMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """Base of the messages under the key; a repr names the fields only."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


class JoiningMember(JoinMessage, frozen=True):
    """The appliance that wants to join: its name, addresses and public key."""

    member_id: str
    name: str
    address: str
    admin_port: int
    crypto_port: int
    core_port: int
    key_spki_der: bytes


class JoinRequest(JoinMessage, frozen=True, tag="request"):
    """What the joiner asks for, and by which administrator's right."""

    cluster_id: str
    admin_user: str
    admin_password: bytes
    member: JoiningMember
    appliance_time_ms: int
    software_version: str
    postgresql_major: int = 0
    """0 when the joiner does not say."""


class OfferedPeer(JoinMessage, frozen=True):
    """A member of the cluster: where it is, and the key that proves it."""

    member_id: str
    address: str
    core_port: int
    key_sha256: bytes


class JoinOffer(JoinMessage, frozen=True, tag="offer"):
    """What makes the joiner a member."""

    smk: bytes
    domain: bytes
    cluster_id: str
    label: str
    dual_identity: bool
    member_certificate_der: bytes
    ca_certificates_der: list[bytes]
    members: list[OfferedPeer]
    epoch_number: int
    epoch_promoter: str
    primary: str
    warning: str = ""
    """A sentence for people: the join goes on, but something is not as supported."""


class SealedRefusal(JoinMessage, frozen=True, tag="refusal"):
    """Why the member does not offer."""

    fault_id: str
    message: str


_ENCODER: Final = msgspec.msgpack.Encoder()
_REQUEST: Final = msgspec.msgpack.Decoder(JoinRequest)
_ANSWER: Final = msgspec.msgpack.Decoder(JoinOffer | SealedRefusal)


class Wire(Protocol):
    """Carries whole messages, each way in order; both methods end at a deadline of their own."""

    async def send(self, message: bytes) -> None:
        """Send one message."""

    async def receive(self) -> bytes:
        """Return the next message, of at most 64 KiB."""


# ---------------------------------------------------------------- fingerprints


def parse_fingerprint(text: str) -> bytes:
    """Return the SHA-256 that colon-separated or plain hex means; raise BadInput."""
    try:
        digest = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        message = f"remoteFingerprint must be the 64 hex digits of a SHA-256; it is {text[:200]!r}."
        raise BadInput(faults.BAD_REQUEST, message)
    return digest


@dataclass(frozen=True, slots=True)
class Trust:
    """What the joiner knows of the cluster beforehand; a default domain proves nothing."""

    default_domain: bool
    fingerprint: bytes | None
    """SHA-256 of the certificate of the cluster's CA, or of the member's TLS certificate."""

    @classmethod
    def given(cls, *, default_domain: bool, fingerprint: str) -> Trust:
        """Return the trust that a join was asked with; an empty fingerprint is none."""
        digest = parse_fingerprint(fingerprint) if fingerprint else None
        return cls(default_domain=default_domain, fingerprint=digest)

    def require_enough(self) -> None:
        """Refuse a default domain without a fingerprint."""
        if self.default_domain and self.fingerprint is None:
            message = (
                "This partition has the default cloning domain, which proves nothing: give the"
                " fingerprint of the cluster's CA certificate, as a member of it shows it."
            )
            raise NotAllowed(faults.JOIN_FINGERPRINT, message)

    def require(self, server_certificate_der: bytes, ca_certificate_der: bytes) -> None:
        """Refuse a member that is not the one whose fingerprint was given."""
        self.require_enough()
        if self.fingerprint is None or self._same(server_certificate_der):
            return
        if self._same(ca_certificate_der) and _issued(server_certificate_der, ca_certificate_der):
            return
        found = hashlib.sha256(ca_certificate_der).digest().hex(":")
        message = (
            f"The member that answers shows the CA fingerprint {found}, which is not the one that"
            " was given or did not issue its certificate: check address and fingerprint."
        )
        raise NotAllowed(faults.JOIN_FINGERPRINT, message)

    def _same(self, certificate_der: bytes) -> bool:
        digest = hashlib.sha256(certificate_der).digest()
        return self.fingerprint is not None and hmac.compare_digest(digest, self.fingerprint)


def _issued(certificate_der: bytes, ca_certificate_der: bytes) -> bool:
    try:
        ca_certificate = x509.load_der_x509_certificate(ca_certificate_der)
        x509.load_der_x509_certificate(certificate_der).verify_directly_issued_by(ca_certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


# ---------------------------------------------------------------- the joiner's side


class JoinerSide:
    """The joiner: `open`, `prove`, `ask`, `offer`, each given what the member answered last.

    Every method raises the error of a refusal, or of what did not convince; then nothing was
    changed on either side and the connection is of no more use.
    """

    def __init__(
        self,
        domain: bytes,
        request: JoinRequest,
        trust: Trust,
        *,
        server_certificate_der: bytes,
    ) -> None:
        trust.require_enough()
        self._request = request
        self._trust = trust
        self._certificate = server_certificate_der
        member = request.member
        self._pake = JoinerPake(
            domain,
            request.cluster_id,
            member.member_id,
            member.key_spki_der,
            server_certificate_der=server_certificate_der,
        )
        self._stream: SealedStream | None = None

    @property
    def stream(self) -> SealedStream:
        """Return what seals the messages that follow; raise InternalFault before the proofs."""
        if self._stream is None:
            raise broken("Nothing was proven yet")
        return self._stream

    def open(self) -> bytes:
        """Return the opening."""
        return self._pake.open()

    def prove(self, message: bytes) -> bytes:
        """Check the fingerprint; return the proof that this side knows the domain."""
        challenge = decode(message, Challenge)
        self._trust.require(self._certificate, challenge.ca_certificate_der)
        return self._pake.prove(message)

    def ask(self, message: bytes) -> bytes:
        """Check the member's proof; return the sealed request."""
        self._stream = self._pake.stream(message)
        return self._stream.seal(_ENCODER.encode(self._request))

    def offer(self, message: bytes) -> JoinOffer:
        """Return what the member offers."""
        if self._stream is None:
            raise broken("The member's offer came before its proof")
        try:
            answer: JoinOffer | SealedRefusal = _ANSWER.decode(self._stream.open(message))
        except UNREADABLE as cause:
            raise broken("The member's offer cannot be read") from cause
        if isinstance(answer, SealedRefusal):
            raise error_of(Refusal(answer.fault_id, answer.message), _KNOWN_FAULTS)
        if answer.cluster_id != self._request.cluster_id:
            raise broken("The member offered another cluster than the one that was asked for")
        return answer


async def run_joiner(side: JoinerSide, wire: Wire) -> JoinOffer:
    """Carry out the joiner's side over a connection; raise what its methods raise."""
    await wire.send(side.open())
    await wire.send(side.prove(await wire.receive()))
    await wire.send(side.ask(await wire.receive()))
    return side.offer(await wire.receive())


# ---------------------------------------------------------------- the member's side


@dataclass(frozen=True, slots=True)
class MemberChecks:
    """What the member looks at before it offers, in this order; refusals are ConclaveErrors."""

    cluster_id: str
    now_ms: Callable[[], int]
    """Appliance time in milliseconds since 1970."""
    require_fit: Callable[[JoinRequest], Awaitable[None]]
    """Refuses versions that do not fit, a member too many, a state in which nobody can join."""
    verify_admin: Callable[[str, bytes], Awaitable[bool]]
    """Tells whether user and password are those of an administrator; limits guesses itself."""
    make_offer: Callable[[JoinRequest], Awaitable[JoinOffer]]


class MemberSide:
    """The member: `challenge`, `confirm`, `answer`, each given what the joiner sent last.

    What `answer` decides about the request it returns sealed, and `result` tells or raises it. The
    other two raise, and the peer gets `refuse_in_clear` of the error.
    """

    def __init__(
        self,
        domain: bytes,
        member_id: str,
        checks: MemberChecks,
        limiter: JoinLimiter,
        *,
        server_certificate_der: bytes,
        ca_certificate_der: bytes,
    ) -> None:
        self._checks = checks
        self.limiter = limiter
        self.answered = False
        """Whether the joiner was, or is being, told all there is to tell."""
        self._pake = MemberPake(
            domain,
            member_id,
            server_certificate_der=server_certificate_der,
            ca_certificate_der=ca_certificate_der,
        )
        self._stream: SealedStream | None = None
        self._claimed: MemberId | None = None
        self._outcome: JoinOffer | ConclaveError | None = None

    @property
    def stream(self) -> SealedStream:
        """Return what seals the messages that follow; raise InternalFault before the proofs."""
        if self._stream is None:
            raise broken("Nothing was proven yet")
        return self._stream

    def challenge(self, message: bytes) -> bytes:
        """Return the answer to the joiner's opening."""
        return self._pake.challenge(message)

    def confirm(self, message: bytes) -> bytes:
        """Check the joiner's proof; return this side's."""
        proof, self._stream = self._pake.confirm(message)
        return proof

    async def answer(self, message: bytes) -> bytes:
        """Check the joiner's request; return the sealed offer or refusal."""
        stream = self._stream
        if stream is None:
            raise broken("The joiner's request came before its proof")
        plaintext = stream.open(message)
        answer: JoinOffer | SealedRefusal
        try:
            self._outcome = answer = await self._decide(plaintext)
        except ConclaveError as error:
            refusal = refusal_of(error)
            self._outcome = error
            answer = SealedRefusal(refusal.fault_id, refusal.message)
        sealed = stream.seal(_ENCODER.encode(answer))
        self.answered = True
        return sealed

    def result(self) -> JoinOffer:
        """Return what was offered; raise the error of what was refused."""
        if isinstance(self._outcome, JoinOffer):
            return self._outcome
        raise self._outcome or broken("The exchange of the join is not done")

    def release(self) -> None:
        """Let others join, if this joiner had come so far as to keep them out."""
        if self._claimed is not None:
            self.limiter.release(self._claimed)

    async def _decide(self, plaintext: bytes) -> JoinOffer:
        try:
            request = _REQUEST.decode(plaintext)
        except UNREADABLE as cause:
            raise broken("The joiner's request cannot be read") from cause
        require_proven(request, self._pake.opening)
        checks = self._checks
        require_this_cluster(request, checks.cluster_id)
        require_small_skew(request.appliance_time_ms, checks.now_ms())
        await checks.require_fit(request)
        if not await checks.verify_admin(request.admin_user, request.admin_password):
            message = (
                f"user {request.admin_user[:64]!r} or its password is wrong on the member: give the"
                " credentials of an administrator of the cluster."
            )
            raise CredentialRefused(faults.JOIN_REFUSED, message)
        joiner = MemberId(request.member.member_id)
        self.limiter.claim(joiner)
        self._claimed = joiner
        return await checks.make_offer(request)


async def run_member(side: MemberSide, wire: Wire, source: str) -> JoinOffer:
    """Carry out the member's side for a peer of this address, within the limits.

    Returns what was offered and sent; its joiner then holds the claim until it is released.
    Raises the error that ended the exchange, after the peer was told.
    """
    try:
        with side.limiter.attempt(source):
            await wire.send(side.challenge(await wire.receive()))
            await wire.send(side.confirm(await wire.receive()))
            await wire.send(await side.answer(await wire.receive()))
            return side.result()
    except ConclaveError as error:
        side.release()
        if not side.answered:
            with suppress(ConclaveError):
                await wire.send(refuse_in_clear(error))
        raise


def refuse_in_clear(error: ConclaveError) -> bytes:
    """Return what the joiner is told before anything is proven: nothing about this member."""
    refusal = refusal_of(error)
    if refusal.fault_id not in BELIEVED_IN_CLEAR:
        refusal = refusal_of(broken("The member could not go on"))
    return encode(refusal)


def require_proven(request: JoinRequest, opening: Opening) -> None:
    """Refuse a request for another cluster, member or key than the proof was for."""
    member = request.member
    asked = (request.cluster_id, member.member_id, member.key_spki_der)
    if asked != (opening.cluster_id, opening.joiner_id, opening.joiner_key_spki_der):
        raise broken("The joiner asks for another cluster, member or key than it has proven")


def require_this_cluster(request: JoinRequest, cluster_id: str) -> None:
    """Refuse to let somebody into another cluster than the one that is here."""
    if request.cluster_id != cluster_id:
        message = (
            f"this member belongs to cluster {cluster_id}, not to {request.cluster_id[:64]!r}."
        )
        raise NotAllowed(faults.WRONG_CLUSTER, message)


def require_small_skew(joiner_ms: int, member_ms: int) -> None:
    """Refuse clocks that differ by more than 30 s (milliseconds since 1970)."""
    skew_ms = joiner_ms - member_ms
    if abs(skew_ms) > MAX_SKEW_MS:
        seconds = -(-abs(skew_ms) // 1000)
        way = "ahead of" if skew_ms > 0 else "behind"
        message = (
            f"the clock of the joining appliance is {seconds} s {way} the member's; at most"
            f" {MAX_SKEW_MS // 1000} s are allowed: set the time or use NTP."
        )
        raise NotAllowed(faults.CLOCK_SKEW, message)
