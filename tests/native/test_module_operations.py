"""Every mechanism through the module, judged by pyca/cryptography outside of it."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import os

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from conclave.crypto.mechanisms import MECHANISMS
from conclave.crypto.standard import Cka, Ckg, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import Place, place, session
from tests.support.cryptoki import (
    CounterParameter,
    GcmParameter,
    Mechanism,
    OaepParameter,
    PssParameter,
    Session,
    Template,
    mechanism,
)

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

HASHES: dict[str, tuple[hashes.HashAlgorithm, int, int]] = {
    "SHA1": (hashes.SHA1(), Ckm.SHA_1, Ckg.MGF1_SHA1),  # noqa: S303
    "SHA224": (hashes.SHA224(), Ckm.SHA224, Ckg.MGF1_SHA224),
    "SHA256": (hashes.SHA256(), Ckm.SHA256, Ckg.MGF1_SHA256),
    "SHA384": (hashes.SHA384(), Ckm.SHA384, Ckg.MGF1_SHA384),
    "SHA512": (hashes.SHA512(), Ckm.SHA512, Ckg.MGF1_SHA512),
}
CURVES = {
    "secp256r1": (ec.SECP256R1(), "06082a8648ce3d030107"),
    "secp384r1": (ec.SECP384R1(), "06052b81040022"),
    "secp521r1": (ec.SECP521R1(), "06052b81040023"),
}
PARTS = [b"some", b"", b" data that come ", b"in parts" * 300]
DATA = b"".join(PARTS)
KEY = bytes(range(32))
AES: Template = {Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: Ckk.AES, Cka.VALUE: KEY}


@pytest.fixture
def rsa_pair(session: Session) -> tuple[int, int, rsa.RSAPublicKey]:
    """Generate an RSA pair of session objects."""
    public, private = session.generate_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN,
        {Cka.MODULUS_BITS: 2048, Cka.PUBLIC_EXPONENT: b"\1\0\1", Cka.ENCRYPT: True},
        {Cka.SIGN: True, Cka.DECRYPT: True},
    )
    modulus = int.from_bytes(session.get(public, Cka.MODULUS), "big")
    return public, private, rsa.RSAPublicNumbers(65537, modulus).public_key()


def _pss(name: str) -> PssParameter:
    algorithm, number, mask = HASHES[name]
    return PssParameter(number, mask, algorithm.digest_size)


def _signature_both_ways(
    session: Session, with_mechanism: Mechanism, pair: tuple[int, int]
) -> bytes:
    """Sign whole and in parts; the module itself takes both, and refuses them for other data."""
    whole = session.whole("Sign", with_mechanism, pair[1], DATA)
    parts = session.signed_in_parts(with_mechanism, pair[1], PARTS)
    for made in (whole, parts):
        assert session.verified(with_mechanism, pair[0], DATA, made) == Ckr.OK
    assert session.verified(with_mechanism, pair[0], DATA + b".", whole) == Ckr.SIGNATURE_INVALID
    assert session.verified(with_mechanism, pair[0], DATA, whole[1:]) == Ckr.SIGNATURE_LEN_RANGE
    return parts


@pytest.mark.parametrize("name", HASHES)
def test_rsa_with_a_hash(
    session: Session, rsa_pair: tuple[int, int, rsa.RSAPublicKey], name: str
) -> None:
    public, private, key = rsa_pair
    made = _signature_both_ways(session, mechanism(Ckm[f"{name}_RSA_PKCS"]), (public, private))
    key.verify(made, DATA, padding.PKCS1v15(), HASHES[name][0])
    pss = mechanism(Ckm[f"{name}_RSA_PKCS_PSS"], _pss(name))
    made = _signature_both_ways(session, pss, (public, private))
    salted = padding.PSS(padding.MGF1(HASHES[name][0]), HASHES[name][0].digest_size)
    key.verify(made, DATA, salted, HASHES[name][0])


def test_rsa_without_a_hash(session: Session, rsa_pair: tuple[int, int, rsa.RSAPublicKey]) -> None:
    _, private, key = rsa_pair
    digest = hashlib.sha256(DATA).digest()
    pss = mechanism(Ckm.RSA_PKCS_PSS, _pss("SHA256"))
    made = session.whole("Sign", pss, private, digest)
    key.verify(made, DATA, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    info = bytes.fromhex("3031300d060960864801650304020105000420") + digest
    made = session.whole("Sign", mechanism(Ckm.RSA_PKCS), private, info)
    key.verify(made, DATA, padding.PKCS1v15(), hashes.SHA256())
    raw = b"\0\1" + b"\xff" * (253 - len(info)) + b"\0" + info
    assert session.whole("Sign", mechanism(Ckm.RSA_X_509), private, raw) == made


def test_rsa_encryption(session: Session, rsa_pair: tuple[int, int, rsa.RSAPublicKey]) -> None:
    public, private, key = rsa_pair
    simple = mechanism(Ckm.RSA_PKCS)
    assert (
        session.whole("Decrypt", simple, private, key.encrypt(DATA[:100], padding.PKCS1v15()))
        == DATA[:100]
    )
    label = b"a label"
    oaep = mechanism(
        Ckm.RSA_PKCS_OAEP, OaepParameter(Ckm.SHA256, Ckg.MGF1_SHA256, 1, label, len(label))
    )
    made = session.whole("Encrypt", oaep, public, DATA[:100])
    assert session.whole("Decrypt", oaep, private, made) == DATA[:100]
    foreign = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label)
    assert session.whole("Decrypt", oaep, private, key.encrypt(b"short", foreign)) == b"short"
    session.begin("Decrypt", oaep, private)
    out, length = ctypes.create_string_buffer(4), ctypes.c_ulong(4)
    secret = key.encrypt(b"short", foreign)
    arguments = (secret, len(secret), out, ctypes.byref(length))
    assert session.value("C_Decrypt", *arguments) == Ckr.BUFFER_TOO_SMALL
    assert length.value == 5
    assert session.output("C_Decrypt", secret, len(secret), room=5) == b"short"


@pytest.mark.parametrize("curve", CURVES)
def test_ecdsa(session: Session, curve: str) -> None:
    parameters = bytes.fromhex(CURVES[curve][1])
    public, private = session.generate_pair(Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: parameters})
    point = session.get(public, Cka.EC_POINT)
    point = point[3:] if point[1] & 0x80 else point[2:]
    key = ec.EllipticCurvePublicKey.from_encoded_point(CURVES[curve][0], point)
    for name, (algorithm, _, _) in HASHES.items():
        hashed = mechanism(Ckm[f"ECDSA_{name}"])
        made = _signature_both_ways(session, hashed, (public, private))
        key.verify(_der(made), DATA, ec.ECDSA(algorithm))
    digest = hashlib.sha256(DATA).digest()
    made = session.whole("Sign", mechanism(Ckm.ECDSA), private, digest)
    key.verify(_der(made), digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))


def _der(raw: bytes) -> bytes:
    half = len(raw) // 2
    return utils.encode_dss_signature(
        int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    )


def test_ed25519(session: Session) -> None:
    parameters = bytes.fromhex("06032b6570")
    public, private = session.generate_pair(
        Ckm.EC_EDWARDS_KEY_PAIR_GEN, {Cka.EC_PARAMS: parameters}
    )
    made = _signature_both_ways(session, mechanism(Ckm.EDDSA), (public, private))
    point = session.get(public, Cka.EC_POINT)
    ed25519.Ed25519PublicKey.from_public_bytes(point[-32:]).verify(made, DATA)


@pytest.mark.parametrize("name", HASHES)
def test_hmac(session: Session, name: str) -> None:
    key = session.create(
        {
            Cka.CLASS: Cko.SECRET_KEY,
            Cka.KEY_TYPE: Ckk.GENERIC_SECRET,
            Cka.VALUE: KEY,
            Cka.SIGN: True,
            Cka.VERIFY: True,
        }
    )
    kind = "SHA_1" if name == "SHA1" else name
    expected = hmac.digest(KEY, DATA, name.lower())
    assert _signature_both_ways(session, mechanism(Ckm[f"{kind}_HMAC"]), (key, key)) == expected
    shortened = mechanism(Ckm[f"{kind}_HMAC_GENERAL"], (12).to_bytes(8, "little"))
    assert session.whole("Sign", shortened, key, DATA) == expected[:12]


@pytest.mark.parametrize("name", HASHES)
def test_digests(session: Session, name: str) -> None:
    kind = Ckm.SHA_1 if name == "SHA1" else Ckm[name]
    assert session.digest(kind, PARTS) == hashlib.new(name.lower(), DATA).digest()


def _ciphers(nonce: bytes) -> dict[str, Mechanism]:
    counter = CounterParameter(32, (ctypes.c_ubyte * 16)(*nonce))
    gcm = GcmParameter(nonce, 12, 96, b"associated", 10, 128)
    return {
        "AES_ECB": mechanism(Ckm.AES_ECB),
        "AES_CBC": mechanism(Ckm.AES_CBC, nonce),
        "AES_CBC_PAD": mechanism(Ckm.AES_CBC_PAD, nonce),
        "AES_CTR": mechanism(Ckm.AES_CTR, counter),
        "AES_GCM": mechanism(Ckm.AES_GCM, gcm),
    }


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("name", list(_ciphers(bytes(16))))
def test_ciphers(session: Session, name: str, token: bool) -> None:
    key = session.create({**AES, Cka.TOKEN: token, Cka.ENCRYPT: True, Cka.DECRYPT: True})
    cipher = _ciphers(os.urandom(12) + bytes(4))[name]
    for size in (0, 16, 160, 700_000) if name != "AES_GCM" else (0, 16, 160, 700_001):
        data = os.urandom(size)
        whole = session.whole("Encrypt", cipher, key, data)
        parts = [data[:5], data[5:21], data[21:100], data[100:]]
        assert session.crypted_in_parts("Encrypt", cipher, key, parts) == whole
        assert session.whole("Decrypt", cipher, key, whole) == data
        parts = [whole[:7], whole[7:23], whole[23:]]
        assert session.crypted_in_parts("Decrypt", cipher, key, parts) == data
    session.do("C_DestroyObject", key)


def test_gcm_is_what_others_call_gcm(session: Session) -> None:
    key = session.create({**AES, Cka.ENCRYPT: True, Cka.DECRYPT: True})
    nonce = os.urandom(12)
    cipher = _ciphers(nonce + bytes(4))["AES_GCM"]
    made = session.whole("Encrypt", cipher, key, DATA)
    assert AESGCM(KEY).decrypt(nonce, made, b"associated") == DATA
    session.begin("Decrypt", cipher, key)
    broken = made[:-1] + bytes([made[-1] ^ 1])
    out, length = ctypes.create_string_buffer(len(made)), ctypes.c_ulong(len(made))
    value = session.value("C_Decrypt", broken, len(broken), out, ctypes.byref(length))
    assert value == Ckr.ENCRYPTED_DATA_INVALID


def test_random(session: Session) -> None:
    out = ctypes.create_string_buffer(200_000)
    session.do("C_GenerateRandom", out, len(out))
    assert len(set(out.raw)) == 256
    assert session.value("C_SeedRandom", b"seed", 4) == 0x120


def test_every_mechanism_that_is_listed_is_known(place: Place, session: Session) -> None:
    """An operation with each that signs or encrypts begins as far as the missing key."""
    for kind in place.library.mechanisms(place.slot):
        values = {
            session.value(f"C_{name}Init", ctypes.byref(mechanism(kind)), 0)
            for name in ("Sign", "Encrypt")
        }
        row = MECHANISMS[kind]
        if row.digest:
            session.digest(Ckm(kind), [])
        elif row.sign is not None or row.encrypt is not None:
            assert Ckr.KEY_HANDLE_INVALID in values, Ckm(kind)
