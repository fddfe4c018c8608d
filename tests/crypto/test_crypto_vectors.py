"""Published vectors, through the mechanism table as a worker uses it.

The files stand in tests/vectors, each with its origin and licence.
"""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from conclave.crypto import mechanisms
from conclave.crypto.curves import (
    CURVES,
    ED25519_PARAMS,
    EDWARDS,
    MONTGOMERY,
    octet_string,
)
from conclave.crypto.mechanisms import load_key
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import ulong
from conclave.keyring.templates import build_object
from tests.support.crypto_vectors import (
    NIL,
    Case,
    cases,
    each,
    hash_row,
    judge,
    mac_row,
    mask_row,
    octets,
    packed,
    rsa_private_key,
    rsa_public_key,
    secret_key,
)

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


@each("hmac_sha3")
def test_hmac_with_sha3(case: Case) -> None:
    check_hmac(case)


@each("hmac_sha512_t")
def test_hmac_with_sha512_shortened(case: Case) -> None:
    check_hmac(case)


def check_hmac(case: Case) -> None:
    row = mac_row(case["hash"])
    key = secret_key(row.hmac_key_type, octets(case["key"]))
    message, mac = octets(case["message"]), octets(case["mac"])
    judge(case["result"], row.hmac, NIL, key, message, mac)
    made = mechanisms.sign(row.hmac, NIL, key, message)
    assert (made == mac) is (case["result"] == "P")
    length = msgspec.msgpack.encode(10)
    assert mechanisms.sign(row.hmac_general, length, key, message) == made[:10]


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


@pytest.mark.parametrize("case", [*cases("ecdsa_more"), *cases("ecdsa_brainpool")])
def test_ecdsa_with_more_curves_and_sha3(case: Case) -> None:
    curve = next(row for row in CURVES if row.name == case["curve"])
    key = load_key(
        build_object(
            [
                (Cka.CLASS, ulong(Cko.PUBLIC_KEY)),
                (Cka.KEY_TYPE, ulong(Ckk.EC)),
                (Cka.EC_PARAMS, curve.params),
                (Cka.EC_POINT, octet_string(octets(case["point"]))),
            ]
        )
    )
    message, signature = octets(case["message"]), octets(case["signature"])
    judge(case["result"], hash_row(case["hash"]).ecdsa, NIL, key, message, signature)


@each("ed448_verify")
def test_ed448_verify(case: Case) -> None:
    head = [(Cka.KEY_TYPE, ulong(Ckk.EC_EDWARDS)), (Cka.EC_PARAMS, EDWARDS[1].params)]
    point = octet_string(octets(case["public"]))
    key = build_object([*head, (Cka.CLASS, ulong(Cko.PUBLIC_KEY)), (Cka.EC_POINT, point)])
    message, signature = octets(case["message"]), octets(case["signature"])
    length = 114
    if len(signature) == length:
        judge(case["result"], Ckm.EDDSA, NIL, load_key(key), message, signature)
        return
    with pytest.raises(ConclaveError) as caught:
        mechanisms.verify(Ckm.EDDSA, NIL, load_key(key), message, signature)
    assert caught.value.fault.ckr == Ckr.SIGNATURE_LEN_RANGE


@each("octet_curve_pairs")
def test_the_public_key_of_x25519_and_x448(case: Case) -> None:
    row = next(row for row in MONTGOMERY if row.name == case["curve"])
    head = [(Cka.KEY_TYPE, ulong(Ckk.EC_MONTGOMERY)), (Cka.EC_PARAMS, row.params)]
    private = build_object(
        [*head, (Cka.CLASS, ulong(Cko.PRIVATE_KEY)), (Cka.VALUE, octets(case["private"]))]
    )
    assert private[Cka.EC_POINT] == octet_string(octets(case["public"]))


@pytest.mark.parametrize(
    ("params", "case"),
    [
        *((ED25519_PARAMS, case) for case in cases("ed25519")),
        *((EDWARDS[1].params, case) for case in cases("ed448_sign")),
    ],
)
def test_eddsa(params: bytes, case: Case) -> None:
    head = [(Cka.KEY_TYPE, ulong(Ckk.EC_EDWARDS)), (Cka.EC_PARAMS, params)]
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


@pytest.mark.parametrize("case", [*cases("rsa_pss_verify"), *cases("rsa_pss_sha3")])
def test_rsa_pss_verify(case: Case) -> None:
    key = rsa_public_key(case["modulus"], case["exponent"])
    row = mask_row(case["hash"])
    salt_bytes = len(octets(case["salt"]))
    parameter = packed(int(row.hash_row.digest), int(row.mask_generation), salt_bytes)
    message, signature = octets(case["message"]), octets(case["signature"])
    judge(case.get("result", "P"), row.rsa_pss, parameter, key, message, signature)
    judge("F", row.rsa_pss, parameter, key, message + b"!", signature)


@each("rsa_pss_masks")
def test_rsa_pss_with_each_mask_generation(case: Case) -> None:
    key = rsa_public_key(case["modulus"], case["exponent"])
    row, mask = mask_row(case["hash"]), mask_row(case["mask"]).mask_generation
    parameter = packed(int(row.hash_row.digest), int(mask), int(case["salt_bytes"]))
    message, signature = octets(case["message"]), octets(case["signature"])
    judge(case["result"], row.rsa_pss, parameter, key, message, signature)


@each("rsa_pkcs_sha3")
def test_rsa_pkcs_with_sha3(case: Case) -> None:
    key = rsa_public_key(case["modulus"], case["exponent"])
    row, signature = hash_row(case["hash"]), octets(case["signature"])
    message = octets(case["message"])
    judge(case["result"], row.rsa_pkcs, NIL, key, message, signature)
    digest = hashlib.new(row.name, message).digest()
    if case["result"] == "P":
        mechanisms.verify(row.rsa_pkcs, NIL, key, digest, signature, True)


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
    digest, mask = hash_row(case["hash"]), mask_row(case["mask"])
    parameter = packed(int(digest.digest), int(mask.mask_generation), b"")
    plaintext = mechanisms.decrypt(
        Ckm.RSA_PKCS_OAEP, parameter, rsa_private_key(case), octets(case["output"])
    )
    assert plaintext == octets(case["message"])
