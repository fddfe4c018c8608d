"""Decide what HSM operations do: state and arguments in, next state or a refusal out.

Invariants held here: a counter only falls by a correct password or by a role above; three wrong SO
passwords leave neither partitions nor SO (rule K5); what was lost by zeroizing never comes back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hmac import compare_digest
from typing import Final

import msgspec

from conclave import faults
from conclave.errors import (
    BadInput,
    Conflict,
    CredentialRefused,
    LimitReached,
    NotAllowed,
    NotFound,
    Unavailable,
)
from conclave.hsm import policies
from conclave.hsm.model import (
    DEFAULT_PARTITION_BYTES,
    MAX_PARTITIONS,
    PO_ATTEMPTS,
    SO_ATTEMPTS,
    STORAGE_BYTES,
    Credential,
    HsmState,
    Owner,
    Partition,
)
from conclave.hsm.views import CredentialVersion, PartitionId, RoleId

MIN_PASSWORD_BYTES: Final = 8
MAX_PASSWORD_BYTES: Final = 255
MAX_DOMAIN_BYTES: Final = 128
DEFAULT_DOMAIN: Final = b"default domain"
"""The cloning domain of those who choose none: no secret, so such HSMs clone to each other."""
FIRST_BACKOFF_SECONDS: Final = 1
LONGEST_BACKOFF_SECONDS: Final = 300

_HSM_LABEL: Final = re.compile(r"[a-zA-Z0-9_]{1,32}")
_PARTITION_NAME: Final = re.compile(r"[!#$%'()*+,\-./0-9:=@A-Z\[\]^_a-z{}~]{1,32}")

# ------------------------------------------------------------------ words


def check_hsm_label(label: str) -> None:
    """Refuse a label that is not 1 to 32 letters, digits or underscores."""
    if not _HSM_LABEL.fullmatch(label):
        message = f"label must be 1 to 32 letters, digits or underscores; it is {label!r}."
        raise BadInput(faults.BAD_REQUEST, message)


def check_partition_name(field: str, name: str) -> None:
    """Refuse a name or label of a partition that breaks the rule."""
    if not _PARTITION_NAME.fullmatch(name):
        message = (
            f"{field} must be 1 to 32 of the characters A-Z a-z 0-9 !#$%'()*+,-./:=@[]^_{{}}~;"
            f" it is {name!r}."
        )
        raise BadInput(faults.BAD_REQUEST, message)


def check_password(field: str, password: bytes, shortest: int = MIN_PASSWORD_BYTES) -> None:
    """Refuse a password outside the allowed length; no message ever shows it."""
    if not shortest <= len(password) <= MAX_PASSWORD_BYTES:
        message = (
            f"{field} must have {shortest} to {MAX_PASSWORD_BYTES} bytes;"
            f" it has {len(password)}. A PED is not supported."
        )
        raise BadInput(faults.BAD_REQUEST, message)


def check_domain(domain: bytes) -> None:
    """Refuse a cloning domain outside the allowed length."""
    if not 1 <= len(domain) <= MAX_DOMAIN_BYTES:
        message = f"domain must have 1 to {MAX_DOMAIN_BYTES} bytes; it has {len(domain)}."
        raise BadInput(faults.BAD_REQUEST, message)


# ------------------------------------------------------------------ finding things


def require_initialized(state: HsmState) -> None:
    """Refuse what needs an initialised HSM."""
    if state.zeroized:
        message = "The HSM is zeroized: initialise it again before anything else."
        raise NotAllowed(faults.HSM_ZEROIZED, message)
    if state.so is None:
        message = "The HSM is not initialised: initialise it before anything else."
        raise NotAllowed(faults.HSM_NOT_INITIALIZED, message)


def find_partition(state: HsmState, partition_id: str) -> Partition:
    """Return a partition or raise NotFound."""
    for partition in state.partitions:
        if partition.partition_id == partition_id:
            return partition
    message = f"There is no partition {partition_id!r}."
    raise NotFound(faults.INVALID_PARTITION, message)


def find_role(role_id: str) -> RoleId:
    """Return a role of partitions or raise NotFound."""
    try:
        return RoleId(role_id)
    except ValueError:
        message = f"There is no role {role_id!r}; a partition has so, co and cu."
        raise NotFound(faults.INVALID_ROLE, message) from None


def require_ready(partition: Partition) -> None:
    """Refuse what needs an initialised partition."""
    if RoleId.PO not in partition.roles:
        message = f"Partition {partition.name} is not initialised: initialise it with its PO first."
        raise NotAllowed(faults.HSM_OPERATION, message)


def find_credential(state: HsmState, owner: Owner) -> Credential:
    """Return a credential; raise NotFound or NotAllowed naming the cure."""
    require_initialized(state)
    if owner.partition_id is None:
        assert state.so is not None  # noqa: S101 - require_initialized looked
        return state.so
    partition = find_partition(state, owner.partition_id)
    require_ready(partition)
    credential = partition.roles.get(owner.role)
    if credential is None:
        message = (
            f"Role {owner.role.value} of partition {partition.name} is not initialised:"
            " initialise it first."
        )
        raise NotAllowed(faults.HSM_OPERATION, message)
    return credential


def require_version(state: HsmState, owner: Owner, version: CredentialVersion) -> None:
    """Refuse to go on with a credential that was replaced since its password was checked.

    What the old password opened must not be put under the new one, nor a login be taken for one
    with the new password.
    """
    if not compare_digest(find_credential(state, owner).version, version):
        message = f"Role {owner.role.value} got another password meanwhile; try again."
        raise Unavailable(faults.BUSY, message)


# ------------------------------------------------------------------ replacing things


def with_partition(
    state: HsmState, partition_id: str, change: Callable[[Partition], Partition]
) -> HsmState:
    """Return the state with one partition changed."""
    changed = change(find_partition(state, partition_id))
    return msgspec.structs.replace(
        state,
        partitions=tuple(
            changed if partition.partition_id == partition_id else partition
            for partition in state.partitions
        ),
    )


def with_credential(state: HsmState, owner: Owner, credential: Credential) -> HsmState:
    """Return the state with one credential set."""
    if owner.partition_id is None:
        return msgspec.structs.replace(state, so=credential)
    return with_partition(
        state,
        owner.partition_id,
        lambda partition: msgspec.structs.replace(
            partition, roles={**partition.roles, owner.role: credential}
        ),
    )


# ------------------------------------------------------------------ counters


def attempts_allowed(state: HsmState, owner: Owner) -> int:
    """Return how many consecutive failures a credential survives."""
    if owner.partition_id is None:
        return SO_ATTEMPTS
    if owner.role is RoleId.PO:
        return PO_ATTEMPTS
    partition = find_partition(state, owner.partition_id)
    table = policies.partition_table(partition.version)
    return policies.value_of(table, partition.policies, policies.MAX_FAILED_LOGINS)


def attempts_left(state: HsmState, owner: Owner, credential: Credential) -> int:
    """Return how many wrong passwords are left before the lock or the zeroization."""
    return max(0, attempts_allowed(state, owner) - credential.failures)


def require_unlocked(state: HsmState, owner: Owner) -> None:
    """Refuse an attempt on a locked role before anything is hashed (C8)."""
    if owner.is_so or attempts_left(state, owner, find_credential(state, owner)):
        return
    cure = (
        "the HSM SO must delete the partition"
        if owner.role is RoleId.PO
        else "the Partition SO must reset the role"
    )
    message = f"Role {owner.role.value} is locked after too many wrong passwords; {cure}."
    raise CredentialRefused(faults.ROLE_LOCKED, message)


def after_failure(state: HsmState, owner: Owner, *, zeroizes: bool) -> HsmState:
    """Count a wrong password; the SO's third zeroizes, unless the setting slows down instead."""
    credential = find_credential(state, owner)
    counted = msgspec.structs.replace(credential, failures=credential.failures + 1)
    if owner.is_so and zeroizes and counted.failures >= SO_ATTEMPTS:
        return zeroized(state)
    return with_credential(state, owner, counted)


