"""Prove the same cloning domain to each other, and agree on keys for what must be secret.

Invariants (C23):

1. Nothing but public names, random numbers and one share of CPace leaves a side before the other
   side has proven that it knows the domain; the joiner proves first, and a member that is not
   convinced sends nothing more.
2. Whoever takes part in a run without the domain learns whether one guess was right, nothing else:
   its messages hold no value against which further guesses could be checked without another run.
   A share is uniformly distributed whatever the domain is, and a proof is a MAC under a key that
   needs the secret scalar of one side.
3. Both proofs cover every byte of the two opening messages: the roles, the cluster's id, the
   members' ids, the joiner's public key, the member's TLS certificate as each side has seen it,
   and the CA's certificate. A run that was relayed or altered convinces nobody.
4. The keys of a run open the messages of that run only, in their order and direction.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from conclave import faults
from conclave.cluster import cpace
from conclave.crypto.seal import KEY_BYTES, OVERHEAD_BYTES, SealBroken, seal, unseal
from conclave.errors import (
    ConclaveError,
    CredentialRefused,
    Fault,
    InternalFault,
    NotAllowed,
    Unavailable,
)

MAX_MESSAGE_BYTES: Final = 64 * 1024
MIN_DOMAIN_BYTES: Final = 1
MAX_DOMAIN_BYTES: Final = 128
NONCE_BYTES: Final = 16
_LONGEST_REASON: Final = 500
BELIEVED_IN_CLEAR: Final = {
    fault.rest_id: fault
    for fault in (
        faults.CLONING_DOMAIN_MISMATCH,
        faults.JOIN_BROKEN,
        faults.JOIN_DELAYED,
        faults.JOIN_IN_PROGRESS,
        faults.MEMBER_NOT_AUTHORIZED,
    )
}
"""What anybody on the way may claim: none of them makes the joiner do or tell anything."""
_LABEL: Final = b"conclave join 1"
_MISMATCH: Final = (
    "The cloning domains of the two partitions differ, or somebody between them changed the"
    " exchange. Initialise this appliance's partition with the cloning domain of the cluster's"
    " partitions, check the address, and join again."
)


class PakeMessage(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False
):
    """Base of the messages in clear; a repr names the fields only."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


class Opening(PakeMessage, frozen=True, tag=1):
    """Joiner to member: who wants to join which cluster."""

    cluster_id: str
    joiner_id: str
    joiner_key_spki_der: bytes
    nonce: bytes


class Challenge(PakeMessage, frozen=True, tag=2):
    """Member to joiner: who answers, and its share."""

    member_id: str
    ca_certificate_der: bytes
    nonce: bytes
    share: bytes


class JoinerProof(PakeMessage, frozen=True, tag=3):
    """Joiner to member: its share, and that it knows the domain."""

    share: bytes
    proof: bytes


class MemberProof(PakeMessage, frozen=True, tag=4):
    """Member to joiner: that it knows the domain too."""

    proof: bytes


class Refusal(PakeMessage, frozen=True, tag=5):
    """Either to the other, in clear or sealed: why it goes no further."""

    fault_id: str
    message: str


ClearMessage = Opening | Challenge | JoinerProof | MemberProof | Refusal
Wanted = TypeVar("Wanted", Opening, Challenge, JoinerProof, MemberProof)
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
"""What the decoder raises: a text that is no UTF-8 has an error of its own."""
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(ClearMessage)


def encode(message: ClearMessage) -> bytes:
    """Return a message in clear as it travels."""
    return _ENCODER.encode(message)


