"""Create, list, show, unlock and delete keyrings for the appliance's doors.

Invariant: a call creates all of its keyrings or none.  The password that comes with it becomes the
first password, which authorizes its own change and opens nothing (rule C1).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID, uuid4

import msgspec

from conclave import faults
from conclave.cluster import idempotency
from conclave.cluster.assignments import keyrings_of_monitor
from conclave.cluster.attempts import AttemptGate
from conclave.cluster.context import (
    DAEMON_CLIENT,
    Context,
    named_keyring,
    no_keyring,
    require_cluster,
)
from conclave.cluster.credentials import new_authorization_version
from conclave.cluster.idempotency import Request
from conclave.cluster.passwords import PasswordDesk
from conclave.errors import BadInput, Conflict
from conclave.ids import IdempotencyKey, KeyGeneration, KeyringId, RowRevision, SlotNumber
from conclave.keyring.keys import (
    WrapName,
    renew_first_password,
    renew_wrap,
    seal_first_password,
)
from conclave.keyring.labels import check_count, check_label, new_serial
from conclave.keyring.limits import check_keyring_room, check_new_password, password_characters
from conclave.keyring.roles import LockState, is_locked, never_locks
from conclave.service.messages import (
    CreateKeyrings,
    KeyringList,
    KeyringSummary,
    ListKeyrings,
    NamedKeyring,
)
from conclave.service.quiet import Nothing
from conclave.service.wire import Role
from conclave.settings import Limits
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import CredentialRow, KeyringRow, KeyringState

NO_KEYRING: Final = KeyringId(b"")
_NO_SLOT: Final = SlotNumber(-1)
_NO_REVISION: Final = RowRevision(0)
"""Given when the keyring is inserted."""


@dataclass(slots=True)
class KeyringAdmin:
    """Handlers of the methods about keyrings as a whole."""

    context: Context
    desk: PasswordDesk
    gate: AttemptGate

    async def create_keyrings(self, params: CreateKeyrings, _role: str) -> KeyringList:
        """Create keyrings with the given labels; raise Conflict when one of them is taken."""
        self.context.require_authorized()
        request = _create_request(params)
        if request and (record := await idempotency.repeated(self.context, request)):
            return await self._listed(msgspec.msgpack.decode(record.result, type=list[bytes]))
        _check_labels(params.labels, self.context.limits)
        check_new_password(params.password, self.context.limits)
        rows = await self._new_rows(params)
        ids = await self.context.write(lambda writer: self._insert(writer, request, rows))
        return await self._listed(ids)

    async def _new_rows(self, params: CreateKeyrings) -> list[KeyringRow]:
        """Return the keyrings without their slots; one hash serves them all (rule C1)."""
        salt, kek = await self.desk.hash_new(params.password, f"daemon|{params.source}")
        outer = self.context.require_authorized().master.outer
        long_enough = never_locks(password_characters(params.password), self.context.limits)
        now_ms = self.context.clock.now_ms()
        return [
            _new_keyring(label, salt, kek, outer, never_lock=long_enough, now_ms=now_ms)
            for label in params.labels
        ]

    def _insert(
        self, writer: ClusterWriter, request: Request | None, rows: Sequence[KeyringRow]
    ) -> list[bytes]:
        if request and (record := idempotency.find_and_touch(writer, request)):
            return msgspec.msgpack.decode(record.result, type=list[bytes])
        require_cluster(writer)
        taken = writer.taken_labels([row.label for row in rows])
        if taken:
            message = f"These keyrings exist already, so none was created: {', '.join(taken)}."
            raise Conflict(faults.KEYRING_EXISTS, message)
        check_keyring_room(writer.keyring_count(), len(rows), self.context.limits)
        serials = _free_serials(writer, len(rows))
        revision = writer.next_revision()
        numbered = zip(rows, serials, writer.next_slots(len(rows)), strict=True)
        writer.insert_keyrings(
            replace(row, serial=serial, slot=slot, revision=revision)
            for row, serial, slot in numbered
        )
        ids = [bytes(row.keyring_id) for row in rows]
        if request:
            result = msgspec.msgpack.encode(ids)
            now_ms = self.context.cluster_time_ms()
            idempotency.record(writer, request, NO_KEYRING, result, now_ms)
        return ids

    async def _listed(self, ids: Sequence[bytes]) -> KeyringList:
        def work(reader: ClusterReader) -> KeyringList:
            rows = [reader.keyring(KeyringId(name)) for name in ids]
            found = [self._summary(row, reader.object_count(row.keyring_id)) for row in rows if row]
            return KeyringList(keyrings=found, total=len(found))

        return await self.context.read(work)

    async def list_keyrings(self, params: ListKeyrings, _role: str) -> KeyringList:
        """Return a page of keyrings in the order of their slots."""

        def work(reader: ClusterReader) -> KeyringList:
            require_cluster(reader)
            if params.monitor_user:
                return self._of_monitor(reader, params)
            page = reader.keyring_page(params.offset, params.limit)
            return KeyringList(
                keyrings=[self._summary(row, count) for row, count in page],
                total=reader.keyring_count(),
            )

        return await self.context.read(work)

    def _of_monitor(self, reader: ClusterReader, params: ListKeyrings) -> KeyringList:
        found = keyrings_of_monitor(reader, params.monitor_user)
        page = found[params.offset :][: params.limit or None]
        return KeyringList(
            keyrings=[self._summary(row, reader.object_count(row.keyring_id)) for row in page],
            total=len(found),
        )

    async def show_keyring(self, params: NamedKeyring, _role: str) -> KeyringSummary:
        """Return one keyring."""

        def work(reader: ClusterReader) -> KeyringSummary:
            row = named_keyring(reader, params.name)
            if params.monitor_user:
                theirs = keyrings_of_monitor(reader, params.monitor_user)
                if all(each.keyring_id != row.keyring_id for each in theirs):
                    raise no_keyring(params.name)
            return self._summary(row, reader.object_count(row.keyring_id))

        return await self.context.read(work)

    async def delete_keyring(self, params: NamedKeyring, _role: str) -> Nothing:
        """Delete a keyring with its objects."""
        await self.context.write(
            lambda writer: writer.delete_keyring(named_keyring(writer, params.name).keyring_id)
        )
        return Nothing()

    async def unlock_keyring(self, params: NamedKeyring, _role: str) -> Nothing:
        """Forget the failed attempts on a keyring, those that no other member told of yet too."""
        outer = self.context.require_authorized().master.outer

        def work(writer: ClusterWriter) -> KeyringId:
            row = named_keyring(writer, params.name)
            krco = unlocked_credential(row, Role.KRCO, row.krco, outer) if row.krco else None
            krso = unlocked_credential(row, Role.KRSO, row.krso, outer)
            writer.update_keyring(replace(row, krso=krso, krco=krco))
            return row.keyring_id

        self.gate.release(await self.context.write(work))
        return Nothing()

    def _summary(self, row: KeyringRow, object_count: int) -> KeyringSummary:
        credentials = [row.krso, *([row.krco] if row.krco else [])]
        locks = [LockState(item.never_locks, item.failures) for item in credentials]
        return KeyringSummary(
            keyring_id=str(UUID(bytes=bytes(row.keyring_id))),
            label=row.label,
            serial=row.serial,
            slot=row.slot,
            locked=any(is_locked(lock, self.context.limits) for lock in locks),
            failed_attempts=max(lock.failures for lock in locks),
            krso_initialized=row.state is not KeyringState.INITIAL,
            krco_initialized=row.state is KeyringState.READY,
            object_count=object_count,
            created_ms=row.created_ms,
        )


def unlocked_credential(
    row: KeyringRow, role: Role, credential: CredentialRow, outer: bytes
) -> CredentialRow:
    """Return a credential without failures, sealed anew so that older failures miss it (C22)."""
    sealed = credential.sealed_outer
    if row.state is KeyringState.INITIAL:
        renewed = renew_first_password(outer, sealed, row.keyring_id)
    else:
        renewed = renew_wrap(outer, sealed, WrapName(row.keyring_id, role, row.key_generation))
    return replace(credential, failures=0, sealed_outer=renewed)


def _create_request(params: CreateKeyrings) -> Request | None:
    """Return what identifies a create; None when the caller gave no key."""
    if not params.idempotency_key:
        return None
    key = params.idempotency_key
    mac = idempotency.request_mac(key, "CreateKeyrings", params.labels, params.password)
    return Request(DAEMON_CLIENT, IdempotencyKey(key), mac)


def _check_labels(labels: Sequence[str], limits: Limits) -> None:
    check_count(len(labels), limits)
    for label in labels:
        check_label(label)
    if len(set(labels)) != len(labels):
        message = "One call names the same keyring label twice; none was created."
        raise BadInput(faults.KEYRING_LABEL, message)


def _new_keyring(
    label: str, salt: bytes, kek: bytes, outer: bytes, *, never_lock: bool, now_ms: int
) -> KeyringRow:
    keyring_id = KeyringId(uuid4().bytes)
    sealed = seal_first_password(outer, kek, keyring_id)
    return KeyringRow(
        keyring_id=keyring_id,
        label=label,
        serial="",
        slot=_NO_SLOT,
        state=KeyringState.INITIAL,
        key_generation=KeyGeneration(0),
        authorization_version=new_authorization_version(),
        check_value=b"",
        krso=CredentialRow(salt, sealed, never_lock, failures=0),
        krco=None,
        revision=_NO_REVISION,
        created_ms=now_ms,
    )


def _free_serials(reader: ClusterReader, count: int) -> list[str]:
    """Return random serial numbers that no keyring has."""
    serials: set[str] = set()
    while len(serials) < count:
        drawn = {new_serial(secrets.randbelow) for _ in range(count - len(serials))}
        serials |= drawn - reader.taken_serials(sorted(drawn))
    return list(serials)
