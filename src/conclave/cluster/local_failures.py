"""Failed attempts that a member counted while it had lost the primary (rule C22).

Invariant: a failure is in this member's file, synced, before it is answered, and leaves the file
only once the primary has it.  Until then it takes from this member's share, which is an equal part
of what was left when the primary was lost: all members together check hardly more wrong passwords
than one of them would.  A failure counts against the very credential that it was tried on; a new
password and an unlock both seal that anew, so they void what was counted elsewhere.

The primary counts every failure once, however often it is brought: by the batch that it came in,
and by its attempt.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from conclave import faults
from conclave.cluster import idempotency
from conclave.cluster.context import DAEMON_CLIENT, Context
from conclave.cluster.link.messages import LocalFailure, MergeFailures
from conclave.cluster.passwords import (
    attempt_key,
    credential_of,
    with_credential,
)
from conclave.errors import InternalFault
from conclave.ids import ClientId, ClusterTimeMs, IdempotencyKey, KeyringId
from conclave.keyring.roles import LockState
from conclave.service.wire import Role
from conclave.settings import Limits
from conclave.store.repository import ClusterWriter
from conclave.store.rows import CredentialRow

FILE_NAME: Final = "failures.db"
MAX_BATCH: Final = 1000
MERGE_KEPT_MS: Final = 90 * 24 * 3_600_000
"""How long the primary knows a batch again."""
LOCK_SECONDS: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS failures (
    client_id BLOB NOT NULL,
    attempt_id BLOB NOT NULL,
    keyring_id BLOB NOT NULL,
    role INTEGER NOT NULL,
    credential BLOB NOT NULL,
    counts INTEGER NOT NULL,
    counted_ms INTEGER NOT NULL,
    batch BLOB,
    PRIMARY KEY (client_id, attempt_id))
"""

T = TypeVar("T")


def credential_digest(credential: CredentialRow) -> bytes:
    """Return what tells a credential from the one that a change or an unlock made of it."""
    return hashlib.sha256(b"conclave credential" + credential.sealed_outer).digest()


