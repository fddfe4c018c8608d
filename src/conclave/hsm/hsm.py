"""The HSM's service: every operation on HSM, partitions, roles and policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

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


class Hsm:
    """One HSM. Reads answer at once from memory; changes are durable before they return.

    Methods check credentials, states and counters, never a caller's rights: who may call is the
    declared operation's business. `source` names where an attempt comes from.
    """

    @classmethod
    async def open(cls, directory: Path, hasher: PasswordHasher, **settings: object) -> Hsm:
        """Open (or make, with a new serial) the HSM in `directory`."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the store."""
        raise NotImplementedError

    # ---- HSM

    def info(self) -> HsmInfo:
        """Return serial, label and state."""
        raise NotImplementedError

    async def initialize(
        self,
        label: str,
        so_password: bytes,
        domain: bytes,
        *,
        confirmed: bool = False,
        source: str = "local",
    ) -> None:
        """Initialise; an initialised HSM loses all its partitions, so that needs `confirmed`."""
        raise NotImplementedError

    async def verify_so(self, password: bytes, *, source: str = "local") -> CredentialVersion:
        """Check the SO's password; the third consecutive failure zeroizes (rule K5)."""
        raise NotImplementedError

    async def change_so_password(self, old: bytes, new: bytes, *, source: str = "local") -> None:
        """Change the SO's password."""
        raise NotImplementedError

    def so_login_is_current(self, version: CredentialVersion) -> bool:
        """Tell whether a login made with verify_so still stands."""
        raise NotImplementedError

    def policies(self) -> tuple[PolicyInfo, ...]:
        """Return the HSM's policies in the order of their numbers."""
        raise NotImplementedError

    async def change_policy(self, number: int, value: int, *, confirmed: bool = False) -> None:
        """Set a policy; a destructive one needs `confirmed`."""
        raise NotImplementedError

    # ---- partitions

    async def create_partition(
        self, name: str, *, version: int = 0, has_pso: bool = True, size: int | None = None
    ) -> PartitionId:
        """Make a partition of `size` bytes, or the default share."""
        raise NotImplementedError

    async def delete_partition(self, partition_id: str) -> None:
        """Destroy a partition with its roles and SMK."""
        raise NotImplementedError

    def partitions(self) -> tuple[PartitionInfo, ...]:
        """Return all partitions, oldest first."""
        raise NotImplementedError

    def partition(self, partition_id: str) -> PartitionInfo:
        """Return one partition; raise NotFound."""
        raise NotImplementedError

    async def initialize_partition(
        self,
        partition_id: str,
        label: str | None,
        password: bytes,
        domain: bytes,
        *,
        source: str = "local",
    ) -> None:
        """Initialise a partition and its PO; `label` None takes the name."""
        raise NotImplementedError

    def partition_policies(self, partition_id: str) -> tuple[PolicyInfo, ...]:
        """Return a partition's policies in the order of their numbers."""
        raise NotImplementedError

    async def change_partition_policy(
        self, partition_id: str, number: int, value: int, *, confirmed: bool = False
    ) -> None:
        """Set a partition's policy; a destructive one needs `confirmed`."""
        raise NotImplementedError

    # ---- roles of a partition

    def roles(self, partition_id: str) -> tuple[RoleInfo, ...]:
        """Return the partition's roles."""
        raise NotImplementedError

    def role(self, partition_id: str, role_id: str) -> RoleInfo:
        """Return one role; raise NotFound."""
        raise NotImplementedError

    async def verify_role(
        self, partition_id: str, role_id: str, password: bytes, *, source: str = "local"
    ) -> CredentialVersion:
        """Check a role's password: refused when locked, wrong, or a first credential unchanged."""
        raise NotImplementedError

    def role_login_is_current(
        self, partition_id: str, role_id: str, version: CredentialVersion
    ) -> bool:
        """Tell whether a login made with verify_role still stands."""
        raise NotImplementedError

    async def initialize_role(
        self, partition_id: str, role_id: RoleId | str, password: bytes, *, source: str = "local"
    ) -> None:
        """Set the first password of CO or CU; the CO's makes partition key and SMK."""
        raise NotImplementedError

    async def change_role_password(
        self,
        partition_id: str,
        role_id: str,
        old: bytes,
        new: bytes,
        *,
        source: str = "local",
    ) -> None:
        """Change a role's password; the CO's re-wraps the partition key."""
        raise NotImplementedError

    async def reset_role(
        self,
        partition_id: str,
        role_id: str,
        password: bytes | None = None,
        *,
        confirmed: bool = False,
        source: str = "local",
    ) -> None:
        """Unlock a role (no password), or give it a new first password.

        A new CO password cannot open the partition key, so it makes a new key and a new SMK: what
        was sealed under the old SMK is lost, hence `confirmed`.
        """
        raise NotImplementedError

    # ---- for the cluster service

    def cluster_partition(self) -> PartitionInfo:
        """Return the one V1 partition a cluster may use; raise NotAllowed naming the cure (S1)."""
        raise NotImplementedError

    async def unlock_smk(
        self, partition_label: str, co_password: bytes, *, source: str = "local"
    ) -> bytes:
        """Return the SMK of the cluster partition of that label; counts failures."""
        raise NotImplementedError

    async def verify_cluster_co(
        self, co_password: bytes, partition_label: str | None = None, *, source: str = "local"
    ) -> PartitionInfo:
        """Check the CO of the cluster partition, for keyring create, unlock and delete."""
        raise NotImplementedError

    def seal_local(self, plaintext: bytes, purpose: str) -> bytes:
        """Seal under the HSM master key, for what the appliance keeps on disk."""
        raise NotImplementedError

    def unseal_local(self, sealed: bytes, purpose: str) -> bytes:
        """Open what seal_local made for the same purpose; raise SealBroken."""
        raise NotImplementedError
