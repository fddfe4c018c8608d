"""The interfaces of PKCS #11 2.40, 3.0 and 3.2, and C_VerifySignature, on a real member."""

from __future__ import annotations

import ctypes

import pytest

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, session
from tests.support.cryptoki import Mechanism, Session, Template, mechanism

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

P256 = bytes.fromhex("06082a8648ce3d030107")
ED25519 = bytes.fromhex("06032b6570")
DATA = bytes(range(256)) * 5
PAIRS: list[tuple[Ckm, Template, list[Ckm]]] = [
    (Ckm.RSA_PKCS_KEY_PAIR_GEN, {Cka.MODULUS_BITS: 2048}, [Ckm.SHA256_RSA_PKCS]),
    (Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: P256}, [Ckm.ECDSA_SHA256]),
    (Ckm.EC_EDWARDS_KEY_PAIR_GEN, {Cka.EC_PARAMS: ED25519}, [Ckm.EDDSA]),
    (Ckm.ML_DSA_KEY_PAIR_GEN, {Cka.PARAMETER_SET: 1}, [Ckm.ML_DSA]),
]


class Interface(ctypes.Structure):
    """CK_INTERFACE."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("functions", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
    )


@pytest.mark.parametrize(
    ("version", "functions"), [((2, 40), 68), ((3, 0), 92), ((3, 2), 104), (None, 104)]
)
def test_an_interface_is_a_list_of_all_its_functions(
    place: Place, version: tuple[int, int] | None, functions: int
) -> None:
    found = ctypes.POINTER(Interface)()
    wanted = None if version is None else (ctypes.c_ubyte * 2)(*version)
    place.library.do("C_GetInterface", b"PKCS 11", wanted, ctypes.byref(found), 0)
    assert found[0].name == b"PKCS 11"
    address = found[0].functions
    told = (ctypes.c_ubyte * 2).from_address(address)
    assert tuple(told) == (version or (3, 2))
    pointers = (ctypes.c_void_p * functions).from_address(address + ctypes.sizeof(ctypes.c_void_p))
    assert all(pointers)
    assert len(set(pointers)) == functions


def bound_to(session: Session, how: Mechanism, key: int, signature: bytes) -> None:
    session.do("C_VerifySignatureInit", ctypes.byref(how), key, signature, len(signature))


@pytest.mark.parametrize(("generator", "public", "kinds"), PAIRS)
def test_a_signature_that_is_given_first(
    session: Session, generator: Ckm, public: Template, kinds: list[Ckm]
) -> None:
    verifying, signing = session.generate_pair(generator, public)
    for kind in kinds:
        how = mechanism(kind)
        signature = session.whole("Sign", how, signing, DATA)
        bound_to(session, how, verifying, signature)
        session.do("C_VerifySignature", DATA, len(DATA))
        bound_to(session, how, verifying, signature)
        session.do("C_VerifySignatureUpdate", DATA[:700], 700)
        session.do("C_VerifySignatureUpdate", DATA[700:], len(DATA) - 700)
        session.do("C_VerifySignatureFinal")
        bound_to(session, how, verifying, signature)
        value = session.value("C_VerifySignature", DATA[1:], len(DATA) - 1)
        assert value == Ckr.SIGNATURE_INVALID
        bound_to(session, how, verifying, signature[:-1])
        value = session.value("C_VerifySignature", DATA, len(DATA))
        assert value == Ckr.SIGNATURE_LEN_RANGE


def test_a_mac_that_is_given_first(session: Session) -> None:
    key = session.create(
        {Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: Ckk.GENERIC_SECRET, Cka.VALUE: bytes(32)}
    )
    how = mechanism(Ckm.SHA512_HMAC)
    tag = session.whole("Sign", how, key, DATA)
    bound_to(session, how, key, tag)
    session.do("C_VerifySignature", DATA, len(DATA))
    bound_to(session, how, key, bytes(64))
    assert session.value("C_VerifySignature", DATA, len(DATA)) == Ckr.SIGNATURE_INVALID
    bound_to(session, how, key, tag)
    assert session.value("C_Verify", DATA, len(DATA), tag, 64) == Ckr.OPERATION_NOT_INITIALIZED