def after_success(state: HsmState, owner: Owner) -> HsmState:
    """Forget the failures before a correct password; the same state when there were none."""
    credential = find_credential(state, owner)
    if credential.failures == 0:
        return state
    return with_credential(state, owner, msgspec.structs.replace(credential, failures=0))


def backoff_seconds(failures: int) -> int:
    """Return how long the SO waits after so many failures when failures slow down (K5)."""
    beyond = failures - SO_ATTEMPTS
    if beyond < 0:
        return 0
    return min(FIRST_BACKOFF_SECONDS << min(beyond, 20), LONGEST_BACKOFF_SECONDS)


def zeroized(state: HsmState) -> HsmState:
    """Return the HSM without SO, domain, policies and partitions; the serial stays."""
    return HsmState(serial=state.serial, zeroized=True)


def must_change(state: HsmState, credential: Credential) -> bool:
    """Tell whether a first credential allows nothing but its change (HSM policy 21)."""
    forced = policies.value_of(policies.HSM_POLICIES, state.policies, policies.FORCE_CHANGE)
    return credential.first and forced == 1


def require_changed(state: HsmState, owner: Owner) -> None:
    """Refuse a login with an unchanged first credential."""
    if must_change(state, find_credential(state, owner)):
        message = (
            f"The first password of role {owner.role.value} must be changed before anything else"
            " (HSM policy 21)."
        )
        raise NotAllowed(faults.CREDENTIAL_UNCHANGED, message)


