"""The module's less usual calls on a real member: recovery, and what belongs to sessions."""

from __future__ import annotations

import ctypes
import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, session
from tests.support.cryptoki import USER, Session, attributes, mechanism

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

SECRET = os.urandom(40)
P256 = bytes.fromhex("06082a8648ce3d030107")
CONTEXT_SPECIFIC = 2
KEY_INDIGESTIBLE = 0x67
OPERATION_NOT_INITIALIZED = 0x91
RW_USER_FUNCTIONS = 3
PROTECTED_AUTHENTICATION_PATH = 0x100


def test_a_signature_gives_its_data_back(session: Session) -> None:
    public, private = session.generate_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        {Cka.MODULUS_BITS: 2048, Cka.VERIFY_RECOVER: True},
        {Cka.SIGN_RECOVER: True},
    )
    modulus = int.from_bytes(session.get(public, Cka.MODULUS))
    outside = rsa.RSAPublicNumbers(65537, modulus).public_key()
    data = b"what the signature carries"
    made = session.whole("SignRecover", mechanism(Ckm.RSA_PKCS), private, data)
    assert outside.recover_data_from_signature(made, padding.PKCS1v15(), None) == data
    assert session.whole("VerifyRecover", mechanism(Ckm.RSA_PKCS), public, made) == data
    raw = session.whole("SignRecover", mechanism(Ckm.RSA_X_509), private, data)
    back = session.whole("VerifyRecover", mechanism(Ckm.RSA_X_509), public, raw)
    assert back == data.rjust(256, b"\0")
    session.begin("VerifyRecover", mechanism(Ckm.RSA_PKCS), public)
    room, length = ctypes.create_string_buffer(256), ctypes.c_ulong(256)
    wrong = bytes([made[0] ^ 1]) + made[1:]
    value = session.value("C_VerifyRecover", wrong, 256, room, ctypes.byref(length))
    assert value == Ckr.SIGNATURE_INVALID
    plain, _ = session.generate_pair(Ckm.RSA_PKCS_KEY_PAIR_GEN, {Cka.MODULUS_BITS: 2048})
    value = session.value("C_VerifyRecoverInit", ctypes.byref(mechanism(Ckm.RSA_PKCS)), plain)
    assert value == Ckr.KEY_FUNCTION_NOT_PERMITTED


def secret(session: Session, *, sensitive: bool, extractable: bool, token: bool = False) -> int:
    return session.create(
        {
            Cka.CLASS: Cko.SECRET_KEY,
            Cka.KEY_TYPE: Ckk.GENERIC_SECRET,
            Cka.VALUE: SECRET,
            Cka.SENSITIVE: sensitive,
            Cka.EXTRACTABLE: extractable,
            Cka.TOKEN: token,
        }
    )


@pytest.mark.parametrize("token", [False, True])
def test_a_key_that_may_be_read_is_digested_and_no_other(session: Session, token: bool) -> None:
    open_key = secret(session, sensitive=False, extractable=True, token=token)
    closed = [
        secret(session, sensitive=True, extractable=True, token=token),
        secret(session, sensitive=False, extractable=False, token=token),
    ]
    session.do("C_DigestInit", ctypes.byref(mechanism(Ckm.SHA256)))
    session.do("C_DigestUpdate", b"before", 6)
    for key in closed:
        assert session.value("C_DigestKey", key) == KEY_INDIGESTIBLE
    session.do("C_DigestKey", open_key)
    assert session.output("C_DigestFinal") == hashlib.sha256(b"before" + SECRET).digest()
    change = attributes({Cka.SENSITIVE: True})
    session.do("C_SetAttributeValue", open_key, change, 1)
    session.do("C_DigestInit", ctypes.byref(mechanism(Ckm.SHA256)))
    assert session.value("C_DigestKey", open_key) == KEY_INDIGESTIBLE
    assert session.output("C_DigestFinal") == hashlib.sha256(b"").digest()
    for key in (open_key, *closed):
        session.do("C_DestroyObject", key)