def decode(message: bytes, wanted: type[Wanted]) -> Wanted:
    """Return a received message in clear.

    Raises Unavailable for anything else, and the error that stands in a refusal.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise broken(f"A message of the join has {len(message)} bytes, more than allowed")
    try:
        decoded = _DECODER.decode(message)
    except UNREADABLE as cause:
        raise broken("A message of the join cannot be read") from cause
    if isinstance(decoded, Refusal):
        raise error_of(decoded, BELIEVED_IN_CLEAR)
    if not isinstance(decoded, wanted):
        found = type(decoded).__name__
        raise broken(f"A message of the join is {found} where {wanted.__name__} must come")
    return decoded


def refusal_of(error: ConclaveError) -> Refusal:
    """Return what tells the other side why this one goes no further."""
    return Refusal(error.fault.rest_id, error.message[:_LONGEST_REASON])


def error_of(refusal: Refusal, believed: Mapping[str, Fault]) -> ConclaveError:
    """Return the error of a refusal; one that is not `believed` becomes a disturbed exchange."""
    fault = believed.get(refusal.fault_id)
    said = "".join(letter for letter in refusal.message[:_LONGEST_REASON] if letter.isprintable())
    if fault is None:
        return broken(f"The other member refused for a reason that is not known here: {said}")
    return _kind_of(fault)(fault, f"The other member refused: {said}")


def _kind_of(fault: Fault) -> type[ConclaveError]:
    if fault.http_status == HTTPStatus.UNAUTHORIZED:
        return CredentialRefused
    if fault.retry_is_safe or fault.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable
    return NotAllowed


def broken(what: str) -> Unavailable:
    """Return the error for an exchange that somebody disturbed."""
    return Unavailable(faults.JOIN_BROKEN, f"{what}. Nothing was changed; join again.")


def mismatch() -> NotAllowed:
    """Return the error for a proof that does not convince; it does not tell who was right."""
    return NotAllowed(faults.CLONING_DOMAIN_MISMATCH, _MISMATCH)


class SealedStream:
    """Messages between two parties of a run: whole, in order, unchanged, or refused.

    After one that does not open nothing opens any more.
    """

    def __init__(self, send_key: bytes, receive_key: bytes) -> None:
        self._send_key = send_key
        self._receive_key = receive_key
        self._sent = 0
        self._received = 0
        self._broken = False

    def seal(self, plaintext: bytes) -> bytes:
        """Return the next message, of at most 64 KiB when sealed; raise InternalFault beyond."""
        if len(plaintext) + OVERHEAD_BYTES > MAX_MESSAGE_BYTES:
            message = f"A message of the join has {len(plaintext)} bytes: too many to be sent."
            raise InternalFault(faults.INTERNAL, message)
        sealed = seal(self._send_key, plaintext, _numbered(self._sent))
        self._sent += 1
        return sealed

    def open(self, sealed: bytes) -> bytes:
        """Return the next message of the other side; raise Unavailable for anything else."""
        if self._broken or len(sealed) > MAX_MESSAGE_BYTES:
            raise broken("A sealed message of the join is too long or follows a broken one")
        try:
            plaintext = unseal(self._receive_key, sealed, _numbered(self._received))
        except SealBroken as cause:
            self._broken = True
            raise broken("A sealed message of the join was changed on its way") from cause
        self._received += 1
        return plaintext


@dataclass(frozen=True, slots=True, repr=False)
class RunKeys:
    """What both parties of one run come to, if they know the same domain and saw the same."""

    joiner_proof: bytes
    member_proof: bytes
    to_member: bytes
    to_joiner: bytes


class JoinerPake:
    """The joiner's side of one run: `open`, then `prove`, then `stream`."""

    def __init__(
        self,
        domain: bytes,
        cluster_id: str,
        joiner_id: str,
        joiner_key_spki_der: bytes,
        *,
        server_certificate_der: bytes,
    ) -> None:
        self._domain = checked_domain(domain)
        self._certificate = server_certificate_der
        self._opening = encode(
            Opening(cluster_id, joiner_id, joiner_key_spki_der, os.urandom(NONCE_BYTES))
        )
        self._keys: RunKeys | None = None

    def open(self) -> bytes:
        """Return the first message."""
        return self._opening

    def prove(self, message: bytes) -> bytes:
        """Return the answer to the member's challenge."""
        challenge = decode(message, Challenge)
        view = _View(self._opening, message, self._certificate)
        scalar = cpace.new_scalar()
        share = view.share(self._domain, scalar)
        keys = view.keys(scalar, challenge.share, joiner_share=share)
        self._keys = keys
        return encode(JoinerProof(share, keys.joiner_proof))

    def stream(self, message: bytes) -> SealedStream:
        """Check the member's proof; only then return what seals messages to it."""
        keys = self._keys
        proof = decode(message, MemberProof)
        if keys is None:
            raise broken("The proof of the other member came before its challenge")
        self._keys = None
        if not hmac.compare_digest(proof.proof, keys.member_proof):
            raise mismatch()
        return SealedStream(keys.to_member, keys.to_joiner)


