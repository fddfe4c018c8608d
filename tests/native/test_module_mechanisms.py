"""Mechanisms beyond the first table through the module, judged by pyca/cryptography outside."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey, MLKEM1024PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from conclave.crypto.curves import CURVES, EDWARDS, MONTGOMERY
from conclave.crypto.lattices import ML_DSA, ML_KEM
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr
from tests.native.module_fixtures import place, session
from tests.support.crypto_vectors import Case, cases, octets
from tests.support.cryptoki import GcmParameter, Mechanism, Session, mechanism
from tests.support.module_vectors import CcmParameter, ChaChaParameter, SignContext

__all__ = ["place", "session"]
pytestmark = pytest.mark.system

SHA3: dict[str, hashes.HashAlgorithm] = {
    "SHA3_224": hashes.SHA3_224(),
    "SHA3_256": hashes.SHA3_256(),
    "SHA3_384": hashes.SHA3_384(),
    "SHA3_512": hashes.SHA3_512(),
}
PARTS = [b"some", b"", b" data that come ", b"in parts" * 300]
DATA = b"".join(PARTS)


def signed(session: Session, with_mechanism: Mechanism, pair: tuple[int, int]) -> bytes:
    """Sign in parts; the module takes it, and refuses it for other data."""
    made = session.signed_in_parts(with_mechanism, pair[1], PARTS)
    whole = session.whole("Sign", with_mechanism, pair[1], DATA)
    for signature in (made, whole):
        assert session.verified(with_mechanism, pair[0], DATA, signature) == Ckr.OK
    assert session.verified(with_mechanism, pair[0], DATA + b".", made) == Ckr.SIGNATURE_INVALID
    return made


def point_of(session: Session, key: int) -> bytes:
    """Return what is inside CKA_EC_POINT."""
    point = session.get(key, Cka.EC_POINT)
    return point[3:] if point[1] & 0x80 else point[2:]


@pytest.mark.parametrize("case", cases("digests")[::8])
def test_digests_are_the_published_ones(session: Session, case: Case) -> None:
    message = octets(case["message"])
    made = session.digest(Ckm[case["hash"].upper()], [message[:1], message[1:]])
    assert made == octets(case["digest"])


def test_rsa_with_sha3(session: Session) -> None:
    pair = session.generate_pair(
        Ckm.RSA_PKCS_KEY_PAIR_GEN, {Cka.MODULUS_BITS: 2048, Cka.PUBLIC_EXPONENT: b"\1\0\1"}
    )
    modulus = int.from_bytes(session.get(pair[0], Cka.MODULUS), "big")
    key = rsa.RSAPublicNumbers(65537, modulus).public_key()
    for name, algorithm in SHA3.items():
        made = signed(session, mechanism(Ckm[f"{name}_RSA_PKCS"]), pair)
        key.verify(made, DATA, padding.PKCS1v15(), algorithm)


@pytest.mark.parametrize("name", [row.name for row in CURVES])
def test_ecdsa_with_sha3_on_every_curve(session: Session, name: str) -> None:
    row = next(row for row in CURVES if row.name == name)
    pair = session.generate_pair(Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: row.params})
    key = ec.EllipticCurvePublicKey.from_encoded_point(row.curve, point_of(session, pair[0]))
    for stem, algorithm in SHA3.items():
        made = signed(session, mechanism(Ckm[f"ECDSA_{stem}"]), pair)
        r, s = (int.from_bytes(made[i : i + row.order_bytes]) for i in (0, row.order_bytes))
        key.verify(utils.encode_dss_signature(r, s), DATA, ec.ECDSA(algorithm))


def test_ed448(session: Session) -> None:
    pair = session.generate_pair(Ckm.EC_EDWARDS_KEY_PAIR_GEN, {Cka.EC_PARAMS: EDWARDS[1].params})
    made = signed(session, mechanism(Ckm.EDDSA), pair)
    ed448.Ed448PublicKey.from_public_bytes(point_of(session, pair[0])).verify(made, DATA)


@pytest.mark.parametrize("index", range(len(MONTGOMERY)))
def test_key_pairs_of_x25519_and_x448(session: Session, index: int) -> None:
    row = MONTGOMERY[index]
    pair = session.generate_pair(Ckm.EC_MONTGOMERY_KEY_PAIR_GEN, {Cka.EC_PARAMS: row.params})
    assert len(point_of(session, pair[0])) == row.key_bytes
    assert point_of(session, pair[1]) == point_of(session, pair[0])


@pytest.mark.parametrize("name", SHA3)
def test_hmac_with_sha3(session: Session, name: str) -> None:
    value = bytes(range(32))
    key = session.create(
        {Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: Ckk[f"{name}_HMAC"], Cka.VALUE: value}
    )
    expected = hmac.digest(value, DATA, name.lower())
    assert signed(session, mechanism(Ckm[f"{name}_HMAC"]), (key, key)) == expected
    assert hashlib.new(name.lower(), DATA).digest() == session.digest(Ckm[name], PARTS)


NONCE = b"nonce of 12."


def _ciphers(length: int) -> dict[str, tuple[Ckk, int, Mechanism]]:
    ccm = CcmParameter(length, NONCE, 12, b"associated", 10, 8)
    chacha = ChaChaParameter(NONCE, 12, b"associated", 10)
    return {
        "AES_CCM": (Ckk.AES, 32, mechanism(Ckm.AES_CCM, ccm)),
        "AES_XTS": (Ckk.AES_XTS, 64, mechanism(Ckm.AES_XTS, bytes(16))),
        "CHACHA20_POLY1305": (Ckk.CHACHA20, 32, mechanism(Ckm.CHACHA20_POLY1305, chacha)),
    }


@pytest.mark.parametrize("name", list(_ciphers(0)))
def test_ciphers(session: Session, name: str) -> None:
    kind, key_length, cipher = _ciphers(len(DATA))[name]
    value = bytes(range(key_length))
    key = session.create({Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: kind, Cka.VALUE: value})
    whole = session.whole("Encrypt", cipher, key, DATA)
    assert session.crypted_in_parts("Encrypt", cipher, key, PARTS) == whole
    assert session.whole("Decrypt", cipher, key, whole) == DATA
    expected = {
        "AES_CCM": lambda: AESCCM(value, 8).encrypt(NONCE, DATA, b"associated"),
        "CHACHA20_POLY1305": lambda: ChaCha20Poly1305(value).encrypt(NONCE, DATA, b"associated"),
    }
    if name in expected:
        assert whole == expected[name]()


def test_cmac_and_gmac(session: Session) -> None:
    value = bytes(range(32))
    uses = {Cka.SIGN: True, Cka.VERIFY: True}
    key = session.create(
        {Cka.CLASS: Cko.SECRET_KEY, Cka.KEY_TYPE: Ckk.AES, Cka.VALUE: value, **uses}
    )
    cmac = signed(session, mechanism(Ckm.AES_CMAC), (key, key))
    general = mechanism(Ckm.AES_CMAC_GENERAL, (7).to_bytes(8, "little"))
    assert session.whole("Sign", general, key, DATA) == cmac[:7]
    tag = AESGCM(value).encrypt(NONCE, b"", DATA)
    assert signed(session, mechanism(Ckm.AES_GMAC, NONCE), (key, key)) == tag
    gcm = mechanism(Ckm.AES_GMAC, GcmParameter(NONCE, 12, 96, None, 0, 96))
    assert session.whole("Sign", gcm, key, DATA) == tag[:12]


@pytest.mark.parametrize("index", range(len(ML_DSA)))
def test_ml_dsa(session: Session, index: int) -> None:
    row = ML_DSA[index]
    pair = session.generate_pair(Ckm.ML_DSA_KEY_PAIR_GEN, {Cka.PARAMETER_SET: row.number})
    key = row.public.from_public_bytes(session.get(pair[0], Cka.VALUE))
    assert not isinstance(key, MLKEM768PublicKey | MLKEM1024PublicKey)
    key.verify(signed(session, mechanism(Ckm.ML_DSA), pair), DATA)
    with_context = mechanism(Ckm.ML_DSA, SignContext(0, b"context", 7))
    key.verify(signed(session, with_context, pair), DATA, b"context")


@pytest.mark.parametrize("index", range(len(ML_KEM)))
def test_key_pairs_of_ml_kem(session: Session, index: int) -> None:
    row = ML_KEM[index]
    pair = session.generate_pair(Ckm.ML_KEM_KEY_PAIR_GEN, {Cka.PARAMETER_SET: row.number})
    assert len(session.get(pair[0], Cka.VALUE)) == row.public_bytes
    assert session.get(pair[1], Cka.PUBLIC_KEY_INFO) == session.get(pair[0], Cka.PUBLIC_KEY_INFO)
