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
    Mechanism,
    OaepParameter,
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
