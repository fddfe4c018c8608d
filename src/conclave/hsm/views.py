"""What callers see of the HSM: frozen values without any secret."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

PartitionId = NewType("PartitionId", str)
"""13 decimal digits that name a partition; its serial number."""
CredentialVersion = NewType("CredentialVersion", bytes)
"""16 random bytes, new whenever a credential is set: a login made with an older one is void."""


class RoleId(enum.StrEnum):
    """Roles of a partition."""

    PO = "so"
    CO = "co"
    CU = "cu"


@dataclass(frozen=True, slots=True)
class HsmInfo:
    """The HSM as shows report it; storage in bytes."""

    serial: str
    label: str
    initialized: bool
    zeroized: bool
    so_attempts_left: int
    """Wrong SO passwords left until zeroization; 0 when zeroized."""
    storage_total: int
    storage_used: int


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """One policy of the HSM or of a partition."""

    number: int
    name: str
    value: int
    lowest: int
    highest: int
    destructive: bool
    """A change destroys what the policy guards, so callers ask before they confirm."""


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """One partition; `label` is empty until it is initialised."""

    partition_id: PartitionId
    name: str
    label: str
    version: int
    has_pso: bool
    size: int
    initialized: bool
    object_count: int


@dataclass(frozen=True, slots=True)
class RoleInfo:
    """One role of a partition."""

    role_id: RoleId
    name: str
    initialized: bool
    locked_out: bool
    login_attempts_left: int
    to_be_changed: bool
    """The first credential is still unchanged and allows nothing but its change (policy 21)."""
