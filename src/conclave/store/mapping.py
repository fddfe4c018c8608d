"""Turn rows of the cluster store into the values of `conclave.store.rows`, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Row

from conclave.ids import (
    AuthorizationVersion,
    ClientId,
    ClusterId,
    ClusterTimeMs,
    EnrolmentTokenId,
    KeyGeneration,
    KeyringId,
    MemberId,
    ObjectId,
    RowRevision,
    SlotNumber,
)
from conclave.store import schema
from conclave.store.rows import (
    ClientRow,
    ClusterStateRow,
    CredentialRow,
    EnrolmentTokenRow,
    IdempotencyRow,
    KeyringRow,
    KeyringState,
    MemberRow,
    ObjectRow,
    UserRow,
)

AnyRow = Row[Any]
Values = dict[str, object]


def keyring(row: AnyRow) -> KeyringRow:
    """Read a keyring."""
    krso = CredentialRow(
        bytes(row.krso_salt), bytes(row.krso_sealed_outer), row.krso_never_locks, row.krso_failures
    )
    krco = None
    if row.krco_salt is not None:
        krco = CredentialRow(
            bytes(row.krco_salt),
            bytes(row.krco_sealed_outer),
            row.krco_never_locks,
            row.krco_failures,
        )
    return KeyringRow(
        keyring_id=KeyringId(bytes(row.keyring_id)),
        label=row.label,
        serial=row.serial,
        slot=SlotNumber(row.slot),
        state=KeyringState(row.state),
        key_generation=KeyGeneration(row.key_generation),
        authorization_version=AuthorizationVersion(bytes(row.authorization_version)),
        check_value=bytes(row.check_value),
        krso=krso,
        krco=krco,
        revision=RowRevision(row.revision),
        created_ms=row.created_ms,
    )


def keyring_values(row: KeyringRow) -> Values:
    """Write a keyring."""
    values: Values = {
        "keyring_id": row.keyring_id,
        "label": row.label,
        "serial": row.serial,
        "slot": row.slot,
        "state": int(row.state),
        "key_generation": row.key_generation,
        "authorization_version": row.authorization_version,
        "check_value": row.check_value,
        "revision": row.revision,
        "created_ms": row.created_ms,
    }
    return values | _credential_values("krso", row.krso) | _credential_values("krco", row.krco)


def _credential_values(role: str, row: CredentialRow | None) -> Values:
    return {
        f"{role}_salt": row.salt if row else None,
        f"{role}_sealed_outer": row.sealed_outer if row else None,
        f"{role}_never_locks": row.never_locks if row else None,
        f"{role}_failures": row.failures if row else None,
    }


def object_row(row: AnyRow) -> ObjectRow:
    """Read an object."""
    return ObjectRow(
        keyring_id=KeyringId(row.keyring_id),
        object_id=ObjectId(row.object_id),
        private=row.private,
        version=row.version,
        key_generation=KeyGeneration(row.key_generation),
        revision=RowRevision(row.revision),
        blob=row.blob,
        mac=row.mac,
    )


def object_values(row: ObjectRow) -> Values:
    """Write an object."""
    return {
        "keyring_id": row.keyring_id,
        "object_id": row.object_id,
        "private": row.private,
        "version": row.version,
        "key_generation": row.key_generation,
        "revision": row.revision,
        "blob": row.blob,
        "mac": row.mac,
    }


def client(row: AnyRow) -> ClientRow:
    """Read a client."""
    return ClientRow(
        client_id=ClientId(row.client_id),
        common_name=row.common_name,
        label=row.label,
        monitor_user=row.monitor_user,
        key_sha256=row.key_sha256,
        certificate_der=row.certificate_der,
        revoked=row.revoked,
        created_ms=row.created_ms,
    )


def client_values(row: ClientRow) -> Values:
    """Write a client."""
    return asdict(row)


def enrolment_token(row: AnyRow) -> EnrolmentTokenRow:
    """Read an enrolment token."""
    return EnrolmentTokenRow(
        token_id=EnrolmentTokenId(bytes(row.token_id)),
        secret_sha256=bytes(row.secret_sha256),
        common_name=row.common_name,
        label=row.label,
        monitor_user=row.monitor_user,
        created_by=row.created_by,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        revoked=row.revoked,
        client_id=None if row.client_id is None else ClientId(bytes(row.client_id)),
        used_ms=row.used_ms,
    )


def enrolment_token_values(row: EnrolmentTokenRow) -> Values:
    """Write an enrolment token."""
    return asdict(row)


def member(row: AnyRow) -> MemberRow:
    """Read a member."""
    return MemberRow(
        member_id=MemberId(row.member_id),
        name=row.name,
        address=row.address,
        admin_port=row.admin_port,
        crypto_port=row.crypto_port,
        group=row.affinity_group,
        key_sha256=row.key_sha256,
        certificate_der=row.certificate_der,
    )


def member_values(row: MemberRow) -> Values:
    """Write a member."""
    values = asdict(row)
    values["affinity_group"] = values.pop("group")
    return values


def user(row: AnyRow) -> UserRow:
    """Read a user."""
    return UserRow(**row._mapping)


def user_values(row: UserRow) -> Values:
    """Write a user."""
    return asdict(row)


def cluster_state(row: AnyRow) -> ClusterStateRow:
    """Read the cluster's state."""
    return ClusterStateRow(
        cluster_id=ClusterId(row.cluster_id),
        label=row.label,
        dual_identity=row.dual_identity,
        epoch_number=row.epoch_number,
        epoch_member=MemberId(row.epoch_member),
        primary=MemberId(row.primary_member),
        visible=tuple(MemberId(name) for name in row.visible.split(",") if name),
        feature_level=row.feature_level,
        sealed_keys=row.sealed_keys,
        ca_certificate_der=row.ca_certificate_der,
        assigned=row.assigned,
    )


def cluster_state_values(row: ClusterStateRow) -> Values:
    """Write the cluster's state."""
    values = asdict(row)
    values["primary_member"] = values.pop("primary")
    values["visible"] = ",".join(row.visible)
    return values


IDEMPOTENCY: Final = (
    schema.idempotency.c.keyring_id,
    schema.idempotency.c.request_mac,
    schema.idempotency.c.result,
    schema.idempotency.c.revision,
    schema.idempotency.c.expires_ms,
)


def idempotency(row: Sequence[Any]) -> IdempotencyRow:
    """Read an idempotency record, whose columns are those of IDEMPOTENCY."""
    keyring_id, request_mac, result, revision, expires_ms = row
    return IdempotencyRow(
        keyring_id=KeyringId(keyring_id),
        request_mac=request_mac,
        result=result,
        revision=RowRevision(revision),
        expires_ms=ClusterTimeMs(expires_ms),
    )
