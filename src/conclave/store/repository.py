"""What may be asked of a cluster store and done to it.

Invariant: every change of a keyring or one of its objects takes a new revision and is noted in
`Touched`, so that no committed change goes without its generation being bumped (rule C15).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import (
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from conclave import faults
from conclave.errors import Conflict, NotFound
from conclave.ids import (
    ClientId,
    ClusterTimeMs,
    IdempotencyKey,
    KeyringId,
    MemberId,
    ObjectId,
    RowRevision,
    SlotNumber,
)
from conclave.store import mapping, schema
from conclave.store.engine import open_reader_engine
from conclave.store.migrations import stored_version
from conclave.store.prepared import Prepared
from conclave.store.rows import (
    ClientRow,
    ClusterStateRow,
    IdempotencyRow,
    KeyringRow,
    MemberRow,
    ObjectRow,
    UserRow,
)

_NO_LIMIT: Final = 1 << 62

# Statements of the hot paths, built once.
_KEYRING: Final = select(schema.keyrings).where(schema.keyrings.c.keyring_id == bindparam("id"))
_REVISIONS: Final = Prepared(
    select(schema.objects.c.object_id, schema.objects.c.revision).where(
        schema.objects.c.keyring_id == bindparam("id")
    )
)
_OBJECTS: Final = select(schema.objects).where(
    schema.objects.c.keyring_id == bindparam("id"),
    schema.objects.c.object_id.in_(bindparam("ids", expanding=True)),
)
_OBJECT_COUNT: Final = (
    select(func.count())
    .select_from(schema.objects)
    .where(schema.objects.c.keyring_id == bindparam("id"))
)
_CLIENT_BY_KEY: Final = select(schema.clients).where(
    schema.clients.c.key_sha256 == bindparam("key")
)
_CLIENT: Final = select(schema.clients).where(schema.clients.c.client_id == bindparam("id"))
_RECORD: Final = Prepared(
    select(*mapping.IDEMPOTENCY).where(schema.idempotency.c.record_id == bindparam("id"))
)
_NEXT: Final = Prepared(
    update(schema.counters)
    .where(schema.counters.c.name == bindparam("counter"))
    .values(value=schema.counters.c.value + bindparam("step"))
    .returning(schema.counters.c.value)
)
_COUNTER: Final = select(schema.counters.c.value).where(
    schema.counters.c.name == bindparam("counter")
)
_MATCHING_OBJECT: Final = and_(
    schema.objects.c.keyring_id == bindparam("of_keyring"),
    schema.objects.c.object_id == bindparam("of_object"),
    schema.objects.c.revision == bindparam("expected"),
)
_INSERT_OBJECT: Final = Prepared(insert(schema.objects), schema.objects.columns.keys())
_REPLACE_OBJECT: Final = Prepared(
    update(schema.objects).where(_MATCHING_OBJECT), schema.objects.columns.keys()
)
_DELETE_OBJECT: Final = Prepared(delete(schema.objects).where(_MATCHING_OBJECT))
_INSERT_RECORD: Final = Prepared(insert(schema.idempotency), schema.idempotency.columns.keys())
_FORGET_RECORDS: Final = delete(schema.idempotency).where(
    schema.idempotency.c.record_id.in_(
        select(schema.idempotency.c.record_id)
        .where(schema.idempotency.c.expires_ms < bindparam("now"))
        .order_by(schema.idempotency.c.expires_ms)
        .limit(bindparam("at_most"))
    )
)


class ClusterReader:
    """Questions to a cluster store; not to be used by two threads at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """Return the connection, for tables that have a module of their own."""
        return self._connection

    def close(self) -> None:
        """Let go of the store."""
        self._connection.close()
        self._connection.engine.dispose()

    def schema_version(self) -> int:
        """Return the store's schema version, 0 while it is empty."""
        return stored_version(self._connection)

    # ------------------------------------------------------------------ cluster

    def cluster_state(self) -> ClusterStateRow | None:
        """Return what this cluster is, None before it was created."""
        row = self._connection.execute(select(schema.cluster_state)).one_or_none()
        return mapping.cluster_state(row) if row else None

    def members(self) -> list[MemberRow]:
        """Return the members in the order of their names."""
        rows = self._connection.execute(select(schema.members).order_by(schema.members.c.name))
        return [mapping.member(row) for row in rows]

    def users(self) -> list[UserRow]:
        """Return the users in the order of their names."""
        rows = self._connection.execute(select(schema.users).order_by(schema.users.c.user_id))
        return [mapping.user(row) for row in rows]

    def users_version(self) -> int:
        """Return the version of the list of users, 0 before there is one.

        Whoever changes the list asks for this first: each statement sees the newest commit, and a
        version that is older than the list is refused, never a change lost.
        """
        return self._counter(schema.USERS_COUNTER)

    def revision(self) -> RowRevision:
        """Return the newest revision of any row."""
        return RowRevision(self._counter(schema.REVISION_COUNTER))

    # ------------------------------------------------------------------ keyrings

    def keyring(self, keyring_id: KeyringId) -> KeyringRow | None:
        """Return a keyring, None when there is none of that id."""
        row = self._connection.execute(_KEYRING, {"id": keyring_id}).one_or_none()
        return mapping.keyring(row) if row else None

    def keyring_by_label(self, label: str) -> KeyringRow | None:
        """Return the keyring of that label, None when there is none."""
        query = select(schema.keyrings).where(schema.keyrings.c.label == label)
        row = self._connection.execute(query).one_or_none()
        return mapping.keyring(row) if row else None

    def keyrings(self, first_slot: int = 0, limit: int = 0) -> list[KeyringRow]:
        """Return keyrings from a slot number on, in the order of slots; limit 0 means all."""
        query = (
            select(schema.keyrings)
            .where(schema.keyrings.c.slot >= first_slot)
            .order_by(schema.keyrings.c.slot)
            .limit(limit or _NO_LIMIT)
        )
        return [mapping.keyring(row) for row in self._connection.execute(query)]

    def keyring_page(self, offset: int, limit: int) -> list[tuple[KeyringRow, int]]:
        """Return keyrings with their object counts in the order of slots; limit 0 means all."""
        count = (
            select(func.count())
            .where(schema.objects.c.keyring_id == schema.keyrings.c.keyring_id)
            .scalar_subquery()
        )
        query = (
            select(schema.keyrings, count.label("object_count"))
            .order_by(schema.keyrings.c.slot)
            .offset(offset)
            .limit(limit or _NO_LIMIT)
        )
        rows = self._connection.execute(query)
        return [(mapping.keyring(row), row.object_count) for row in rows]

    def keyring_count(self) -> int:
        """Return how many keyrings there are."""
        query = select(func.count()).select_from(schema.keyrings)
        return self._connection.execute(query).scalar_one()

    def taken_labels(self, labels: Sequence[str]) -> list[str]:
        """Return those of `labels` that keyrings have already, sorted."""
        query = (
            select(schema.keyrings.c.label)
            .where(schema.keyrings.c.label.in_(labels))
            .order_by(schema.keyrings.c.label)
        )
        return list(self._connection.execute(query).scalars())

    def taken_serials(self, serials: Sequence[str]) -> set[str]:
        """Return those of `serials` that keyrings have already."""
        query = select(schema.keyrings.c.serial).where(schema.keyrings.c.serial.in_(serials))
        return set(self._connection.execute(query).scalars())

    # ------------------------------------------------------------------ objects

    def object_revisions(self, keyring_id: KeyringId) -> Sequence[tuple[ObjectId, RowRevision]]:
        """Return the ids and revisions of a keyring's objects."""
        # The rows as they are: a worker asks after each change of a keyring.
        return _REVISIONS.run(self._connection, {"id": keyring_id})

    def objects(self, keyring_id: KeyringId, ids: Sequence[ObjectId]) -> list[ObjectRow]:
        """Return those of the named objects that exist, in no particular order."""
        rows = self._connection.execute(_OBJECTS, {"id": keyring_id, "ids": list(ids)})
        return [mapping.object_row(row) for row in rows]

    def keyrings_above(self, revision: int) -> list[KeyringRow]:
        """Return the keyrings that were changed after a revision, in the order of slots."""
        query = select(schema.keyrings).where(schema.keyrings.c.revision > revision)
        rows = self._connection.execute(query.order_by(schema.keyrings.c.slot))
        return [mapping.keyring(row) for row in rows]

    def objects_above(self, revision: int, offset: int, limit: int) -> list[ObjectRow]:
        """Return a page of the objects that were changed after a revision, oldest first."""
        order = (
            schema.objects.c.revision,
            schema.objects.c.keyring_id,
            schema.objects.c.object_id,
        )
        query = select(schema.objects).where(schema.objects.c.revision > revision)
        page = query.order_by(*order).offset(offset).limit(limit)
        return [mapping.object_row(row) for row in self._connection.execute(page)]

    def object_count(self, keyring_id: KeyringId) -> int:
        """Return how many objects a keyring has."""
        return self._connection.execute(_OBJECT_COUNT, {"id": keyring_id}).scalar_one()

    # ------------------------------------------------------------------ clients

    def client_by_key(self, key_sha256: bytes) -> ClientRow | None:
        """Return the client that registered a public key, None when it is not listed."""
        row = self._connection.execute(_CLIENT_BY_KEY, {"key": key_sha256}).one_or_none()
        return mapping.client(row) if row else None

    def client(self, client_id: ClientId) -> ClientRow | None:
        """Return a client, None when there is none of that id."""
        row = self._connection.execute(_CLIENT, {"id": client_id}).one_or_none()
        return mapping.client(row) if row else None

    def clients(self) -> list[ClientRow]:
        """Return the clients in the order of their registration."""
        order = (schema.clients.c.created_ms, schema.clients.c.client_id)
        rows = self._connection.execute(select(schema.clients).order_by(*order))
        return [mapping.client(row) for row in rows]

    # ------------------------------------------------------------------ idempotency

    def record(self, client_id: ClientId, key: IdempotencyKey) -> IdempotencyRow | None:
        """Return what an idempotency key was used for, None when it was not."""
        rows = _RECORD.run(self._connection, {"id": record_id(client_id, key)})
        return mapping.idempotency(rows[0]) if rows else None

    def _counter(self, name: str) -> int:
        value: int = self._connection.execute(_COUNTER, {"counter": name}).scalar_one()
        return value


