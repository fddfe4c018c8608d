"""CKM_RSA_AES_KEY_WRAP against OpenSSL, both ways: nobody publishes vectors of the whole.

Its halves pass published vectors (RSA-OAEP and AES key wrap with padding); what this shows is that
they are put together as everybody else does: the OAEP ciphertext first, then the wrapped key.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from conclave.crypto.hashes import MASKS, MaskRow
from conclave.crypto.rsa_mechanisms import rsa_material
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from tests.native.module_fixtures import place, session
from tests.native.test_module_wrapping import READABLE, RsaAesParameter, unwrapped
from tests.support.crypto_vectors import RSA_PARTS, cases, hash_row, mask_row, octets
from tests.support.cryptoki import Mechanism, OaepParameter, Session, Template, mechanism

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

MODULUS_BYTES = 256
WRAP_WITH_PADDING = ("openssl", "enc", "-iv", "A65959A6")
CIPHERS = {16: "-id-aes128-wrap-pad", 24: "-id-aes192-wrap-pad", 32: "-id-aes256-wrap-pad"}


def run(*command: str, data: bytes) -> bytes:
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=30)
    return done.stdout


def openssl_oaep(row: MaskRow, way: str, key: Path, data: bytes) -> bytes:
    """Encrypt or decrypt with an RSA key in a file, with one hash for label and mask."""
    name = row.hash_row.name
    options = ("rsa_padding_mode:oaep", f"rsa_oaep_md:{name}", f"rsa_mgf1_md:{name}")
    chosen = [word for option in options for word in ("-pkeyopt", option)]
    kind = ["-pubin"] if way == "-encrypt" else []
    return run("openssl", "pkeyutl", way, *kind, "-inkey", str(key), *chosen, data=data)


def openssl_wrap(way: str, passing: bytes, data: bytes) -> bytes:
    """Wrap or unwrap with AES key wrap with padding; the key is a test's."""
    return run(*WRAP_WITH_PADDING, way, CIPHERS[len(passing)], "-K", passing.hex(), data=data)


def rsa_aes(row: MaskRow, aes_bytes: int) -> Mechanism:
    oaep = OaepParameter(row.hash_row.digest, row.mask_generation, 1, None, 0)
    return mechanism(Ckm.RSA_AES_KEY_WRAP, RsaAesParameter(8 * aes_bytes, ctypes.pointer(oaep)))


@pytest.fixture
def pair(session: Session, tmp_path: Path) -> tuple[int, int, Path, Path]:
    """An RSA pair in the keyring, and in files for OpenSSL."""
    key = rsa.generate_private_key(65537, 8 * MODULUS_BYTES)
    public, private = rsa_material(key, 8 * MODULUS_BYTES)
    del public[Cka.MODULUS_BITS]
    heads: list[Template] = [
        {Cka.CLASS: Cko.PUBLIC_KEY, Cka.KEY_TYPE: Ckk.RSA, Cka.WRAP: True},
        {Cka.CLASS: Cko.PRIVATE_KEY, Cka.KEY_TYPE: Ckk.RSA, Cka.UNWRAP: True},
    ]
    handles = [
        session.create({**head, **{Cka(number): part for number, part in material.items()}})
        for head, material in zip(heads, (public, private), strict=True)
    ]
    files = tmp_path / "public.pem", tmp_path / "private.pem"
    form = PublicFormat.SubjectPublicKeyInfo
    files[0].write_bytes(key.public_key().public_bytes(Encoding.PEM, form))
    files[1].write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    return handles[0], handles[1], *files


WAYS = [(row, aes_bytes) for row in MASKS for aes_bytes in CIPHERS]


