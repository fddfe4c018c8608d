"""The mandatory test cases of the OASIS PKCS #11 profiles 3.2, call by call.

BL-M-1-32, EXT-M-1-32, AUTH-M-1-32 and CERT-M-1-32 of *PKCS #11 Profiles Version 3.2*, section 4.
What the section permits to vary (names, versions, serial numbers, handles, key material) is not
compared; for limits, which the cases call illustrative, the relations that the standard gives are.
The cases assume a token that holds certain objects: `prepare` makes them. Run as a program, with
the module and a token's label as arguments and its PIN in TOKEN_PIN.
"""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from conclave.crypto.standard import Cka, Ckm, Cko
from conclave.errors import Ckr
from tests.native.certificates import make_authority
from tests.support.cryptoki import (
    SERIAL,
    Cryptoki,
    Session,
    Template,
    TokenInfo,
    attributes,
    mechanism,
)

READ_WRITE_SERIAL: Final = SERIAL | 0x2
TOKEN_PRESENT: Final = 0x1
TOKEN_FLAGS: Final = 0x1 | 0x4 | 0x8 | 0x400
"""RNG, LOGIN_REQUIRED, USER_PIN_INITIALIZED, TOKEN_INITIALIZED; RESTORE_KEY_NOT_NEEDED says how a
saved operation state is restored, which the case has only because its token saves none."""
DIGEST: Final = 0x400
KEY_PAIR: Final = 0x10000
RSA_USES: Final = 0x100 | 0x200 | 0x800 | 0x2000 | 0x20000 | 0x40000
"""ENCRYPT, DECRYPT, SIGN, VERIFY, WRAP, UNWRAP."""
ROOTS_LABEL: Final = b"Mozilla Builtin Roots\0"
LABELS: Final = (
    *(ROOTS_LABEL, b"data 1", b"data 2", b"data 3"),
    *(b"a root", b"testrsa-pub", b"testrsa-pri"),
)
MODULUS_BYTES: Final = 256
EXPONENT: Final = 65537


class Info(ctypes.Structure):
    """CK_INFO."""

    _fields_ = (
        ("version", ctypes.c_ubyte * 2),
        ("manufacturer", ctypes.c_char * 32),
        ("flags", ctypes.c_ulong),
        ("description", ctypes.c_char * 32),
        ("library", ctypes.c_ubyte * 2),
    )


class SlotInfo(ctypes.Structure):
    """CK_SLOT_INFO."""

    _fields_ = (
        ("description", ctypes.c_char * 64),
        ("manufacturer", ctypes.c_char * 32),
        ("flags", ctypes.c_ulong),
        ("hardware", ctypes.c_ubyte * 2),
        ("firmware", ctypes.c_ubyte * 2),
    )


class MechanismInfo(ctypes.Structure):
    """CK_MECHANISM_INFO."""

    _fields_ = (
        ("smallest", ctypes.c_ulong),
        ("largest", ctypes.c_ulong),
        ("flags", ctypes.c_ulong),
    )


@dataclass(frozen=True)
class Subject:
    """The module, not initialised, and the keyring that the cases are about."""

    library: Cryptoki
    label: str
    pin: str
    certificate: bytes
    """DER, which CERT-M-1-32 reads back."""


def prepare(session: Session, certificate: bytes) -> None:
    """Make what the cases expect to find; `session` is logged in."""
    public: Template = {Cka.TOKEN: True, Cka.PRIVATE: False}
    for label in LABELS[:4]:
        session.create({**public, Cka.CLASS: Cko.DATA, Cka.LABEL: label})
    root: Template = {
        **public,
        Cka.CLASS: Cko.CERTIFICATE,
        Cka.CERTIFICATE_TYPE: 0,
        Cka.LABEL: b"a root",
        Cka.SUBJECT: b"0\0",
        Cka.VALUE: certificate,
    }
    session.generate_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        {
            **public,
            Cka.LABEL: b"testrsa-pub",
            Cka.MODULUS_BITS: 8 * MODULUS_BYTES,
            Cka.PUBLIC_EXPONENT: EXPONENT.to_bytes(3, "big"),
            Cka.VERIFY: True,
        },
        {Cka.TOKEN: True, Cka.LABEL: b"testrsa-pri", Cka.SIGN: True},
    )
    session.create(root)


def _begin(subject: Subject) -> int:
    """Return the slot, found as each case finds it."""
    library, info = subject.library, Info()
    library.do("C_Initialize", None)
    library.do("C_GetInfo", ctypes.byref(info))
    assert (list(info.version), info.flags) == ([3, 2], 0)
    slots = library.slots()
    return next(
        slot for slot in slots if library.token(slot).label.decode().strip() == subject.label
    )


def _end(subject: Subject, session: Session, slot: int) -> None:
    session.do("C_CloseSession")
    subject.library.do("C_CloseAllSessions", slot)
    subject.library.do("C_Finalize", None)


def _look_at_token(library: Cryptoki, slot: int) -> None:
    info = SlotInfo()
    library.do("C_GetSlotInfo", slot, ctypes.byref(info))
    assert info.flags == TOKEN_PRESENT
    token: TokenInfo = library.token(slot)
    assert token.flags & TOKEN_FLAGS == TOKEN_FLAGS
    assert (token.sessions, token.read_write_sessions) == (0, 0)
    assert 0 < token.min_pin <= token.max_pin


