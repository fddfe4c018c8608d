"""The profiles that a keyring names, and each condition of theirs, through the module.

The conditions are those of *PKCS #11 Profiles Version 3.2*, section 5.  `tests.support.profiles`
has the mandatory test cases, and runs among the suites of `tests/conformance`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Final

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko, Ckp
from conclave.errors import Ckr
from conclave.keyring.profiles import PROFILES
from tests.native.module_fixtures import Place, place, session
from tests.support.cryptoki import (
    SERIAL,
    SO,
    USER,
    HkdfParameter,
    Session,
    SessionInfo,
    Template,
    attributes,
    mechanism,
)
from tests.support.profiles import CASES, Info, MechanismInfo, SlotInfo

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

EVERY_PROFILE: Template = {Cka.CLASS: Cko.PROFILE}
NAMES: Final[Mapping[Ckp, bytes]] = {
    Ckp.BASELINE_PROVIDER: b"Baseline Provider",
    Ckp.EXTENDED_PROVIDER: b"Extended Provider",
    Ckp.AUTHENTICATION_TOKEN: b"Authentication Token",
    Ckp.HKDF_TLS_TOKEN: b"HKDF TLS Token",
}
MANDATORY: Final = {
    Ckp.BASELINE_PROVIDER: "BL-M-1-32",
    Ckp.EXTENDED_PROVIDER: "EXT-M-1-32",
    Ckp.AUTHENTICATION_TOKEN: "AUTH-M-1-32",
}
"""The section has none for the HKDF TLS Token."""
NO_SUCH: Final = 0x7FFFFFFF
CRYPTOKI_NOT_INITIALIZED: Final = 0x190
CRYPTOKI_ALREADY_INITIALIZED: Final = 0x191
SLOT_ID_INVALID: Final = 0x3
READ_WRITE_USER: Final = 3
"""CKS_RW_USER_FUNCTIONS."""
SESSION_HANDLE_INVALID: Final = 0xB3
ARGUMENTS: Final[Mapping[str, int]] = {
    "C_CloseSession": 0,
    "C_GetSessionInfo": 1,
    "C_FindObjectsInit": 2,
    "C_FindObjects": 3,
    "C_FindObjectsFinal": 0,
    "C_GetAttributeValue": 3,
    "C_Login": 3,
    "C_LoginUser": 5,
    "C_Logout": 0,
    "C_SignInit": 2,
    "C_Sign": 4,
    "C_SignUpdate": 2,
    "C_SignFinal": 2,
    "C_DeriveKey": 5,
}
"""Functions of the conditions that take a session, and what they take after it."""


class Interface(ctypes.Structure):
    """CK_INTERFACE."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("functions", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
    )


def number(session: Session, handle: int, kind: Cka) -> int:
    return int.from_bytes(session.get(handle, kind), "little")


def named(session: Session, template: Template = EVERY_PROFILE) -> list[int]:
    """Return the profiles that a search finds."""
    return [number(session, handle, Cka.PROFILE_ID) for handle in session.find(template)]


# ---------------------------------------------------------------- the objects


def test_a_keyring_names_what_it_conforms_to_with_and_without_a_login(place: Place) -> None:
    reader = place.library.open(place.slot, SERIAL)
    assert named(reader) == list(NAMES) == [row.profile for row in PROFILES]
    session = place.logged_in()
    assert named(session) == list(NAMES)
    session.do("C_Logout")
    reader.do("C_CloseSession")  # no read-only session may be there when the SO logs in
    assert session.login(place.so_pin, SO) == Ckr.OK
    assert named(session) == list(NAMES)


@pytest.mark.parametrize("profile", Ckp)
def test_one_profile_is_asked_for_by_its_id(session: Session, profile: Ckp) -> None:
    offered = [profile] if profile in NAMES else []
    assert named(session, {Cka.PROFILE_ID: profile}) == offered
    assert named(session, {**EVERY_PROFILE, Cka.PROFILE_ID: profile}) == offered
    assert named(session, {Cka.CLASS: Cko.DATA, Cka.PROFILE_ID: profile}) == []
    assert named(session, {Cka.PROFILE_ID: profile, Cka.TOKEN: False}) == []


