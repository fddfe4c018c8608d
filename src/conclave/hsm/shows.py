"""Turn the HSM's state into what callers may see."""

from __future__ import annotations

from typing import Final

from conclave.hsm import rules
from conclave.hsm.model import HSM_SO, SO_ATTEMPTS, STORAGE_BYTES, HsmState, Owner, Partition
from conclave.hsm.views import HsmInfo, PartitionInfo, RoleId, RoleInfo

ROLE_NAMES: Final = {
    RoleId.PO: "Partition SO",
    RoleId.CO: "Crypto Officer",
    RoleId.CU: "Crypto User",
}


def hsm_info(state: HsmState) -> HsmInfo:
    """Return the HSM as shows report it."""
    return HsmInfo(
        serial=state.serial,
        label=state.label,
        initialized=state.so is not None,
        zeroized=state.zeroized,
        so_attempts_left=_so_attempts_left(state),
        storage_total=STORAGE_BYTES,
        storage_used=rules.storage_used(state),
    )


def partition_info(partition: Partition) -> PartitionInfo:
    """Return a partition as shows report it."""
    return PartitionInfo(
        partition_id=partition.partition_id,
        name=partition.name,
        label=partition.label,
        version=partition.version,
        has_pso=partition.has_pso,
        size=partition.size,
        initialized=RoleId.PO in partition.roles,
        object_count=partition.object_count,
    )


def role_info(state: HsmState, owner: Owner) -> RoleInfo:
    """Return a partition's role as shows report it."""
    assert owner.partition_id is not None  # noqa: S101 - callers name a partition's role
    credential = rules.find_partition(state, owner.partition_id).roles.get(owner.role)
    left = rules.attempts_allowed(state, owner)
    if credential is not None:
        left = rules.attempts_left(state, owner, credential)
    return RoleInfo(
        role_id=owner.role,
        name=ROLE_NAMES[owner.role],
        initialized=credential is not None,
        locked_out=left == 0,
        login_attempts_left=left,
        to_be_changed=credential is not None and rules.must_change(state, credential),
    )


def _so_attempts_left(state: HsmState) -> int:
    if state.zeroized:
        return 0
    if state.so is None:
        return SO_ATTEMPTS
    return rules.attempts_left(state, HSM_SO, state.so)