def local_state(credential: CredentialRow, counted: int, members: int, limits: Limits) -> LockState:
    """Return how a credential stands on a member without primary that counted so many failures.

    What is left of the member's share is what is left until the lock.
    """
    left = max(0, limits.lock_after - credential.failures)
    share = max(1, left // members) if left else 0
    return LockState(credential.never_locks, limits.lock_after - max(0, share - counted))


class FailureBook:
    """The file, inside one of its transactions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def count(self, keyring_id: KeyringId, role: Role, credential: bytes) -> int:
        """Return how many failures count against a credential."""
        statement = (
            "SELECT count(*) FROM failures"
            " WHERE keyring_id = ? AND role = ? AND credential = ? AND counts"
        )
        (number,) = self._connection.execute(statement, (keyring_id, role, credential)).fetchone()
        return int(number)

    def knows(self, client_id: ClientId, attempt_id: bytes) -> bool:
        """Tell whether an attempt was counted."""
        statement = "SELECT 1 FROM failures WHERE client_id = ? AND attempt_id = ?"
        return self._connection.execute(statement, (client_id, attempt_id)).fetchone() is not None

    def add(self, failure: LocalFailure, now_ms: ClusterTimeMs) -> None:
        """Count a failure, once for its attempt, and forget some old ones that do not count."""
        self._connection.execute(
            "DELETE FROM failures WHERE NOT counts AND counted_ms < ?",
            (now_ms - idempotency.KEPT_MS,),
        )
        self._connection.execute(
            "INSERT OR IGNORE INTO failures VALUES (?, ?, ?, ?, ?, 1, ?, NULL)",
            (
                failure.client_id,
                failure.attempt_id,
                failure.keyring_id,
                failure.role,
                failure.credential,
                now_ms,
            ),
        )

    def reset(self, keyring_id: KeyringId, role: Role) -> None:
        """Let failures count no more; what was a wrong attempt stays one."""
        self._connection.execute(
            "UPDATE failures SET counts = 0, batch = NULL WHERE keyring_id = ? AND role = ?",
            (keyring_id, role),
        )

    def has_any(self) -> bool:
        """Tell whether there are failures that the primary may not have."""
        statement = "SELECT 1 FROM failures WHERE counts LIMIT 1"
        return self._connection.execute(statement).fetchone() is not None

    def batch(self) -> MergeFailures | None:
        """Return what the primary is to be brought next, the same again until it has it."""
        statement = "SELECT batch FROM failures WHERE counts AND batch IS NOT NULL LIMIT 1"
        found = self._connection.execute(statement).fetchone()
        name = bytes(found[0]) if found else os.urandom(16)
        if found is None:
            self._connection.execute(
                "UPDATE failures SET batch = ? WHERE rowid IN"
                " (SELECT rowid FROM failures WHERE counts ORDER BY rowid LIMIT ?)",
                (name, MAX_BATCH),
            )
        rows = self._connection.execute(
            "SELECT client_id, attempt_id, keyring_id, role, credential FROM failures"
            " WHERE counts AND batch = ? ORDER BY rowid",
            (name,),
        ).fetchall()
        if not rows:
            return None
        return MergeFailures(batch_id=name, failures=[LocalFailure(*row) for row in rows])

    def forget(self, batch_id: bytes) -> None:
        """Let go of a batch that the primary has; its attempts stay wrong for a while."""
        statement = "UPDATE failures SET counts = 0, batch = NULL WHERE batch = ?"
        self._connection.execute(statement, (batch_id,))


@dataclass(slots=True)
class FailureFile:
    """The failures of one member, in a file beside its state."""

    path: Path
    pending: bool = True
    """False when the primary has everything that is in it."""
    _thread: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[FailureBook], T]) -> T:
        """Run `work` in one synced transaction; InternalFault (STORAGE_FAILED) without effect."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="failures")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    def _run(self, work: Callable[[FailureBook], T]) -> T:
        try:
            # Opened each time: failures are rare, and a file that was removed is made anew.
            with closing(sqlite3.connect(self.path, timeout=LOCK_SECONDS)) as connection:
                connection.execute("PRAGMA synchronous = EXTRA")
                self.path.chmod(0o600)
                connection.execute(_SCHEMA)
                with connection:
                    return work(FailureBook(connection))
        except (sqlite3.Error, OSError) as error:
            message = f"The failed attempts in {self.path} cannot be read or written: {error}."
            raise InternalFault(faults.STORAGE_FAILED, message) from error

    def remove(self) -> None:
        """Forget all failures: this member has left its cluster."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None


async def merge_here(context: Context, batch: MergeFailures) -> None:
    """Add a batch to the counters of this member's own store, as the primary."""
    now_ms, limits = context.cluster_time_ms(), context.limits
    await context.write(lambda writer: merge(writer, batch, now_ms, limits))


def merge(
    writer: ClusterWriter, batch: MergeFailures, now_ms: ClusterTimeMs, limits: Limits
) -> None:
    """Add a batch that another member counted to the primary's counters, once."""
    key = IdempotencyKey(b"merge" + batch.batch_id)
    if writer.record(DAEMON_CLIENT, key) is not None:
        return
    writer.put_record(
        DAEMON_CLIENT,
        key,
        keyring_id=KeyringId(b""),
        request_mac=b"",
        result=b"",
        expires_ms=ClusterTimeMs(now_ms + MERGE_KEPT_MS),
    )
    groups: dict[tuple[bytes, int, bytes], list[LocalFailure]] = {}
    for failure in batch.failures:
        request = _attempt(failure)
        if writer.record(request.client_id, request.key) is not None:
            continue
        idempotency.record(writer, request, KeyringId(failure.keyring_id), b"", now_ms)
        name = (failure.keyring_id, failure.role, failure.credential)
        groups.setdefault(name, []).append(failure)
    for name, failures in groups.items():
        _add(writer, name, failures, limits)


def _add(
    writer: ClusterWriter,
    name: tuple[bytes, int, bytes],
    failures: Sequence[LocalFailure],
    limits: Limits,
) -> None:
    role = Role(name[1])
    row = writer.keyring(KeyringId(name[0]))
    if row is None:
        return
    stored = credential_of(row, role)
    if stored.never_locks or credential_digest(stored) != name[2]:
        return
    total = min(stored.failures + len(failures), limits.lock_after)
    writer.update_keyring(with_credential(row, role, replace(stored, failures=total)))


def _attempt(failure: LocalFailure) -> idempotency.Request:
    return idempotency.Request(ClientId(failure.client_id), attempt_key(failure.attempt_id), b"")