def test_the_objects_are_public_and_say_who_they_are(place: Place) -> None:
    reader = place.library.open(place.slot, SERIAL)
    handles = reader.find(EVERY_PROFILE)
    for handle in handles:
        assert number(reader, handle, Cka.CLASS) == Cko.PROFILE
        assert reader.get(handle, Cka.LABEL) == NAMES[Ckp(number(reader, handle, Cka.PROFILE_ID))]
        assert reader.get(handle, Cka.TOKEN) == b"\1"
        for kind in (Cka.PRIVATE, Cka.MODIFIABLE, Cka.COPYABLE, Cka.DESTROYABLE):
            assert reader.get(handle, kind) == b"\0"
    assert len({reader.get(handle, Cka.UNIQUE_ID) for handle in handles}) == len(NAMES)


@pytest.mark.parametrize(
    "template",
    [{}, {Cka.TOKEN: True}, {Cka.PRIVATE: False}, {Cka.LABEL: NAMES[Ckp.BASELINE_PROVIDER]}],
)
def test_a_search_that_names_no_profile_finds_none(session: Session, template: Template) -> None:
    profiles = session.find(EVERY_PROFILE)
    assert not set(profiles) & set(session.find(template))


def test_nobody_changes_copies_or_destroys_a_profile_object(session: Session) -> None:
    handle, *_ = session.find(EVERY_PROFILE)
    label, made = attributes({Cka.LABEL: b"mine"}), ctypes.c_ulong()
    for value in (
        session.value("C_SetAttributeValue", handle, label, 1),
        session.value("C_CopyObject", handle, label, 1, ctypes.byref(made)),
        session.value("C_DestroyObject", handle),
    ):
        assert value == Ckr.ACTION_PROHIBITED
    assert named(session) == list(NAMES)
    value = session.value("C_SignInit", ctypes.byref(mechanism(Ckm.SHA256_RSA_PKCS)), handle)
    assert value == Ckr.KEY_HANDLE_INVALID


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize(
    ("rest", "refusal"),
    [
        ({Cka.PROFILE_ID: int(Ckp.COMPLETE_PROVIDER)}, Ckr.ATTRIBUTE_READ_ONLY),
        ({}, Ckr.TEMPLATE_INCOMPLETE),
    ],
)
def test_nobody_makes_a_profile_object(
    session: Session, token: bool, rest: Template, refusal: Ckr
) -> None:
    template: Template = {**EVERY_PROFILE, Cka.TOKEN: token, **rest}
    made = ctypes.c_ulong()
    value = session.value("C_CreateObject", attributes(template), len(template), ctypes.byref(made))
    assert value == refusal


# ---------------------------------------------------------------- Baseline Provider


def test_baseline_functions_and_data_types(place: Place) -> None:
    library, info = place.library, Info()
    functions, count = ctypes.c_void_p(), ctypes.c_ulong()
    library.do("C_GetFunctionList", ctypes.byref(functions))
    assert functions.value
    library.do("C_GetInterfaceList", None, ctypes.byref(count))
    interfaces = (Interface * count.value)()
    library.do("C_GetInterfaceList", interfaces, ctypes.byref(count))
    assert {each.name for each in interfaces} == {b"PKCS 11"}
    found = ctypes.POINTER(Interface)()
    library.do("C_GetInterface", None, None, ctypes.byref(found), 0)
    library.do("C_GetInfo", ctypes.byref(info))
    assert list(info.version) == [3, 2]
    assert place.slot in library.slots()
    slot, told = SlotInfo(), SessionInfo()
    library.do("C_GetSlotInfo", place.slot, ctypes.byref(slot))
    assert library.token(place.slot).label.decode().strip() == place.label
    session = library.open(place.slot, SERIAL)
    session.do("C_GetSessionInfo", ctypes.byref(told))
    assert (told.slot, told.flags) == (place.slot, SERIAL)
    session.do("C_CloseSession")


def test_baseline_attributes(place: Place, session: Session) -> None:
    value = session.create({Cka.CLASS: Cko.DATA, Cka.VALUE: b"value", Cka.PRIVATE: False})
    key = session.generate(Ckm.AES_KEY_GEN, {Cka.VALUE_LEN: 16, Cka.ID: b"id"})
    assert (session.get(value, Cka.VALUE), session.get(key, Cka.ID)) == (b"value", b"id")
    for handle in (value, key, *session.find(EVERY_PROFILE)):
        sizes = {Cka.CLASS: 8, Cka.TOKEN: 1, Cka.PRIVATE: 1, Cka.MODIFIABLE: 1}
        assert {kind: len(session.get(handle, kind)) for kind in sizes} == sizes
        assert session.get(handle, Cka.UNIQUE_ID)
        assert (session.get(handle, Cka.LABEL) == b"") is (handle in (value, key))


