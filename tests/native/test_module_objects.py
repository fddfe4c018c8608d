"""Objects of the module: making, finding, reading, changing, copying and destroying them."""

from __future__ import annotations

import ctypes

import pytest

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, session
from tests.support.cryptoki import (
    SERIAL,
    UNAVAILABLE,
    Attribute,
    Session,
    Template,
    attributes,
    mechanism,
)

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

AES: Template = {Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: Ckk.AES, Cka.VALUE: bytes(range(32))}
DATA: Template = {Cka.CLASS: Cko.DATA, Cka.VALUE: b"some data", Cka.PRIVATE: False}


def test_a_session_object_lives_as_long_as_its_session(place: Place, session: Session) -> None:
    other = place.library.open(place.slot)
    handle = session.create({**DATA, Cka.LABEL: b"passing"})
    assert other.find({Cka.LABEL: b"passing"}) == [handle]
    assert other.get(handle, Cka.VALUE) == b"some data"
    session.do("C_CloseSession")
    assert other.find({Cka.LABEL: b"passing"}) == []
    assert other.value("C_DestroyObject", handle) == Ckr.OBJECT_HANDLE_INVALID


def test_c13_private_session_objects_die_with_the_login(session: Session) -> None:
    private = session.create({**AES, Cka.LABEL: b"private one"})
    public = session.create({**DATA, Cka.LABEL: b"public one"})
    session.do("C_Logout")
    size = ctypes.c_ulong()
    assert session.value("C_GetObjectSize", private, ctypes.byref(size)) == (
        Ckr.OBJECT_HANDLE_INVALID
    )
    session.do("C_GetObjectSize", public, ctypes.byref(size))
    assert size.value > 0


def test_a_token_object_outlives_the_application(place: Place, session: Session) -> None:
    handle = session.create({**AES, Cka.TOKEN: True, Cka.LABEL: b"lasting"})
    assert session.find({Cka.LABEL: b"lasting"}) == [handle]
    place.library.do("C_Finalize", None)
    place.library.do("C_Initialize", None)
    again = place.logged_in()
    found = again.find({Cka.LABEL: b"lasting"})
    assert len(found) == 1
    again.do("C_DestroyObject", found[0])
    assert again.find({Cka.LABEL: b"lasting"}) == []


def test_c13_private_token_objects_are_hidden_without_a_login(
    place: Place, session: Session
) -> None:
    handle = session.create({**AES, Cka.TOKEN: True, Cka.LABEL: b"hidden"})
    try:
        session.do("C_Logout")
        assert session.find({Cka.LABEL: b"hidden"}) == []
    finally:
        assert session.login(place.pin) == Ckr.OK
        for found in session.find({Cka.LABEL: b"hidden"}):
            assert found != handle  # C_Logout has ended the old handle
            session.do("C_DestroyObject", found)


def test_a_read_only_session_changes_no_token_object(place: Place, session: Session) -> None:
    handle = session.create({**DATA, Cka.TOKEN: True, Cka.LABEL: b"fixed"})
    reader = place.library.open(place.slot, SERIAL)
    label = attributes({Cka.LABEL: b"x"})
    made = ctypes.byref(ctypes.c_ulong())
    token: Template = {**DATA, Cka.TOKEN: True}
    assert reader.value("C_SetAttributeValue", handle, label, 1) == Ckr.SESSION_READ_ONLY
    assert reader.value("C_DestroyObject", handle) == Ckr.SESSION_READ_ONLY
    assert reader.value("C_CopyObject", handle, label, 1, made) == Ckr.SESSION_READ_ONLY
    assert reader.value("C_CreateObject", attributes(token), len(token), made) == (
        Ckr.SESSION_READ_ONLY
    )
    session.do("C_DestroyObject", handle)


@pytest.mark.parametrize("token", [True, False])
def test_attributes_are_read_and_changed(session: Session, token: bool) -> None:
    handle = session.create({**AES, Cka.TOKEN: token, Cka.LABEL: b"old", Cka.ENCRYPT: True})
    session.do("C_SetAttributeValue", handle, attributes({Cka.LABEL: b"a new label"}), 1)
    assert session.get(handle, Cka.LABEL) == b"a new label"
    assert session.get(handle, Cka.KEY_TYPE) == int(Ckk.AES).to_bytes(8, "little")
    assert session.get(handle, Cka.TOKEN) == bytes([token])
    read_only = attributes({Cka.CLASS: Cko.DATA})
    assert session.value("C_SetAttributeValue", handle, read_only, 1) == Ckr.ATTRIBUTE_READ_ONLY
    session.do("C_DestroyObject", handle)


@pytest.mark.parametrize("token", [True, False])
def test_what_may_not_be_read_is_marked_and_the_rest_given(session: Session, token: bool) -> None:
    handle = session.create({**AES, Cka.TOKEN: token, Cka.SENSITIVE: True, Cka.LABEL: b"mixed"})
    label = ctypes.create_string_buffer(5)
    rows = (Attribute * 4)(
        Attribute(Cka.VALUE, ctypes.addressof(label), 5),
        Attribute(Cka.LABEL, ctypes.addressof(label), 5),
        Attribute(Cka.MODULUS, None, 0),
        Attribute(Cka.ID, None, 0),
    )
    assert session.value("C_GetAttributeValue", handle, rows, 4) == Ckr.ATTRIBUTE_SENSITIVE
    assert [row.length for row in rows] == [UNAVAILABLE, 5, UNAVAILABLE, 0]
    assert label.raw == b"mixed"
    too_small = Attribute(Cka.LABEL, ctypes.addressof(label), 4)
    assert session.value("C_GetAttributeValue", handle, ctypes.byref(too_small), 1) == (
        Ckr.BUFFER_TOO_SMALL
    )
    session.do("C_DestroyObject", handle)


