"""Wrapping and unwrapping by published vectors, and the rules for who leaves under whom."""

from __future__ import annotations

import os

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from conclave.crypto import mechanisms
from conclave.crypto.curves import ED25519_PARAMS
from conclave.crypto.mechanisms import load_key
from conclave.crypto.standard import UNAVAILABLE_INFORMATION, Cka, Ckk, Ckm, Cko
from conclave.crypto.wrapping import unwrap_key, wrap_key
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import FALSE, TRUE, Attributes, ulong
from conclave.keyring.templates import build_object
from tests.support.crypto_vectors import (
    NIL,
    RSA_PARTS,
    Case,
    cases,
    each,
    hash_row,
    mask_row,
    octets,
    packed,
)

P256_PARAMS = bytes.fromhex("06082a8648ce3d030107")
SECRET = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET))]
READABLE = [(int(Cka.SENSITIVE), FALSE), (int(Cka.EXTRACTABLE), TRUE)]
WRAPS = [(int(Cka.WRAP), TRUE), (int(Cka.UNWRAP), TRUE)]


def wrapping_key(value: bytes) -> Attributes:
    head = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.AES))]
    return build_object([*head, *WRAPS, (int(Cka.VALUE), value)])


def secret(value: bytes, *more: tuple[int, bytes]) -> Attributes:
    return build_object([*SECRET, *READABLE, (int(Cka.VALUE), value), *more])


def unwrapping_rsa(case: Case) -> Attributes:
    head = [(int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.RSA))]
    parts = [(int(number), octets(case[name])) for name, number in RSA_PARTS.items()]
    return build_object([*head, (int(Cka.UNWRAP), TRUE), *parts])


def wrapping_rsa(case: Case) -> Attributes:
    head = [(int(Cka.CLASS), ulong(Cko.PUBLIC_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.RSA))]
    parts = [
        (int(number), octets(case[name]))
        for name, number in RSA_PARTS.items()
        if number in {Cka.MODULUS, Cka.PUBLIC_EXPONENT}
    ]
    return build_object([*head, (int(Cka.WRAP), TRUE), *parts])


def wrapped(mechanism: Ckm, parameter: bytes, key: Attributes, target: Attributes) -> bytes:
    return wrap_key(mechanism, parameter, load_key(key), target, wrapping=key)


def unwrapped(mechanism: Ckm, parameter: bytes, key: Attributes, data: bytes) -> bytes:
    """Unwrap a generic secret and return its value."""
    made = unwrap_key(
        mechanism, parameter, load_key(key), data, [*SECRET, *READABLE], unwrapping=key
    )
    return made[Cka.VALUE]


def both_ways(case: Case, mechanism: Ckm, parameter: bytes = NIL) -> None:
    key, sealed = wrapping_key(octets(case["key"])), octets(case["wrapped"])
    if case["plaintext"] == "FAIL":
        with pytest.raises(ConclaveError) as caught:
            unwrapped(mechanism, parameter, key, sealed)
        assert caught.value.fault.ckr == Ckr.WRAPPED_KEY_INVALID
        return
    plain = octets(case["plaintext"])
    assert wrapped(mechanism, parameter, key, secret(plain)) == sealed
    assert unwrapped(mechanism, parameter, key, sealed) == plain


def refused_value(mechanism: Ckm, key: Attributes, target: Attributes, parameter: bytes) -> int:
    with pytest.raises(ConclaveError) as caught:
        wrapped(mechanism, parameter, key, target)
    return caught.value.fault.ckr


# ------------------------------------------------------------------ published vectors


@pytest.mark.parametrize("case", [*cases("aes_kw"), *cases("aes_kw_rfc3394")])
def test_aes_key_wrap(case: Case) -> None:
    both_ways(case, Ckm.AES_KEY_WRAP)


@pytest.mark.parametrize("case", [*cases("aes_kwp"), *cases("aes_kwp_rfc5649")])
def test_aes_key_wrap_with_padding(case: Case) -> None:
    both_ways(case, Ckm.AES_KEY_WRAP_KWP)


@each("aes_kwp_rfc5649")
def test_key_wrap_encrypts_data_too(case: Case) -> None:
    head = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.AES))]
    key = load_key(build_object([*head, (int(Cka.VALUE), octets(case["key"]))]))
    plain, sealed = octets(case["plaintext"]), octets(case["wrapped"])
    given = msgspec.msgpack.encode(bytes.fromhex("a65959a6"))
    for parameter in (NIL, given):
        assert mechanisms.encrypt(Ckm.AES_KEY_WRAP_KWP, parameter, key, plain) == sealed
        assert mechanisms.decrypt(Ckm.AES_KEY_WRAP_KWP, parameter, key, sealed) == plain