@dataclass(slots=True)
class Touched:
    """What a transaction changed: whose generations to bump once it is committed."""

    keyrings: set[KeyringId] = field(default_factory=set)
    clients: bool = False
    everything: bool = False
    revision: int = 0

    @property
    def anything(self) -> bool:
        """Tell whether anybody's cache may be out of date."""
        return bool(self.keyrings or self.clients or self.everything or self.revision)

    def add(self, other: Touched) -> None:
        """Take over what another transaction changed."""
        self.keyrings |= other.keyrings
        self.clients |= other.clients
        self.everything |= other.everything
        self.revision = max(self.revision, other.revision)


T = TypeVar("T")
Seen = dict[tuple[bytes, ...], Any]
"""What the jobs of one connection have read, as long as only objects are changed; see `once`."""
MAX_SEEN: Final = 4096


class ClusterWriter(ClusterReader):
    """Changes inside one transaction, which its owner commits; `touched` tells what to bump."""

    def __init__(self, connection: Connection, seen: Seen | None = None) -> None:
        super().__init__(connection)
        self.touched = Touched()
        self._seen: Seen = {} if seen is None else seen

    def once(self, name: tuple[bytes, ...], ask: Callable[[], T]) -> T:
        """Return what `ask` tells, or told an earlier job of this connection under that name.

        Only for what a change of objects leaves as it is; an exception is not kept.
        """
        if name not in self._seen:
            if len(self._seen) >= MAX_SEEN:
                self._seen.clear()
            self._seen[name] = ask()
        answer: T = self._seen[name]
        return answer

    def next_revision(self) -> RowRevision:
        """Take the next revision: monotone over the cluster's life."""
        revision = self._take(schema.REVISION_COUNTER, 1)
        self.touched.revision = revision
        return RowRevision(revision)

    def next_slots(self, count: int) -> list[SlotNumber]:
        """Take `count` slot numbers that no keyring ever had."""
        last = self._take(schema.SLOT_COUNTER, count)
        return [SlotNumber(number) for number in range(last - count, last)]

    # ------------------------------------------------------------------ cluster

    def put_cluster_state(self, state: ClusterStateRow) -> None:
        """Insert or replace the single row of cluster state."""
        values = mapping.cluster_state_values(state)
        self._put(schema.cluster_state, {"id": 1}, values)
        self.touched.everything = True

    def put_visible(self, visible: Sequence[MemberId]) -> None:
        """Record who is visible; nobody's cache depends on it."""
        table = schema.cluster_state
        self._connection.execute(update(table).values(visible=",".join(visible)))

    def delete_member(self, member_id: MemberId) -> None:
        """Take a member off the list."""
        table = schema.members
        self._connection.execute(delete(table).where(table.c.member_id == member_id))
        self.touched.everything = True

    def put_member(self, member: MemberRow) -> None:
        """Insert or replace a member."""
        values = mapping.member_values(member)
        self._put(schema.members, {"member_id": member.member_id}, values)
        self.touched.everything = True

    def put_users(self, users: Iterable[UserRow], *, version: int) -> int:
        """Make `users` the whole list if `version` is still the stored one; return its version.

        Raises Conflict when somebody else changed the list since.
        """
        stored = self.users_version()
        if version != stored:
            message = (
                f"The users were changed by somebody else meanwhile: their version is {stored},"
                f" not {version}. Nothing was changed."
            )
            raise Conflict(faults.WRITE_CONFLICT, message)
        self.next_revision()
        self._connection.execute(delete(schema.users))
        rows = [mapping.user_values(user) for user in users]
        if rows:
            self._connection.execute(insert(schema.users), rows)
        return self._take(schema.USERS_COUNTER, 1)

    # ------------------------------------------------------------------ keyrings

    def insert_keyrings(self, keyrings: Iterable[KeyringRow]) -> None:
        """Insert keyrings; their revisions are the caller's, from `next_revision`."""
        rows = list(keyrings)
        values = [mapping.keyring_values(row) for row in rows]
        self._connection.execute(insert(schema.keyrings), values)
        self.touched.keyrings.update(row.keyring_id for row in rows)

    def update_keyring(self, keyring: KeyringRow) -> KeyringRow:
        """Replace a keyring if nobody changed it since its revision; return it as stored.

        Raises Conflict when its revision is not the stored one any more.
        """
        stored = replace(keyring, revision=self.next_revision())
        table = schema.keyrings
        statement = (
            update(table)
            .where(table.c.keyring_id == keyring.keyring_id, table.c.revision == keyring.revision)
            .values(mapping.keyring_values(stored))
        )
        if self._connection.execute(statement).rowcount != 1:
            message = f"Keyring {keyring.label!r} was changed by somebody else meanwhile."
            raise Conflict(faults.WRITE_CONFLICT, message)
        self.touched.keyrings.add(keyring.keyring_id)
        return stored

    def delete_keyring(self, keyring_id: KeyringId) -> None:
        """Delete a keyring and its objects; raises NotFound."""
        self.delete_objects(keyring_id)
        assigned = schema.assignments
        theirs = delete(assigned).where(assigned.c.keyring_id == keyring_id)
        if self._connection.execute(theirs).rowcount:
            self.note_clients()
        statement = delete(schema.keyrings).where(schema.keyrings.c.keyring_id == keyring_id)
        if self._connection.execute(statement).rowcount != 1:
            message = f"There is no keyring {keyring_id.hex()}."
            raise NotFound(faults.KEYRING_NOT_FOUND, message)
        self.next_revision()

    # ------------------------------------------------------------------ objects

    def insert_object(self, row: ObjectRow) -> None:
        """Insert an object; raises Conflict when the keyring has one of that id."""
        try:
            _INSERT_OBJECT.change(self._connection, mapping.object_values(row))
        except IntegrityError as error:
            if "foreign key" in str(error.orig).lower():
                raise
            raise _object_conflict(row.object_id, "exists already") from error
        self.touched.keyrings.add(row.keyring_id)

    def replace_object(self, row: ObjectRow, expected: RowRevision) -> None:
        """Replace an object if its revision is the expected one; raises Conflict otherwise."""
        names = {"of_keyring": row.keyring_id, "of_object": row.object_id, "expected": expected}
        values = mapping.object_values(row)
        if _REPLACE_OBJECT.change(self._connection, names | values) != 1:
            raise _object_conflict(row.object_id, "was changed or deleted by somebody else")
        self.touched.keyrings.add(row.keyring_id)

    def delete_object(
        self, keyring_id: KeyringId, object_id: ObjectId, expected: RowRevision
    ) -> None:
        """Delete an object if its revision is the expected one; raises Conflict otherwise."""
        names = {"of_keyring": keyring_id, "of_object": object_id, "expected": expected}
        if _DELETE_OBJECT.change(self._connection, names) != 1:
            raise _object_conflict(object_id, "was changed or deleted by somebody else")
        self.touched.keyrings.add(keyring_id)

    def delete_objects(self, keyring_id: KeyringId) -> None:
        """Delete all objects of a keyring."""
        table = schema.objects
        self._connection.execute(delete(table).where(table.c.keyring_id == keyring_id))
        self.touched.keyrings.add(keyring_id)

    # ------------------------------------------------------------------ clients

    def insert_client(self, row: ClientRow) -> None:
        """Insert a client whose key is not listed yet."""
        self._connection.execute(insert(schema.clients), mapping.client_values(row))
        self.note_clients()

    def revoke_client(self, client_id: ClientId) -> None:
        """Mark a client as revoked for good; raises NotFound."""
        table = schema.clients
        statement = update(table).where(table.c.client_id == client_id).values(revoked=True)
        if self._connection.execute(statement).rowcount != 1:
            message = f"There is no client {client_id.hex()}."
            raise NotFound(faults.CLIENT_NOT_FOUND, message)
        self.note_clients()

    def renew_client(self, client_id: ClientId, certificate_der: bytes) -> None:
        """Keep another certificate of the client's key."""
        table = schema.clients
        values = {"certificate_der": certificate_der}
        self._connection.execute(update(table).where(table.c.client_id == client_id).values(values))
        self.note_clients()

    def note_clients(self) -> None:
        """Have everybody look at the clients again."""
        # Its row carries no revision; that a copy lacks the change must be seen all the same.
        self.next_revision()
        self.touched.clients = True

    # ------------------------------------------------------------------ idempotency

    def put_record(
        self,
        client_id: ClientId,
        key: IdempotencyKey,
        *,
        keyring_id: KeyringId,
        request_mac: bytes,
        result: bytes,
        expires_ms: ClusterTimeMs,
    ) -> None:
        """Record what an idempotency key was used for, in the write's own transaction."""
        _INSERT_RECORD.change(
            self._connection,
            {
                "record_id": record_id(client_id, key),
                "keyring_id": keyring_id,
                "request_mac": request_mac,
                "result": result,
                "revision": self.touched.revision,
                "expires_ms": expires_ms,
            },
        )

    def forget_records(self, now_ms: ClusterTimeMs, *, at_most: int) -> int:
        """Delete up to `at_most` expired idempotency records; return how many went."""
        bounds = {"now": now_ms, "at_most": at_most}
        return self._connection.execute(_FORGET_RECORDS, bounds).rowcount

    # ------------------------------------------------------------------ helpers

    def _take(self, counter: str, step: int) -> int:
        ((value,),) = _NEXT.run(self._connection, {"counter": counter, "step": step})
        return int(value)

    def _put(self, table: Table, key: dict[str, object], values: dict[str, object]) -> None:
        matches = and_(*(table.c[name] == value for name, value in key.items()))
        if self._connection.execute(update(table).where(matches).values(values)).rowcount == 0:
            self._connection.execute(insert(table), key | values)


def open_reader(path: Path) -> ClusterReader:
    """Open the cluster store at `path` for reading."""
    return ClusterReader(open_reader_engine(path).connect())


def record_id(client_id: ClientId, key: IdempotencyKey) -> bytes:
    """Return under which name an idempotency key is recorded.

    The key itself is not stored: request MACs are made with it, and a copy of the store must not
    let anybody try passwords against them.
    """
    return hashlib.sha256(b"conclave idempotency" + client_id + key).digest()


def _object_conflict(object_id: ObjectId, what: str) -> Conflict:
    return Conflict(faults.WRITE_CONFLICT, f"Object {object_id.hex()} {what}.")
