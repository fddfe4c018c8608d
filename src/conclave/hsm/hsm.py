"""The HSM's service: every operation on HSM, partitions, roles and policies.

Invariant: the answer to a wrong password leaves only after its failure is counted on disk; if the
disk does not take it, the failure counts in memory and the answer says neither right nor wrong.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from hmac import compare_digest
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.crypto.password_hash import new_salt
from conclave.crypto.seal import derive, seal, unseal
from conclave.errors import BadInput, Conflict, CredentialRefused, NotAllowed, NotFound, Unavailable
from conclave.hsm import keys, policies, rules
from conclave.hsm.attempts import AttemptGates
from conclave.hsm.keys import MasterKeys
from conclave.hsm.model import (
    HSM_SO,
    PARTITION_ID_DIGITS,
    SO_ATTEMPTS,
    STORAGE_BYTES,
    Credential,
    HsmState,
    Owner,
    Partition,
)
from conclave.hsm.storage import (
    MASTER_KEY_NAME,
    STATE_NAME,
    StateFile,
    make_master_key,
    read_master_key,
)
from conclave.hsm.views import (
    CredentialVersion,
    HsmInfo,
    PartitionId,
    PartitionInfo,
    PolicyInfo,
    RoleId,
    RoleInfo,
)

PasswordHasher = Callable[[bytes, bytes, str], Awaitable[bytes]]
"""hasher(password, salt, source) -> 32 bytes of Argon2id, made by the login process (C8)."""
SoLockout = Literal["zeroize", "backoff"]
Result = TypeVar("Result")

ROLE_NAMES: Final = {
    RoleId.PO: "Partition SO",
    RoleId.CO: "Crypto Officer",
    RoleId.CU: "Crypto User",
}
_SERIAL_RANGE: Final = (100_000, 10_000_000)
