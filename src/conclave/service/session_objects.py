"""Session objects: sealed blobs that live at the client.

Invariant: a blob opens only for the login (private) or the process (public) that it was made for,
on the same keyring of the same cluster, and only under its own object id (rule C12).  The login id
survives the renewal of tickets and dies with C_Logout, and the private blobs with it.  The server
believes nothing about such an object but the attributes inside its blob.

Form: kind (1 byte) ‖ object id (16 bytes) ‖ nonce ‖ ciphertext ‖ tag.  Every blob is longer than 16
bytes, which tells it from the id of a token object.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from conclave.crypto.seal import NONCE_BYTES, OVERHEAD_BYTES, SealBroken, derive
from conclave.ids import ClientId, ClusterId, KeyringId, LoginId, ObjectId, ProcessId
from conclave.service.wire import OBJECT_ID_BYTES

KIND_PRIVATE: Final = 1
KIND_PUBLIC: Final = 2
_HEAD_BYTES: Final = 1 + OBJECT_ID_BYTES
MIN_BLOB_BYTES: Final = _HEAD_BYTES + OVERHEAD_BYTES + 1


@dataclass(frozen=True, slots=True)
class Holder:
    """Where a session object belongs."""

    cluster_id: ClusterId
    keyring_id: KeyringId
    client_id: ClientId


class SessionSeal:
    """Make and open the blobs of one login or of one process; `owner` is its id."""

    __slots__ = ("_aead", "_context", "kind")

    def __init__(self, key: bytes, kind: int, holder: Holder, owner: bytes) -> None:
        self.kind = kind
        self._aead = AESGCM(key)
        parts = (holder.cluster_id.encode(), holder.keyring_id, holder.client_id, owner)
        # Lengths stand before the parts, so that no two lists of parts run together.
        named = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        self._context = b"conclave session object" + bytes([kind]) + named

    def seal(self, object_id: ObjectId, attributes: bytes) -> bytes:
        """Return the blob of a session object."""
        nonce = os.urandom(NONCE_BYTES)
        body = self._aead.encrypt(nonce, attributes, self._context + object_id)
        return bytes([self.kind]) + object_id + nonce + body

    def unseal(self, blob: bytes) -> tuple[ObjectId, bytes]:
        """Return id and encoded attributes; raise SealBroken."""
        if len(blob) < MIN_BLOB_BYTES or blob[0] != self.kind:
            raise SealBroken
        object_id = ObjectId(blob[1:_HEAD_BYTES])
        nonce_end = _HEAD_BYTES + NONCE_BYTES
        try:
            plain = self._aead.decrypt(
                blob[_HEAD_BYTES:nonce_end], blob[nonce_end:], self._context + object_id
            )
        except InvalidTag:
            raise SealBroken from None
        return object_id, plain


def private_session_seal(keyring_key: bytes, holder: Holder, login_id: LoginId) -> SessionSeal:
    """Return the seal of one login's private session objects."""
    key = derive(keyring_key, "session object", login_id)
    return SessionSeal(key, KIND_PRIVATE, holder, login_id)


def public_session_seal(public_key: bytes, holder: Holder, process_id: ProcessId) -> SessionSeal:
    """Return the seal of one client process's public session objects.

    They are there before a login and outlive a logout, as the standard wants it, so the process id
    takes the login id's place.
    """
    key = derive(public_key, "public session object", holder.client_id + process_id)
    return SessionSeal(key, KIND_PUBLIC, holder, process_id)