def test_a_private_key_and_one_of_before_a_logout_are_not_digested(
    place: Place, session: Session
) -> None:
    pair = session.generate_pair(Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: P256})
    key = secret(session, sensitive=False, extractable=True)
    session.do("C_DigestInit", ctypes.byref(mechanism(Ckm.SHA256)))
    for half in pair:
        assert session.value("C_DigestKey", half) == KEY_INDIGESTIBLE
    session.do("C_Logout")
    assert session.value("C_DigestKey", key) == Ckr.KEY_HANDLE_INVALID
    assert session.login(place.pin) == Ckr.OK
    assert session.value("C_DigestKey", key) == Ckr.KEY_HANDLE_INVALID


@pytest.mark.parametrize("kind", [Ckm.SHA256, Ckm.SHA3_384])
def test_a_digest_goes_on_in_another_session(place: Place, kind: Ckm) -> None:
    source, other = place.library.open(place.slot), place.library.open(place.slot)
    source.do("C_DigestInit", ctypes.byref(mechanism(kind)))
    source.do("C_DigestUpdate", b"some", 4)
    state = source.output("C_GetOperationState")
    source.do("C_CloseSession")
    other.do("C_SetOperationState", state, len(state), 0, 0)
    other.do("C_DigestUpdate", b"thing", 5)
    name = {Ckm.SHA256: "sha256", Ckm.SHA3_384: "sha3_384"}[kind]
    assert other.output("C_DigestFinal") == hashlib.new(name, b"something").digest()
    other.do("C_CloseSession")


def test_the_role_has_a_name_and_no_other_way_to_prove_itself(place: Place) -> None:
    session, pin = place.library.open(place.slot), place.pin.encode()
    value = session.value("C_LoginUser", USER, pin, len(pin), b"po", 2)
    assert value == Ckr.ARGUMENTS_BAD
    session.do("C_LoginUser", USER, pin, len(pin), b"co", 2)
    assert session.state() == RW_USER_FUNCTIONS
    session.do("C_Logout")
    assert not place.library.token(place.slot).flags & PROTECTED_AUTHENTICATION_PATH
    assert session.value("C_Login", USER, None, 0) == Ckr.ARGUMENTS_BAD
    assert session.login(place.pin) == Ckr.OK
    session.do("C_CloseSession")


@pytest.mark.parametrize("token", [False, True])
def test_a_key_may_ask_for_the_password_before_each_use(
    place: Place, session: Session, token: bool
) -> None:
    pin, sign, kind = place.pin.encode(), mechanism(Ckm.ECDSA_SHA256), Cka.ALWAYS_AUTHENTICATE
    public, private = session.generate_pair(
        Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: P256, Cka.TOKEN: token}, {kind: True, Cka.TOKEN: token}
    )
    assert session.get(private, kind) == b"\1"
    assert session.value("C_Login", CONTEXT_SPECIFIC, pin, len(pin)) == OPERATION_NOT_INITIALIZED
    for data in (b"first", b"second"):
        session.begin("Sign", sign, private)
        assert session.value("C_Login", CONTEXT_SPECIFIC, b"wrong one", 9) == Ckr.PIN_INCORRECT
        session.do("C_Login", CONTEXT_SPECIFIC, pin, len(pin))
        made = session.output("C_Sign", data, len(data))
        assert session.verified(sign, public, data, made) == Ckr.OK
        session.begin("Sign", sign, private)
        room, length = ctypes.create_string_buffer(64), ctypes.c_ulong(64)
        value = session.value("C_Sign", data, len(data), room, ctypes.byref(length))
        assert value == Ckr.USER_NOT_LOGGED_IN
        assert session.state() == RW_USER_FUNCTIONS
    for key in (public, private):
        session.do("C_DestroyObject", key)


def test_a_key_may_ask_for_the_password_before_each_decryption(
    place: Place, session: Session
) -> None:
    pin, pkcs = place.pin.encode(), mechanism(Ckm.RSA_PKCS)
    public, private = session.generate_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN, {Cka.MODULUS_BITS: 2048}, {Cka.ALWAYS_AUTHENTICATE: True}
    )
    sealed = session.whole("Encrypt", pkcs, public, b"secret")
    session.begin("Decrypt", pkcs, private)
    session.do("C_Login", CONTEXT_SPECIFIC, pin, len(pin))
    room, length = ctypes.create_string_buffer(256), ctypes.c_ulong(255)
    value = session.value("C_Decrypt", sealed, len(sealed), room, ctypes.byref(length))
    assert (value, length.value) == (Ckr.BUFFER_TOO_SMALL, 256)
    assert session.output("C_Decrypt", sealed, len(sealed)) == b"secret"