@each("aes_cbc")
def test_aes_cbc_with_padding_wraps(case: Case) -> None:
    key, plain = wrapping_key(octets(case["key"])), octets(case["plaintext"])
    parameter = msgspec.msgpack.encode(octets(case["iv"]))
    sealed = wrapped(Ckm.AES_CBC_PAD, parameter, key, secret(plain))
    assert sealed[:-16] == octets(case["ciphertext"])
    assert unwrapped(Ckm.AES_CBC_PAD, parameter, key, sealed) == plain


@pytest.mark.parametrize("case", [case for case in cases("aes_gcm") if case["plaintext"]])
def test_aes_gcm_wraps(case: Case) -> None:
    tag = octets(case["tag"])
    parameter = packed(octets(case["nonce"]), octets(case["aad"]), 8 * len(tag))
    sealed = octets(case["ciphertext"]) + tag
    both_ways({**case, "wrapped": sealed.hex()}, Ckm.AES_GCM, parameter)


RIGHT_CCM = [case for case in cases("aes_ccm") if case["result"] == "P" and case["plaintext"]]


@pytest.mark.parametrize("case", RIGHT_CCM[:20])
def test_aes_ccm_wraps(case: Case) -> None:
    tag, length = octets(case["tag"]), len(octets(case["plaintext"]))
    nonce, extra = octets(case["nonce"]), octets(case["aad"])
    sealed = octets(case["ciphertext"]) + tag
    parameter = packed(length, nonce, extra, len(tag))
    both_ways({**case, "wrapped": sealed.hex()}, Ckm.AES_CCM, parameter)
    key, target = wrapping_key(octets(case["key"])), secret(octets(case["plaintext"]))
    with pytest.raises(ConclaveError) as caught:
        wrapped(Ckm.AES_CCM, packed(length + 1, nonce, extra, len(tag)), key, target)
    assert caught.value.fault.ckr == Ckr.KEY_SIZE_RANGE


@each("rsa_oaep_decrypt")
def test_rsa_oaep_unwraps(case: Case) -> None:
    digest, mask = hash_row(case["hash"]), mask_row(case["mask"])
    parameter = packed(int(digest.digest), int(mask.mask_generation), b"")
    key, message = unwrapping_rsa(case), octets(case["message"])
    assert unwrapped(Ckm.RSA_PKCS_OAEP, parameter, key, octets(case["output"])) == message
    sealed = wrapped(Ckm.RSA_PKCS_OAEP, parameter, wrapping_rsa(case), secret(message))
    assert unwrapped(Ckm.RSA_PKCS_OAEP, parameter, key, sealed) == message


@each("rsa_pkcs_decrypt")
def test_rsa_pkcs_unwraps(case: Case) -> None:
    key, message = unwrapping_rsa(case), octets(case["message"])
    assert unwrapped(Ckm.RSA_PKCS, NIL, key, octets(case["output"])) == message
    sealed = wrapped(Ckm.RSA_PKCS, NIL, wrapping_rsa(case), secret(message))
    assert unwrapped(Ckm.RSA_PKCS, NIL, key, sealed) == message


def test_rsa_and_aes_together_open_a_published_oaep_ciphertext() -> None:
    """The passing key is the message of an OAEP vector; what it wraps follows it."""
    (case,) = [case for case in cases("rsa_oaep_decrypt") if len(octets(case["message"])) == 16]
    digest, mask = hash_row(case["hash"]), mask_row(case["mask"])
    oaep = [int(digest.digest), int(mask.mask_generation), b""]
    key, value = unwrapping_rsa(case), os.urandom(40)
    sealed = octets(case["output"]) + aes_key_wrap_with_padding(octets(case["message"]), value)
    assert unwrapped(Ckm.RSA_AES_KEY_WRAP, packed(128, oaep), key, sealed) == value
    for bits in (128, 192, 256):
        parameter = packed(bits, oaep)
        made = wrapped(Ckm.RSA_AES_KEY_WRAP, parameter, wrapping_rsa(case), secret(value))
        assert unwrapped(Ckm.RSA_AES_KEY_WRAP, parameter, key, made) == value
    with pytest.raises(ConclaveError) as caught:
        unwrapped(Ckm.RSA_AES_KEY_WRAP, packed(256, oaep), key, sealed)
    assert caught.value.fault.ckr == Ckr.WRAPPED_KEY_INVALID


# ------------------------------------------------------------------ private keys


def private_key(kind: Ckk, *material: tuple[int, bytes]) -> Attributes:
    head = [(int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)), (int(Cka.KEY_TYPE), ulong(kind))]
    return build_object([*head, *READABLE, *material])