# ------------------------------------------------------------------ HSM


def check_initialize(state: HsmState, label: str, *, confirmed: bool) -> None:
    """Refuse to initialise over an initialised HSM without a confirmation."""
    check_hsm_label(label)
    if state.so is not None and not confirmed:
        message = (
            f"The HSM is initialised ({state.label}): initialising it again destroys its"
            f" {len(state.partitions)} partitions and must be confirmed."
        )
        raise NotAllowed(faults.HSM_OPERATION, message)


def initialized(state: HsmState, label: str, so: Credential, sealed_domain: bytes) -> HsmState:
    """Return the freshly initialised HSM: no partitions, policies at their defaults."""
    return HsmState(serial=state.serial, label=label, so=so, sealed_domain=sealed_domain)


def with_policy(state: HsmState, number: int, value: int, *, confirmed: bool) -> HsmState:
    """Return the HSM with one policy set."""
    require_initialized(state)
    values = policies.changed_policies(
        policies.HSM_POLICIES, state.policies, number, value, confirmed=confirmed
    )
    return msgspec.structs.replace(state, policies=values)


# ------------------------------------------------------------------ partitions


def storage_used(state: HsmState) -> int:
    """Return the bytes given to partitions."""
    return sum(partition.size for partition in state.partitions)


def with_new_partition(
    state: HsmState,
    partition_id: PartitionId,
    name: str,
    *,
    version: int,
    has_pso: bool,
    size: int | None,
) -> HsmState:
    """Return the HSM with one more partition."""
    require_initialized(state)
    check_partition_name("name", name)
    if version not in (0, 1):
        message = f"version must be 0 or 1; it is {version}."
        raise BadInput(faults.BAD_REQUEST, message)
    if any(partition.name == name for partition in state.partitions):
        message = f"A partition named {name} exists already."
        raise Conflict(faults.PARTITION_EXISTS, message)
    if len(state.partitions) >= MAX_PARTITIONS:
        message = f"The HSM has {MAX_PARTITIONS} partitions, which is the most it can have."
        raise LimitReached(faults.PARTITION_LIMIT, message)
    wanted = DEFAULT_PARTITION_BYTES if size is None else size
    free = STORAGE_BYTES - storage_used(state)
    if not 1 <= wanted <= free:
        message = f"size must lie between 1 and the {free} bytes that are free; it is {wanted}."
        raise BadInput(faults.BAD_REQUEST, message)
    partition = Partition(
        partition_id=partition_id, name=name, version=version, has_pso=has_pso, size=wanted
    )
    return msgspec.structs.replace(state, partitions=(*state.partitions, partition))


def without_partition(state: HsmState, partition_id: str) -> HsmState:
    """Return the HSM without a partition, its roles and its SMK."""
    require_initialized(state)
    gone = find_partition(state, partition_id)
    return msgspec.structs.replace(
        state, partitions=tuple(kept for kept in state.partitions if kept is not gone)
    )


def check_initialize_partition(state: HsmState, partition_id: str, label: str | None) -> str:
    """Return the label to use; refuse a bad or taken one, or an initialised partition."""
    require_initialized(state)
    partition = find_partition(state, partition_id)
    if RoleId.PO in partition.roles:
        message = f"Partition {partition.name} is initialised already: delete it to start again."
        raise Conflict(faults.PARTITION_EXISTS, message)
    chosen = partition.name if label is None else label
    check_partition_name("label", chosen)
    if any(other.label == chosen for other in state.partitions):
        message = f"A partition labelled {chosen} exists already."
        raise Conflict(faults.PARTITION_EXISTS, message)
    return chosen


def with_partition_policy(
    state: HsmState, partition_id: str, number: int, value: int, *, confirmed: bool
) -> HsmState:
    """Return the HSM with one partition policy set; 41 makes a V0 partition a V1 one."""

    def change(partition: Partition) -> Partition:
        require_ready(partition)
        table = policies.partition_table(partition.version)
        values = policies.changed_policies(
            table, partition.policies, number, value, confirmed=confirmed
        )
        version = value if number == policies.PARTITION_VERSION else partition.version
        if version != partition.version:
            values.pop(policies.PER_KEY_AUTHORIZATION, None)
        return msgspec.structs.replace(partition, policies=values, version=version)

    require_initialized(state)
    return with_partition(state, partition_id, change)


