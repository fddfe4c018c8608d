"""Each write at most once, however often it is sent (rule C21).

Invariant: the record of a write commits with the write.  A repetition is answered from the record,
before any password is checked and after the generations were bumped again, since the first
answer's bump may never have been made; another body under the same key is refused.

The MAC of a request is made with its idempotency key, which the store does not hold: the store
holds a hash of the key, so its records cannot be used to try passwords.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

import msgspec

from conclave import faults
from conclave.cluster.context import Context
from conclave.errors import BadInput, Conflict, Unavailable
from conclave.ids import ClientId, ClusterTimeMs, IdempotencyKey, KeyringId
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import IdempotencyRow

KEPT_MS: Final = 3_600_000
LATEST_DEADLINE_MS: Final = 600_000
"""Far below KEPT_MS: no request may be carried out after its record was forgotten."""
FORGET_EVERY_MS: Final = 100
FORGET_AT_ONCE: Final = 1024
"""Several times what is recorded in FORGET_EVERY_MS, so that the records do not grow for ever."""


@dataclass(frozen=True, slots=True)
class Request:
    """What identifies a write."""

    client_id: ClientId
    key: IdempotencyKey
    mac: bytes
    deadline_ms: int | None = None
    """Cluster time after which it must not be carried out; None for the daemon's own."""


def request_mac(key: bytes, *parts: object) -> bytes:
    """Return the MAC of a request's parts under its idempotency key."""
    return hmac.new(key, msgspec.msgpack.encode(parts), hashlib.sha256).digest()


def find(reader: ClusterReader, request: Request) -> IdempotencyRow | None:
    """Return the record of a request that was carried out; raise Conflict for another body."""
    record = reader.record(request.client_id, request.key)
    if record is not None and not hmac.compare_digest(record.request_mac, request.mac):
        message = "The idempotency key was used for another request; nothing was changed."
        raise Conflict(faults.IDEMPOTENCY_MISMATCH, message)
    return record


def find_and_touch(writer: ClusterWriter, request: Request) -> IdempotencyRow | None:
    """As `find`, inside a transaction: a record that is found bumps its generations again."""
    record = find(writer, request)
    if record is not None:
        touch(writer, record)
    return record


def touch(writer: ClusterWriter, record: IdempotencyRow) -> None:
    """Bump what the recorded write changed once more, in a commit that the visible members replay.

    The recorded write's own commit may have stopped waiting for them: its record is in this store,
    and perhaps nowhere else.  A transaction that only reads would wait for nobody.
    """
    writer.next_revision()
    if record.keyring_id:
        writer.touched.keyrings.add(record.keyring_id)
    else:
        writer.touched.everything = True


async def repeated(context: Context, request: Request) -> IdempotencyRow | None:
    """Return the record of an earlier run, its generations bumped again, or None."""
    record = await context.read(lambda reader: find(reader, request))
    if record is not None:
        await context.write(lambda writer: touch(writer, record))
    return record


def check_deadline(request: Request, now_ms: ClusterTimeMs) -> None:
    """Refuse a request after its deadline, or with one too far ahead for its record to outlive."""
    if request.deadline_ms is None:
        return
    if now_ms > request.deadline_ms:
        message = "The request came after its deadline; nothing was changed."
        raise Unavailable(faults.DEADLINE_PASSED, message)
    if request.deadline_ms > now_ms + LATEST_DEADLINE_MS:
        message = f"A write's deadline must lie within {LATEST_DEADLINE_MS // 1000} s from now."
        raise BadInput(faults.BAD_REQUEST, message)


def record(
    writer: ClusterWriter,
    request: Request,
    keyring_id: KeyringId,
    result: bytes,
    now_ms: ClusterTimeMs,
) -> None:
    """Record a write in its own transaction, and forget some that have expired."""
    turn = (b"forget", (now_ms // FORGET_EVERY_MS).to_bytes(8))
    writer.once(turn, lambda: writer.forget_records(now_ms, at_most=FORGET_AT_ONCE))
    writer.put_record(
        request.client_id,
        request.key,
        keyring_id=keyring_id,
        request_mac=request.mac,
        result=result,
        expires_ms=ClusterTimeMs(now_ms + KEPT_MS),
    )
