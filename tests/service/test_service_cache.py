"""A worker's view of one keyring: what survives a refresh, who sees what, what is bounded."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Cka, Ckk, Cko
from conclave.errors import InternalFault, NotFound
from conclave.ids import (
    AuthorizationVersion,
    ClientId,
    KeyGeneration,
    KeyringId,
    LoginId,
    ObjectId,
    RowRevision,
    SlotNumber,
)
from conclave.keyring.attributes import encode_attributes, ulong
from conclave.keyring.keys import make_check_value
from conclave.service.cache import KeyringView, Session, ViewCache
from conclave.service.object_seal import ObjectName, PrivateSeal, PublicSeal
from conclave.service.store_reader import LoadedKeyring
from conclave.service.tickets import Ticket
from conclave.service.wire import Role
from conclave.store.rows import CredentialRow, KeyringRow, KeyringState, ObjectRow

KK = os.urandom(32)
KEYRING = KeyringId(os.urandom(16))
PUBLIC = PublicSeal.of(os.urandom(32))
TENANT = PrivateSeal.of(KK)
ROW = KeyringRow(
    keyring_id=KEYRING,
    label="ring",
    serial="1",
    slot=SlotNumber(0),
    state=KeyringState.READY,
    key_generation=KeyGeneration(1),
    authorization_version=AuthorizationVersion(bytes(16)),
    check_value=make_check_value(KK, KEYRING, KeyGeneration(1)),
    krso=CredentialRow(b"", b"", False, 0),
    krco=None,
    revision=RowRevision(1),
    created_ms=0,
)


def object_row(
    label: bytes, revision: int, *, private: bool = True, object_id: bytes | None = None
) -> ObjectRow:
    name = ObjectName(KEYRING, ObjectId(object_id or os.urandom(16)), 1)
    plain = encode_attributes({Cka.LABEL: label, Cka.CLASS: ulong(Cko.DATA)})
    blob = TENANT.seal(name, plain) if private else PUBLIC.seal(name, plain)
    return ObjectRow(
        keyring_id=KEYRING,
        object_id=name.object_id,
        private=private,
        version=1,
        key_generation=KeyGeneration(1),
        revision=RowRevision(revision),
        blob=blob,
        mac=b"" if private else TENANT.mac(name, blob),
    )


def refresh(
    view: KeyringView, *rows: ObjectRow, generation: int = 1, row: KeyringRow = ROW
) -> None:
    """Refresh a view as a load from a store with exactly `rows` would."""
    known = view.revisions()
    view.refresh(
        LoadedKeyring(
            keyring_id=KEYRING,
            generation=generation,
            global_generation=1,
            row=row,
            revisions={item.object_id: item.revision for item in rows},
            changed=[item for item in rows if known.get(item.object_id) != item.revision],
        ),
        row,
    )


def view_of(*rows: ObjectRow) -> KeyringView:
    view = KeyringView(KEYRING, PUBLIC)
    refresh(view, *rows)
    return view


def session(view: KeyringView, *, is_krco: bool = True, login_id: bytes = b"login") -> Session:
    ticket = Ticket(
        cluster_id="",
        keyring_id=KEYRING,
        role=Role.KRCO if is_krco else Role.KRSO,
        key=KK,
        key_generation=1,
        authorization_version=bytes(16),
        client_id=bytes(16),
        login_id=login_id,
        issued_ms=0,
        expires_ms=1,
    )
    return Session(
        ticket=ticket,
        client_id=ClientId(bytes(16)),
        login_id=LoginId(login_id),
        is_krco=is_krco,
        expires_ms=1,
        renew_ms=1,
        unlocked=view.unlock(KK),
        objects=None,
    )


def labels(view: KeyringView, caller: Session | None, label: bytes | None = None) -> list[bytes]:
    terms = {} if label is None else {int(Cka.LABEL): label}
    return [view.entry(name, caller).attributes[Cka.LABEL] for name in view.find(terms, caller)]


def test_only_the_krco_sees_private_objects() -> None:
    secret, clear = object_row(b"secret", 1), object_row(b"clear", 2, private=False)
    view = view_of(secret, clear)
    assert labels(view, session(view)) == [b"secret", b"clear"]
    for caller in (None, session(view, is_krco=False)):
        assert labels(view, caller) == [b"clear"]
        with pytest.raises(NotFound):
            view.entry(secret.object_id, caller)


def test_a_search_by_label_finds_exactly_its_objects_in_order() -> None:
    rows = [object_row(b"a" if number % 3 else b"b", number) for number in range(1, 60)]
    view = view_of(*rows)
    wanted = [row.object_id for row in rows if row.revision % 3 == 0]
    assert view.find({int(Cka.LABEL): b"b"}, session(view)) == wanted
    assert view.find({int(Cka.LABEL): b"b", int(Cka.ID): b"x"}, session(view)) == []
    assert view.find({int(Cka.LABEL): b"none"}, session(view)) == []


def test_a_refresh_keeps_what_did_not_change_and_forgets_the_rest() -> None:
    kept, changed, gone = (object_row(label, 1) for label in (b"kept", b"changed", b"gone"))
    view = view_of(kept, changed, gone)
    caller = session(view)
    before = view.entry(kept.object_id, caller)
    assert len(labels(view, caller)) == 3
    newer = object_row(b"newer", 2, object_id=changed.object_id)
    added = object_row(b"added", 3)
    refresh(view, kept, newer, added, generation=2)
    assert view.entry(kept.object_id, caller) is before
    assert labels(view, caller) == [b"kept", b"newer", b"added"]
    assert labels(view, caller, b"changed") == []
    with pytest.raises(NotFound):
        view.entry(gone.object_id, caller)


def test_a_refresh_ends_what_sessions_remember_of_objects() -> None:
    row = object_row(b"a", 1)
    view = view_of(row)
    caller = session(view)
    view.add_session(b"ticket", caller)
    caller.ready[row.object_id] = ReadyKey(
        Cko.SECRET_KEY, Ckk.GENERIC_SECRET, 8, 1, 0, frozenset(), b"k"
    )
    refresh(view, generation=2)
    assert view.sessions == {b"ticket": caller}
    assert caller.ready == {}


@pytest.mark.parametrize(
    "changed",
    [
        replace(ROW, authorization_version=AuthorizationVersion(os.urandom(16))),
        replace(ROW, key_generation=KeyGeneration(2)),
        replace(ROW, check_value=make_check_value(KK, KEYRING, KeyGeneration(1))),
    ],
)
def test_tickets_must_be_proven_again_when_their_ground_changed(changed: KeyringRow) -> None:
    view = view_of()
    view.add_session(b"ticket", session(view))
    refresh(view, row=changed)
    assert view.sessions == {}


def test_rule_c6_a_public_object_that_no_tenant_made_is_kept_from_those_logged_in() -> None:
    good = object_row(b"good", 1, private=False)
    forged = replace(object_row(b"forged", 2, private=False), mac=bytes(32))
    view = view_of(good, forged)
    assert labels(view, None) == [b"good", b"forged"]
    for is_krco in (True, False):
        caller = session(view, is_krco=is_krco)
        assert view.find({}, caller) == [good.object_id]
        with pytest.raises(InternalFault):
            view.entry(forged.object_id, caller)


def test_an_object_whose_seal_is_broken_hides_no_other() -> None:
    good = object_row(b"good", 1)
    bad = replace(object_row(b"bad", 2), blob=good.blob)
    view = view_of(good, bad)
    caller = session(view)
    assert labels(view, caller) == [b"good"]
    with pytest.raises(InternalFault):
        view.entry(bad.object_id, caller)


def test_rule_c10_another_key_reaches_nothing_decrypted_before() -> None:
    row = object_row(b"a", 1)
    view = view_of(row)
    view.entry(row.object_id, session(view))
    other = replace(session(view), unlocked=view.unlock(os.urandom(32)))
    with pytest.raises(InternalFault):
        view.entry(row.object_id, other)


def test_the_end_of_a_login_takes_all_its_tickets() -> None:
    view = view_of()
    view.add_session(b"one", session(view, login_id=b"first"))
    view.add_session(b"two", session(view, login_id=b"first"))
    view.add_session(b"three", session(view, login_id=b"second"))
    view.end_login(LoginId(b"first"))
    assert list(view.sessions) == [b"three"]


def make_view(number: int, *, used_ms: int, held_bytes: int = 1000) -> KeyringView:
    view = KeyringView(KeyringId(number.to_bytes(16, "big")), PUBLIC)
    view.used_ms, view.held_bytes = used_ms, held_bytes
    return view


def test_rule_c13_the_cache_is_bounded_by_bytes_and_by_idle_time() -> None:
    cache = ViewCache(max_bytes=3000, idle_ms=100)
    for number in range(5):
        cache.put(make_view(number, used_ms=number))
    assert [view.used_ms for view in cache.views.values()] == [2, 3, 4]
    cache.put(make_view(9, used_ms=0, held_bytes=10_000))
    assert [view.used_ms for view in cache.views.values()] == [0]
    cache.sweep(now_ms=100)
    assert len(cache.views) == 1
    cache.sweep(now_ms=101)
    assert cache.views == {}
