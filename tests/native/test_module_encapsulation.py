"""C_EncapsulateKey and C_DecapsulateKey through the module, with published vectors."""

from __future__ import annotations

import ctypes

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey, MLKEM1024PublicKey

from conclave.crypto.lattices import ML_KEM, LatticeRow
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, session
from tests.support.crypto_vectors import Case, each
from tests.support.cryptoki import (
    SERIAL,
    Attribute,
    Refused,
    Session,
    Template,
    attributes,
    mechanism,
)

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

READABLE: Template = {Cka.SENSITIVE: False, Cka.EXTRACTABLE: True}
AES: Template = {**READABLE, Cka.KEY_TYPE: Ckk.AES}
KEM = mechanism(Ckm.ML_KEM)
ROWS = {row.name: row for row in ML_KEM}


def encapsulated(session: Session, key: int, template: Template) -> tuple[bytes, int]:
    """Encapsulate after asking for the length."""
    length, made = ctypes.c_ulong(), ctypes.c_ulong()
    rows, told = attributes(template), ctypes.byref(length)
    head = (ctypes.byref(KEM), key, rows, len(template))
    session.do("C_EncapsulateKey", *head, None, told, None)
    buffer = ctypes.create_string_buffer(length.value)
    session.do("C_EncapsulateKey", *head, buffer, told, ctypes.byref(made))
    return buffer.raw[: length.value], made.value


def decapsulated(session: Session, key: int, ciphertext: bytes, template: Template) -> int:
    made = ctypes.c_ulong()
    session.do(
        "C_DecapsulateKey",
        ctypes.byref(KEM),
        key,
        attributes(template),
        len(template),
        ciphertext,
        len(ciphertext),
        ctypes.byref(made),
    )
    return made.value


@each("ml_kem_decapsulate")
def test_a_published_secret_is_decapsulated(session: Session, case: Case) -> None:
    key = session.create(
        {
            Cka.CLASS: Cko.PRIVATE_KEY,
            Cka.KEY_TYPE: Ckk.ML_KEM,
            Cka.PARAMETER_SET: ROWS[case["set"]].number,
            Cka.SEED: bytes.fromhex(case["seed"]),
        }
    )
    made = decapsulated(session, key, bytes.fromhex(case["ciphertext"]), READABLE)
    assert session.get(made, Cka.VALUE) == bytes.fromhex(case["secret"])


@pytest.mark.parametrize("row", ML_KEM, ids=lambda row: row.name)
@pytest.mark.parametrize("token", [True, False])
def test_both_sides_get_one_key(session: Session, row: LatticeRow, token: bool) -> None:
    public, private = session.generate_pair(
        Ckm.ML_KEM_KEY_PAIR_GEN, {Cka.PARAMETER_SET: row.number}
    )
    template = {**AES, Cka.TOKEN: token}
    ciphertext, mine = encapsulated(session, public, template)
    yours = decapsulated(session, private, ciphertext, template)
    sealed = session.whole("Encrypt", mechanism(Ckm.AES_ECB), mine, bytes(32))
    assert session.whole("Decrypt", mechanism(Ckm.AES_ECB), yours, sealed) == bytes(32)
    # And with an implementation at the other end.
    key = row.public.from_public_bytes(session.get(public, Cka.VALUE))
    assert isinstance(key, MLKEM768PublicKey | MLKEM1024PublicKey)
    secret, foreign = key.encapsulate()
    theirs = decapsulated(session, private, foreign, template)
    assert session.get(theirs, Cka.VALUE) == secret
    for made in (mine, yours, theirs):
        session.do("C_DestroyObject", made)


def test_what_is_refused_has_its_name(place: Place, session: Session) -> None:
    public, private = session.generate_pair(Ckm.ML_KEM_KEY_PAIR_GEN, {Cka.PARAMETER_SET: 2})
    made, length = ctypes.c_ulong(), ctypes.c_ulong(1087)
    buffer, told, out = ctypes.create_string_buffer(1568), ctypes.byref(length), ctypes.byref(made)

    def refusal(key: int, template: Template, caller: Session = session) -> int:
        length.value = 1568
        rows = attributes(template)
        head = (ctypes.byref(KEM), key, rows, len(template))
        return caller.value("C_EncapsulateKey", *head, buffer, told, out)

    head = (ctypes.byref(KEM), public, None, 0, buffer, told, out)
    assert session.value("C_EncapsulateKey", *head) == Ckr.BUFFER_TOO_SMALL
    assert length.value == 1088
    assert refusal(private, {}) == Ckr.KEY_FUNCTION_NOT_PERMITTED
    assert refusal(public, {Cka.CLASS: Cko.PRIVATE_KEY}) == Ckr.TEMPLATE_INCONSISTENT
    short = {Cka.KEY_TYPE: Ckk.AES, Cka.VALUE_LEN: 16}
    assert refusal(public, short) == Ckr.TEMPLATE_INCONSISTENT
    reader = place.library.open(place.slot, SERIAL)
    assert refusal(public, {Cka.TOKEN: True}, reader) == Ckr.SESSION_READ_ONLY
    tail = (bytes(1087), 1087, out)
    assert (
        session.value("C_DecapsulateKey", ctypes.byref(KEM), private, None, 0, *tail)
        == Ckr.ENCRYPTED_DATA_LEN_RANGE
    )
    session.do("C_DestroyObject", private)
    tail = (bytes(1088), 1088, out)
    assert (
        session.value("C_DecapsulateKey", ctypes.byref(KEM), private, None, 0, *tail)
        == Ckr.KEY_HANDLE_INVALID
    )


def test_each_key_says_what_it_makes(session: Session) -> None:
    chosen: Template = {Cka.PARAMETER_SET: ML_KEM[0].number}
    says: Template = {Cka.ENCAPSULATE_TEMPLATE: {Cka.KEY_TYPE: Ckk.AES, Cka.LABEL: b"mine"}}
    public, private = session.generate_pair(
        Ckm.ML_KEM_KEY_PAIR_GEN,
        {**chosen, **says},
        {Cka.DECAPSULATE_TEMPLATE: {Cka.EXTRACTABLE: False, Cka.LABEL: b"yours"}},
    )
    assert session.find(says) == [public]
    read = session.get(private, Cka.DECAPSULATE_TEMPLATE)
    assert len(read) == 2 * ctypes.sizeof(Attribute)
    assert Attribute.from_buffer_copy(read).type == Cka.EXTRACTABLE
    ciphertext, mine = encapsulated(session, public, READABLE)
    yours = decapsulated(session, private, ciphertext, {Cka.KEY_TYPE: Ckk.AES})
    assert [session.get(key, Cka.LABEL) for key in (mine, yours)] == [b"mine", b"yours"]
    assert session.get(yours, Cka.EXTRACTABLE) == b"\0"
    sealed = session.whole("Encrypt", mechanism(Ckm.AES_ECB), mine, bytes(32))
    assert session.whole("Decrypt", mechanism(Ckm.AES_ECB), yours, sealed) == bytes(32)
    with pytest.raises(Refused) as caught:
        encapsulated(session, public, {**READABLE, Cka.LABEL: b"other"})
    assert caught.value.value == Ckr.KEY_HANDLE_INVALID
    with pytest.raises(Refused) as caught:
        decapsulated(session, private, ciphertext, READABLE)
    assert caught.value.value == Ckr.TEMPLATE_INCONSISTENT
