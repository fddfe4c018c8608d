"""Rows of the cluster store, as the repository hands them out."""

from __future__ import annotations

import enum
from dataclasses import dataclass

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


class KeyringState(enum.IntEnum):
    """How far a keyring's roles have come."""

    INITIAL = 0
    """Only the first KRSO password exists; there is no keyring key yet."""
    KRSO_READY = 1
    """The KRSO has changed the first password; the KRCO is not initialised."""
    READY = 2
    """The KRCO is initialised."""


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """One password of a keyring: its Argon2id salt and what the derived key opens."""

    salt: bytes
    sealed_outer: bytes
    """S_outer(S_KEK(KK)), or S_outer(S_KEK(fixed marker)) for a first password."""
    never_locks: bool
    """True when the password has 17 characters or more."""
    failures: int


@dataclass(frozen=True, slots=True)
class KeyringRow:
    """One keyring; `krco` is None in single identity, where `krso` serves both roles."""

    keyring_id: KeyringId
    label: str
    serial: str
    slot: SlotNumber
    state: KeyringState
    key_generation: KeyGeneration
    authorization_version: AuthorizationVersion
    check_value: bytes
    """A fixed marker sealed under KK, which a worker opens on first sight of a ticket (C10)."""
    krso: CredentialRow
    krco: CredentialRow | None
    revision: RowRevision
    created_ms: int


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """One token object, sealed."""

    keyring_id: KeyringId
    object_id: ObjectId
    private: bool
    version: int
    """Belongs to the blob and stands in its AAD."""
    key_generation: KeyGeneration
    revision: RowRevision
    """Belongs to the row: monotone, never restored."""
    blob: bytes
    mac: bytes
    """For public objects an HMAC of the blob under KK (C6); empty for private ones."""


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A registered client."""

    client_id: ClientId
    common_name: str
    label: str
    monitor_user: str
    key_sha256: bytes
    """SHA-256 of the certificate's SubjectPublicKeyInfo: what a connection is accepted by (C3)."""
    certificate_der: bytes
    revoked: bool
    created_ms: int


@dataclass(frozen=True, slots=True)
class EnrolmentTokenRow:
    """What lets one client register once; an empty text binds it to nothing."""

    token_id: EnrolmentTokenId
    secret_sha256: bytes
    common_name: str
    label: str
    monitor_user: str
    created_by: str
    created_ms: int
    expires_ms: int
    revoked: bool
    client_id: ClientId | None
    """Who registered with it."""
    used_ms: int
    """0 while nobody did."""


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member of the cluster."""

    member_id: MemberId
    name: str
    address: str
    admin_port: int
    crypto_port: int
    group: str
    key_sha256: bytes
    certificate_der: bytes


@dataclass(frozen=True, slots=True)
class ClusterStateRow:
    """The single row that says what this cluster is."""

    cluster_id: ClusterId
    label: str
    dual_identity: bool
    epoch_number: int
    epoch_member: MemberId
    primary: MemberId
    visible: tuple[MemberId, ...]
    feature_level: int
    sealed_keys: bytes
    """CA key and ticket keys under `seal`; empty until the first authorization."""
    ca_certificate_der: bytes
    assigned: bool = False
    """A client uses the keyrings that are assigned to it only, not all."""


@dataclass(frozen=True, slots=True)
class UserRow:
    """A user of the cluster's doors, as the appliance mirrors it into the cluster."""

    user_id: str
    role: str
    full_name: str
    email: str
    verifier: bytes
    """What the appliance checks a password with; opaque here."""
    enabled: bool
    revision: int


@dataclass(frozen=True, slots=True)
class IdempotencyRow:
    """What an idempotency key was used for; an empty `keyring_id` stands for more than one."""

    keyring_id: KeyringId
    request_mac: bytes
    result: bytes
    revision: RowRevision
    expires_ms: ClusterTimeMs