def shortest_password(partition: Partition) -> int:
    """Return the least length of a role's password (partition policy 25)."""
    table = policies.partition_table(partition.version)
    inverted = policies.value_of(table, partition.policies, policies.INVERTED_MIN_LENGTH)
    return MAX_PASSWORD_BYTES - inverted


def shortest_for(state: HsmState, owner: Owner) -> int:
    """Return the least length of a credential's next password."""
    if owner.partition_id is None or owner.role is RoleId.PO:
        return MIN_PASSWORD_BYTES
    return shortest_password(find_partition(state, owner.partition_id))


def with_smk(state: HsmState, owner: Owner, sealed_smk: bytes) -> HsmState:
    """Return the state with a partition's SMK set."""
    assert owner.partition_id is not None  # noqa: S101 - callers name a partition's role
    return with_partition(
        state,
        owner.partition_id,
        lambda partition: msgspec.structs.replace(partition, sealed_smk=sealed_smk),
    )


def smks_lost(before: HsmState, after: HsmState) -> bool:
    """Tell whether a change destroyed or replaced the SMK of a partition."""
    kept = {partition.partition_id: partition.sealed_smk for partition in after.partitions}
    return any(
        partition.sealed_smk and kept.get(partition.partition_id) != partition.sealed_smk
        for partition in before.partitions
    )


def check_initialize_role(state: HsmState, owner: Owner, *, again: bool) -> Partition:
    """Return the partition whose role may be given its first password now."""
    require_initialized(state)
    assert owner.partition_id is not None  # noqa: S101 - callers name a partition's role
    partition = find_partition(state, owner.partition_id)
    require_ready(partition)
    if owner.role is RoleId.PO:
        message = "The Partition SO is initialised with its partition."
        raise NotAllowed(faults.HSM_OPERATION, message)
    if owner.role is RoleId.CU and RoleId.CO not in partition.roles:
        message = f"Initialise the Crypto Officer of partition {partition.name} first."
        raise NotAllowed(faults.HSM_OPERATION, message)
    if owner.role in partition.roles and not again:
        message = (
            f"Role {owner.role.value} of partition {partition.name} is initialised already:"
            " change its password, or let the Partition SO reset it."
        )
        raise Conflict(faults.HSM_OPERATION, message)
    return partition


# ------------------------------------------------------------------ for clusters


def cluster_partition(state: HsmState) -> Partition:
    """Return the one partition that a cluster may use; each refusal names its cure (rule S1)."""
    require_initialized(state)
    v1 = [partition for partition in state.partitions if partition.version == 1]
    if not v1:
        raise _no_v1_partition(state)
    if len(v1) > 1:
        names = ", ".join(partition.name for partition in v1)
        message = (
            f"The HSM has {len(v1)} V1 partitions ({names}); a cluster needs exactly one:"
            " delete the others."
        )
        raise NotAllowed(faults.CLUSTER_PARTITION, message)
    require_fit_for_cluster(state, v1[0])
    return v1[0]


def require_fit_for_cluster(state: HsmState, partition: Partition) -> None:
    """Refuse a V1 partition that is not ready to hold a cluster's SMK."""
    require_ready(partition)
    values = partition.policies
    if policies.value_of(policies.V1_POLICIES, values, policies.PER_KEY_AUTHORIZATION) != 0:
        message = (
            f"Partition {partition.name} has policy 40 (Require Per-Key Authorization Data) at 1:"
            " the Partition SO must set it to 0."
        )
        raise NotAllowed(faults.CLUSTER_PARTITION, message)
    if partition.object_count:
        message = (
            f"Partition {partition.name} holds {partition.object_count} objects:"
            " a cluster needs an empty V1 partition."
        )
        raise NotAllowed(faults.CLUSTER_PARTITION, message)
    if RoleId.CO not in partition.roles:
        message = (
            f"The Crypto Officer of partition {partition.name} is not initialised:"
            " the Partition SO must initialise the role."
        )
        raise NotAllowed(faults.CLUSTER_PARTITION, message)
    require_changed(state, Owner(RoleId.CO, partition.partition_id))


def _no_v1_partition(state: HsmState) -> NotAllowed:
    if state.partitions:
        names = ", ".join(partition.name for partition in state.partitions)
        message = (
            f"A cluster needs a V1 partition, and {names} has version 0:"
            " create a partition of version 1."
        )
        return NotAllowed(faults.PARTITION_VERSION, message)
    message = "A cluster needs a partition, and there is none: create one of version 1."
    return NotAllowed(faults.CLUSTER_PARTITION, message)