def test_error_handling_before_after_and_with_wrong_handles(place: Place) -> None:
    library = place.library
    assert library.value("C_Initialize", None) == CRYPTOKI_ALREADY_INITIALIZED
    for name, count in ARGUMENTS.items():
        assert library.value(name, NO_SUCH, *[None] * count) == SESSION_HANDLE_INVALID, name
    for name in ("C_GetSlotInfo", "C_GetTokenInfo"):
        room = ctypes.create_string_buffer(512)
        assert library.value(name, NO_SUCH, room) == SLOT_ID_INVALID
        assert library.value(name, place.slot, None) == Ckr.ARGUMENTS_BAD
    library.do("C_Finalize", None)
    for name, count in {**ARGUMENTS, "C_GetInfo": 0, "C_Finalize": 0}.items():
        value = library.value(name, None, *[None] * count)
        assert value == CRYPTOKI_NOT_INITIALIZED, name


# ---------------------------------------------------------------- what builds on it


def test_extended_functions_and_data_types(place: Place) -> None:
    kinds = place.library.mechanisms(place.slot)
    info = MechanismInfo()
    for kind in kinds:
        place.library.do("C_GetMechanismInfo", place.slot, kind, ctypes.byref(info))
        assert info.flags
    value = place.library.value("C_GetMechanismInfo", place.slot, NO_SUCH, ctypes.byref(info))
    assert value == Ckr.MECHANISM_INVALID
    session = place.logged_in()
    session.do("C_Logout")
    pin = place.pin.encode()
    session.do("C_LoginUser", USER, pin, len(pin), b"", 0)
    assert session.state() == READ_WRITE_USER
    session.do("C_Logout")
    assert session.value("C_Logout") == Ckr.USER_NOT_LOGGED_IN


def test_authentication_objects_and_functions(session: Session) -> None:
    public, private = session.generate_pair(Ckm.RSA_PKCS_KEY_PAIR_GEN, {Cka.MODULUS_BITS: 2048})
    assert number(session, public, Cka.CLASS) == Cko.PUBLIC_KEY
    assert number(session, private, Cka.CLASS) == Cko.PRIVATE_KEY
    how = mechanism(Ckm.SHA256_RSA_PKCS)
    whole = session.whole("Sign", how, private, b"a challenge")
    assert session.signed_in_parts(how, private, [b"a ", b"challenge"]) == whole
    assert session.verified(how, public, b"a challenge", whole) == Ckr.OK


def test_every_profile_with_mandatory_cases_has_them_among_the_suites() -> None:
    assert {profile: name for profile, name in MANDATORY.items() if name in CASES} == MANDATORY
    assert MANDATORY.keys() | {Ckp.HKDF_TLS_TOKEN} == NAMES.keys()


@pytest.mark.parametrize("text", [b"tls iv", b"tls quic iv", b"some other text"])
@pytest.mark.parametrize("length", [8, 12, 300])
def test_hkdf_tls_takes_what_tls_and_quic_ask_for(
    session: Session, text: bytes, length: int
) -> None:
    secret = bytes(range(32))
    base = session.create(
        {
            Cka.CLASS: Cko.SECRET_KEY,
            Cka.KEY_TYPE: Ckk.HKDF,
            Cka.DERIVE: True,
            Cka.VALUE: secret,
        }
    )
    info = length.to_bytes(2, "big") + text + b"\0"
    choice = HkdfParameter(0, 1, Ckm.SHA256, 1, None, 0, 0, info, len(info))
    template: Template = {Cka.CLASS: Cko.DATA, Cka.VALUE_LEN: length}
    made = ctypes.c_ulong()
    session.do(
        "C_DeriveKey",
        ctypes.byref(mechanism(Ckm.HKDF_DATA, choice)),
        base,
        attributes(template),
        len(template),
        ctypes.byref(made),
    )
    assert number(session, made.value, Cka.CLASS) == Cko.DATA
    expected = HKDFExpand(hashes.SHA256(), length, info).derive(secret)
    assert session.get(made.value, Cka.VALUE) == expected