def test_openssl_opens_what_the_module_wraps(
    session: Session, pair: tuple[int, int, Path, Path]
) -> None:
    public, _, _, private_file = pair
    value = os.urandom(37)
    key = session.create({**READABLE, Cka.VALUE: value})
    for row, aes_bytes in WAYS:
        how = rsa_aes(row, aes_bytes)
        sealed = session.output("C_WrapKey", ctypes.byref(how), public, key)
        passing = openssl_oaep(row, "-decrypt", private_file, sealed[:MODULUS_BYTES])
        assert len(passing) == aes_bytes, row
        assert openssl_wrap("-d", passing, sealed[MODULUS_BYTES:]) == value, row


def test_the_module_opens_what_openssl_wraps(
    session: Session, pair: tuple[int, int, Path, Path]
) -> None:
    _, private, public_file, _ = pair
    for row, aes_bytes in WAYS:
        passing, value = os.urandom(aes_bytes), os.urandom(37)
        head = openssl_oaep(row, "-encrypt", public_file, passing)
        sealed = head + openssl_wrap("-e", passing, value)
        made = unwrapped(session, rsa_aes(row, aes_bytes), private, sealed, READABLE)
        assert session.get(made, Cka.VALUE) == value, row


def generated(name: str, *options: str) -> Callable[[], bytes]:
    def make() -> bytes:
        chosen = [word for option in options for word in ("-pkeyopt", option)]
        return run("openssl", "genpkey", "-algorithm", name, *chosen, "-outform", "DER", data=b"")

    return make


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (Ckk.RSA, generated("RSA", "rsa_keygen_bits:2048")),
        (Ckk.EC, generated("EC", "ec_paramgen_curve:P-256")),
        (Ckk.EC_EDWARDS, generated("ED25519")),
    ],
    ids=["RSA", "EC", "Ed25519"],
)
def test_private_keys_move_between_openssl_and_the_module(
    session: Session,
    pair: tuple[int, int, Path, Path],
    kind: Ckk,
    make: Callable[[], bytes],
) -> None:
    public, private, public_file, private_file = pair
    (row,) = [row for row in MASKS if row.hash_row.name == "sha256"]
    passing, moved = os.urandom(32), make()
    head = openssl_oaep(row, "-encrypt", public_file, passing)
    sealed = head + openssl_wrap("-e", passing, moved)
    template: Template = {
        Cka.CLASS: Cko.PRIVATE_KEY,
        Cka.KEY_TYPE: kind,
        Cka.EXTRACTABLE: True,
    }
    key = unwrapped(session, rsa_aes(row, 32), private, sealed, template)
    how = rsa_aes(row, 32)
    length = ctypes.c_ulong()
    session.do("C_WrapKey", ctypes.byref(how), public, key, None, ctypes.byref(length))
    back = session.output("C_WrapKey", ctypes.byref(how), public, key, room=length.value)
    opened = openssl_oaep(row, "-decrypt", private_file, back[:MODULUS_BYTES])
    plain = openssl_wrap("-d", opened, back[MODULUS_BYTES:])
    first, second = (load_der_private_key(der, None).public_key() for der in (moved, plain))
    assert first == second


def test_a_published_oaep_ciphertext_brings_the_aes_key(session: Session) -> None:
    (case,) = [case for case in cases("rsa_oaep_decrypt") if len(octets(case["message"])) == 16]
    head: Template = {Cka.CLASS: Cko.PRIVATE_KEY, Cka.KEY_TYPE: Ckk.RSA, Cka.UNWRAP: True}
    key = session.create(
        {**head, **{number: octets(case[name]) for name, number in RSA_PARTS.items()}}
    )
    value = os.urandom(40)
    sealed = octets(case["output"]) + aes_key_wrap_with_padding(octets(case["message"]), value)
    digest, mask = hash_row(case["hash"]).digest, mask_row(case["mask"]).mask_generation
    oaep = OaepParameter(digest, mask, 1, None, 0)
    how = mechanism(Ckm.RSA_AES_KEY_WRAP, RsaAesParameter(128, ctypes.pointer(oaep)))
    assert session.get(unwrapped(session, how, key, sealed, READABLE), Cka.VALUE) == value
