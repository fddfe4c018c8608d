"""The HSM's service: every operation on HSM, partitions, roles and policies."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hmac import compare_digest
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.crypto.password_hash import DEFAULT_COST, Argon2Cost
from conclave.crypto.seal import derive, seal, unseal
from conclave.errors import ConclaveError, NotAllowed, NotFound
from conclave.hsm import credentials, keys, policies, rules, shows
from conclave.hsm.core import HsmCore, PasswordHasher, SoLockout
from conclave.hsm.model import (
    HSM_SO,
    PARTITION_ID_DIGITS,
    HsmState,
    Owner,
    Partition,
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

_LOWEST_SERIAL: Final = 100_000
_SERIALS: Final = 9_900_000
_LOCAL_AAD: Final = b"conclave local "


class Hsm:
    """One HSM. Reads answer at once from memory; changes are durable before they return.

    Methods check credentials, states and counters, never a caller's rights: who may call is the
    declared operation's business. `source` names where an attempt comes from.
    """

    def __init__(self, core: HsmCore) -> None:
        self._core = core
        self.counts: Final = core.counts

    @classmethod
    async def open(
        cls,
        directory: Path,
        hasher: PasswordHasher,
        *,
        cost: Argon2Cost = DEFAULT_COST,
        so_lockout: SoLockout = "zeroize",
        boot_ms: Callable[[], int] = boot_time_ms,
    ) -> Hsm:
        """Open (or make, with a new random serial) the HSM in `directory`.

        `cost` is of passwords that are set from now on; those that are stored keep theirs.
        """
        core = HsmCore(hasher, cost, so_lockout, boot_ms)
        await core.open(directory, str(_LOWEST_SERIAL + secrets.randbelow(_SERIALS)))
        return cls(core)

    async def close(self) -> None:
        """Close the store."""
        await self._core.close()

    def on_smk_lost(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every change that destroyed or replaced a partition's SMK."""
        self._core.on_smk_lost = listener

    @property
    def _state(self) -> HsmState:
        return self._core.state

    # ---- HSM

    def info(self) -> HsmInfo:
        """Return serial, label and state."""
        return shows.hsm_info(self._state)

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
        self.check_initialization(label, so_password, domain)
        rules.check_initialize(self._state, label, confirmed=confirmed)
        salt, key = await self._core.password_key(so_password, source)
        so = keys.new_credential(self._core.keys, HSM_SO, salt, key)
        sealed_domain = keys.seal_domain(self._core.keys, domain, self._state.serial)

        def transition(state: HsmState) -> HsmState:
            rules.check_initialize(state, label, confirmed=confirmed)
            return rules.initialized(state, label, so, sealed_domain)

        await self._core.apply(transition)

    @staticmethod
    def check_initialization(label: str, so_password: bytes, domain: bytes) -> None:
        """Refuse words that no HSM can be initialised with, in whatever state it is."""
        rules.check_hsm_label(label)
        rules.check_password("password", so_password)
        rules.check_domain(domain)

    def check_reset(self, partition_id: str, role_id: str, password: bytes) -> None:
        """Refuse a role that cannot be reset, or a password that it cannot have."""
        owner = _owner(partition_id, role_id)
        partition = rules.check_initialize_role(self._state, owner, again=True)
        rules.check_password("password", password, rules.shortest_password(partition))

    async def verify_so(self, password: bytes, *, source: str = "local") -> CredentialVersion:
        """Check the SO's password; the third consecutive failure zeroizes (rule K5)."""
        return (await self._core.prove(HSM_SO, password, source)).version

    async def change_so_password(self, old: bytes, new: bytes, *, source: str = "local") -> None:
        """Change the SO's password."""
        await credentials.change(self._core, HSM_SO, old, new, source)

    def so_login_is_current(self, version: CredentialVersion) -> bool:
        """Tell whether a login made with verify_so still stands."""
        return self._is_current(HSM_SO, version)

    def policies(self) -> tuple[PolicyInfo, ...]:
        """Return the HSM's policies in the order of their numbers."""
        return policies.list_policies(policies.HSM_POLICIES, self._state.policies)

    async def change_policy(self, number: int, value: int, *, confirmed: bool = False) -> None:
        """Set a policy; a destructive one needs `confirmed`."""
        await self._core.apply(
            lambda state: rules.with_policy(state, number, value, confirmed=confirmed)
        )

    # ---- partitions

    async def create_partition(
        self, name: str, *, version: int = 0, has_pso: bool = True, size: int | None = None
    ) -> PartitionId:
        """Make a partition of `size` bytes, or the default share."""
        partition_id = _new_partition_id(self._state)
        await self._core.apply(
            lambda state: rules.with_new_partition(
                state, partition_id, name, version=version, has_pso=has_pso, size=size
            )
        )
        return partition_id

    async def delete_partition(self, partition_id: str) -> None:
        """Destroy a partition with its roles and SMK."""
        await self._core.apply(lambda state: rules.without_partition(state, partition_id))

    def partitions(self) -> tuple[PartitionInfo, ...]:
        """Return all partitions, oldest first."""
        return tuple(shows.partition_info(partition) for partition in self._state.partitions)

    def partition(self, partition_id: str) -> PartitionInfo:
        """Return one partition; raise NotFound."""
        return shows.partition_info(rules.find_partition(self._state, partition_id))

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
        await credentials.initialize_partition(
            self._core, PartitionId(partition_id), label, password, domain=domain, source=source
        )

    def partition_policies(self, partition_id: str) -> tuple[PolicyInfo, ...]:
        """Return a partition's policies in the order of their numbers."""
        partition = rules.find_partition(self._state, partition_id)
        table = policies.partition_table(partition.version)
        return policies.list_policies(table, partition.policies)

    async def change_partition_policy(
        self, partition_id: str, number: int, value: int, *, confirmed: bool = False
    ) -> None:
        """Set a partition's policy; a destructive one needs `confirmed`."""
        await self._core.apply(
            lambda state: rules.with_partition_policy(
                state, partition_id, number, value, confirmed=confirmed
            )
        )

    # ---- roles of a partition

    def roles(self, partition_id: str) -> tuple[RoleInfo, ...]:
        """Return the partition's roles."""
        return tuple(self.role(partition_id, role_id.value) for role_id in RoleId)

    def role(self, partition_id: str, role_id: str) -> RoleInfo:
        """Return one role; raise NotFound."""
        rules.find_partition(self._state, partition_id)
        return shows.role_info(self._state, _owner(partition_id, role_id))

    async def verify_role(
        self, partition_id: str, role_id: str, password: bytes, *, source: str = "local"
    ) -> CredentialVersion:
        """Check a role's password: refused when locked, wrong, or a first credential unchanged."""
        owner = _owner(partition_id, role_id)
        proof = await self._core.prove(owner, password, source)
        rules.require_changed(self._state, owner)
        return proof.version

    def role_login_is_current(
        self, partition_id: str, role_id: str, version: CredentialVersion
    ) -> bool:
        """Tell whether a login made with verify_role still stands."""
        return self._is_current(_owner(partition_id, role_id), version)

    async def initialize_role(
        self, partition_id: str, role_id: RoleId | str, password: bytes, *, source: str = "local"
    ) -> None:
        """Set the first password of CO or CU; the CO's makes partition key and SMK."""
        owner = _owner(partition_id, role_id)
        await credentials.set_first(self._core, owner, password, source, again=False)

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
        owner = _owner(partition_id, role_id)
        await credentials.change(self._core, owner, old, new, source)

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
        owner = _owner(partition_id, role_id)
        rules.check_initialize_role(self._state, owner, again=True)
        if password is None:
            await self._core.apply(lambda state: rules.after_success(state, owner))
            return
        if owner.role is RoleId.CO and not confirmed:
            message = (
                "A new Crypto Officer password destroys the partition's SMK and must be confirmed;"
                " reset without a password to unlock the role only."
            )
            raise NotAllowed(faults.HSM_OPERATION, message)
        await credentials.set_first(self._core, owner, password, source, again=True)

    # ---- for the cluster service

    def cluster_partition(self) -> PartitionInfo:
        """Return the one V1 partition a cluster may use; raise NotAllowed naming the cure (S1)."""
        return shows.partition_info(rules.cluster_partition(self._state))

    async def unlock_smk(
        self, partition_label: str, co_password: bytes, *, source: str = "local"
    ) -> bytes:
        """Return the SMK of the cluster partition of that label; counts failures."""
        partition = self._cluster_partition_named(partition_label)
        owner = Owner(RoleId.CO, partition.partition_id)
        proof = await self._core.prove(owner, co_password, source)
        # A reset between the proof and here made another key; then the SMK does not open.
        current = rules.find_partition(self._state, partition.partition_id)
        return keys.open_smk(proof.secret, current.partition_id, current.sealed_smk)

    def cluster_domain(self) -> bytes:
        """Return the cloning domain of the cluster partition; raise NotAllowed as for S1."""
        partition = rules.cluster_partition(self._state)
        return keys.open_domain(self._core.keys, partition.sealed_domain, partition.partition_id)

    async def import_smk(
        self, partition_label: str, co_password: bytes, smk: bytes, *, source: str = "local"
    ) -> None:
        """Replace the cluster partition's SMK by that of the cluster that this appliance joins.

        Only for a caller who knows that no cluster is here: nothing may be sealed under the old
        one. The listener of on_smk_lost is not called. Repeating it is safe; it counts failures.
        """
        partition = self._cluster_partition_named(partition_label)
        await credentials.import_smk(self._core, partition, co_password, smk, source)

    async def verify_cluster_co(
        self, co_password: bytes, partition_label: str | None = None, *, source: str = "local"
    ) -> PartitionInfo:
        """Check the CO of the cluster partition, for keyring create, unlock and delete."""
        partition = self._cluster_partition_named(partition_label)
        await self._core.prove(Owner(RoleId.CO, partition.partition_id), co_password, source)
        return shows.partition_info(partition)

    def seal_local(self, plaintext: bytes, purpose: str) -> bytes:
        """Seal under the HSM master key, for what the appliance keeps on disk."""
        key = derive(self._core.keys.local, purpose)
        return seal(key, plaintext, _LOCAL_AAD + purpose.encode())

    def unseal_local(self, sealed: bytes, purpose: str) -> bytes:
        """Open what seal_local made for the same purpose; raise SealBroken."""
        key = derive(self._core.keys.local, purpose)
        return unseal(key, sealed, _LOCAL_AAD + purpose.encode())

    # ---- parts

    def _cluster_partition_named(self, label: str | None) -> Partition:
        partition = rules.cluster_partition(self._state)
        if label is not None and label not in (partition.label, partition.name):
            message = f"The cluster's partition is {partition.label}; {label!r} is another."
            raise NotFound(faults.INVALID_PARTITION, message)
        return partition

    def _is_current(self, owner: Owner, version: CredentialVersion) -> bool:
        try:
            return compare_digest(rules.find_credential(self._state, owner).version, version)
        except ConclaveError:
            return False


def _owner(partition_id: str, role_id: str) -> Owner:
    return Owner(rules.find_role(role_id), PartitionId(partition_id))


def _new_partition_id(state: HsmState) -> PartitionId:
    digits = PARTITION_ID_DIGITS - len(state.serial)
    taken = {partition.partition_id for partition in state.partitions}
    while True:
        chosen = PartitionId(state.serial + str(secrets.randbelow(10**digits)).zfill(digits))
        if chosen not in taken:
            return chosen
