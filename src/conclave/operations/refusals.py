"""Refusals that families of operations share, for the documents."""

from __future__ import annotations

from typing import Final

from conclave import faults

CREDENTIAL: Final = (
    faults.CREDENTIAL_INCORRECT,
    faults.ROLE_LOCKED,
    faults.CREDENTIAL_UNCHANGED,
    faults.HSM_ZEROIZED,
    faults.FUNCTION_NOT_SUPPORTED,
)
"""A password of the HSM or of a partition is sent."""

HSM_CHANGE: Final = (
    faults.INVALID_HSM,
    faults.HSM_NOT_INITIALIZED,
    faults.HSM_OPERATION,
    faults.HSM_STORAGE,
)
"""The HSM is changed, or logged in to."""

PARTITION_FOR_CLUSTER: Final = (
    faults.HSM_NOT_INITIALIZED,
    faults.HSM_OPERATION,
    faults.INVALID_PARTITION,
    faults.CLUSTER_PARTITION,
    faults.PARTITION_VERSION,
    faults.CREDENTIAL_UNCHANGED,
)
"""The cluster's partition must be ready (rule S1)."""

CLUSTER_CALL: Final = (
    faults.SERVICE_STOPPED,
    faults.CLUSTER_NOT_FOUND,
    faults.MEMBER_NOT_AUTHORIZED,
    faults.WRONG_MASTER_KEY,
    faults.MEMBER_REMOVED,
    faults.MEMBER_READ_ONLY,
    faults.PRIMARY_UNREACHABLE,
    faults.OUTCOME_UNKNOWN,
    faults.STORAGE_FAILED,
)
"""The cluster process is asked."""

MEMBER_CALL: Final = (
    faults.MEMBER_NOT_FOUND,
    faults.MEMBER_VISIBLE,
    faults.MEMBER_NOT_VISIBLE,
    faults.MEMBER_NOT_READ_WRITE,
    faults.MEMBER_BEHIND,
    faults.LAST_MEMBER,
    faults.MEMBERS_UNREACHABLE,
    faults.EPOCH_STALE,
    faults.JOIN_IN_PROGRESS,
)
"""Who belongs to the cluster, and as what, is changed."""

USERS_CHANGE: Final = (
    faults.SERVICE_STOPPED,
    faults.WRITE_CONFLICT,
    faults.MEMBER_READ_ONLY,
    faults.PRIMARY_UNREACHABLE,
    faults.OUTCOME_UNKNOWN,
    faults.STORAGE_FAILED,
)
"""A user is changed, which is done in the cluster where there is one."""
