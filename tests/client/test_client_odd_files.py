"""Certificates, requests and keys that cryptography does not know are refused, not a crash."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from conclave.client.cmu import files
from conclave.client.public_keys import (
    PublicKeyOfPair,
    certificate_of_file,
    certificate_template,
    public_key_in,
    public_key_of_file,
    public_key_template,
)
from conclave.crypto.standard import Cka, Ckk
from conclave.errors import BadInput

KEY = ed25519.Ed25519PrivateKey.generate()
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
END = BEGIN + datetime.timedelta(days=9)
CERTIFICATE = (
    x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 5, BEGIN, END)
    .sign(KEY, None)
    .public_bytes(Encoding.DER)
)
REQUEST = x509.CertificateSigningRequestBuilder(NAME).sign(KEY, None).public_bytes(Encoding.DER)
PUBLIC = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
KEY_TYPE, NO_KEY_TYPE = bytes.fromhex("06032b6570032100"), bytes.fromhex("06032b657f032100")
VERSION, NO_VERSION = bytes.fromhex("a003020102"), bytes.fromhex("a003020107")
REQUEST_VERSION, NO_REQUEST_VERSION = bytes.fromhex("020100"), bytes.fromhex("020107")
LETTER, NO_LETTER = bytes.fromhex("0c0178"), bytes.fromhex("0c01ff")


def altered(der: bytes, was: bytes, becomes: bytes) -> bytes:
    assert was in der
    return der.replace(was, becomes)


@pytest.mark.parametrize(
    "content",
    [
        altered(CERTIFICATE, VERSION, NO_VERSION),
        altered(CERTIFICATE, LETTER, NO_LETTER),
        altered(PUBLIC, KEY_TYPE, NO_KEY_TYPE),
    ],
    ids=["version", "names", "key"],
)
def test_cmu_imports_no_certificate_or_key_that_is_not_known(content: bytes) -> None:
    with pytest.raises(BadInput):
        files.imported(content, "label", None)


def test_a_certificate_of_an_unknown_kind_of_key_is_kept_without_its_key_s_id() -> None:
    content = altered(CERTIFICATE, KEY_TYPE, NO_KEY_TYPE)
    assert files.imported(content, "label", None)[Cka.ID] == b""
    assert files.imported(content, "label", b"mine")[Cka.ID] == b"mine"


@pytest.mark.parametrize(
    "content",
    [
        altered(REQUEST, REQUEST_VERSION, NO_REQUEST_VERSION),
        altered(REQUEST, KEY_TYPE, NO_KEY_TYPE),
        altered(REQUEST, LETTER, NO_LETTER),
    ],
    ids=["version", "key", "names"],
)
def test_cmu_certifies_no_request_that_is_not_known(content: bytes) -> None:
    with pytest.raises(BadInput, match="no certificate request that can be read"):
        files.read_request(content)


def test_the_library_refuses_what_cryptography_does_not_know() -> None:
    with pytest.raises(BadInput, match="holds no certificate"):
        certificate_of_file(altered(CERTIFICATE, VERSION, NO_VERSION))
    unnamed = certificate_of_file(altered(CERTIFICATE, LETTER, NO_LETTER))
    with pytest.raises(BadInput, match="names of the certificate"):
        certificate_template(unnamed, "label", b"")
    unknown = altered(PUBLIC, KEY_TYPE, NO_KEY_TYPE)
    with pytest.raises(BadInput, match="no public key that is known"):
        public_key_of_file(unknown)
    with pytest.raises(BadInput, match="cannot be read"):
        public_key_in(unknown)


@pytest.mark.parametrize(
    ("key", "key_type", "value"),
    [
        (x25519.X25519PrivateKey.generate().public_key(), Ckk.EC_MONTGOMERY, Cka.EC_POINT),
        (x448.X448PrivateKey.generate().public_key(), Ckk.EC_MONTGOMERY, Cka.EC_POINT),
        (mlkem.MLKEM768PrivateKey.generate().public_key(), Ckk.ML_KEM, Cka.VALUE),
    ],
    ids=["X25519", "X448", "ML-KEM-768"],
)
def test_public_keys_that_sign_nothing_are_kept_as_well(
    key: PublicKeyOfPair, key_type: Ckk, value: Cka
) -> None:
    wanted = public_key_template(key, "label", b"id")
    assert wanted[Cka.KEY_TYPE] == key_type
    content = wanted[value]
    assert isinstance(content, bytes)
    assert content.endswith(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
