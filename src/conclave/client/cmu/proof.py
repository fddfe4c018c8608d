"""What shows that a keyring works: who answers, and a key that is made, kept and used there."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from conclave import faults
from conclave.client.clusters import ClusterEntry
from conclave.client.cmu import files
from conclave.client.public_keys import UNREADABLE
from conclave.client.refusals import misused
from conclave.client.session import KeyringSession
from conclave.client.signing_keys import public_key_of
from conclave.client.templates import template
from conclave.crypto.curves import CURVES
from conclave.crypto.standard import Cka, Ckm
from conclave.errors import BadInput, InternalFault

CHALLENGE_BYTES: Final = 32
MAX_CHALLENGE_BYTES: Final = 1024
_KEPT: Final = {
    Cka.SENSITIVE: b"\1",
    Cka.ALWAYS_SENSITIVE: b"\1",
    Cka.EXTRACTABLE: b"\0",
    Cka.NEVER_EXTRACTABLE: b"\1",
    Cka.LOCAL: b"\1",
}


@dataclass(frozen=True, slots=True)
class Proof:
    """What was seen."""

    cluster: str
    authority_sha256: str
    challenge: bytes
    signature: bytes
    public_key_sha256: str

    def lines(self) -> str:
        """Return it for people."""
        return "\n".join(
            (
                f"cluster      {self.cluster}: its certificate leads to the registered CA",
                f"CA           SHA-256 {self.authority_sha256}",
                "key          made in the keyring, sensitive, not extractable, P-256",
                f"challenge    {self.challenge.hex()}",
                f"signature    {self.signature.hex()}",
                "verified     here, with the public key",
            )
        )

    def data(self) -> dict[str, str]:
        """Return it for programs."""
        return {
            "cluster": self.cluster,
            "caSha256": self.authority_sha256,
            "challenge": self.challenge.hex(),
            "signature": self.signature.hex(),
            "publicKeySha256": self.public_key_sha256,
        }


def prove(session: KeyringSession, entry: ClusterEntry, challenge: bytes | None) -> Proof:
    """Let the keyring make a key and sign a challenge with it; raise InternalFault if it cheats.

    Who answers over `entry` has shown a certificate of the cluster's CA in the TLS handshake.
    """
    signed = os.urandom(CHALLENGE_BYTES) if challenge is None else challenge
    if not 1 <= len(signed) <= MAX_CHALLENGE_BYTES:
        raise misused(f"Option -challenge has 1 to {MAX_CHALLENGE_BYTES} bytes.")
    (curve,) = (row for row in CURVES if row.name == "P-256")
    public, private = session.generate_key_pair(
        Ckm.EC_KEY_PAIR_GEN,
        template({Cka.TOKEN: False, Cka.EC_PARAMS: curve.params}),
        template({Cka.TOKEN: False, Cka.SIGN: True}),
    )
    held = session.attributes(private.reference, list(_KEPT))
    if held != _KEPT:
        raise _cheated("says of a key that it made that the key is not kept inside")
    signature = session.sign(private.reference, Ckm.ECDSA_SHA256, signed)
    key = public_key_of(session, public.reference)
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    try:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise _cheated("gave another key than it was asked for")
        key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise _cheated("gave a signature that is wrong") from None
    point = session.attributes(public.reference, [Cka.EC_POINT])[Cka.EC_POINT] or b""
    where = f"{entry.index:02} ({entry.host}:{entry.port})"
    authority = _fingerprint(entry.ca_file)
    return Proof(where, authority, signed, signature, hashlib.sha256(point).hexdigest())


def _fingerprint(path: Path) -> str:
    """Return the fingerprint of the CA as the registration showed it."""
    try:
        (first, *_) = x509.load_pem_x509_certificates(files.read_file(str(path)))
    except UNREADABLE as cause:
        message = f"The file {path} holds no certificate of a CA that can be read."
        raise BadInput(faults.CLIENT_CONFIGURATION, message) from cause
    return first.fingerprint(hashes.SHA256()).hex()


def _cheated(what: str) -> InternalFault:
    return InternalFault(faults.PROTOCOL_BROKEN, f"The keyring {what}.")