@pytest.mark.parametrize("token", [True, False])
def test_a_copy_is_an_object_of_its_own(session: Session, token: bool) -> None:
    handle = session.create({**AES, Cka.TOKEN: False, Cka.LABEL: b"first"})
    template: Template = {Cka.LABEL: b"second", Cka.TOKEN: token}
    copy = ctypes.c_ulong()
    session.do("C_CopyObject", handle, attributes(template), 2, ctypes.byref(copy))
    session.do("C_DestroyObject", handle)
    assert session.get(copy.value, Cka.LABEL) == b"second"
    assert session.get(copy.value, Cka.TOKEN) == bytes([token])
    session.do("C_DestroyObject", copy.value)


def test_an_object_that_may_not_be_destroyed_stays(session: Session) -> None:
    handle = session.create({**DATA, Cka.DESTROYABLE: False})
    assert session.value("C_DestroyObject", handle) == Ckr.ACTION_PROHIBITED


def test_finding_takes_every_attribute_of_the_template(session: Session) -> None:
    made = [
        session.create({**DATA, Cka.LABEL: b"found", Cka.TOKEN: token, Cka.VALUE: value})
        for token in (True, False)
        for value in (b"1", b"2")
    ]
    assert set(session.find({Cka.LABEL: b"found"})) == set(made)
    assert session.find({Cka.LABEL: b"found", Cka.TOKEN: True, Cka.VALUE: b"2"}) == [made[1]]
    assert session.find({Cka.LABEL: b"found", Cka.TOKEN: False, Cka.VALUE: b"1"}) == [made[2]]
    assert session.find({Cka.LABEL: b"found", Cka.CLASS: Cko.SECRET_KEY}) == []
    for handle in made:
        session.do("C_DestroyObject", handle)


@pytest.mark.parametrize("token", [True, False])
def test_a_usage_that_was_taken_away_is_refused(session: Session, token: bool) -> None:
    template: Template = {Cka.TOKEN: token, Cka.VALUE_LEN: 32, Cka.ENCRYPT: True, Cka.DECRYPT: True}
    key = session.generate(Ckm.AES_KEY_GEN, template)
    cipher = mechanism(Ckm.AES_ECB)
    assert len(session.whole("Encrypt", cipher, key, bytes(16))) == 16
    session.do("C_SetAttributeValue", key, attributes({Cka.ENCRYPT: False}), 1)
    assert session.value("C_EncryptInit", ctypes.byref(cipher), key) == (
        Ckr.KEY_FUNCTION_NOT_PERMITTED
    )
    session.do("C_DestroyObject", key)


def test_hostile_templates_are_refused(session: Session) -> None:
    made = ctypes.byref(ctypes.c_ulong())
    one = Attribute(Cka.LABEL, None, 5)
    assert session.value("C_CreateObject", ctypes.byref(one), 1, made) == Ckr.ARGUMENTS_BAD
    one = Attribute(Cka.LABEL, ctypes.addressof(one), UNAVAILABLE)
    assert session.value("C_CreateObject", ctypes.byref(one), 1, made) == Ckr.ARGUMENTS_BAD
    huge = 1 << 60
    assert session.value("C_CreateObject", ctypes.byref(one), huge, made) == Ckr.ARGUMENTS_BAD
    assert session.value("C_FindObjectsInit", ctypes.byref(one), huge) == Ckr.ARGUMENTS_BAD
    assert session.value("C_CreateObject", None, 0, made) != Ckr.OK
    assert session.value("C_CreateObject", None, 0, None) == Ckr.ARGUMENTS_BAD


def test_a_search_shows_of_its_objects_what_they_show_without_it(session: Session) -> None:
    label = {Cka.LABEL: b"told of"}
    shown: Template = {Cka.SENSITIVE: False, Cka.EXTRACTABLE: True, Cka.TOKEN: True, **label}
    templates = [{**AES, **shown}, {**AES, **label, Cka.TOKEN: True}, {**DATA, **label}]
    handles = [session.create(template) for template in templates]
    kinds = (Cka.LABEL, Cka.VALUE, Cka.CLASS, Cka.KEY_TYPE, Cka.UNIQUE_ID, Cka.WRAP_TEMPLATE)

    def answers() -> list[tuple[int, int, bytes]]:
        return [asked(session, handle, kind) for handle in handles for kind in kinds]

    before = answers()
    session.do("C_FindObjectsInit", attributes(label), 1)
    assert answers() == before
    assert answers() == before
    session.do("C_FindObjectsFinal")
    assert len({value for value, _, _ in before}) == 3
    for handle in handles:
        session.do("C_DestroyObject", handle)


def asked(session: Session, handle: int, kind: Cka) -> tuple[int, int, bytes]:
    """Return what C_GetAttributeValue says of one attribute: CK_RV, length, value."""
    buffer = ctypes.create_string_buffer(64)
    row = Attribute(kind, ctypes.addressof(buffer), 64)
    value = session.value("C_GetAttributeValue", handle, ctypes.byref(row), 1)
    return value, int(row.length), buffer.raw
