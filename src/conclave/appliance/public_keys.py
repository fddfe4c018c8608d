"""The keys that prove a user besides the password: SSH public keys, and certificates.

They live in the list of users, so a cluster's are on every appliance and replace a joiner's.
Taking one away voids the user's logins, since it may have proven them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_ssh_public_key

from conclave import faults
from conclave.appliance.user_list import Change, UserTable, find, user_of
from conclave.appliance.user_store import PublicKey, UserCredentialVersion, UserKeys
from conclave.appliance.users import Users
from conclave.errors import BadInput, Conflict, LimitReached, NotFound

MAX_KEYS: Final = 32
"""Of one user, and as many certificates."""
MAX_KEY_CHARACTERS: Final = 8192
RSA_BITS: Final = (2048, 8192)
_COMMENT_CHARACTERS: Final = 128
_KINDS: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)


def parse_public_key(line: str) -> PublicKey:
    """Read one line as OpenSSH writes it (`kind base64 comment`); raise BadInput."""
    kind, _, rest = line.strip().partition(" ")
    data, _, comment = rest.strip().partition(" ")
    if kind not in _KINDS or len(line) > MAX_KEY_CHARACTERS:
        message = f"key must begin with one of {', '.join(_KINDS)}; it begins with {kind[:32]!r}."
        raise BadInput(faults.BAD_REQUEST, message)
    try:
        blob = base64.b64decode(data, validate=True)
        key = load_ssh_public_key(f"{kind} {data}".encode())
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        message = f"key is no public key of the kind {kind} in base64."
        raise BadInput(faults.BAD_REQUEST, message) from None
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa("key", key)
    elif not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise BadInput(faults.BAD_REQUEST, "key must be RSA, ECDSA or Ed25519.")
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    shown = "".join(each for each in comment.strip() if each.isprintable())
    return PublicKey(kind, data, f"SHA256:{digest}", shown[:_COMMENT_CHARACTERS])


def parse_certificate(pem: str) -> x509.Certificate:
    """Read a PEM certificate of an RSA key; raise BadInput.

    Old clients put its body on one line and its line ends as the two characters backslash and n.
    """
    text = pem.replace("\\n", "\n").replace("\r", "").strip()
    try:
        certificate = x509.load_pem_x509_certificate(text.encode())
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        message = "certificate is no X.509 certificate in PEM."
        raise BadInput(faults.BAD_REQUEST, message) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadInput(faults.BAD_REQUEST, "certificate must be of an RSA key.")
    _check_rsa("certificate", key)
    return certificate


def _check_rsa(field: str, key: rsa.RSAPublicKey) -> None:
    low, high = RSA_BITS
    if not low <= key.key_size <= high:
        message = f"{field} must have an RSA key of {low} to {high} bits; it has {key.key_size}."
        raise BadInput(faults.BAD_REQUEST, message)


def fingerprint_of(certificate_der: bytes) -> str:
    """Return what a certificate is called by: SHA-256 of its DER, hexadecimal."""
    return hashlib.sha256(certificate_der).hexdigest()


class PublicKeys:
    """All users' SSH keys and certificates."""

    def __init__(self, users: Users) -> None:
        self._users = users

    def of(self, user_id: str) -> tuple[PublicKey, ...]:
        """Return a user's keys in the order in which they were added."""
        return self._keys(user_id).public_keys

    def holds(self, user_id: str, kind: str, data: str) -> bool:
        """Tell whether a user added that key."""
        return any((each.kind, each.data) == (kind, data) for each in self.of(user_id))

    def certificates_of(self, user_id: str) -> tuple[bytes, ...]:
        """Return a user's certificates, DER."""
        return self._keys(user_id).certificates

    async def add(self, user_id: str, key: PublicKey) -> None:
        """Add a key; raise Conflict or LimitReached."""

        def added(keys: UserKeys) -> UserKeys:
            known = {each.fingerprint for each in keys.public_keys}
            _require_new(key.fingerprint in known, len(known), user_id, key.fingerprint)
            return msgspec.structs.replace(keys, public_keys=(*keys.public_keys, key))

        await self._users.apply(_changing(user_id, added))

    async def delete(self, user_id: str, fingerprint: str) -> None:
        """Remove a key and void the user's logins; raise NotFound."""

        def removed(keys: UserKeys) -> UserKeys:
            left = tuple(each for each in keys.public_keys if each.fingerprint != fingerprint)
            _require_found(len(left) < len(keys.public_keys), user_id, fingerprint)
            return msgspec.structs.replace(keys, public_keys=left)

        await self._users.apply(_changing(user_id, removed, voids=True))

    async def clear(self, user_id: str) -> None:
        """Remove all keys of a user and void the user's logins."""

        def cleared(keys: UserKeys) -> UserKeys:
            return msgspec.structs.replace(keys, public_keys=())

        await self._users.apply(_changing(user_id, cleared, voids=True))

    async def add_certificate(self, user_id: str, certificate: x509.Certificate) -> str:
        """Add a certificate and return its fingerprint; raise Conflict or LimitReached."""
        der = certificate.public_bytes(Encoding.DER)

        def added(keys: UserKeys) -> UserKeys:
            known = keys.certificates
            _require_new(der in known, len(known), user_id, fingerprint_of(der))
            return msgspec.structs.replace(keys, certificates=(*known, der))

        await self._users.apply(_changing(user_id, added))
        return fingerprint_of(der)

    async def delete_certificate(self, user_id: str, fingerprint: str) -> None:
        """Remove a certificate and void the user's logins; raise NotFound."""

        def removed(keys: UserKeys) -> UserKeys:
            left = tuple(der for der in keys.certificates if fingerprint_of(der) != fingerprint)
            _require_found(len(left) < len(keys.certificates), user_id, fingerprint)
            return msgspec.structs.replace(keys, certificates=left)

        await self._users.apply(_changing(user_id, removed, voids=True))

    def _keys(self, user_id: str) -> UserKeys:
        stored = user_of(self._users.table, user_id)
        return UserKeys() if stored is None else stored.keys


def _changing(
    user_id: str, changed: Callable[[UserKeys], UserKeys], *, voids: bool = False
) -> Change:
    version = UserCredentialVersion(os.urandom(16))

    def change(table: UserTable) -> UserTable:
        stored = find(table, user_id)
        keys = changed(stored.keys)
        if keys == stored.keys:
            return table
        kept = version if voids else stored.version
        return {**table, user_id: replace(stored, keys=keys, version=kept)}

    return change


def _require_new(known: bool, count: int, user_id: str, fingerprint: str) -> None:
    if known:
        message = f"User {user_id} has the key {fingerprint} already."
        raise Conflict(faults.KEY_EXISTS, message)
    if count >= MAX_KEYS:
        message = f"User {user_id} has {MAX_KEYS} keys, which is the most there can be."
        raise LimitReached(faults.KEY_LIMIT, message)


def _require_found(found: bool, user_id: str, fingerprint: str) -> None:
    if not found:
        message = f"User {user_id} has no key {fingerprint[:80]!r}."
        raise NotFound(faults.KEY_NOT_FOUND, message)
