"""The file of a secure package: manifest, signature, sealed payload.

Invariant: nothing that a package holds is believed before a key that the appliance trusts has
signed it, and nothing is unpacked from a payload that is not, byte by byte, the signed one.  The
signature covers the manifest, the manifest fixes the payload's length and SHA-256, and the payload
opens with the authorization code only.

::

    magic (8) ‖ length of the manifest (4, big-endian) ‖ manifest (JSON) ‖ Ed25519 signature (64)
    ‖ payload: a gzipped tar in chunks of 65536 bytes, each sealed by AES-256-GCM

A chunk's nonce is its number (11 bytes, big-endian) and 1 for the last one, 0 for the others (the
STREAM construction), under a key that HKDF makes of the authorization code and a random salt: so no
chunk can be left out, moved or repeated.  What is signed is a context string and everything before
the signature (RFC 8032).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave import faults
from conclave.errors import BadInput, CredentialRefused, NotAllowed
from conclave.packages.manifest import MANIFEST_MAX_BYTES, Manifest, parse_manifest

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAGIC: Final = b"SPKG\r\n\x1a\n"
SALT_BYTES: Final = 32
CHUNK_BYTES: Final = 65_536
SIGNATURE_BYTES: Final = 64
_TAG_BYTES: Final = 16
_SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + _TAG_BYTES
_LENGTH_BYTES: Final = 4
_SIGNED_CONTEXT: Final = b"conclave secure package 1\x00"
_SEAL_CONTEXT: Final = b"conclave package payload 1"


@dataclass(frozen=True, slots=True)
class SignedPackage:
    """A package whose signature holds; `payload_offset` is where its sealed files begin."""

    manifest: Manifest
    signer: str
    """Fingerprint of the key that signed it."""
    payload_offset: int


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a release key's 32 bytes, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


# ---------------------------------------------------------------- writing


def sealed_chunks(plaintext: Iterable[bytes], code: bytes, salt: bytes) -> Iterator[bytes]:
    """Seal a payload chunk by chunk under the authorization code."""
    aead = AESGCM(_payload_key(code, salt))
    held = b""
    number = 0
    for piece in plaintext:
        held += piece
        # More than one chunk is held before one goes out: the last one must know that it is.
        while len(held) > CHUNK_BYTES:
            yield aead.encrypt(_nonce(number, last=False), held[:CHUNK_BYTES], None)
            held = held[CHUNK_BYTES:]
            number += 1
    yield aead.encrypt(_nonce(number, last=True), held, None)


def signed_head(encoded_manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """Return all that precedes the payload."""
    head = MAGIC + len(encoded_manifest).to_bytes(_LENGTH_BYTES, "big") + encoded_manifest
    return head + key.sign(_SIGNED_CONTEXT + head)


# ---------------------------------------------------------------- reading


def read_signed(stream: BinaryIO, trusted: Sequence[Ed25519PublicKey]) -> SignedPackage:
    """Read manifest and signature; raise BadInput when damaged, NotAllowed when not trusted."""
    magic = stream.read(len(MAGIC))
    if magic != MAGIC:
        raise BadInput(faults.PACKAGE_DAMAGED, "The file is no secure package (.spkg).")
    length_field = _exactly(stream, _LENGTH_BYTES)
    length = int.from_bytes(length_field, "big")
    if length > MANIFEST_MAX_BYTES:
        message = (
            f"The package's manifest would have {length} bytes; {MANIFEST_MAX_BYTES} are allowed."
        )
        raise BadInput(faults.PACKAGE_DAMAGED, message)
    encoded = _exactly(stream, length)
    signature = _exactly(stream, SIGNATURE_BYTES)
    signer = _signer(_SIGNED_CONTEXT + magic + length_field + encoded, signature, trusted)
    offset = len(MAGIC) + _LENGTH_BYTES + length + SIGNATURE_BYTES
    return SignedPackage(parse_manifest(encoded), signer, offset)


def check_payload(stream: BinaryIO, package: SignedPackage) -> None:
    """Read the whole payload; raise BadInput when it is not the signed one."""
    stream.seek(package.payload_offset)
    digest = hashlib.sha256()
    left = package.manifest.payload_bytes
    while left and (piece := stream.read(min(left, 2**20))):
        digest.update(piece)
        left -= len(piece)
    if left:
        raise BadInput(faults.PACKAGE_DAMAGED, f"The package is cut off: {left} bytes are missing.")
    if stream.read(1):
        raise BadInput(faults.PACKAGE_DAMAGED, "Something follows the end of the package.")
    if digest.hexdigest() != package.manifest.payload_sha256:
        message = "The package was damaged on its way: its payload is not the signed one."
        raise BadInput(faults.PACKAGE_DAMAGED, message)


def check_code(stream: BinaryIO, package: SignedPackage, code: bytes) -> None:
    """Open the first chunk; raise CredentialRefused when the authorization code is another's."""
    stream.seek(package.payload_offset)
    PayloadReader(stream, package, code).readinto(bytearray(1))


class PayloadReader(io.RawIOBase):
    """The opened payload as a file to read from.

    Reading raises CredentialRefused for the wrong authorization code and BadInput for a payload
    that changed after it was checked; `finish` says whether all of it was the signed one.
    """

    def __init__(self, stream: BinaryIO, package: SignedPackage, code: bytes) -> None:
        self._stream = stream
        self._manifest = package.manifest
        self._aead = AESGCM(_payload_key(code, bytes.fromhex(package.manifest.payload_salt)))
        self._left = package.manifest.payload_bytes
        self._digest = hashlib.sha256()
        self._number = 0
        self._opened = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill `buffer` with what comes next; return its length, 0 at the end."""
        if not self._opened and self._left:
            self._opened = memoryview(self._next_chunk())
        room = memoryview(buffer).cast("B")
        taken = min(len(room), len(self._opened))
        room[:taken] = self._opened[:taken]
        self._opened = self._opened[taken:]
        return taken

    def finish(self) -> None:
        """Raise BadInput unless the whole payload was read and is the signed one."""
        while self._left:
            self._next_chunk()
        if self._digest.hexdigest() != self._manifest.payload_sha256:
            message = "The package was changed while it was read."
            raise BadInput(faults.PACKAGE_DAMAGED, message)

    def _next_chunk(self) -> bytes:
        length = min(self._left, _SEALED_CHUNK_BYTES)
        sealed = _exactly(self._stream, length)
        self._left -= length
        self._digest.update(sealed)
        nonce = _nonce(self._number, last=not self._left)
        self._number += 1
        try:
            return self._aead.decrypt(nonce, sealed, None)
        except InvalidTag:
            # The payload is the signed one, so it is the code that does not fit.
            message = "The authorization code does not belong to this package."
            raise CredentialRefused(faults.PACKAGE_CODE, message) from None


def _payload_key(code: bytes, salt: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=_SEAL_CONTEXT).derive(code)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _exactly(stream: BinaryIO, length: int) -> bytes:
    found = stream.read(length)
    if len(found) != length:
        message = f"The package is cut off: {length - len(found)} bytes are missing."
        raise BadInput(faults.PACKAGE_DAMAGED, message)
    return found


def _signer(signed: bytes, signature: bytes, trusted: Sequence[Ed25519PublicKey]) -> str:
    for key in trusted:
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            continue
        return fingerprint(key)
    message = (
        "No release key that this appliance trusts has signed the package; it trusts"
        f" {len(trusted)}: {', '.join(fingerprint(key)[:16] for key in trusted) or 'none'}."
    )
    raise NotAllowed(faults.PACKAGE_SIGNATURE, message)
