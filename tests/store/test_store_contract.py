"""What every engine of the cluster store must do."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import pytest

from conclave import faults
from conclave.errors import Conflict, NotFound
from conclave.ids import (
    AuthorizationVersion,
    ClientId,
    ClusterId,
    ClusterTimeMs,
    EnrolmentTokenId,
    IdempotencyKey,
    KeyGeneration,
    KeyringId,
    MemberId,
    ObjectId,
    RowRevision,
    SlotNumber,
)
from conclave.store.assignments import (
    assign,
    assigned_keyrings,
    assigned_to,
    is_assigned_mode,
    put_assigned_mode,
    take_away,
    usable_by,
)
from conclave.store.enrolment_tokens import (
    all_tokens,
    find_token,
    forget_tokens,
    insert_token,
    is_monitor_user,
    revoke_token,
    spend_token,
    token_count,
)
from conclave.store.repository import ClusterReader, ClusterWriter
from conclave.store.rows import (
    ClientRow,
    ClusterStateRow,
    CredentialRow,
    EnrolmentTokenRow,
    KeyringRow,
    KeyringState,
    MemberRow,
    ObjectRow,
    UserRow,
)
from tests.store.conftest import Store

T = TypeVar("T")


def new_keyring(label: str = "ring", slot: int = 0) -> KeyringRow:
    return KeyringRow(
        keyring_id=KeyringId(os.urandom(16)),
        label=label,
        serial=label + "-serial",
        slot=SlotNumber(slot),
        state=KeyringState.READY,
        key_generation=KeyGeneration(3),
        authorization_version=AuthorizationVersion(os.urandom(16)),
        check_value=os.urandom(60),
        krso=CredentialRow(os.urandom(16), os.urandom(88), never_locks=False, failures=2),
        krco=CredentialRow(os.urandom(16), os.urandom(88), never_locks=True, failures=0),
        revision=RowRevision(1),
        created_ms=1_800_000_000_000,
    )


def new_object(keyring: KeyringRow, revision: int = 1, object_id: bytes | None = None) -> ObjectRow:
    return ObjectRow(
        keyring_id=keyring.keyring_id,
        object_id=ObjectId(object_id or os.urandom(16)),
        private=True,
        version=1,
        key_generation=KeyGeneration(3),
        revision=RowRevision(revision),
        blob=os.urandom(300),
        mac=b"",
    )


def new_client(number: int = 0) -> ClientRow:
    return ClientRow(
        client_id=ClientId(os.urandom(16)),
        common_name=f"client{number}",
        label="",
        monitor_user="",
        key_sha256=os.urandom(32),
        certificate_der=b"certificate",
        revoked=False,
        created_ms=number,
    )


def new_token(used_by: ClientId | None = None, **changes: Any) -> EnrolmentTokenRow:
    row = EnrolmentTokenRow(
        token_id=EnrolmentTokenId(os.urandom(16)),
        secret_sha256=os.urandom(32),
        common_name="host",
        label="a label",
        monitor_user="",
        created_by="admin",
        created_ms=10,
        expires_ms=1000,
        revoked=False,
        client_id=used_by,
        used_ms=20 if used_by else 0,
    )
    return replace(row, **changes)


STATE = ClusterStateRow(
    cluster_id=ClusterId("c"),
    label="lab",
    dual_identity=True,
    epoch_number=1,
    epoch_member=MemberId("m1"),
    primary=MemberId("m1"),
    visible=(MemberId("m1"), MemberId("m2")),
    feature_level=1,
    sealed_keys=b"",
    ca_certificate_der=b"",
)


def run(store: Store, work: Callable[[ClusterWriter], T]) -> tuple[T, ClusterWriter]:
    """Run `work` in a transaction, as the writer thread does."""
    with store.connection.begin(), store.connection.begin_nested():
        writer = store.write()
        return work(writer), writer


def made(store: Store, *keyrings: KeyringRow) -> None:
    run(store, lambda writer: writer.insert_keyrings(keyrings))


def test_an_empty_store_is_empty(store: Store, reader: ClusterReader) -> None:
    assert reader.cluster_state() is None
    assert reader.keyring(KeyringId(bytes(16))) is None
    assert (reader.keyrings(), reader.members(), reader.clients(), reader.users()) == ([],) * 4
    assert (reader.keyring_count(), reader.revision()) == (0, 0)


def test_a_reader_sees_a_commit_and_nothing_before_it(store: Store, reader: ClusterReader) -> None:
    keyring = new_keyring()
    with store.connection.begin():
        store.write().insert_keyrings([keyring])
        assert reader.keyring(keyring.keyring_id) is None
    assert reader.keyring(keyring.keyring_id) == keyring


def test_a_job_that_fails_takes_only_its_own_changes_back(
    store: Store, reader: ClusterReader
) -> None:
    kept, lost = new_keyring("kept", 0), new_keyring("lost", 1)
    with store.connection.begin():
        with store.connection.begin_nested():
            store.write().insert_keyrings([kept])
        savepoint = store.connection.begin_nested()
        store.write().insert_keyrings([lost])
        savepoint.rollback()
    assert [row.label for row in reader.keyrings()] == ["kept"]


@pytest.mark.parametrize("krco", [None, CredentialRow(b"s", b"x", True, 7)])
@pytest.mark.parametrize("state", list(KeyringState))
def test_every_field_of_a_keyring_comes_back(
    store: Store, reader: ClusterReader, krco: CredentialRow | None, state: KeyringState
) -> None:
    keyring = replace(new_keyring(), krco=krco, state=state)
    made(store, keyring)
    assert reader.keyring(keyring.keyring_id) == keyring
    assert reader.keyring_by_label("ring") == keyring
    assert reader.keyring_by_label("RING") is None


def test_keyrings_come_in_the_order_of_their_slots(store: Store, reader: ClusterReader) -> None:
    rows = [new_keyring(f"ring{slot}", slot) for slot in (5, 1, 3)]
    made(store, *rows)
    run(store, lambda writer: writer.insert_object(new_object(rows[0])))
    assert [row.slot for row in reader.keyrings()] == [1, 3, 5]
    assert [row.slot for row in reader.keyrings(first_slot=2)] == [3, 5]
    assert [row.slot for row in reader.keyrings(first_slot=2, limit=1)] == [3]
    assert [(row.slot, count) for row, count in reader.keyring_page(1, 0)] == [(3, 0), (5, 1)]
    assert [row.slot for row, _ in reader.keyring_page(0, 2)] == [1, 3]
    assert reader.taken_labels(["ring3", "ring4", "ring1"]) == ["ring1", "ring3"]
    assert reader.taken_serials(["ring3-serial", "x"]) == {"ring3-serial"}


def test_a_keyring_is_updated_on_its_present_revision_only(
    store: Store, reader: ClusterReader
) -> None:
    keyring = new_keyring()
    made(store, keyring)
    stored, writer = run(store, lambda w: w.update_keyring(replace(keyring, label="new")))
    assert stored.revision > keyring.revision - 1
    assert writer.touched.keyrings == {keyring.keyring_id}
    assert reader.keyring(keyring.keyring_id) == stored
    stale = replace(keyring, revision=RowRevision(99))
    with pytest.raises(Conflict) as error:
        run(store, lambda writer: writer.update_keyring(stale))
    assert error.value.fault is faults.WRITE_CONFLICT
    assert reader.keyring(keyring.keyring_id) == stored


def test_a_keyring_is_deleted_with_its_objects(store: Store, reader: ClusterReader) -> None:
    keyring = new_keyring()
    made(store, keyring)
    run(store, lambda writer: writer.insert_object(new_object(keyring)))
    run(store, lambda writer: writer.delete_keyring(keyring.keyring_id))
    assert reader.keyring(keyring.keyring_id) is None
    assert reader.object_count(keyring.keyring_id) == 0
    with pytest.raises(NotFound):
        run(store, lambda writer: writer.delete_keyring(keyring.keyring_id))


def test_c4_revisions_grow_and_are_not_taken_back(store: Store, reader: ClusterReader) -> None:
    first, _ = run(store, lambda writer: writer.next_revision())
    second, writer = run(store, lambda writer: writer.next_revision())
    assert second > first
    assert reader.revision() == second == writer.touched.revision


def test_slot_numbers_are_handed_out_once(store: Store) -> None:
    first, _ = run(store, lambda writer: writer.next_slots(3))
    second, _ = run(store, lambda writer: writer.next_slots(2))
    assert first + second == [0, 1, 2, 3, 4]


def test_objects_come_back_and_change_on_their_revision_only(
    store: Store, reader: ClusterReader
) -> None:
    keyring = new_keyring()
    made(store, keyring)
    row = new_object(keyring)
    run(store, lambda writer: writer.insert_object(row))
    changed = replace(
        row, blob=b"new", mac=b"mac", private=False, version=2, revision=RowRevision(7)
    )
    run(store, lambda writer: writer.replace_object(changed, row.revision))
    assert reader.objects(keyring.keyring_id, [row.object_id, ObjectId(bytes(16))]) == [changed]
    assert reader.object_revisions(keyring.keyring_id) == [(row.object_id, 7)]
    for stale in (
        lambda writer: writer.replace_object(row, row.revision),
        lambda writer: writer.delete_object(keyring.keyring_id, row.object_id, row.revision),
        lambda writer: writer.insert_object(row),
    ):
        with pytest.raises(Conflict):
            run(store, stale)
    expected = RowRevision(7)
    run(store, lambda w: w.delete_object(keyring.keyring_id, row.object_id, expected))
    assert reader.object_count(keyring.keyring_id) == 0


def test_many_objects_are_read_at_once(store: Store, reader: ClusterReader) -> None:
    keyring = new_keyring()
    made(store, keyring)
    rows = [new_object(keyring) for _ in range(1500)]

    def insert(writer: ClusterWriter) -> None:
        for row in rows:
            writer.insert_object(row)

    run(store, insert)
    found = reader.objects(keyring.keyring_id, [row.object_id for row in rows])
    assert {row.object_id for row in found} == {row.object_id for row in rows}
    assert reader.objects(keyring.keyring_id, []) == []


def test_an_object_needs_its_keyring(store: Store) -> None:
    with pytest.raises(Exception, match=r"(?i)foreign key"):
        run(store, lambda writer: writer.insert_object(new_object(new_keyring())))


def test_clients_are_found_by_key_and_revoked_for_good(store: Store, reader: ClusterReader) -> None:
    one, two = new_client(1), new_client(2)
    run(store, lambda writer: writer.insert_client(two))
    _, writer = run(store, lambda writer: writer.insert_client(one))
    assert writer.touched.clients
    assert reader.clients() == [one, two]
    assert reader.client_by_key(two.key_sha256) == two
    assert reader.client_by_key(bytes(32)) is None
    run(store, lambda writer: writer.revoke_client(one.client_id))
    assert reader.client(one.client_id) == replace(one, revoked=True)
    with pytest.raises(NotFound):
        run(store, lambda writer: writer.revoke_client(ClientId(bytes(16))))


def test_cluster_state_is_one_row(store: Store, reader: ClusterReader) -> None:
    run(store, lambda writer: writer.put_cluster_state(STATE))
    changed = replace(STATE, sealed_keys=b"keys", visible=(), epoch_number=2)
    _, writer = run(store, lambda writer: writer.put_cluster_state(changed))
    assert writer.touched.everything
    assert reader.cluster_state() == changed


def test_members_are_inserted_and_replaced(store: Store, reader: ClusterReader) -> None:
    member = MemberRow(MemberId("m1"), "a", "127.0.0.1", 50070, 50052, "default", b"", b"")
    run(store, lambda writer: writer.put_member(member))
    changed = replace(member, certificate_der=b"x")
    run(store, lambda writer: writer.put_member(changed))
    assert reader.members() == [changed]


def test_users_are_replaced_as_a_whole(store: Store, reader: ClusterReader) -> None:
    one = UserRow("admin", "admin", "A", "a@example.org", b"v", enabled=True, revision=1)
    two = replace(one, user_id="eve", enabled=False)
    assert reader.users_version() == 0
    assert run(store, lambda writer: writer.put_users([two, one], version=0))[0] == 1
    assert reader.users() == [one, two]
    for stale in (0, 2):
        with pytest.raises(Conflict, match=f"is 1, not {stale}") as refusal:
            run(store, partial(ClusterWriter.put_users, users=[], version=stale))
        assert refusal.value.fault is faults.WRITE_CONFLICT
    assert (reader.users_version(), reader.users()) == (1, [one, two])
    assert run(store, lambda writer: writer.put_users([], version=1))[0] == 2
    assert (reader.users_version(), reader.users()) == (2, [])


def test_idempotency_records_expire_in_bounded_steps(store: Store, reader: ClusterReader) -> None:
    client, keyring = ClientId(os.urandom(16)), KeyringId(os.urandom(16))
    keys = [IdempotencyKey(bytes([number]) * 16) for number in range(5)]

    def put(writer: ClusterWriter) -> None:
        for number, key in enumerate(keys):
            writer.put_record(
                client,
                key,
                keyring_id=keyring,
                request_mac=b"mac",
                result=b"result",
                expires_ms=ClusterTimeMs(100 + number),
            )

    run(store, put)
    record = reader.record(client, keys[4])
    assert record is not None
    assert (record.keyring_id, record.request_mac, record.result) == (keyring, b"mac", b"result")
    assert reader.record(ClientId(bytes(16)), keys[4]) is None
    forget = ClusterTimeMs(103)
    assert run(store, lambda w: w.forget_records(forget, at_most=2))[0] == 2
    assert [reader.record(client, key) is None for key in keys] == [True, True, False, False, False]
    assert run(store, lambda w: w.forget_records(forget, at_most=9))[0] == 1
    assert run(store, lambda w: w.forget_records(forget, at_most=9))[0] == 0


def test_a_monitor_user_is_known_by_a_client_or_a_token(
    store: Store, reader: ClusterReader
) -> None:
    client = new_client()
    run(store, lambda writer: writer.insert_client(replace(client, monitor_user="of a client")))
    run(store, lambda writer: insert_token(writer, new_token(monitor_user="of a token")))
    run(store, lambda writer: writer.revoke_client(client.client_id))
    run(store, lambda writer: revoke_token(writer, all_tokens(writer)[0].token_id))
    assert is_monitor_user(reader, "of a client")
    assert is_monitor_user(reader, "of a token")
    assert not is_monitor_user(reader, "of nobody")


def test_an_enrolment_token_is_spent_once_and_within_its_time(
    store: Store, reader: ClusterReader
) -> None:
    token, late, gone = new_token(), new_token(created_ms=11), new_token(created_ms=12)
    client = new_client().client_id
    for row in (gone, token, late):
        run(store, partial(insert_token, row=row))
    assert all_tokens(reader) == [token, late, gone]
    assert run(store, lambda writer: revoke_token(writer, gone.token_id))[0]
    assert not run(store, lambda writer: spend_token(writer, gone.token_id, client, 20))[0]
    assert not run(store, lambda writer: spend_token(writer, late.token_id, client, 1000))[0]
    spent = [
        run(store, lambda writer: spend_token(writer, token.token_id, client, 999))[0]
        for _ in range(2)
    ]
    assert spent == [True, False]
    assert not run(store, lambda writer: revoke_token(writer, token.token_id))[0]
    assert find_token(reader, token.token_id) == replace(token, client_id=client, used_ms=999)
    run(store, lambda writer: forget_tokens(writer, 1000))
    assert token_count(reader) == 3
    run(store, lambda writer: forget_tokens(writer, 1001))
    assert (token_count(reader), find_token(reader, token.token_id)) == (0, None)


def test_a_token_that_alone_names_a_monitor_user_is_never_forgotten(
    store: Store, reader: ClusterReader
) -> None:
    client = replace(new_client(), monitor_user="listed")
    run(store, lambda writer: writer.insert_client(client))
    alone = new_token(monitor_user="alone", revoked=True)
    twice = [new_token(monitor_user="twice", expires_ms=ends) for ends in (500, 600)]
    alike = [new_token(monitor_user="alike", created_ms=20) for _ in range(2)]
    for row in (alone, *twice, *alike, new_token(monitor_user="listed"), new_token()):
        run(store, partial(insert_token, row=row))
    for _ in range(2):
        run(store, lambda writer: forget_tokens(writer, 1001))
        left = all_tokens(reader)
        assert sorted(each.monitor_user for each in left) == ["alike", "alone", "twice"]
        assert twice[1] in left


def test_keyrings_are_assigned_to_a_client_until_they_are_deleted(
    store: Store, reader: ClusterReader
) -> None:
    one, two, client = new_keyring("one", 1), new_keyring("two", 2), new_client()
    made(store, one, two)
    run(store, lambda writer: writer.insert_client(client))
    both = [one.keyring_id, two.keyring_id, one.keyring_id]
    _, writer = run(store, lambda writer: assign(writer, client.client_id, both))
    assert writer.touched.clients
    assert assigned_to(reader, client.client_id) == set(both)
    _, writer = run(store, lambda writer: writer.delete_keyring(one.keyring_id))
    assert writer.touched.clients
    assert assigned_to(reader, client.client_id) == {two.keyring_id}
    for expected in (True, False):
        found, _ = run(store, lambda writer: take_away(writer, client.client_id, two.keyring_id))
        assert found is expected
    assert assigned_to(reader, client.client_id) == frozenset()


def test_a_client_uses_what_is_assigned_to_it_once_the_cluster_says_so(
    store: Store, reader: ClusterReader
) -> None:
    one, two, client = new_keyring("one", 1), new_keyring("two", 2), new_client()
    assert not is_assigned_mode(reader)
    run(store, lambda writer: writer.put_cluster_state(STATE))
    made(store, one, two)
    run(store, lambda writer: writer.insert_client(client))
    for each in (two, one, two):
        run(store, partial(assign, client_id=client.client_id, keyrings=[each.keyring_id]))
    run(store, lambda writer: take_away(writer, client.client_id, one.keyring_id))
    assert usable_by(reader, client.client_id) is None
    _, writer = run(store, lambda writer: put_assigned_mode(writer, True))
    assert writer.touched.clients
    assert usable_by(reader, client.client_id) == frozenset({two.keyring_id})
    assert usable_by(reader, new_client().client_id) == frozenset()
    assert assigned_keyrings(reader, [client.client_id]) == [two]
    assert assigned_keyrings(reader, []) == []
    state = reader.cluster_state()
    assert state is not None
    assert state.assigned
