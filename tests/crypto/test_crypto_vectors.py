"""Published vectors, through the mechanism table as a worker uses it.

The files stand in tests/vectors, each with its origin and licence.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from conclave.crypto import mechanisms
from conclave.crypto.curves import CURVES, ED25519_PARAMS, octet_string
from conclave.crypto.hashes import HASHES, HashRow
from conclave.crypto.mechanisms import ReadyKey, load_key
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import ulong
from conclave.keyring.templates import build_object

VECTORS = Path(__file__).parent.parent / "vectors"
NIL = b"\xc0"
Case = dict[str, str]


def cases(name: str) -> list[Case]:
    content = json.loads((VECTORS / f"{name}.json").read_text())
    assert content["origin"]
    assert content["licence"]
    found: list[Case] = content["cases"]
    return found


def each(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases(name))


def packed(*values: object) -> bytes:
    return msgspec.msgpack.encode(values)


def octets(digits: str) -> bytes:
    return bytes.fromhex(digits.rjust(len(digits) + len(digits) % 2, "0"))


def hash_row(name: str) -> HashRow:
    return next(row for row in HASHES if row.name == name)


def secret_key(kind: Ckk, value: bytes) -> ReadyKey:
    return load_key(
        build_object(
            [
                (Cka.CLASS, ulong(Cko.SECRET_KEY)),
                (Cka.KEY_TYPE, ulong(kind)),
                (Cka.VALUE, value),
            ]
        )
    )


def rsa_public_key(modulus: str, exponent: str) -> ReadyKey:
    return load_key(
        build_object(
            [
                (Cka.CLASS, ulong(Cko.PUBLIC_KEY)),
                (Cka.KEY_TYPE, ulong(Ckk.RSA)),
                (Cka.MODULUS, octets(modulus)),
                (Cka.PUBLIC_EXPONENT, octets(exponent)),
            ]
        )
    )


RSA_PARTS = {
    "modulus": Cka.MODULUS,
    "public_exponent": Cka.PUBLIC_EXPONENT,
    "exponent": Cka.PRIVATE_EXPONENT,
    "prime_1": Cka.PRIME_1,
    "prime_2": Cka.PRIME_2,
    "exponent_1": Cka.EXPONENT_1,
    "exponent_2": Cka.EXPONENT_2,
    "coefficient": Cka.COEFFICIENT,
}


def rsa_private_key(case: Case) -> ReadyKey:
    template = [(number, octets(case[name])) for name, number in RSA_PARTS.items()]
    head = [(Cka.CLASS, ulong(Cko.PRIVATE_KEY)), (Cka.KEY_TYPE, ulong(Ckk.RSA))]
    return load_key(build_object([*head, *template]))


def judge(result: str, mechanism: int, parameter: bytes, *arguments: object) -> None:
    """Verify; the vector says P for a right signature and F for a wrong one."""
    key, message, signature = arguments
    assert isinstance(key, ReadyKey)
    assert isinstance(message, bytes)
    assert isinstance(signature, bytes)
    if result == "P":
        mechanisms.verify(mechanism, parameter, key, message, signature)
        return
    with pytest.raises(ConclaveError) as caught:
        mechanisms.verify(mechanism, parameter, key, message, signature)
    assert caught.value.fault.ckr == Ckr.SIGNATURE_INVALID


# ------------------------------------------------------------------ AES


@each("aes_ecb")
def test_aes_ecb(case: Case) -> None:
    key = secret_key(Ckk.AES, octets(case["key"]))
    plaintext, ciphertext = octets(case["plaintext"]), octets(case["ciphertext"])
    assert mechanisms.encrypt(Ckm.AES_ECB, NIL, key, plaintext) == ciphertext
    assert mechanisms.decrypt(Ckm.AES_ECB, NIL, key, ciphertext) == plaintext


@each("aes_cbc")
def test_aes_cbc(case: Case) -> None:
    key = secret_key(Ckk.AES, octets(case["key"]))
    vector = msgspec.msgpack.encode(octets(case["iv"]))
    plaintext, ciphertext = octets(case["plaintext"]), octets(case["ciphertext"])
    assert mechanisms.encrypt(Ckm.AES_CBC, vector, key, plaintext) == ciphertext
    assert mechanisms.decrypt(Ckm.AES_CBC, vector, key, ciphertext) == plaintext
    padded = mechanisms.encrypt(Ckm.AES_CBC_PAD, vector, key, plaintext)
    assert padded[:-16] == ciphertext
    assert mechanisms.decrypt(Ckm.AES_CBC_PAD, vector, key, padded) == plaintext


@each("aes_ctr")
def test_aes_ctr(case: Case) -> None:
    key = secret_key(Ckk.AES, octets(case["key"]))
    plaintext, ciphertext = octets(case["plaintext"]), octets(case["ciphertext"])
    for counter_bits in (32, 128):
        parameter = packed(counter_bits, octets(case["iv"]))
        assert mechanisms.encrypt(Ckm.AES_CTR, parameter, key, plaintext) == ciphertext
        assert mechanisms.decrypt(Ckm.AES_CTR, parameter, key, ciphertext) == plaintext


@each("aes_gcm")
def test_aes_gcm(case: Case) -> None:
    key = secret_key(Ckk.AES, octets(case["key"]))
    tag = octets(case["tag"])
    parameter = packed(octets(case["nonce"]), octets(case["aad"]), 8 * len(tag))
    sealed = octets(case["ciphertext"]) + tag
    if case["plaintext"] == "FAIL":
        with pytest.raises(ConclaveError) as caught:
            mechanisms.decrypt(Ckm.AES_GCM, parameter, key, sealed)
        assert caught.value.fault.ckr == Ckr.ENCRYPTED_DATA_INVALID
        return
    plaintext = octets(case["plaintext"])
    assert mechanisms.encrypt(Ckm.AES_GCM, parameter, key, plaintext) == sealed
    assert mechanisms.decrypt(Ckm.AES_GCM, parameter, key, sealed) == plaintext


# ------------------------------------------------------------------ HMAC


@each("hmac")
def test_hmac(case: Case) -> None:
    row = hash_row(case["hash"])
    message, mac = octets(case["message"]), octets(case["mac"])
    for kind in (Ckk.GENERIC_SECRET, row.hmac_key_type):
        key = secret_key(kind, octets(case["key"]))
        assert mechanisms.sign(row.hmac, NIL, key, message) == mac
        mechanisms.verify(row.hmac, NIL, key, message, mac)
        length = msgspec.msgpack.encode(10)
        assert mechanisms.sign(row.hmac_general, length, key, message) == mac[:10]
        mechanisms.verify(row.hmac_general, length, key, message, mac[:10])


# ------------------------------------------------------------------ curves


@each("ecdsa_verify")
def test_ecdsa_verify(case: Case) -> None:
    curve = next(row for row in CURVES if row.name == case["curve"])
    length = curve.order_bytes
    x, y, r, s = (octets(case[name]).rjust(length, b"\0") for name in ("x", "y", "r", "s"))
    key = load_key(
        build_object(
            [
                (Cka.CLASS, ulong(Cko.PUBLIC_KEY)),
                (Cka.KEY_TYPE, ulong(Ckk.EC)),
                (Cka.EC_PARAMS, curve.params),
                (Cka.EC_POINT, octet_string(b"\x04" + x + y)),
            ]
        )
    )
    row, message = hash_row(case["hash"]), octets(case["message"])
    judge(case["result"], row.ecdsa, NIL, key, message, r + s)
    digest = hashlib.new(row.name, message).digest()
    judge(case["result"], Ckm.ECDSA, NIL, key, digest, r + s)


@each("ed25519")
def test_ed25519(case: Case) -> None:
    head = [(Cka.KEY_TYPE, ulong(Ckk.EC_EDWARDS)), (Cka.EC_PARAMS, ED25519_PARAMS)]
    private = build_object(
        [*head, (Cka.CLASS, ulong(Cko.PRIVATE_KEY)), (Cka.VALUE, octets(case["secret"]))]
    )
    point = octet_string(octets(case["public"]))
    assert private[Cka.EC_POINT] == point
    public = build_object([*head, (Cka.CLASS, ulong(Cko.PUBLIC_KEY)), (Cka.EC_POINT, point)])
    message, signature = octets(case["message"]), octets(case["signature"])
    assert mechanisms.sign(Ckm.EDDSA, NIL, load_key(private), message) == signature
    judge("P", Ckm.EDDSA, NIL, load_key(public), message, signature)
    judge("F", Ckm.EDDSA, NIL, load_key(public), message + b"x", signature)


# ------------------------------------------------------------------ RSA


@each("rsa_pkcs_verify")
def test_rsa_pkcs_verify(case: Case) -> None:
    key = rsa_public_key(case["modulus"], case["exponent"])
    signature = octets(case["signature"]).rjust(key.size_bytes, b"\0")
    mechanism = hash_row(case["hash"]).rsa_pkcs
    judge(case["result"], mechanism, NIL, key, octets(case["message"]), signature)


@each("rsa_pss_verify")
def test_rsa_pss_verify(case: Case) -> None:
    key = rsa_public_key(case["modulus"], case["exponent"])
    row = hash_row(case["hash"])
    parameter = packed(int(row.digest), int(row.mask_generation), len(octets(case["salt"])))
    message, signature = octets(case["message"]), octets(case["signature"])
    judge(case["result"], row.rsa_pss, parameter, key, message, signature)


def test_rsa_pkcs_sign() -> None:
    selected = cases("rsa_pkcs_sign")
    key = rsa_private_key(selected[0])
    public = rsa_public_key(selected[0]["modulus"], selected[0]["public_exponent"])
    for case in selected:
        message, signature = octets(case["message"]), octets(case["output"])
        assert mechanisms.sign(Ckm.SHA1_RSA_PKCS, NIL, key, message) == signature
        encoded = mechanisms.encrypt(Ckm.RSA_X_509, NIL, public, signature)
        assert encoded.startswith(b"\x00\x01\xff\xff")
        assert mechanisms.sign(Ckm.RSA_X_509, NIL, key, encoded) == signature
        assert mechanisms.decrypt(Ckm.RSA_X_509, NIL, key, encoded) == signature
        digest_info = encoded[encoded.index(b"\0", 2) + 1 :]
        assert mechanisms.sign(Ckm.RSA_PKCS, NIL, key, digest_info) == signature


def test_rsa_pkcs_decrypt() -> None:
    selected = cases("rsa_pkcs_decrypt")
    key = rsa_private_key(selected[0])
    for case in selected:
        plaintext = mechanisms.decrypt(Ckm.RSA_PKCS, NIL, key, octets(case["output"]))
        assert plaintext == octets(case["message"])


@each("rsa_oaep_decrypt")
def test_rsa_oaep_decrypt(case: Case) -> None:
    digest, mask = hash_row(case["hash"]), hash_row(case["mask"])
    parameter = packed(int(digest.digest), int(mask.mask_generation), b"")
    plaintext = mechanisms.decrypt(
        Ckm.RSA_PKCS_OAEP, parameter, rsa_private_key(case), octets(case["output"])
    )
    assert plaintext == octets(case["message"])