def rsa_target() -> Attributes:
    numbers = rsa.generate_private_key(65537, 2048).private_numbers()
    values = {
        Cka.MODULUS: numbers.public_numbers.n,
        Cka.PUBLIC_EXPONENT: numbers.public_numbers.e,
        Cka.PRIVATE_EXPONENT: numbers.d,
        Cka.PRIME_1: numbers.p,
        Cka.PRIME_2: numbers.q,
        Cka.EXPONENT_1: numbers.dmp1,
        Cka.EXPONENT_2: numbers.dmq1,
        Cka.COEFFICIENT: numbers.iqmp,
    }
    material = [(int(n), v.to_bytes((v.bit_length() + 7) // 8, "big")) for n, v in values.items()]
    return private_key(Ckk.RSA, *material)


def ec_target() -> Attributes:
    number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    value = (int(Cka.VALUE), number.to_bytes(32, "big"))
    return private_key(Ckk.EC, (int(Cka.EC_PARAMS), P256_PARAMS), value)


def edwards_target() -> Attributes:
    value = (int(Cka.VALUE), ed25519.Ed25519PrivateKey.generate().private_bytes_raw())
    return private_key(Ckk.EC_EDWARDS, (int(Cka.EC_PARAMS), ED25519_PARAMS), value)


@pytest.mark.parametrize("make", [rsa_target, ec_target, edwards_target])
@pytest.mark.parametrize("mechanism", [Ckm.AES_KEY_WRAP_KWP, Ckm.AES_CBC_PAD, Ckm.AES_GCM])
def test_a_private_key_comes_back_as_it_left(mechanism: Ckm, make: object) -> None:
    assert callable(make)
    target = make()
    parameter = {
        Ckm.AES_KEY_WRAP_KWP: NIL,
        Ckm.AES_CBC_PAD: msgspec.msgpack.encode(bytes(16)),
        Ckm.AES_GCM: packed(bytes(12), b"", 128),
    }[mechanism]
    key = wrapping_key(os.urandom(32))
    sealed = wrapped(mechanism, parameter, key, target)
    head = [(int(number), target[number]) for number in (Cka.CLASS, Cka.KEY_TYPE)]
    made = unwrap_key(mechanism, parameter, load_key(key), sealed, head, unwrapping=key)
    for number in {*RSA_PARTS.values(), Cka.VALUE, Cka.EC_PARAMS, Cka.EC_POINT} & set(target):
        assert made[number] == target[number]
    assert made[Cka.SENSITIVE] == TRUE
    assert made[Cka.EXTRACTABLE] == TRUE
    for number in (Cka.LOCAL, Cka.ALWAYS_SENSITIVE, Cka.NEVER_EXTRACTABLE):
        assert made[number] == FALSE
    assert made[Cka.KEY_GEN_MECHANISM] == ulong(UNAVAILABLE_INFORMATION)
    other = Ckk.EC if target[Cka.KEY_TYPE] == ulong(Ckk.RSA) else Ckk.RSA
    with pytest.raises(ConclaveError) as caught:
        head[1] = (int(Cka.KEY_TYPE), ulong(other))
        unwrap_key(mechanism, parameter, load_key(key), sealed, head, unwrapping=key)
    assert caught.value.fault.ckr == Ckr.WRAPPED_KEY_INVALID


# ------------------------------------------------------------------ rules


def test_a_key_leaves_only_as_its_attributes_allow() -> None:
    key, kwp = wrapping_key(os.urandom(32)), Ckm.AES_KEY_WRAP_KWP
    value = (int(Cka.VALUE), bytes(16))
    fixed = build_object([*SECRET, value, (int(Cka.EXTRACTABLE), FALSE)])
    assert refused_value(kwp, key, fixed, NIL) == Ckr.KEY_UNEXTRACTABLE
    hidden = build_object([*SECRET, value, (int(Cka.EXTRACTABLE), TRUE)])
    assert hidden[Cka.SENSITIVE] == TRUE
    assert wrapped(kwp, NIL, key, hidden)
    careful = secret(bytes(16), (int(Cka.WRAP_WITH_TRUSTED), TRUE))
    assert refused_value(kwp, key, careful, NIL) == Ckr.KEY_NOT_WRAPPABLE
    assert wrap_key(kwp, NIL, load_key(key), careful, wrapping={**key, Cka.TRUSTED: TRUE})
    (case, *_) = cases("rsa_oaep_decrypt")
    public = wrapping_rsa(case)
    assert refused_value(kwp, key, public, NIL) == Ckr.KEY_NOT_WRAPPABLE
    assert refused_value(Ckm.RSA_PKCS, public, ec_target(), NIL) == Ckr.KEY_NOT_WRAPPABLE


def test_a_wrapping_key_wraps_only_as_its_attributes_allow() -> None:
    head = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.AES))]
    idle = build_object([*head, (int(Cka.VALUE), bytes(16))])
    target = secret(bytes(16))
    kwp = Ckm.AES_KEY_WRAP_KWP
    assert refused_value(kwp, idle, target, NIL) == Ckr.KEY_FUNCTION_NOT_PERMITTED
    other = build_object([*SECRET, *WRAPS, (int(Cka.VALUE), bytes(16))])
    assert refused_value(kwp, other, target, NIL) == Ckr.WRAPPING_KEY_TYPE_INCONSISTENT
    key = wrapping_key(bytes(16))
    assert refused_value(Ckm.AES_ECB, key, target, NIL) == Ckr.MECHANISM_INVALID
    odd = secret(bytes(17))
    assert refused_value(Ckm.AES_KEY_WRAP, key, odd, NIL) == Ckr.KEY_SIZE_RANGE
    vector = msgspec.msgpack.encode(bytes(8))
    value = refused_value(Ckm.AES_KEY_WRAP, key, target, vector)
    assert value == Ckr.MECHANISM_PARAM_INVALID
    (case, *_) = cases("rsa_oaep_decrypt")
    long = secret(bytes(300))
    assert refused_value(Ckm.RSA_PKCS, wrapping_rsa(case), long, NIL) == Ckr.KEY_SIZE_RANGE


