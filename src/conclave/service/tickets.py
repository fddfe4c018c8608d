"""Tickets: what a login gives to a client, and what a worker believes of them.

Invariant: the seal of a ticket alone opens nothing (rule C10).  Whoever holds a ticket key can make
a ticket, but only a holder of the keyring's key KK can make one that passes `prove`, since KK must
open the keyring's check value.  A ticket is worth something to the client it was issued to only,
and only while the keyring's row carries the same KK generation and authorization version (C11).

Form: version of the ticket key (4 bytes big endian) ‖ sealed msgpack array of `Ticket`.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from conclave import faults
from conclave.crypto.seal import OVERHEAD_BYTES, SealBroken, seal, unseal
from conclave.errors import CredentialRefused
from conclave.ids import (
    AuthorizationVersion,
    ClientId,
    ClusterId,
    ClusterTimeMs,
    KeyGeneration,
    KeyringId,
    LoginId,
)
from conclave.keyring.keys import prove_key
from conclave.service.wire import Role
from conclave.store.rows import KeyringRow

VERSION_BYTES: Final = 4
MAX_TICKET_BYTES: Final = 1024
DAY_MS: Final = 86_400_000
_AAD: Final = b"conclave ticket"


class Ticket(msgspec.Struct, array_like=True, frozen=True, gc=False, kw_only=True):
    """What a ticket binds; `key` is KK, empty for a login with the first password."""

    cluster_id: str
    keyring_id: bytes
    role: int
    key: bytes
    key_generation: int
    authorization_version: bytes
    client_id: bytes
    login_id: bytes
    issued_ms: int
    """Cluster time."""
    expires_ms: int
    """Cluster time; pushed on by renewal."""

    def __repr__(self) -> str:
        return f"Ticket(keyring {self.keyring_id.hex()}, role {self.role})"

    @property
    def is_first_password(self) -> bool:
        """Tell whether the login was made with a first password, which must be changed."""
        return not self.key


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who shows a ticket, where and when."""

    cluster_id: ClusterId
    client_id: ClientId
    now_ms: ClusterTimeMs


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Ticket)


def new_ticket(
    row: KeyringRow, role: Role, key: bytes, login_id: LoginId, bearer: Bearer, *, idle_days: int
) -> Ticket:
    """Return the ticket of a login that has just succeeded; `key` is KK or empty."""
    return Ticket(
        cluster_id=bearer.cluster_id,
        keyring_id=row.keyring_id,
        role=role,
        key=key,
        key_generation=row.key_generation,
        authorization_version=row.authorization_version,
        client_id=bearer.client_id,
        login_id=login_id,
        issued_ms=bearer.now_ms,
        expires_ms=bearer.now_ms + idle_days * DAY_MS,
    )


def issue(ticket: Ticket, key_version: int, ticket_key: bytes) -> bytes:
    """Seal a ticket under one version of the ticket key."""
    version = key_version.to_bytes(VERSION_BYTES, "big")
    return version + seal(ticket_key, _encoder.encode(ticket), _AAD + version)


def key_version_of(blob: bytes) -> int:
    """Return the version of the ticket key that a blob claims; 0 when it is too short."""
    return int.from_bytes(blob[:VERSION_BYTES], "big") if len(blob) > VERSION_BYTES else 0


def open_ticket(blob: bytes, ticket_keys: Mapping[int, bytes], bearer: Bearer) -> Ticket:
    """Return the ticket if `bearer` may show it; nothing about its keyring is checked yet.

    `ticket_keys` maps versions to keys.  Raises CredentialRefused with NOT_LOGGED_IN.
    """
    ticket = _decode(blob, ticket_keys)
    if ticket.cluster_id != bearer.cluster_id:
        raise refused("it belongs to another cluster")
    if not hmac.compare_digest(ticket.client_id, bearer.client_id):
        raise refused("it was issued to another client")
    if bearer.now_ms >= ticket.expires_ms:
        raise refused("it has expired")
    return ticket


def _decode(blob: bytes, ticket_keys: Mapping[int, bytes]) -> Ticket:
    key = ticket_keys.get(key_version_of(blob))
    if key is None or not VERSION_BYTES + OVERHEAD_BYTES < len(blob) <= MAX_TICKET_BYTES:
        raise refused("its key is not known here")
    try:
        return _decoder.decode(unseal(key, blob[VERSION_BYTES:], _AAD + blob[:VERSION_BYTES]))
    except (SealBroken, msgspec.DecodeError, UnicodeDecodeError):
        raise refused("its seal does not open") from None


def prove(ticket: Ticket, row: KeyringRow) -> None:
    """Hold a ticket against its keyring: same lineage, and KK opens the check value (C10, C11).

    A first-password ticket proves nothing but that it is of the row's present authorization.
    Raises CredentialRefused with NOT_LOGGED_IN.
    """
    if ticket.authorization_version != row.authorization_version:
        raise refused("a password of its keyring was changed")
    if ticket.key_generation != row.key_generation:
        raise refused("its keyring has another key")
    if ticket.is_first_password:
        if row.key_generation != 0:
            raise refused("it lacks the key of its keyring")
        return
    try:
        prove_key(ticket.key, row.check_value, KeyringId(ticket.keyring_id), row.key_generation)
    except (SealBroken, ValueError):
        raise refused("it does not hold the key of its keyring") from None


def renewed(ticket: Ticket, now_ms: int, *, idle_days: int) -> Ticket:
    """Return the ticket with a later expiry; the login id, and all else, stays."""
    return msgspec.structs.replace(ticket, issued_ms=now_ms, expires_ms=now_ms + idle_days * DAY_MS)


def refused(reason: str) -> CredentialRefused:
    """Return the error for a ticket that is void, with the reason for the log."""
    return CredentialRefused(faults.NOT_LOGGED_IN, f"The ticket is refused: {reason}.")


def login_id_of(ticket: Ticket) -> LoginId:
    """Return the id of the login that a ticket continues."""
    return LoginId(ticket.login_id)


def lineage(ticket: Ticket) -> tuple[AuthorizationVersion, KeyGeneration]:
    """Return what every write under the ticket carries (rule C20)."""
    return AuthorizationVersion(ticket.authorization_version), KeyGeneration(ticket.key_generation)
