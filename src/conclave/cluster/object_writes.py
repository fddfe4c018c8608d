"""Change token objects under a ticket, all or nothing.

Invariant: inside the transaction the ticket is held against the keyring's row as it is then, KK
must open the check value, the client must be listed and may use the keyring, the deadline must lie
ahead, the limit must hold, and every replaced or deleted object must have the revision that the
caller saw (rule C20).
A ticket forged with the SMK has no KK, so it changes and destroys nothing (rule C10).
"""

from __future__ import annotations

from dataclasses import dataclass

from conclave import faults
from conclave.cluster import idempotency
from conclave.cluster.context import Context, exact_id, require_keyring, require_user_of
from conclave.cluster.idempotency import Request
from conclave.cluster.session_tickets import TicketOffice, prove_login
from conclave.errors import CredentialRefused
from conclave.ids import (
    ClientId,
    IdempotencyKey,
    KeyGeneration,
    KeyringId,
    ObjectId,
    RowRevision,
)
from conclave.keyring.limits import check_object_room
from conclave.service.messages import LookupWrite, ObjectWrite, WriteObjects, WriteResult
from conclave.service.tickets import Ticket
from conclave.service.wire import Role
from conclave.store.repository import ClusterWriter
from conclave.store.rows import IdempotencyRow, ObjectRow

NOT_REPEATED = WriteResult(repeated=False, result=b"", revision=0)


@dataclass(slots=True)
class ObjectWrites:
    """Handlers of the methods that change token objects."""

    context: Context
    office: TicketOffice

    async def write_objects(self, params: WriteObjects, _role: str) -> WriteResult:
        """Insert, replace and delete objects of one keyring in one transaction."""
        client_id = ClientId(exact_id(params.client_id, "client id"))
        keyring_id = KeyringId(exact_id(params.keyring_id, "keyring id"))
        request = Request(
            client_id,
            IdempotencyKey(exact_id(params.idempotency_key, "idempotency key")),
            params.request_mac,
            params.deadline_ms,
        )
        ticket = await self.office.open(params.ticket, client_id, keyring_id)
        return await self.context.write(
            lambda writer: self._carry_out(writer, params, request, ticket), objects_only=True
        )

    async def lookup_write(self, params: LookupWrite, _role: str) -> WriteResult:
        """Return the record of an idempotency key, if it was used."""
        request = Request(
            ClientId(exact_id(params.client_id, "client id")),
            IdempotencyKey(exact_id(params.idempotency_key, "idempotency key")),
            params.request_mac,
        )
        record = await idempotency.repeated(self.context, request)
        return NOT_REPEATED if record is None else _repeated(record)

    def _carry_out(
        self, writer: ClusterWriter, params: WriteObjects, request: Request, ticket: Ticket
    ) -> WriteResult:
        record = idempotency.find_and_touch(writer, request)
        if record is not None:
            return _repeated(record)
        now_ms = self.context.cluster_time_ms()
        idempotency.check_deadline(request, now_ms)
        keyring_id = KeyringId(params.keyring_id)
        keyring = writer.once((keyring_id,), lambda: require_keyring(writer, keyring_id))
        prove_login(ticket, keyring, Role.KRCO, Role.KRSO)
        user = (request.client_id, keyring_id)
        writer.once(user, lambda: require_user_of(writer, *user))
        _check_right_to_private(writer, ticket, params, keyring_id)
        inserts = sum(1 for write in params.writes if write.expected_revision == 0)
        if inserts and self.context.limits.max_objects:
            present = writer.object_count(keyring_id) - len(params.deletes)
            check_object_room(present, inserts, self.context.limits)
        revision = writer.next_revision()
        _change(writer, params, KeyGeneration(ticket.key_generation), revision)
        idempotency.record(writer, request, keyring_id, params.result, now_ms)
        return WriteResult(repeated=False, result=params.result, revision=revision)


def _change(
    writer: ClusterWriter, params: WriteObjects, generation: KeyGeneration, revision: RowRevision
) -> None:
    keyring_id = KeyringId(params.keyring_id)
    for delete in params.deletes:
        expected = RowRevision(delete.expected_revision)
        writer.delete_object(keyring_id, ObjectId(delete.object_id), expected)
    for write in params.writes:
        row = _row(write, keyring_id, generation, revision)
        if write.expected_revision == 0:
            writer.insert_object(row)
        else:
            writer.replace_object(row, RowRevision(write.expected_revision))


def _row(
    write: ObjectWrite, keyring_id: KeyringId, generation: KeyGeneration, revision: RowRevision
) -> ObjectRow:
    return ObjectRow(
        keyring_id=keyring_id,
        object_id=ObjectId(exact_id(write.object_id, "object id")),
        private=write.private,
        version=write.version,
        key_generation=generation,
        revision=revision,
        blob=write.blob,
        mac=write.mac,
    )


def _check_right_to_private(
    writer: ClusterWriter, ticket: Ticket, params: WriteObjects, keyring_id: KeyringId
) -> None:
    """Refuse private objects to the KRSO, as the standard does."""
    if ticket.role == Role.KRCO:
        return
    replaced = [write.object_id for write in params.writes if write.expected_revision]
    touched = [ObjectId(name) for name in (*replaced, *(d.object_id for d in params.deletes))]
    wanted = any(write.private for write in params.writes)
    if wanted or any(row.private for row in writer.objects(keyring_id, touched)):
        message = "Private objects need a login as KRCO."
        raise CredentialRefused(faults.NOT_LOGGED_IN, message)


def _repeated(record: IdempotencyRow) -> WriteResult:
    return WriteResult(repeated=True, result=record.result, revision=record.revision)