class MemberPake:
    """The member's side of one run: `challenge`, then `confirm`."""

    def __init__(
        self,
        domain: bytes,
        member_id: str,
        *,
        server_certificate_der: bytes,
        ca_certificate_der: bytes,
    ) -> None:
        self._domain = checked_domain(domain)
        self._member_id = member_id
        self._certificate = server_certificate_der
        self._ca_certificate = ca_certificate_der
        self._scalar = cpace.new_scalar()
        self._view: _View | None = None
        self.opening: Opening
        """What the joiner says of itself; proven only when `confirm` has returned."""

    def challenge(self, message: bytes) -> bytes:
        """Return the answer to the joiner's opening."""
        opening = decode(message, Opening)
        self.opening = opening
        nonce = os.urandom(NONCE_BYTES)
        unshared = Challenge(self._member_id, self._ca_certificate, nonce, b"")
        view = _View(message, encode(unshared), self._certificate)
        share = view.share(self._domain, self._scalar)
        challenge = encode(msgspec.structs.replace(unshared, share=share))
        self._view = _View(message, challenge, self._certificate)
        return challenge

    def confirm(self, message: bytes) -> tuple[bytes, SealedStream]:
        """Check the joiner's proof; only then return the member's own and what seals to it."""
        view, self._view = self._view, None
        proof = decode(message, JoinerProof)
        if view is None:
            raise broken("The joiner's proof came before its opening, or twice")
        keys = view.keys(self._scalar, proof.share, joiner_share=proof.share)
        if not hmac.compare_digest(proof.proof, keys.joiner_proof):
            raise mismatch()
        return encode(MemberProof(keys.member_proof)), SealedStream(keys.to_joiner, keys.to_member)


def checked_domain(domain: bytes) -> bytes:
    """Return a cloning domain; raise InternalFault for one that no partition can have."""
    if not MIN_DOMAIN_BYTES <= len(domain) <= MAX_DOMAIN_BYTES:
        message = f"A cloning domain has 1 to 128 bytes; this one has {len(domain)}."
        raise InternalFault(faults.INTERNAL, message)
    return domain


class _View:
    """What one side has seen of the opening of a run, and what follows from it."""

    def __init__(self, opening: bytes, challenge: bytes, certificate: bytes) -> None:
        first, second = decode(opening, Opening), decode(challenge, Challenge)
        if len(first.nonce) != NONCE_BYTES or len(second.nonce) != NONCE_BYTES:
            raise broken("A random number of the join has the wrong length")
        self._messages = (opening, challenge)
        self._member_share = second.share
        self._session = first.nonce + second.nonce
        self._context = cpace.length_value(
            _LABEL,
            b"joiner",
            first.cluster_id.encode(),
            first.joiner_id.encode(),
            first.joiner_key_spki_der,
            b"member",
            second.member_id.encode(),
            certificate,
            second.ca_certificate_der,
        )

    def share(self, domain: bytes, scalar: bytes) -> bytes:
        """Return this side's share."""
        password = hashlib.sha512(cpace.length_value(_LABEL + b" domain", domain)).digest()
        return cpace.public_share(password, self._context, self._session, scalar)

    def keys(self, scalar: bytes, peer_share: bytes, *, joiner_share: bytes) -> RunKeys:
        """Return the keys of the run; raise Unavailable for a share that gives none."""
        try:
            point = cpace.shared_point(scalar, peer_share)
        except cpace.WeakShare as cause:
            raise broken("A share of the join's exchange is not valid") from cause
        initiator, responder = (self._member_share, b"member"), (joiner_share, b"joiner")
        secret = cpace.session_key(self._session, point, initiator, responder)
        transcript = hashlib.sha512(
            cpace.length_value(_LABEL, self._context, *self._messages, joiner_share)
        ).digest()
        return RunKeys(
            joiner_proof=_proof(secret, transcript, b"joiner"),
            member_proof=_proof(secret, transcript, b"member"),
            to_member=_key(secret, transcript, b"seal to member"),
            to_joiner=_key(secret, transcript, b"seal to joiner"),
        )


def _proof(secret: bytes, transcript: bytes, role: bytes) -> bytes:
    key = _key(secret, transcript, b"prove as " + role)
    return hmac.digest(key, transcript, "sha256")


def _key(secret: bytes, transcript: bytes, purpose: bytes) -> bytes:
    info = cpace.length_value(_LABEL, purpose)
    return HKDF(algorithm=SHA512(), length=KEY_BYTES, salt=transcript, info=info).derive(secret)


def _numbered(number: int) -> bytes:
    return _LABEL + b" message " + number.to_bytes(8, "big")
