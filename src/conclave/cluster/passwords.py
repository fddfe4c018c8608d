"""Check a keyring's password, counting what goes wrong before anybody learns of it.

Invariant: the answer to an attempt is given after its failure is durable; a success writes only if
there were failures to reset (rule C22).  Nothing is hashed for a keyring that is locked or
unknown, nor for a password too short to count (rule C8).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from conclave import faults
from conclave.cluster import idempotency
from conclave.cluster.attempts import Attempt, AttemptGate, CredentialName, Owed
from conclave.cluster.context import Context, require_keyring, require_user_of
from conclave.crypto.password_hash import new_salt
from conclave.errors import InternalFault, NotAllowed, Unavailable
from conclave.ids import ClientId, ClusterTimeMs, IdempotencyKey, KeyringId
from conclave.keyring.keys import WrapName, WrongPassword, check_first_password, unwrap_key
from conclave.keyring.limits import password_characters
from conclave.keyring.roles import LockState, Outcome, is_initialized, next_failures
from conclave.service.channel import ChannelClient
from conclave.service.messages import DerivedKey, HashPassword
from conclave.service.wire import Role
from conclave.settings import Limits
from conclave.source_networks import network_of
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import CredentialRow, KeyringRow, KeyringState

HASH_SECONDS: Final = 15.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Attempted:
    """Who tries which password for what."""

    client_id: ClientId
    source: str
    keyring_id: KeyringId
    role: Role
    password: bytes
    attempt_id: bytes


@dataclass(frozen=True, slots=True, repr=False)
class Verified:
    """A password that was right: the keyring as it was read, and what the password opened."""

    row: KeyringRow
    key: bytes
    """KK; empty while the first password is unchanged."""


def client_source(client_id: ClientId, source: str) -> str:
    """Return what one attempt at a time is hashed for (rule C8)."""
    return f"{client_id.hex()}|{network_of(source)}"


def credential_role(row: KeyringRow, role: Role) -> Role:
    """Return whose credential a role logs in with: in single identity there is one (rule C2)."""
    return role if row.krco is not None else Role.KRSO


def credential_of(row: KeyringRow, role: Role) -> CredentialRow:
    """Return the credential that a role logs in with."""
    return row.krco if role is Role.KRCO and row.krco is not None else row.krso


def with_credential(row: KeyringRow, role: Role, credential: CredentialRow) -> KeyringRow:
    """Return the keyring with the credential of `role` replaced."""
    if credential_role(row, role) is Role.KRCO:
        return replace(row, krco=credential)
    return replace(row, krso=credential)


@dataclass(slots=True)
class PasswordDesk:
    """Hash passwords in the login process and hold them against keyrings."""

    context: Context
    login: ChannelClient
    gate: AttemptGate

    async def hash_new(self, password: bytes, source: str) -> tuple[bytes, bytes]:
        """Return a new salt, of the configured cost, and the key of a new password."""
        salt = new_salt(self.context.settings.cost)
        return salt, await self.hash(password, salt, source)

    async def hash(self, password: bytes, salt: bytes, source: str) -> bytes:
        """Derive a key-encryption key; raise Unavailable with BUSY when that is not to be had."""
        request = HashPassword(password=password, salt=salt, source=source)
        answer: DerivedKey = await self.login.call(
            "hash_password", request, timeout_seconds=HASH_SECONDS
        )
        return answer.key

    async def verify(self, attempted: Attempted) -> Verified:
        """Return what a right password opens; raise CredentialRefused for a wrong one."""
        row = await self.context.read(lambda reader: _readable(reader, attempted))
        credential_name = (attempted.keyring_id, credential_role(row, attempted.role))
        characters = password_characters(attempted.password)
        attempt = Attempt(attempted.client_id, attempted.attempt_id, credential_name, characters)

        async def read() -> tuple[KeyringRow, LockState]:
            return await self._admission(attempted)

        await self._settle(credential_name)
        row = await self.gate.enter(attempt, read)
        return await self._check(attempt, attempted, row)

    async def _admission(self, attempted: Attempted) -> tuple[KeyringRow, LockState]:
        """Read what an attempt is admitted on; a counted attempt stays wrong."""
        row = await self.context.read(lambda reader: _unfailed(reader, attempted))
        credential = credential_of(row, attempted.role)
        return row, LockState(credential.never_locks, credential.failures)

    async def _record(self, owed: Sequence[Owed]) -> None:
        """Make failures durable."""
        await self.context.write(lambda writer: [count(writer) for count in owed])

    async def _settle(self, credential: CredentialName) -> None:
        """Write the failures that the store did not take when they happened, if it does now."""
        owed = self.gate.owed(credential)
        if not owed:
            return
        try:
            await self._record(list(owed.values()))
        except (Unavailable, InternalFault) as error:
            logger.debug("Failed attempts still cannot be written: %s", error.message)
        else:
            self.gate.settled(credential, owed)

    async def _check(self, attempt: Attempt, attempted: Attempted, row: KeyringRow) -> Verified:
        credential = credential_of(row, attempted.role)
        outcome, owed = Outcome.ABANDONED, None
        try:
            kek = await self._hash_attempt(attempted, credential)
            try:
                key = self._open(row, attempted.role, kek)
            except WrongPassword:
                outcome = Outcome.WRONG
                if not credential.never_locks:
                    owed = self._failure(attempted, credential, attempt.credential)
                    await self._record([owed])
                    owed = None
                raise
            row = await self._reset(attempted, row)
            outcome = Outcome.GOOD
            return Verified(row, key)
        finally:
            self.gate.leave(attempt, outcome, owed=owed, paced=credential.never_locks)

    async def _hash_attempt(self, attempted: Attempted, credential: CredentialRow) -> bytes:
        source = client_source(attempted.client_id, attempted.source)
        try:
            return await self.hash(attempted.password, credential.salt, source)
        except Unavailable as error:
            message = f"The password was not checked and not counted: {error.message}"
            raise Unavailable(faults.BUSY, message) from error

    def _open(self, row: KeyringRow, role: Role, kek: bytes) -> bytes:
        outer = self.context.require_authorized().master.outer
        credential = credential_of(row, role)
        if row.state is KeyringState.INITIAL:
            check_first_password(outer, kek, row.keyring_id, credential.sealed_outer)
            return b""
        name = WrapName(row.keyring_id, credential_role(row, role), row.key_generation)
        return unwrap_key(outer, kek, credential.sealed_outer, name)

    def _failure(
        self, attempted: Attempted, credential: CredentialRow, _name: CredentialName
    ) -> Owed:
        """Return what counts a wrong password; it may be kept, so it holds no password."""
        nameless = replace(attempted, password=b"")
        now_ms, limits = self.context.cluster_time_ms(), self.context.limits
        return lambda writer: count_failure(writer, nameless, credential, now_ms, limits)

    async def _reset(self, attempted: Attempted, row: KeyringRow) -> KeyringRow:
        """Forget the failures after a good password; a success writes only if there were any."""
        credential = credential_of(row, attempted.role)
        if not credential.failures:
            return row
        return await self.context.write(
            lambda writer: reset_failures(writer, attempted, credential)
        )


def count_failure(
    writer: ClusterWriter,
    attempted: Attempted,
    credential: CredentialRow,
    now_ms: ClusterTimeMs,
    limits: Limits,
) -> None:
    """Count one wrong password, once for its attempt id (rule C21)."""
    if writer.record(attempted.client_id, attempt_key(attempted.attempt_id)) is not None:
        return
    request = idempotency.Request(attempted.client_id, attempt_key(attempted.attempt_id), b"")
    row = writer.keyring(attempted.keyring_id)
    if row is not None and _is_same(stored := credential_of(row, attempted.role), credential):
        state = LockState(stored.never_locks, stored.failures)
        failures = next_failures(state, Outcome.WRONG, limits)
        writer.update_keyring(
            with_credential(row, attempted.role, replace(stored, failures=failures))
        )
    idempotency.record(writer, request, attempted.keyring_id, b"", now_ms)


def reset_failures(
    writer: ClusterWriter, attempted: Attempted, credential: CredentialRow
) -> KeyringRow:
    """Set a credential's failures to none after a good password.

    Raises WrongPassword when the credential was replaced since it was read: what was proven is
    an old password, and neither a ticket nor a change may be made for the row as it is now.
    """
    row = require_keyring(writer, attempted.keyring_id)
    stored = credential_of(row, attempted.role)
    if not _is_same(stored, credential):
        raise WrongPassword
    if not stored.failures:
        return row
    return writer.update_keyring(with_credential(row, attempted.role, replace(stored, failures=0)))


def _is_same(one: CredentialRow, other: CredentialRow) -> bool:
    # Not by the outer seal, which an unlock renews: only a new password has a new salt.
    return one.salt == other.salt


def _readable(reader: ClusterReader, attempted: Attempted) -> KeyringRow:
    """Return the keyring if this client may try this role's password at all."""
    require_user_of(reader, attempted.client_id, attempted.keyring_id)
    row = require_keyring(reader, attempted.keyring_id)
    if not is_initialized(attempted.role, row.state):
        message = f"The KRCO of keyring {row.label!r} is not initialised: the KRSO must do it."
        raise NotAllowed(faults.USER_PIN_NOT_INITIALIZED, message)
    return row


def _unfailed(reader: ClusterReader, attempted: Attempted) -> KeyringRow:
    """As `_readable`; an attempt that was counted as wrong stays wrong, whatever it brings now."""
    row = _readable(reader, attempted)
    if reader.record(attempted.client_id, attempt_key(attempted.attempt_id)) is not None:
        raise WrongPassword
    return row


def attempt_key(attempt_id: bytes) -> IdempotencyKey:
    """Return under which key an attempt is recorded."""
    return IdempotencyKey(b"attempt" + attempt_id)
