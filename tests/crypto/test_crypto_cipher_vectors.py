"""Published vectors of AES-CCM, XTS, CMAC, GMAC and ChaCha20-Poly1305, and what they refuse."""

from __future__ import annotations

import os

import msgspec
import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from conclave.crypto import mechanisms
from conclave.crypto.mechanisms import ReadyKey, load_key
from conclave.crypto.policy import MechanismPolicy, governed
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import TRUE, ulong
from conclave.keyring.templates import build_object
from tests.support.crypto_vectors import NIL, Case, cases, each, judge, octets, packed, secret_key


def mac_key(value: bytes) -> ReadyKey:
    return load_key(
        build_object(
            [
                (Cka.CLASS, ulong(Cko.SECRET_KEY)),
                (Cka.KEY_TYPE, ulong(Ckk.AES)),
                (Cka.VALUE, value),
                (Cka.SIGN, TRUE),
                (Cka.VERIFY, TRUE),
            ]
        )
    )


def refuse(ckr: Ckr, call: object, *arguments: object) -> None:
    """Expect a refusal with a return value."""
    assert callable(call)
    with pytest.raises(ConclaveError) as caught:
        call(*arguments)
    assert caught.value.fault.ckr == ckr


def sealed_and_opened(
    case: Case, mechanism: int, parameter: bytes, key: ReadyKey, wrong: Ckr
) -> None:
    """Seal and open a case; a wrong one must be refused."""
    sealed, plaintext = octets(case["ciphertext"]) + octets(case["tag"]), octets(case["plaintext"])
    if case["result"] == "F":
        refuse(wrong, mechanisms.decrypt, mechanism, parameter, key, sealed)
        return
    assert mechanisms.encrypt(mechanism, parameter, key, plaintext) == sealed
    assert mechanisms.decrypt(mechanism, parameter, key, sealed) == plaintext
    refuse(
        Ckr.ENCRYPTED_DATA_INVALID,
        mechanisms.decrypt,
        mechanism,
        parameter,
        key,
        sealed[:-1] + bytes([sealed[-1] ^ 1]),
    )


@each("aes_ccm")
def test_aes_ccm(case: Case) -> None:
    key, nonce, tag = (octets(case[name]) for name in ("key", "nonce", "tag"))
    length = len(octets(case["ciphertext"]))
    parameter = packed(length, nonce, octets(case["aad"]), len(tag))
    wrong = Ckr.ENCRYPTED_DATA_INVALID
    if len(nonce) not in range(7, 14) or len(tag) not in range(4, 17, 2):
        wrong = Ckr.MECHANISM_PARAM_INVALID
    sealed_and_opened(case, Ckm.AES_CCM, parameter, secret_key(Ckk.AES, key), wrong)


@each("chacha20_poly1305")
def test_chacha20_poly1305(case: Case) -> None:
    key, nonce = octets(case["key"]), octets(case["nonce"])
    wrong = Ckr.ENCRYPTED_DATA_INVALID if len(nonce) == 12 else Ckr.MECHANISM_PARAM_INVALID
    parameter = packed(nonce, octets(case["aad"]))
    sealed_and_opened(case, Ckm.CHACHA20_POLY1305, parameter, secret_key(Ckk.CHACHA20, key), wrong)


@each("aes_xts")
def test_aes_xts(case: Case) -> None:
    key = secret_key(Ckk.AES_XTS, octets(case["key"]))
    tweak = msgspec.msgpack.encode(octets(case["iv"]))
    plaintext, ciphertext = octets(case["plaintext"]), octets(case["ciphertext"])
    assert mechanisms.encrypt(Ckm.AES_XTS, tweak, key, plaintext) == ciphertext
    assert mechanisms.decrypt(Ckm.AES_XTS, tweak, key, ciphertext) == plaintext


@each("aes_cmac")
def test_aes_cmac(case: Case) -> None:
    key, message, mac = mac_key(octets(case["key"])), octets(case["message"]), octets(case["mac"])
    length = msgspec.msgpack.encode(len(mac))
    judge(case["result"], Ckm.AES_CMAC_GENERAL, length, key, message, mac)
    made = mechanisms.sign(Ckm.AES_CMAC, NIL, key, message)
    assert (made[: len(mac)] == mac) is (case["result"] == "P")
    mechanisms.verify(Ckm.AES_CMAC, NIL, key, message, made)
    assert mechanisms.sign(Ckm.AES_CMAC_GENERAL, length, key, message) == made[: len(mac)]


GMAC = [case for case in cases("aes_gcm") if case["plaintext"] == "" and case["ciphertext"] == ""]


@pytest.mark.parametrize("case", GMAC)
def test_aes_gmac_is_gcm_without_plaintext(case: Case) -> None:
    key, message, tag = mac_key(octets(case["key"])), octets(case["aad"]), octets(case["tag"])
    for before in (b"", message[:7]):
        parameter = packed(octets(case["nonce"]), before, 8 * len(tag))
        rest = message[len(before) :]
        assert mechanisms.sign(Ckm.AES_GMAC, parameter, key, rest) == tag
        judge("P", Ckm.AES_GMAC, parameter, key, rest, tag)
        judge("F", Ckm.AES_GMAC, parameter, key, rest + b".", tag)