def _find(session: Session, template: Template, most: int) -> list[int]:
    """Find as the cases do: with one call for at most so many objects."""
    session.do("C_FindObjectsInit", attributes(template), len(template))
    handles, count = (ctypes.c_ulong * most)(), ctypes.c_ulong()
    session.do("C_FindObjects", handles, most, ctypes.byref(count))
    session.do("C_FindObjectsFinal")
    return list(handles)[: count.value]


def baseline(subject: Subject) -> None:
    """BL-M-1-32: find any object without a login."""
    slot = _begin(subject)
    _look_at_token(subject.library, slot)
    session = subject.library.open(slot, SERIAL)
    assert len(_find(session, {Cka.TOKEN: True}, 1)) == 1
    _end(subject, session, slot)


def extended(subject: Subject) -> None:
    """EXT-M-1-32: mechanisms, then find any object with a login."""
    slot = _begin(subject)
    _look_at_token(subject.library, slot)
    _look_at_mechanisms(subject.library, slot)
    session = subject.library.open(slot, READ_WRITE_SERIAL)
    assert session.login(subject.pin) == Ckr.OK
    assert len(_find(session, {Cka.TOKEN: True}, 1)) == 1
    session.do("C_Logout")
    _end(subject, session, slot)


def _look_at_mechanisms(library: Cryptoki, slot: int) -> None:
    wanted = {
        Ckm.SHA512: DIGEST,
        Ckm.RSA_PKCS_KEY_PAIR_GEN: KEY_PAIR,
        Ckm.RSA_PKCS: RSA_USES,
    }
    assert wanted.keys() <= set(library.mechanisms(slot))
    for kind, flags in wanted.items():
        info = MechanismInfo()
        library.do("C_GetMechanismInfo", slot, kind, ctypes.byref(info))
        assert info.flags & flags == flags, kind
        assert info.smallest <= info.largest, kind
        assert (info.largest > 0) is (kind != Ckm.SHA512), kind


def authentication(subject: Subject) -> None:
    """AUTH-M-1-32: read a public key, and sign with the private one."""
    slot = _begin(subject)
    session = subject.library.open(slot, READ_WRITE_SERIAL)
    assert session.login(subject.pin) == Ckr.OK
    (public,) = _find(
        session,
        {Cka.TOKEN: True, Cka.LABEL: b"testrsa-pub", Cka.CLASS: Cko.PUBLIC_KEY},
        1,
    )
    modulus, exponent = session.get(public, Cka.MODULUS), session.get(public, Cka.PUBLIC_EXPONENT)
    assert (len(modulus), exponent) == (MODULUS_BYTES, EXPONENT.to_bytes(3, "big"))
    (private,) = _find(
        session,
        {Cka.TOKEN: True, Cka.LABEL: b"testrsa-pri", Cka.CLASS: Cko.PRIVATE_KEY},
        1,
    )
    data = b"a certification request of 391 bytes".ljust(391, b".")
    session.begin("Sign", mechanism(Ckm.SHA256_RSA_PKCS), private)
    made = session.output("C_Sign", data, len(data), room=MODULUS_BYTES)
    key = rsa.RSAPublicNumbers(EXPONENT, int.from_bytes(modulus, "big")).public_key()
    key.verify(made, data, padding.PKCS1v15(), hashes.SHA256())
    session.do("C_Logout")
    _end(subject, session, slot)


def certificates(subject: Subject) -> None:
    """CERT-M-1-32: read a label and a certificate without a login."""
    slot = _begin(subject)
    session = subject.library.open(slot, SERIAL)
    found = _find(session, {Cka.TOKEN: True}, 50)
    assert len(found) >= 5
    labels = {session.get(handle, Cka.LABEL): handle for handle in found}
    assert ROOTS_LABEL in labels
    assert session.get(labels[b"a root"], Cka.VALUE) == subject.certificate
    _end(subject, session, slot)


CASES: Final[Mapping[str, Callable[[Subject], None]]] = {
    "BL-M-1-32": baseline,
    "EXT-M-1-32": extended,
    "AUTH-M-1-32": authentication,
    "CERT-M-1-32": certificates,
}


def main() -> None:
    """Prepare the token, go through the cases, and leave the token as it was."""
    module, label = sys.argv[1:3]
    certificate = make_authority("a root").certificate.public_bytes(Encoding.DER)
    with tempfile.TemporaryDirectory() as directory:
        library = Cryptoki(module, Path(directory))
    subject = Subject(library, label, os.environ["TOKEN_PIN"], certificate)
    slot = _begin(subject)
    session = library.open(slot)
    assert session.login(subject.pin) == Ckr.OK
    prepare(session, certificate)
    library.do("C_Finalize", None)
    try:
        for case in CASES.values():
            case(subject)
    finally:
        library.value("C_Finalize", None)
        session = library.open(_begin(subject))
        assert session.login(subject.pin) == Ckr.OK
        for handle in session.find({Cka.TOKEN: True}):
            if session.get(handle, Cka.LABEL) in LABELS:
                session.do("C_DestroyObject", handle)


if __name__ == "__main__":
    main()
