"""C_WrapKey and C_UnwrapKey through the module, with published vectors."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import pytest

from conclave.crypto.standard import Cka, Ckg, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, session
from tests.support.cryptoki import (
    SERIAL,
    SO,
    Attribute,
    Mechanism,
    OaepParameter,
    Refused,
    Session,
    Template,
    attributes,
    mechanism,
)

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

VECTORS = Path(__file__).parent.parent / "vectors"
Case = dict[str, str]
READABLE: Template = {
    Cka.CLASS: Cko.SECRET_KEY,
    Cka.KEY_TYPE: Ckk.GENERIC_SECRET,
    Cka.SENSITIVE: False,
    Cka.EXTRACTABLE: True,
}


class RsaAesParameter(ctypes.Structure):
    """CK_RSA_AES_KEY_WRAP_PARAMS."""

    _fields_ = (("bits", ctypes.c_ulong), ("oaep", ctypes.POINTER(OaepParameter)))


def cases(name: str) -> list[Case]:
    found: list[Case] = json.loads((VECTORS / f"{name}.json").read_text())["cases"]
    return [case for case in found if case["plaintext"] != "FAIL"]


def wrapping_key(session: Session, value: bytes) -> int:
    return session.create(
        {
            Cka.CLASS: Cko.SECRET_KEY,
            Cka.KEY_TYPE: Ckk.AES,
            Cka.WRAP: True,
            Cka.UNWRAP: True,
            Cka.VALUE: value,
        }
    )


def wrapped(session: Session, how: Mechanism, kek: int, key: int) -> bytes:
    """Wrap after asking for the length."""
    length = ctypes.c_ulong()
    session.do("C_WrapKey", ctypes.byref(how), kek, key, None, ctypes.byref(length))
    made = session.output("C_WrapKey", ctypes.byref(how), kek, key, room=length.value)
    assert len(made) == length.value
    return made


def unwrapped(session: Session, how: Mechanism, kek: int, data: bytes, template: Template) -> int:
    made = ctypes.c_ulong()
    session.do(
        "C_UnwrapKey",
        ctypes.byref(how),
        kek,
        data,
        len(data),
        attributes(template),
        len(template),
        ctypes.byref(made),
    )
    return made.value


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        *((Ckm.AES_KEY_WRAP, case) for case in cases("aes_kw_rfc3394")),
        *((Ckm.AES_KEY_WRAP_KWP, case) for case in cases("aes_kwp_rfc5649")),
        *((Ckm.AES_KEY_WRAP, case) for case in cases("aes_kw")),
        *((Ckm.AES_KEY_WRAP_KWP, case) for case in cases("aes_kwp")),
    ],
)
def test_a_published_key_leaves_and_comes_back(session: Session, kind: Ckm, case: Case) -> None:
    how, plain = mechanism(kind), bytes.fromhex(case["plaintext"])
    kek = wrapping_key(session, bytes.fromhex(case["key"]))
    key = session.create({**READABLE, Cka.VALUE: plain})
    sealed = wrapped(session, how, kek, key)
    assert sealed == bytes.fromhex(case["wrapped"])
    assert session.get(unwrapped(session, how, kek, sealed, READABLE), Cka.VALUE) == plain


@pytest.mark.parametrize("token", [True, False])
def test_a_private_key_moves_under_rsa_and_aes(session: Session, token: bool) -> None:
    public, private = session.generate_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        {Cka.MODULUS_BITS: 2048, Cka.WRAP: True},
        {Cka.UNWRAP: True},
    )
    verifying, signing = session.generate_pair(
        Ckm.EC_KEY_PAIR_GEN,
        {Cka.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")},
        {Cka.EXTRACTABLE: True},
    )
    oaep = OaepParameter(Ckm.SHA256, Ckg.MGF1_SHA256, 1, None, 0)
    how = mechanism(Ckm.RSA_AES_KEY_WRAP, RsaAesParameter(256, ctypes.pointer(oaep)))
    sealed = session.output("C_WrapKey", ctypes.byref(how), public, signing)
    template: Template = {
        Cka.CLASS: Cko.PRIVATE_KEY,
        Cka.KEY_TYPE: Ckk.EC,
        Cka.TOKEN: token,
        Cka.SIGN: True,
    }
    moved = unwrapped(session, how, private, sealed, template)
    made = session.whole("Sign", mechanism(Ckm.ECDSA_SHA256), moved, b"data")
    assert session.verified(mechanism(Ckm.ECDSA_SHA256), verifying, b"data", made) == Ckr.OK
    session.do("C_DestroyObject", moved)


def test_a_key_says_what_it_wraps_and_what_it_unwraps_to(session: Session) -> None:
    kek = session.create(
        {
            Cka.CLASS: Cko.SECRET_KEY,
            Cka.KEY_TYPE: Ckk.AES,
            Cka.WRAP: True,
            Cka.UNWRAP: True,
            Cka.VALUE: bytes(16),
            Cka.WRAP_TEMPLATE: {Cka.KEY_TYPE: Ckk.GENERIC_SECRET, Cka.ID: b"7"},
            Cka.UNWRAP_TEMPLATE: {Cka.EXTRACTABLE: False, Cka.LABEL: b"came"},
        }
    )
    wanted: Template = {Cka.UNWRAP_TEMPLATE: {Cka.EXTRACTABLE: False, Cka.LABEL: b"came"}}
    assert session.find(wanted) == [kek]
    assert session.find({Cka.UNWRAP_TEMPLATE: {Cka.EXTRACTABLE: True}}) == []
    read = session.get(kek, Cka.WRAP_TEMPLATE)
    assert len(read) == 2 * ctypes.sizeof(Attribute)
    assert Attribute.from_buffer_copy(read).type == Cka.KEY_TYPE
    how = mechanism(Ckm.AES_KEY_WRAP)
    right = session.create({**READABLE, Cka.VALUE: bytes(16), Cka.ID: b"7"})
    wrong = session.create({**READABLE, Cka.VALUE: bytes(16), Cka.ID: b"8"})
    sealed = wrapped(session, how, kek, right)
    told = ctypes.c_ulong()
    refused = session.value("C_WrapKey", ctypes.byref(how), kek, wrong, None, ctypes.byref(told))
    assert refused == Ckr.KEY_HANDLE_INVALID
    came = unwrapped(session, how, kek, sealed, {Cka.CLASS: 4, Cka.KEY_TYPE: 0x10})
    assert session.get(came, Cka.EXTRACTABLE) == b"\0"
    assert session.get(came, Cka.LABEL) == b"came"
    with pytest.raises(Refused) as caught:
        unwrapped(session, how, kek, sealed, READABLE)
    assert caught.value.value == Ckr.TEMPLATE_INCONSISTENT


def test_the_security_officer_trusts_a_public_key(place: Place) -> None:
    user = place.logged_in()
    public, _ = user.generate_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        {Cka.TOKEN: True, Cka.MODULUS_BITS: 2048, Cka.WRAP: True, Cka.LABEL: b"trust"},
    )
    trust = attributes({Cka.TRUSTED: True})
    assert user.value("C_SetAttributeValue", public, trust, 1) == Ckr.ATTRIBUTE_READ_ONLY
    user.do("C_Logout")
    assert user.login(place.so_pin, SO) == Ckr.OK
    (public,) = user.find({Cka.LABEL: b"trust"})
    user.do("C_SetAttributeValue", public, trust, 1)
    assert user.get(public, Cka.TRUSTED) == b"\1"
    user.do("C_Logout")
    assert user.login(place.pin) == Ckr.OK
    careful = user.create({**READABLE, Cka.VALUE: bytes(16), Cka.WRAP_WITH_TRUSTED: True})
    oaep = OaepParameter(Ckm.SHA256, Ckg.MGF1_SHA256, 1, None, 0)
    assert len(wrapped(user, mechanism(Ckm.RSA_PKCS_OAEP, oaep), public, careful)) == 256
    user.do("C_DestroyObject", public)


def test_a_buffer_that_is_too_small_is_told_the_length(session: Session) -> None:
    kek = wrapping_key(session, bytes(16))
    key = session.create({**READABLE, Cka.VALUE: bytes(16)})
    how = ctypes.byref(mechanism(Ckm.AES_KEY_WRAP))
    buffer, length = ctypes.create_string_buffer(24), ctypes.c_ulong(23)
    arguments = (how, kek, key, buffer, ctypes.byref(length))
    assert session.value("C_WrapKey", *arguments) == Ckr.BUFFER_TOO_SMALL
    assert length.value == 24
    assert buffer.raw == bytes(24)
    session.do("C_WrapKey", *arguments)
    assert buffer.raw != bytes(24)


def test_what_is_refused_has_its_name(session: Session) -> None:
    kek = wrapping_key(session, bytes(16))
    key = session.create({**READABLE, Cka.VALUE: bytes(16)})
    how, length, made = mechanism(Ckm.AES_KEY_WRAP), ctypes.c_ulong(), ctypes.c_ulong()
    told = ctypes.byref(length)
    for arguments, value in (
        ((ctypes.byref(how), kek, kek, None, told), Ckr.KEY_UNEXTRACTABLE),
        ((ctypes.byref(how), key, key, None, told), Ckr.WRAPPING_KEY_TYPE_INCONSISTENT),
        ((ctypes.byref(how), 999_999, key, None, told), Ckr.WRAPPING_KEY_HANDLE_INVALID),
        ((ctypes.byref(how), kek, 999_999, None, told), Ckr.KEY_HANDLE_INVALID),
        ((ctypes.byref(how), kek, key, None, None), Ckr.ARGUMENTS_BAD),
        ((None, kek, key, None, told), Ckr.ARGUMENTS_BAD),
        ((ctypes.byref(mechanism(Ckm.AES_CTR)), kek, key, None, told), Ckr.MECHANISM_INVALID),
        (
            (ctypes.byref(mechanism(Ckm.AES_KEY_WRAP, bytes(8))), kek, key, None, told),
            Ckr.MECHANISM_PARAM_INVALID,
        ),
    ):
        assert session.value("C_WrapKey", *arguments) == value
    rows, count, handle = attributes(READABLE), len(READABLE), ctypes.byref(made)
    for given, value in (
        ((kek, bytes(24), 24, rows, count, handle), Ckr.WRAPPED_KEY_INVALID),
        ((kek, bytes(25), 25, rows, count, handle), Ckr.WRAPPED_KEY_LEN_RANGE),
        ((kek, bytes(70_000), 70_000, rows, count, handle), Ckr.WRAPPED_KEY_LEN_RANGE),
        ((999_999, bytes(24), 24, rows, count, handle), Ckr.UNWRAPPING_KEY_HANDLE_INVALID),
        ((key, bytes(24), 24, rows, count, handle), Ckr.UNWRAPPING_KEY_TYPE_INCONSISTENT),
        ((kek, None, 24, rows, count, handle), Ckr.ARGUMENTS_BAD),
        ((kek, bytes(24), 24, rows, count, None), Ckr.ARGUMENTS_BAD),
        ((kek, bytes(24), 24, rows, 1, handle), Ckr.TEMPLATE_INCOMPLETE),
    ):
        assert session.value("C_UnwrapKey", ctypes.byref(how), *given) == value


def test_a_read_only_session_unwraps_no_token_key(place: Place, session: Session) -> None:
    kek = wrapping_key(session, bytes(16))
    reader = place.library.open(place.slot, SERIAL)
    template: Template = {**READABLE, Cka.TOKEN: True}
    made = ctypes.c_ulong()
    value = reader.value(
        "C_UnwrapKey",
        ctypes.byref(mechanism(Ckm.AES_KEY_WRAP)),
        kek,
        bytes(24),
        24,
        attributes(template),
        len(template),
        ctypes.byref(made),
    )
    assert value == Ckr.SESSION_READ_ONLY
