"""C_WrapKeyAuthenticated and C_UnwrapKeyAuthenticated through the module."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import place, session
from tests.support.cryptoki import Mechanism, Session, Template, attributes, mechanism

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

KEY = bytes(range(32))
PLAIN = b"what is wrapped: thirty-two bytes"[:32]
EXTRA = b"associated data"
READABLE: Template = {
    Cka.CLASS: Cko.SECRET_KEY,
    Cka.KEY_TYPE: Ckk.GENERIC_SECRET,
    Cka.SENSITIVE: False,
    Cka.EXTRACTABLE: True,
}


class GcmWrap(ctypes.Structure):
    """CK_GCM_WRAP_PARAMS."""

    _fields_ = (
        ("nonce", ctypes.c_void_p),
        ("nonce_length", ctypes.c_ulong),
        ("fixed_bits", ctypes.c_ulong),
        ("generator", ctypes.c_ulong),
        ("extra", ctypes.c_char_p),
        ("extra_length", ctypes.c_ulong),
        ("tag_bits", ctypes.c_ulong),
    )


class CcmWrap(ctypes.Structure):
    """CK_CCM_WRAP_PARAMS."""

    _fields_ = (
        ("data_length", ctypes.c_ulong),
        ("nonce", ctypes.c_void_p),
        ("nonce_length", ctypes.c_ulong),
        ("fixed_bits", ctypes.c_ulong),
        ("generator", ctypes.c_ulong),
        ("extra", ctypes.c_char_p),
        ("extra_length", ctypes.c_ulong),
        ("tag_length", ctypes.c_ulong),
    )


def parameter(kind: Ckm, nonce: Any, generator: int) -> Any:
    where = ctypes.addressof(nonce)
    if kind == Ckm.AES_GCM:
        return GcmWrap(where, 12, 0, generator, None, 0, 128)
    return CcmWrap(len(PLAIN), where, 12, 0, generator, None, 0, 16)


def unwrapped(session: Session, how: Mechanism, kek: int, data: bytes, extra: bytes) -> int:
    """Return the handle, or what was answered with a minus."""
    made = ctypes.c_ulong()
    head = (ctypes.byref(how), kek, data, len(data), attributes(READABLE), len(READABLE))
    tail = (extra, len(extra), ctypes.byref(made))
    value = session.value("C_UnwrapKeyAuthenticated", *head, *tail)
    return made.value if value == Ckr.OK else -value


@pytest.mark.parametrize("generator", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", [Ckm.AES_GCM, Ckm.AES_CCM], ids=["GCM", "CCM"])
def test_a_key_leaves_and_comes_back(session: Session, kind: Ckm, generator: int) -> None:
    uses: Template = {Cka.WRAP: True, Cka.UNWRAP: True, Cka.VALUE: KEY}
    kek = session.create({Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: Ckk.AES, **uses})
    key = session.create({**READABLE, Cka.VALUE: PLAIN})
    nonce = ctypes.create_string_buffer(b"given by me.", 12)
    how = mechanism(kind, parameter(kind, nonce, generator))
    head = (ctypes.byref(how), kek, key, EXTRA, len(EXTRA))
    length = ctypes.c_ulong()
    session.do("C_WrapKeyAuthenticated", *head, None, ctypes.byref(length))
    assert length.value == len(PLAIN) + 16
    assert nonce.raw == b"given by me."
    sealed = session.output("C_WrapKeyAuthenticated", *head, room=length.value)
    assert (nonce.raw == b"given by me.") == (generator == 0)
    aead = AESGCM(KEY) if kind == Ckm.AES_GCM else AESCCM(KEY)
    assert aead.decrypt(nonce.raw, sealed, EXTRA) == PLAIN
    assert session.get(unwrapped(session, how, kek, sealed, EXTRA), Cka.VALUE) == PLAIN
    assert unwrapped(session, how, kek, sealed, EXTRA[1:]) == -Ckr.WRAPPED_KEY_INVALID