BAD_TEMPLATES = (
    ({Cka.VALUE: bytes(16)}, Ckr.TEMPLATE_INCONSISTENT),
    ({Cka.VALUE_LEN: ulong(32)}, Ckr.TEMPLATE_INCONSISTENT),
    ({Cka.LOCAL: TRUE}, Ckr.ATTRIBUTE_READ_ONLY),
    ({Cka.TRUSTED: TRUE}, Ckr.ATTRIBUTE_READ_ONLY),
    ({Cka.MODULUS: b"\1"}, Ckr.ATTRIBUTE_TYPE_INVALID),
    ({Cka.TOKEN: TRUE, Cka.PRIVATE: FALSE}, Ckr.ATTRIBUTE_VALUE_INVALID),
)


@pytest.mark.parametrize(("more", "value"), BAD_TEMPLATES)
def test_a_template_is_refused_before_or_after_it_opens(more: dict[Cka, bytes], value: Ckr) -> None:
    key = wrapping_key(bytes(16))
    sealed = wrapped(Ckm.AES_KEY_WRAP, NIL, key, secret(bytes(16)))
    template = [*SECRET, *((int(number), given) for number, given in more.items())]
    with pytest.raises(ConclaveError) as caught:
        unwrap_key(Ckm.AES_KEY_WRAP, NIL, load_key(key), sealed, template, unwrapping=key)
    assert caught.value.fault.ckr == value


@pytest.mark.parametrize(
    ("template", "data", "value"),
    [
        (SECRET, bytes(23), Ckr.WRAPPED_KEY_LEN_RANGE),
        (SECRET, bytes(24), Ckr.WRAPPED_KEY_INVALID),
        (SECRET[:1], bytes(24), Ckr.TEMPLATE_INCOMPLETE),
        (SECRET[1:], bytes(24), Ckr.TEMPLATE_INCOMPLETE),
    ],
)
def test_what_does_not_unwrap_is_told(
    template: list[tuple[int, bytes]], data: bytes, value: Ckr
) -> None:
    key = wrapping_key(bytes(16))
    with pytest.raises(ConclaveError) as caught:
        unwrap_key(Ckm.AES_KEY_WRAP, NIL, load_key(key), data, template, unwrapping=key)
    assert caught.value.fault.ckr == value


def test_a_key_of_the_wrong_size_is_no_key() -> None:
    key = wrapping_key(bytes(16))
    sealed = wrapped(Ckm.AES_KEY_WRAP_KWP, NIL, key, secret(b"nineteen bytes long"))
    template = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.AES))]
    with pytest.raises(ConclaveError) as caught:
        unwrap_key(Ckm.AES_KEY_WRAP_KWP, NIL, load_key(key), sealed, template, unwrapping=key)
    assert caught.value.fault.ckr == Ckr.WRAPPED_KEY_INVALID
    assert b"nineteen" not in str(caught.value).encode()
    other = secret(bytes(16), *WRAPS)
    with pytest.raises(ConclaveError) as caught:
        unwrap_key(Ckm.AES_KEY_WRAP_KWP, NIL, load_key(other), sealed, template, unwrapping=other)
    assert caught.value.fault.ckr == Ckr.UNWRAPPING_KEY_TYPE_INCONSISTENT
