"""Two operations in one call: each must give what it gives alone."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import os

import pytest

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import place, session
from tests.support.cryptoki import Session, mechanism

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

PARTS = [os.urandom(16), os.urandom(5), os.urandom(300)]
DATA = b"".join(PARTS)
KEY = bytes(range(16))
VECTOR = bytes(16)


def keys(session: Session) -> tuple[int, int]:
    """Make an AES key and a MAC key."""
    made = [
        session.create({Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: kind, Cka.VALUE: KEY})
        for kind in (Ckk.AES, Ckk.GENERIC_SECRET)
    ]
    return made[0], made[1]


@pytest.mark.parametrize("kind", [Ckm.AES_CBC_PAD, Ckm.AES_ECB])
def test_both_see_the_plaintext(session: Session, kind: Ckm) -> None:
    parts = PARTS if kind == Ckm.AES_CBC_PAD else [DATA[:32], DATA[32:320]]
    plain = b"".join(parts)
    aes, mac = keys(session)
    cipher = mechanism(kind, VECTOR if kind == Ckm.AES_CBC_PAD else None)
    sealed = session.whole("Encrypt", cipher, aes, plain)
    digest, tag = hashlib.sha256(plain).digest(), hmac.digest(KEY, plain, "sha256")

    def in_parts(name: str, finish: str, given: list[bytes]) -> bytes:
        done = [session.output(name, part, len(part)) for part in given]
        return b"".join(done) + session.output(finish)

    pieces = [sealed[:48], sealed[48:]]
    session.do("C_DigestInit", ctypes.byref(mechanism(Ckm.SHA256)))
    session.begin("Encrypt", cipher, aes)
    assert in_parts("C_DigestEncryptUpdate", "C_EncryptFinal", parts) == sealed
    assert session.output("C_DigestFinal") == digest
    session.begin("Sign", mechanism(Ckm.SHA256_HMAC), mac)
    session.begin("Encrypt", cipher, aes)
    assert in_parts("C_SignEncryptUpdate", "C_EncryptFinal", parts) == sealed
    assert session.output("C_SignFinal") == tag
    session.do("C_DigestInit", ctypes.byref(mechanism(Ckm.SHA256)))
    session.begin("Decrypt", cipher, aes)
    opened = [session.output("C_DecryptDigestUpdate", part, len(part)) for part in pieces]
    last = session.output("C_DecryptFinal")
    assert b"".join(opened) + last == plain
    # What C_DecryptFinal gives is for the caller to digest, as the standard's example shows.
    session.do("C_DigestUpdate", last, len(last))
    assert session.output("C_DigestFinal") == digest
    session.begin("Verify", mechanism(Ckm.SHA256_HMAC), mac)
    session.begin("Decrypt", cipher, aes)
    opened = [session.output("C_DecryptVerifyUpdate", part, len(part)) for part in pieces]
    last = session.output("C_DecryptFinal")
    assert b"".join(opened) + last == plain
    session.do("C_VerifyUpdate", last, len(last))
    session.do("C_VerifyFinal", tag, len(tag))


def test_nothing_is_taken_in_while_the_buffer_is_too_small(session: Session) -> None:
    aes, _ = keys(session)
    data = ctypes.create_string_buffer(DATA[:32], 32)
    cipher = mechanism(Ckm.AES_CBC, VECTOR)
    sealed = session.whole("Encrypt", cipher, aes, DATA[:32])
    session.do("C_DigestInit", ctypes.byref(mechanism(Ckm.SHA256)))
    session.begin("Encrypt", cipher, aes)
    length = ctypes.c_ulong()
    told = ctypes.byref(length)
    session.do("C_DigestEncryptUpdate", data, 32, None, told)
    assert length.value == 32
    length.value = 31
    value = session.value("C_DigestEncryptUpdate", data, 32, data, told)
    assert value == Ckr.BUFFER_TOO_SMALL
    # In place: the digest is that of the plaintext nevertheless.
    session.do("C_DigestEncryptUpdate", data, 32, data, told)
    assert data.raw == sealed
    assert session.output("C_EncryptFinal") == b""
    assert session.output("C_DigestFinal") == hashlib.sha256(DATA[:32]).digest()


def test_each_of_the_two_must_be_active(session: Session) -> None:
    aes, _ = keys(session)
    length = ctypes.c_ulong(64)
    arguments = (bytes(16), 16, ctypes.create_string_buffer(64), ctypes.byref(length))
    for first, name in (("Encrypt", "C_DigestEncryptUpdate"), ("Encrypt", "C_SignEncryptUpdate")):
        session.begin(first, mechanism(Ckm.AES_ECB), aes)
        assert session.value(name, *arguments) == Ckr.OPERATION_NOT_INITIALIZED
        session.do(f"C_{first}Init", None, 0)
    session.do("C_DigestInit", ctypes.byref(mechanism(Ckm.SHA256)))
    for name in ("C_DigestEncryptUpdate", "C_DecryptDigestUpdate"):
        assert session.value(name, *arguments) == Ckr.OPERATION_NOT_INITIALIZED
    assert session.output("C_DigestFinal") == hashlib.sha256(b"").digest()
