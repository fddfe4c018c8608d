"""The HSM's state: one immutable document, sealed as a whole under the HSM master key.

Every operation maps one state to the next (`conclave.hsm.rules`); the document is small (an HSM
has at most a hundred partitions), so replacing it whole makes every operation all or nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from conclave.hsm.views import CredentialVersion, PartitionId, RoleId

SO_ATTEMPTS: Final = 3
PO_ATTEMPTS: Final = 10
MAX_PARTITIONS: Final = 100
STORAGE_BYTES: Final = 33_554_432
DEFAULT_PARTITION_BYTES: Final = STORAGE_BYTES // MAX_PARTITIONS
PARTITION_ID_DIGITS: Final = 13


class Sealed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the stored structures; a repr names the fields only."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.__struct_fields__)})"


class Credential(Sealed, frozen=True, kw_only=True):
    """One password: `sealed` is S_HMK(S_KEK(secret)); the CO's secret is the partition key."""

    salt: bytes
    sealed: bytes
    version: CredentialVersion
    failures: int = 0
    first: bool = False
    """Set by another role and not changed since (HSM policy 21)."""


class Partition(Sealed, frozen=True, kw_only=True):
    """One partition; it is initialised once the PO has a credential."""

    partition_id: PartitionId
    name: str
    version: int
    has_pso: bool
    size: int
    label: str = ""
    sealed_domain: bytes = b""
    sealed_smk: bytes = b""
    object_count: int = 0
    policies: dict[int, int] = {}
    roles: dict[RoleId, Credential] = {}


class HsmState(Sealed, frozen=True, kw_only=True):
    """The whole HSM; it is initialised once the SO has a credential."""

    serial: str
    label: str = ""
    zeroized: bool = False
    so: Credential | None = None
    sealed_domain: bytes = b""
    policies: dict[int, int] = {}
    partitions: tuple[Partition, ...] = ()


class Owner(msgspec.Struct, frozen=True):
    """Whose credential: the HSM SO's (`partition_id` None) or that of a partition's role."""

    role: RoleId
    partition_id: PartitionId | None = None

    @property
    def is_so(self) -> bool:
        """Tell whether this is the HSM SO."""
        return self.partition_id is None

    def aad(self) -> bytes:
        """Return what binds a sealed credential to its owner."""
        return f"conclave credential {self.partition_id or 'hsm'} {self.role.value}".encode()


HSM_SO: Final = Owner(RoleId.PO)
