"""Token objects at rest: sealed attributes, and the proof that a tenant made a public one.

Invariant: a private object opens under the keyring's key KK only.  A public object is readable with
a key that every authorized member has, so its seal proves nothing to its tenant; its MAC under KK
does, and is checked whenever a logged-in role uses the object (rule C6).

The additional data name keyring, object, version and kind, so no blob stands in for another.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from conclave.crypto.seal import TAG_BYTES, SealBroken, derive, seal, unseal
from conclave.ids import KeyringId, ObjectId

_PRIVATE: Final = b"private object"
_PUBLIC: Final = b"public object"


@dataclass(frozen=True, slots=True)
class ObjectName:
    """What the blob of a token object is bound to; `version` belongs to the blob."""

    keyring_id: KeyringId
    object_id: ObjectId
    version: int

    def context(self, kind: bytes) -> bytes:
        """Return the name as additional data."""
        return kind + self.keyring_id + self.object_id + self.version.to_bytes(8, "big")


@dataclass(frozen=True, slots=True, repr=False)
class PublicSeal:
    """Open and seal public token objects; `key` is derived from the workers' public key."""

    key: bytes

    @classmethod
    def of(cls, public_key: bytes) -> PublicSeal:
        """Derive the key from the one that the cluster process gives to workers."""
        return cls(derive(public_key, "object"))

    def seal(self, name: ObjectName, attributes: bytes) -> bytes:
        """Return the blob of a public object."""
        return seal(self.key, attributes, name.context(_PUBLIC))

    def unseal(self, name: ObjectName, blob: bytes) -> bytes:
        """Return the encoded attributes; raise SealBroken."""
        return unseal(self.key, blob, name.context(_PUBLIC))


@dataclass(frozen=True, slots=True, repr=False)
class PrivateSeal:
    """Open and seal private token objects, make and check the MACs of public ones."""

    key: bytes
    mac_key: bytes

    @classmethod
    def of(cls, keyring_key: bytes) -> PrivateSeal:
        """Derive both keys from KK."""
        return cls(derive(keyring_key, "object"), derive(keyring_key, "public object mac"))

    def seal(self, name: ObjectName, attributes: bytes) -> bytes:
        """Return the blob of a private object."""
        return seal(self.key, attributes, name.context(_PRIVATE))

    def unseal(self, name: ObjectName, blob: bytes) -> bytes:
        """Return the encoded attributes; raise SealBroken."""
        return unseal(self.key, blob, name.context(_PRIVATE))

    def mac(self, name: ObjectName, blob: bytes) -> bytes:
        """Return the MAC of a public object's blob."""
        return hmac.digest(self.mac_key, name.context(_PUBLIC) + blob, hashlib.sha256)

    def check_mac(self, name: ObjectName, blob: bytes, mac: bytes) -> None:
        """Raise SealBroken unless a holder of KK made this public object."""
        if not hmac.compare_digest(self.mac(name, blob), mac):
            raise SealBroken


def tag_of(blob: bytes) -> bytes:
    """Return the AEAD tag, by which caches tell one content of an object from another (C10)."""
    return blob[-TAG_BYTES:]
