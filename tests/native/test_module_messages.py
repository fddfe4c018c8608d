"""Messages (PKCS #11 3.0) through the module: published vectors, generated nonces, signatures."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, session
from tests.support.cryptoki import PssParameter, Session, Template, mechanism

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

VECTORS = Path(__file__).parent.parent / "vectors"
AEAD_DECRYPT_FAILED = 0x42
END = 1
BY_COUNTER = 2
MESSAGE_FLAGS = {Ckm.AES_GCM: 0x26, Ckm.ECDSA_SHA256: 0x38, Ckm.AES_CBC: 0}
DATA = bytes(range(256)) * 3
Case = dict[str, str]
Parameter = Any
"""One of the three structures below."""


class GcmMessage(ctypes.Structure):
    """CK_GCM_MESSAGE_PARAMS."""

    _fields_ = (
        ("nonce", ctypes.c_void_p),
        ("nonce_length", ctypes.c_ulong),
        ("fixed_bits", ctypes.c_ulong),
        ("generator", ctypes.c_ulong),
        ("tag", ctypes.c_void_p),
        ("tag_bits", ctypes.c_ulong),
    )


class CcmMessage(ctypes.Structure):
    """CK_CCM_MESSAGE_PARAMS."""

    _fields_ = (
        ("data_length", ctypes.c_ulong),
        ("nonce", ctypes.c_void_p),
        ("nonce_length", ctypes.c_ulong),
        ("fixed_bits", ctypes.c_ulong),
        ("generator", ctypes.c_ulong),
        ("tag", ctypes.c_void_p),
        ("tag_length", ctypes.c_ulong),
    )


class ChaChaMessage(ctypes.Structure):
    """CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS."""

    _fields_ = (
        ("nonce", ctypes.c_void_p),
        ("nonce_length", ctypes.c_ulong),
        ("tag", ctypes.c_void_p),
    )


class Message:
    """A nonce and a tag, and the parameter that points to them."""

    def __init__(self, kind: Ckm, nonce: bytes, tag: bytes, length: int) -> None:
        self.nonce = ctypes.create_string_buffer(nonce, len(nonce))
        self.tag = ctypes.create_string_buffer(tag, len(tag))
        places = ctypes.addressof(self.nonce), ctypes.addressof(self.tag)
        made: dict[Ckm, Callable[[], Parameter]] = {
            Ckm.AES_GCM: lambda: GcmMessage(places[0], len(nonce), 0, 0, places[1], 8 * len(tag)),
            Ckm.AES_CCM: lambda: CcmMessage(
                length, places[0], len(nonce), 0, 0, places[1], len(tag)
            ),
            Ckm.CHACHA20_POLY1305: lambda: ChaChaMessage(places[0], len(nonce), places[1]),
        }
        self.parameter: Parameter = made[kind]()

    def given(self) -> tuple[object, int]:
        """Return the two arguments that hand it over."""
        return ctypes.byref(self.parameter), ctypes.sizeof(self.parameter)


def cases(kind: Ckm) -> list[Case]:
    content = json.loads((VECTORS / f"{kind.name.lower()}.json").read_text())
    found: list[Case] = content["cases"]
    right = (case for case in found if case.get("result", "P") == "P")
    return [case for case in right if case["plaintext"] != "FAIL"]


def key_for(session: Session, kind: Ckm, value: bytes) -> int:
    key_type = Ckk.CHACHA20 if kind == Ckm.CHACHA20_POLY1305 else Ckk.AES
    return session.create({Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: key_type, Cka.VALUE: value})


def begin(session: Session, name: str, kind: Ckm, key: int) -> None:
    session.do(f"C_Message{name}Init", ctypes.byref(mechanism(kind)), key)


def whole(session: Session, name: str, message: Message, extra: bytes, data: bytes) -> bytes:
    head = (*message.given(), extra, len(extra), data, len(data))
    return session.output(f"C_{name}Message", *head, room=max(len(data), 1))


def in_parts(session: Session, name: str, message: Message, extra: bytes, data: bytes) -> bytes:
    session.do(f"C_{name}MessageBegin", *message.given(), extra, len(extra))
    cut = len(data) // 2
    made = b""
    for part, flags in ((data[:cut], 0), (data[cut:], END)):
        room = max(len(data), 1)
        buffer, length = ctypes.create_string_buffer(room), ctypes.c_ulong(room)
        head = (*message.given(), part, len(part), buffer, ctypes.byref(length), flags)
        session.do(f"C_{name}MessageNext", *head)
        made += buffer.raw[: length.value]
    return made


def check_published(session: Session, kind: Ckm, case: Case) -> None:
    key = key_for(session, kind, bytes.fromhex(case["key"]))
    nonce, extra, plain = (bytes.fromhex(case[name]) for name in ("nonce", "aad", "plaintext"))
    sealed, tag = bytes.fromhex(case["ciphertext"]), bytes.fromhex(case["tag"])
    begin(session, "Encrypt", kind, key)
    begin(session, "Decrypt", kind, key)
    for run in (whole, in_parts):
        message = Message(kind, nonce, bytes(len(tag)), len(plain))
        assert run(session, "Encrypt", message, extra, plain) == sealed
        assert message.tag.raw == tag
        assert run(session, "Decrypt", message, extra, sealed) == plain
    message.tag[0] = bytes([tag[0] ^ 1])
    buffer, length = ctypes.create_string_buffer(len(plain) + 1), ctypes.c_ulong(len(plain))
    head = (*message.given(), extra, len(extra), sealed, len(sealed), buffer, ctypes.byref(length))
    assert session.value("C_DecryptMessage", *head) == AEAD_DECRYPT_FAILED
    session.do("C_MessageEncryptFinal")
    session.do("C_MessageDecryptFinal")
    session.do("C_DestroyObject", key)


CIPHERS = [Ckm.AES_GCM, Ckm.AES_CCM, Ckm.CHACHA20_POLY1305]


@pytest.mark.parametrize("kind", CIPHERS, ids=[kind.name for kind in CIPHERS])
def test_published_messages(session: Session, kind: Ckm) -> None:
    right = cases(kind)
    assert len(right) >= 30
    for case in right:
        check_published(session, kind, case)


def test_generated_nonces_differ_and_decrypt(session: Session) -> None:
    key = key_for(session, Ckm.AES_GCM, bytes(32))
    begin(session, "Encrypt", Ckm.AES_GCM, key)
    begin(session, "Decrypt", Ckm.AES_GCM, key)
    seen = set()
    for _ in range(4):
        message = Message(Ckm.AES_GCM, b"app1" + bytes(8), bytes(16), 0)
        message.parameter.generator, message.parameter.fixed_bits = BY_COUNTER, 32
        sealed = whole(session, "Encrypt", message, b"", DATA)
        seen.add(message.nonce.raw)
        assert message.nonce.raw.startswith(b"app1")
        assert whole(session, "Decrypt", message, b"", sealed) == DATA
    assert len(seen) == 4


def test_the_length_that_ccm_is_told_must_be_right(session: Session) -> None:
    key = key_for(session, Ckm.AES_CCM, bytes(16))
    begin(session, "Encrypt", Ckm.AES_CCM, key)
    message = Message(Ckm.AES_CCM, bytes(12), bytes(16), 6)
    length, room = ctypes.c_ulong(5), ctypes.create_string_buffer(6)
    head = (*message.given(), None, 0, DATA, 5, room, ctypes.byref(length))
    assert session.value("C_EncryptMessage", *head) == Ckr.DATA_LEN_RANGE


PAIRS: list[tuple[Ckm, Template, Ckm, Any]] = [
    (Ckm.RSA_PKCS_KEY_PAIR_GEN, {Cka.MODULUS_BITS: 2048}, Ckm.SHA256_RSA_PKCS, None),
    (
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        {Cka.MODULUS_BITS: 2048},
        Ckm.SHA256_RSA_PKCS_PSS,
        PssParameter(Ckm.SHA256, 2, 32),
    ),
    (
        Ckm.EC_KEY_PAIR_GEN,
        {Cka.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")},
        Ckm.ECDSA_SHA256,
        None,
    ),
    (
        Ckm.EC_EDWARDS_KEY_PAIR_GEN,
        {Cka.EC_PARAMS: bytes.fromhex("06032b6570")},
        Ckm.EDDSA,
        None,
    ),
]


def check_signatures(
    session: Session, kind: Ckm, parameter: Any, signing: int, verifying: int
) -> None:
    how = mechanism(kind, parameter)
    session.do("C_MessageSignInit", ctypes.byref(how), signing)
    session.do("C_MessageVerifyInit", ctypes.byref(how), verifying)
    for data in (b"one message", DATA):
        made = session.output("C_SignMessage", None, 0, data, len(data), room=512)
        assert session.verified(how, verifying, data, made) == Ckr.OK
        session.do("C_SignMessageBegin", None, 0)
        session.do("C_SignMessageNext", None, 0, data[:5], 5, None, None)
        rest = data[5:]
        again = session.output("C_SignMessageNext", None, 0, rest, len(rest), room=512)
        session.do("C_VerifyMessage", None, 0, data, len(data), again, len(again))
        session.do("C_VerifyMessageBegin", None, 0)
        session.do("C_VerifyMessageNext", None, 0, data[:7], 7, None, 0)
        tail = (data[7:], len(data) - 7, made, len(made))
        session.do("C_VerifyMessageNext", None, 0, *tail)
        wrong = (data[1:], len(data) - 1, made, len(made))
        assert session.value("C_VerifyMessage", None, 0, *wrong) == Ckr.SIGNATURE_INVALID
    session.do("C_MessageSignFinal")
    session.do("C_MessageVerifyFinal")


@pytest.mark.parametrize(
    ("generator", "public", "kind", "parameter"), PAIRS, ids=[pair[2].name for pair in PAIRS]
)
def test_signed_messages(
    session: Session, generator: Ckm, public: Template, kind: Ckm, parameter: Any
) -> None:
    verifying, signing = session.generate_pair(generator, public)
    check_signatures(session, kind, parameter, signing, verifying)


def test_messages_with_a_mac(session: Session) -> None:
    key = session.create(
        {Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: Ckk.GENERIC_SECRET, Cka.VALUE: bytes(32)}
    )
    check_signatures(session, Ckm.SHA256_HMAC, None, key, key)


def test_what_takes_messages_says_so(place: Place) -> None:
    for kind, flags in MESSAGE_FLAGS.items():
        info = (ctypes.c_ulong * 3)()
        place.library.do("C_GetMechanismInfo", place.slot, int(kind), info)
        assert info[2] & 0x3E == flags
