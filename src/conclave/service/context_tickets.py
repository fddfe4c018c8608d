"""Context tickets: the proof of a password for one use of one key (rule C14).

A context ticket is bound to a login, an object and an operation, and is good for a minute.  It is
sealed like a ticket, so that every member's workers know it, and spent at the member that issued
it: that it opens proves nothing yet.

Form: version of the ticket key (4 bytes big endian) ‖ sealed msgpack array of `ContextTicket`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from conclave.crypto.seal import OVERHEAD_BYTES, SealBroken, seal, unseal
from conclave.ids import ClusterTimeMs, LoginId
from conclave.service.requests import WrongRole
from conclave.service.tickets import VERSION_BYTES, key_version_of

CONTEXT_SECONDS: Final = 60
CONTEXT_ID_BYTES: Final = 16
MAX_CONTEXT_BYTES: Final = 512
_AAD: Final = b"conclave context ticket"


class ContextTicket(msgspec.Struct, array_like=True, frozen=True, gc=False, kw_only=True):
    """What a context ticket binds."""

    context_id: bytes
    """Random; what is spent."""
    member_id: str
    """The member that issued it."""
    cluster_id: str
    keyring_id: bytes
    client_id: bytes
    login_id: bytes
    object_id: bytes
    operation: int
    expires_ms: int
    """Cluster time."""


class Use(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What somebody wants to do with a key, and when."""

    cluster_id: str
    keyring_id: bytes
    client_id: bytes
    login_id: LoginId
    object_id: bytes
    operation: int
    now_ms: ClusterTimeMs


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ContextTicket)


def issue_context(context: ContextTicket, key_version: int, ticket_key: bytes) -> bytes:
    """Seal a context ticket under one version of the ticket key."""
    version = key_version.to_bytes(VERSION_BYTES, "big")
    return version + seal(ticket_key, _encoder.encode(context), _AAD + version)


def open_context(blob: bytes, ticket_keys: Mapping[int, bytes], use: Use) -> ContextTicket:
    """Return the context ticket if it is one for `use`; raise WrongRole with NOT_LOGGED_IN."""
    context = _decode(blob, ticket_keys)
    if (context.cluster_id, context.keyring_id) != (use.cluster_id, use.keyring_id):
        raise context_refused("it belongs to another keyring")
    if (context.client_id, context.login_id) != (use.client_id, use.login_id):
        raise context_refused("it belongs to another login")
    if (context.object_id, context.operation) != (use.object_id, use.operation):
        raise context_refused("it is for another use")
    if use.now_ms >= context.expires_ms:
        raise context_refused("it has expired")
    return context


def _decode(blob: bytes, ticket_keys: Mapping[int, bytes]) -> ContextTicket:
    key = ticket_keys.get(key_version_of(blob))
    if key is None or not VERSION_BYTES + OVERHEAD_BYTES < len(blob) <= MAX_CONTEXT_BYTES:
        raise context_refused("its key is not known here")
    try:
        return _decoder.decode(unseal(key, blob[VERSION_BYTES:], _AAD + blob[:VERSION_BYTES]))
    except (SealBroken, msgspec.DecodeError, UnicodeDecodeError):
        raise context_refused("its seal does not open") from None


def context_refused(reason: str) -> WrongRole:
    """Return the error for a use whose password was not proven; the login itself goes on."""
    return WrongRole(f"The key asks for the password before each use: {reason}.")
