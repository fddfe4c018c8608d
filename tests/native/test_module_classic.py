"""The module's less usual calls on a real member: recovery, and what belongs to sessions."""

from __future__ import annotations

import ctypes

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from conclave.crypto.standard import Cka, Ckm
from conclave.errors import Ckr
from tests.native.module_fixtures import place, session
from tests.support.cryptoki import Session, mechanism

__all__ = ["place", "session"]
pytestmark = pytest.mark.system


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