def test_what_does_not_fit_is_refused() -> None:
    aes, xts = secret_key(Ckk.AES, bytes(16)), secret_key(Ckk.AES_XTS, bytes(range(64)))
    ccm, tweak = packed(5, bytes(12), b"", 16), msgspec.msgpack.encode(bytes(16))
    refuse(Ckr.DATA_LEN_RANGE, mechanisms.encrypt, Ckm.AES_CCM, ccm, aes, b"1234")
    refuse(Ckr.ENCRYPTED_DATA_LEN_RANGE, mechanisms.decrypt, Ckm.AES_CCM, ccm, aes, bytes(15))
    large = packed(1 << 16, bytes(13), b"", 16)
    refuse(Ckr.DATA_LEN_RANGE, mechanisms.encrypt, Ckm.AES_CCM, large, aes, bytes(1 << 16))
    refuse(Ckr.DATA_LEN_RANGE, mechanisms.encrypt, Ckm.AES_XTS, tweak, xts, bytes(15))
    refuse(Ckr.ENCRYPTED_DATA_LEN_RANGE, mechanisms.decrypt, Ckm.AES_XTS, tweak, xts, bytes(15))
    chacha = secret_key(Ckk.CHACHA20, bytes(32))
    nonce = packed(bytes(12), b"")
    short = (Ckm.CHACHA20_POLY1305, nonce, chacha, bytes(15))
    refuse(Ckr.ENCRYPTED_DATA_LEN_RANGE, mechanisms.decrypt, *short)
    unusable = (Ckm.AES_CMAC, NIL, aes, b"data")
    refuse(Ckr.KEY_FUNCTION_NOT_PERMITTED, mechanisms.sign, *unusable)
    for length in (0, 17):
        general = (Ckm.AES_CMAC_GENERAL, msgspec.msgpack.encode(length), mac_key(bytes(16)), b"")
        refuse(Ckr.MECHANISM_PARAM_INVALID, mechanisms.sign, *general)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Ckk.AES_XTS, bytes(64)),
        (Ckk.AES_XTS, bytes(range(48))),
        (Ckk.CHACHA20, bytes(31)),
    ],
)
def test_keys_of_another_form_are_refused(kind: Ckk, value: bytes) -> None:
    refuse(Ckr.ATTRIBUTE_VALUE_INVALID, secret_key, kind, value)


@pytest.mark.parametrize(
    ("generation", "use", "length"),
    [(Ckm.AES_XTS_KEY_GEN, Ckm.AES_XTS, 64), (Ckm.CHACHA20_KEY_GEN, Ckm.CHACHA20_POLY1305, 32)],
)
def test_generated_keys_work(generation: Ckm, use: Ckm, length: int) -> None:
    template = [(Cka.VALUE_LEN, ulong(length))]
    key = load_key(mechanisms.generate_key(generation, NIL, template))
    parameter = msgspec.msgpack.encode(bytes(16)) if use == Ckm.AES_XTS else packed(bytes(12), b"")
    data = os.urandom(100)
    sealed = mechanisms.encrypt(use, parameter, key, data)
    assert mechanisms.decrypt(use, parameter, key, sealed) == data


# ------------------------------------------------------------------ triple DES


@each("des3_ecb")
def test_des3_ecb(case: Case) -> None:
    key = secret_key(Ckk.DES3, octets(case["key"]))
    opened = mechanisms.decrypt(Ckm.DES3_ECB, NIL, key, octets(case["ciphertext"]))
    assert opened == octets(case["plaintext"])


@each("des3_cbc")
def test_des3_cbc(case: Case) -> None:
    value, iv = octets(case["key"]), octets(case["iv"])
    key, vector = secret_key(Ckk.DES3, value), msgspec.msgpack.encode(iv)
    plaintext = octets(case["plaintext"])
    opened = mechanisms.decrypt(Ckm.DES3_CBC, vector, key, octets(case["ciphertext"]))
    assert opened == plaintext
    cipher = Cipher(TripleDES(value), modes.CBC(iv)).encryptor()
    padded = cipher.update(plaintext + bytes([8]) * 8)
    assert mechanisms.decrypt(Ckm.DES3_CBC_PAD, vector, key, padded) == plaintext
    broken = (Ckm.DES3_CBC_PAD, vector, key, padded[:-1])
    refuse(Ckr.ENCRYPTED_DATA_LEN_RANGE, mechanisms.decrypt, *broken)


@each("des3_cmac")
def test_des3_cmac(case: Case) -> None:
    key, mac = secret_key(Ckk.DES3, octets(case["key"])), octets(case["mac"])
    judge("P", Ckm.DES3_CMAC, NIL, key, octets(case["message"]), mac)
    judge("F", Ckm.DES3_CMAC, NIL, key, octets(case["message"]) + b".", mac)


def test_triple_des_protects_nothing_and_is_off_by_default() -> None:
    key, vector = secret_key(Ckk.DES3, bytes(range(24))), msgspec.msgpack.encode(bytes(8))
    refuse(Ckr.MECHANISM_INVALID, mechanisms.encrypt, Ckm.DES3_CBC, vector, key, bytes(8))
    refuse(Ckr.MECHANISM_INVALID, mechanisms.sign, Ckm.DES3_CMAC, NIL, key, bytes(8))
    numbers = {Ckm.DES3_ECB, Ckm.DES3_CBC, Ckm.DES3_CBC_PAD, Ckm.DES3_CMAC}
    assert not numbers & set(governed(mechanisms.MECHANISMS, MechanismPolicy()))
    assert numbers <= set(governed(mechanisms.MECHANISMS, MechanismPolicy(legacy=True)))
    refuse(Ckr.ATTRIBUTE_VALUE_INVALID, secret_key, Ckk.DES3, bytes(16))
