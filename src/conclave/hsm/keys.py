"""The HSM's key hierarchy.

Invariant: a partition key never exists under the HSM master key alone nor under a password alone.
It is sealed under the CO's password first and the master key around that, so a copied state
directory, which holds the master key's file, opens no SMK without the CO's password.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.crypto.seal import SealBroken, derive, new_key, seal, unseal
from conclave.errors import InternalFault
from conclave.hsm.model import Credential, Owner
from conclave.hsm.views import CredentialVersion

_MARKER: Final = b"conclave credential"
"""The secret of a role that guards no key: that it opens proves the password."""
_VERSION_BYTES: Final = 16


@dataclass(frozen=True, slots=True, repr=False)
class MasterKeys:
    """Keys derived from the HSM master key, one for each purpose."""

    state: bytes
    credential: bytes
    domain: bytes
    local: bytes

    @classmethod
    def derive(cls, master_key: bytes) -> MasterKeys:
        """Derive all of them."""
        return cls(
            state=derive(master_key, "hsm state"),
            credential=derive(master_key, "hsm credential"),
            domain=derive(master_key, "hsm cloning domain"),
            local=derive(master_key, "hsm local"),
        )


def new_credential(
    keys: MasterKeys,
    owner: Owner,
    salt: bytes,
    password_key: bytes,
    *,
    secret: bytes = _MARKER,
    first: bool = False,
) -> Credential:
    """Make a credential that yields `secret` to who knows the password."""
    inner = seal(password_key, secret, owner.aad())
    return Credential(
        salt=salt,
        sealed=seal(keys.credential, inner, owner.aad()),
        version=CredentialVersion(os.urandom(_VERSION_BYTES)),
        first=first,
    )


def open_credential(
    keys: MasterKeys, owner: Owner, credential: Credential, password_key: bytes
) -> bytes | None:
    """Return the credential's secret, or None for a wrong password.

    Raises InternalFault when the outer layer is broken, which no password can cause.
    """
    try:
        inner = unseal(keys.credential, credential.sealed, owner.aad())
    except SealBroken as cause:
        message = f"The stored credential of role {owner.role.value} was damaged."
        raise InternalFault(faults.INTERNAL, message) from cause
    try:
        return unseal(password_key, inner, owner.aad())
    except SealBroken:
        return None


def new_partition_key() -> bytes:
    """Return a fresh partition key."""
    return new_key()


def new_smk(partition_key: bytes, partition_id: str) -> bytes:
    """Return a fresh SMK, sealed under the partition key."""
    return seal_smk(partition_key, partition_id, new_key())


def seal_smk(partition_key: bytes, partition_id: str, smk: bytes) -> bytes:
    """Seal an SMK under the partition key."""
    return seal(partition_key, smk, _smk_aad(partition_id))


def open_smk(partition_key: bytes, partition_id: str, sealed_smk: bytes) -> bytes:
    """Return the SMK."""
    return unseal(partition_key, sealed_smk, _smk_aad(partition_id))


def seal_domain(keys: MasterKeys, domain: bytes, holder: str) -> bytes:
    """Seal a cloning domain; `holder` is a partition's id or the HSM's serial."""
    return seal(keys.domain, domain, b"conclave domain " + holder.encode())


def open_domain(keys: MasterKeys, sealed: bytes, holder: str) -> bytes:
    """Return a cloning domain."""
    return unseal(keys.domain, sealed, b"conclave domain " + holder.encode())


def _smk_aad(partition_id: str) -> bytes:
    return f"conclave smk {partition_id}".encode()
