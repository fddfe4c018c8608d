"""The mechanism table: what it advertises works, what is wrong is refused with the right CKR."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

import conclave
from conclave.crypto import mechanisms
from conclave.crypto.curves import CURVES, EDWARDS
from conclave.crypto.hashes import HASHES, PSS_MASKS, HashRow
from conclave.crypto.libcrypto import LoadedKey
from conclave.crypto.mechanism_page import mechanism_page
from conclave.crypto.mechanisms import MECHANISMS, ReadyKey, load_key
from conclave.crypto.standard import Cka, Ckf, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import FALSE, TRUE, Attributes, ulong
from conclave.keyring.templates import build_object

NIL = b"\xc0"
CURVE_PARAMS = {row.name: row.params for row in CURVES}


class Pair(NamedTuple):
    public: ReadyKey
    private: ReadyKey
    public_attributes: Attributes
    private_attributes: Attributes


def packed(*values: object) -> bytes:
    return msgspec.msgpack.encode(values)


def make_pair(mechanism: int, *template: tuple[int, bytes]) -> Pair:
    public, private = mechanisms.generate_key_pair(mechanism, NIL, template, [])
    return Pair(load_key(public), load_key(private), public, private)


@cache
def pair(name: str) -> Pair:
    if name.startswith("RSA-"):
        bits = ulong(int(name[4:]))
        return make_pair(Ckm.RSA_PKCS_KEY_PAIR_GEN, (Cka.MODULUS_BITS, bits))
    for row in EDWARDS:
        if name == row.name:
            return make_pair(Ckm.EC_EDWARDS_KEY_PAIR_GEN, (Cka.EC_PARAMS, row.params))
    return make_pair(Ckm.EC_KEY_PAIR_GEN, (Cka.EC_PARAMS, CURVE_PARAMS[name]))


def secret(kind: Ckk, length: int = 32, *template: tuple[int, bytes]) -> ReadyKey:
    head = [(Cka.CLASS, ulong(Cko.SECRET_KEY)), (Cka.KEY_TYPE, ulong(kind))]
    return load_key(build_object([*head, (Cka.VALUE, os.urandom(length)), *template]))


def refusal(call: Callable[..., object], *arguments: object) -> Ckr:
    with pytest.raises(ConclaveError) as caught:
        call(*arguments)
    assert caught.value.message.endswith(".")
    return caught.value.fault.ckr


SIGNERS: list[tuple[str, Ckm, bytes, int | None]] = [
    ("RSA-2048", Ckm.RSA_PKCS, NIL, 51),
    ("RSA-2048", Ckm.RSA_X_509, NIL, 100),
    *(("RSA-2048", row.rsa_pkcs, NIL, None) for row in HASHES),
    *(
        (
            "RSA-2048",
            row.rsa_pss,
            packed(int(row.hash_row.digest), int(row.mask_generation), row.hash_row.digest_bytes),
            None,
        )
        for row in PSS_MASKS
    ),
    *(
        (
            "RSA-2048",
            Ckm.RSA_PKCS_PSS,
            packed(int(row.hash_row.digest), int(row.mask_generation), 0),
            row.hash_row.digest_bytes,
        )
        for row in PSS_MASKS
    ),
    *((name, Ckm.ECDSA, NIL, 32) for name in CURVE_PARAMS),
    *((name, row.ecdsa, NIL, None) for name in CURVE_PARAMS for row in HASHES),
    ("Ed25519", Ckm.EDDSA, NIL, None),
    ("Ed448", Ckm.EDDSA, NIL, None),
]


@pytest.mark.parametrize(
    ("name", "mechanism", "parameter", "length"),
    SIGNERS,
    ids=[f"{name}-{mechanism.name}" for name, mechanism, *_ in SIGNERS],
)
def test_what_the_private_key_signs_the_public_key_verifies(
    name: str, mechanism: Ckm, parameter: bytes, length: int | None
) -> None:
    public, private, *_ = pair(name)
    data = b"\x01" + os.urandom(200 if length is None else length - 1)
    signature = mechanisms.sign(mechanism, parameter, private, data)
    check = (mechanisms.verify, mechanism, parameter, public)
    mechanisms.verify(mechanism, parameter, public, data, signature)
    changed = bytes((data[0] ^ 1, *data[1:]))
    assert refusal(*check, changed, signature) == Ckr.SIGNATURE_INVALID
    flipped = bytes((*signature[:-1], signature[-1] ^ 1))
    assert refusal(*check, data, flipped) == Ckr.SIGNATURE_INVALID
    assert refusal(*check, data, signature[:-1]) == Ckr.SIGNATURE_LEN_RANGE
    assert refusal(*check, data, signature + b"\0") == Ckr.SIGNATURE_LEN_RANGE


@pytest.mark.parametrize("row", HASHES, ids=lambda row: row.name)
def test_a_digest_in_place_of_the_data_gives_the_same_signature(row: HashRow) -> None:
    data = os.urandom(300)
    digest = hashlib.new(row.name, data).digest()
    pss = [
        ("RSA-2048", mask.rsa_pss, packed(int(row.digest), int(mask.mask_generation), 20))
        for mask in PSS_MASKS
        if mask.hash_row is row
    ]
    for name, mechanism, parameter in (
        *pss,
        ("RSA-2048", row.rsa_pkcs, NIL),
        ("P-256", row.ecdsa, NIL),
        ("P-521", row.ecdsa, NIL),
    ):
        public, private, *_ = pair(name)
        signature = mechanisms.sign(mechanism, parameter, private, digest, True)
        mechanisms.verify(mechanism, parameter, public, data, signature)
        signature = mechanisms.sign(mechanism, parameter, private, data)
        mechanisms.verify(mechanism, parameter, public, digest, signature, True)
        short = (mechanism, parameter, private, digest[:-1], True)
        assert refusal(mechanisms.sign, *short) == Ckr.DATA_LEN_RANGE


def test_a_digest_is_refused_where_nothing_is_hashed() -> None:
    for name, mechanism in (("RSA-2048", Ckm.RSA_PKCS), ("Ed25519", Ckm.EDDSA)):
        arguments = (mechanism, NIL, pair(name).private, bytes(32), True)
        assert refusal(mechanisms.sign, *arguments) == Ckr.MECHANISM_PARAM_INVALID


@pytest.mark.parametrize("name", CURVE_PARAMS)
@pytest.mark.parametrize("length", [1, 20, 31, 32, 33, 48, 64, 65, 66, 67, 200])
def test_ecdsa_counts_the_leftmost_bits_of_any_digest(name: str, length: int) -> None:
    public, private, attributes, _ = pair(name)
    digest = os.urandom(length)
    signature = mechanisms.sign(Ckm.ECDSA, NIL, private, digest)
    assert len(signature) == 2 * private.size_bytes
    mechanisms.verify(Ckm.ECDSA, NIL, public, digest, signature)
    if length <= 64:
        # The same number, longer by zeros in front, is the same digest while it fits the order.
        known = load_der_public_key(attributes[Cka.PUBLIC_KEY_INFO])
        assert isinstance(known, ec.EllipticCurvePublicKey)
        size = min(64, private.size_bytes)
        hash_size = {
            28: hashes.SHA224(),
            32: hashes.SHA256(),
            48: hashes.SHA384(),
            64: hashes.SHA512(),
        }[size]
        middle = private.size_bytes
        r, s = (int.from_bytes(part) for part in (signature[:middle], signature[middle:]))
        known.verify(
            utils.encode_dss_signature(r, s),
            digest[:size].rjust(size, b"\0"),
            ec.ECDSA(utils.Prehashed(hash_size)),
        )


def test_data_that_do_not_fit_are_refused() -> None:
    rsa_key, curve = pair("RSA-2048"), pair("P-256")
    pss = packed(int(Ckm.SHA256), 2, 32)
    oaep = packed(int(Ckm.SHA256), 2, b"")
    long = Ckr.DATA_LEN_RANGE
    assert refusal(mechanisms.sign, Ckm.RSA_PKCS, NIL, rsa_key.private, bytes(246)) == long
    assert refusal(mechanisms.sign, Ckm.RSA_PKCS, NIL, rsa_key.private, b"") == long
    assert refusal(mechanisms.sign, Ckm.RSA_PKCS_PSS, pss, rsa_key.private, bytes(31)) == long
    assert refusal(mechanisms.sign, Ckm.ECDSA, NIL, curve.private, b"") == long
    assert refusal(mechanisms.encrypt, Ckm.RSA_PKCS, NIL, rsa_key.public, bytes(246)) == long
    assert refusal(mechanisms.encrypt, Ckm.RSA_PKCS_OAEP, oaep, rsa_key.public, bytes(191)) == long
    assert refusal(mechanisms.sign, Ckm.RSA_X_509, NIL, rsa_key.private, bytes(257)) == long
    above = b"\xff" * 256
    raw = (Ckm.RSA_X_509, NIL, rsa_key.private, above)
    assert refusal(mechanisms.sign, *raw) == Ckr.DATA_INVALID
    assert refusal(mechanisms.decrypt, *raw) == Ckr.ENCRYPTED_DATA_INVALID


@pytest.mark.parametrize("size", [2048, 3072, 4096])
def test_rsa_of_every_size_encrypts_and_decrypts(size: int) -> None:
    public, private, *_ = pair(f"RSA-{size}")
    oaep = packed(int(Ckm.SHA256), 1, b"label")
    for mechanism, parameter in ((Ckm.RSA_PKCS, NIL), (Ckm.RSA_PKCS_OAEP, oaep)):
        ciphertext = mechanisms.encrypt(mechanism, parameter, public, b"secret")
        assert len(ciphertext) == size // 8
        assert mechanisms.decrypt(mechanism, parameter, private, ciphertext) == b"secret"
        short = (mechanism, parameter, private, ciphertext[:-1])
        assert refusal(mechanisms.decrypt, *short) == Ckr.ENCRYPTED_DATA_LEN_RANGE
    other = packed(int(Ckm.SHA256), 1, b"another label")
    wrong = (Ckm.RSA_PKCS_OAEP, other, private, ciphertext)
    assert refusal(mechanisms.decrypt, *wrong) == Ckr.ENCRYPTED_DATA_INVALID


def test_raw_rsa_keeps_leading_zeros() -> None:
    public, private, *_ = pair("RSA-2048")
    ciphertext = mechanisms.encrypt(Ckm.RSA_X_509, NIL, public, b"\x05")
    assert mechanisms.decrypt(Ckm.RSA_X_509, NIL, private, ciphertext) == b"\x05".rjust(256, b"\0")
    numbers = private.handle.public_key().public_numbers()
    assert int.from_bytes(ciphertext) == pow(5, numbers.e, numbers.n)


def test_rule_l3_the_raw_private_operation_is_libcryptos() -> None:
    public, private, *_ = pair("RSA-2048")
    data = b"\x07".rjust(256, b"\0")
    signature = mechanisms.sign(Ckm.RSA_X_509, NIL, private, data)
    assert isinstance(private.extra, LoadedKey)
    numbers = public.handle.public_numbers()
    assert pow(int.from_bytes(signature), numbers.e, numbers.n) == 7


def calls_that_raise_to_a_power(source: str) -> list[int]:
    """Return the lines with pow of three arguments: only modular arithmetic needs the third."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", "")) == "pow"
        and len(node.args) + len(node.keywords) > 2
    ]


def test_rule_l3_no_line_of_ours_does_modular_arithmetic() -> None:
    assert calls_that_raise_to_a_power("m = pow(c, d, n)\nx = pow(2, 3)") == [1]
    sources = sorted(Path(conclave.__file__).parent.rglob("*.py"))
    assert len(sources) > 1
    found = {str(path): calls_that_raise_to_a_power(path.read_text("utf-8")) for path in sources}
    assert [path for path, lines in found.items() if lines] == []


def test_pss_and_pkcs_agree_with_another_implementation() -> None:
    _, private, attributes, _ = pair("RSA-2048")
    known = load_der_public_key(attributes[Cka.PUBLIC_KEY_INFO])
    assert isinstance(known, rsa.RSAPublicKey)
    signature = mechanisms.sign(Ckm.SHA256_RSA_PKCS_PSS, packed(0x250, 2, 32), private, b"data")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    known.verify(signature, b"data", pss, hashes.SHA256())
    sha256 = hashes.SHA256()
    ciphertext = known.encrypt(b"plain", padding.OAEP(padding.MGF1(sha256), sha256, b"x"))
    oaep = packed(int(Ckm.SHA256), 2, b"x")
    assert mechanisms.decrypt(Ckm.RSA_PKCS_OAEP, oaep, private, ciphertext) == b"plain"


# ------------------------------------------------------------------ AES and MACs


@pytest.mark.parametrize("size", [16, 24, 32])
@pytest.mark.parametrize("tag_bits", [96, 104, 112, 120, 128])
def test_gcm_round_trip_and_every_change_noticed(size: int, tag_bits: int) -> None:
    key = secret(Ckk.AES, size)
    for nonce in (os.urandom(8), os.urandom(12), os.urandom(128)):
        parameter = packed(nonce, b"header", tag_bits)
        sealed = mechanisms.encrypt(Ckm.AES_GCM, parameter, key, b"plaintext")
        assert len(sealed) == 9 + tag_bits // 8
        assert mechanisms.decrypt(Ckm.AES_GCM, parameter, key, sealed) == b"plaintext"
        for wrong, data in (
            (packed(nonce, b"Header", tag_bits), sealed),
            (packed(bytes((nonce[0] ^ 1, *nonce[1:])), b"header", tag_bits), sealed),
            (parameter, bytes((sealed[0] ^ 1, *sealed[1:]))),
            (parameter, bytes((*sealed[:-1], sealed[-1] ^ 1))),
        ):
            arguments = (Ckm.AES_GCM, wrong, key, data)
            assert refusal(mechanisms.decrypt, *arguments) == Ckr.ENCRYPTED_DATA_INVALID
        short = (Ckm.AES_GCM, parameter, key, sealed[: tag_bits // 8 - 1])
        assert refusal(mechanisms.decrypt, *short) == Ckr.ENCRYPTED_DATA_LEN_RANGE


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 1000])
def test_cbc_pad_takes_any_length(length: int) -> None:
    key, parameter = secret(Ckk.AES), msgspec.msgpack.encode(os.urandom(16))
    data = os.urandom(length)
    sealed = mechanisms.encrypt(Ckm.AES_CBC_PAD, parameter, key, data)
    assert len(sealed) == 16 * (length // 16 + 1)
    assert mechanisms.decrypt(Ckm.AES_CBC_PAD, parameter, key, sealed) == data
    for short in (b"", sealed[:-1]):
        arguments = (Ckm.AES_CBC_PAD, parameter, key, short)
        assert refusal(mechanisms.decrypt, *arguments) == Ckr.ENCRYPTED_DATA_LEN_RANGE


def test_a_wrong_padding_is_invalid() -> None:
    key, parameter = secret(Ckk.AES), msgspec.msgpack.encode(bytes(16))
    sealed = mechanisms.encrypt(Ckm.AES_CBC, parameter, key, bytes(16))
    arguments = (Ckm.AES_CBC_PAD, parameter, key, sealed)
    assert refusal(mechanisms.decrypt, *arguments) == Ckr.ENCRYPTED_DATA_INVALID


@pytest.mark.parametrize("mechanism", [Ckm.AES_ECB, Ckm.AES_CBC])
def test_block_modes_refuse_parts_of_blocks(mechanism: Ckm) -> None:
    key = secret(Ckk.AES)
    parameter = NIL if mechanism == Ckm.AES_ECB else msgspec.msgpack.encode(bytes(16))
    arguments = (mechanism, parameter, key, bytes(17))
    assert refusal(mechanisms.encrypt, *arguments) == Ckr.DATA_LEN_RANGE
    assert refusal(mechanisms.decrypt, *arguments) == Ckr.ENCRYPTED_DATA_LEN_RANGE


def test_ctr_never_overflows_its_counter() -> None:
    key = secret(Ckk.AES)
    last_two = packed(8, bytes(15) + b"\xfe")
    assert len(mechanisms.encrypt(Ckm.AES_CTR, last_two, key, bytes(32))) == 32
    arguments = (Ckm.AES_CTR, last_two, key, bytes(33))
    assert refusal(mechanisms.encrypt, *arguments) == Ckr.DATA_LEN_RANGE
    assert refusal(mechanisms.decrypt, *arguments) == Ckr.ENCRYPTED_DATA_LEN_RANGE


def test_sp_800_38a_counter_mode() -> None:
    # NIST SP 800-38A, F.5.1.
    head = [(Cka.CLASS, ulong(Cko.SECRET_KEY)), (Cka.KEY_TYPE, ulong(Ckk.AES))]
    value = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    key = load_key(build_object([*head, (Cka.VALUE, value)]))
    parameter = packed(128, bytes(range(0xF0, 0x100)))
    plaintext = bytes.fromhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51")
    ciphertext = mechanisms.encrypt(Ckm.AES_CTR, parameter, key, plaintext)
    assert ciphertext.hex() == "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"


@pytest.mark.parametrize("row", HASHES, ids=lambda row: row.name)
def test_macs_of_wrong_value_length_or_parameter_are_refused(row: HashRow) -> None:
    key = secret(Ckk.GENERIC_SECRET)
    mac = mechanisms.sign(row.hmac, NIL, key, b"data")
    check = (mechanisms.verify, row.hmac, NIL, key)
    assert refusal(*check, b"Data", mac) == Ckr.SIGNATURE_INVALID
    assert refusal(*check, b"data", mac[:-1]) == Ckr.SIGNATURE_LEN_RANGE
    for length in (0, -1, row.digest_bytes + 1):
        arguments = (row.hmac_general, msgspec.msgpack.encode(length), key, b"data")
        assert refusal(mechanisms.sign, *arguments) == Ckr.MECHANISM_PARAM_INVALID
    general = (mechanisms.verify, row.hmac_general, msgspec.msgpack.encode(8), key, b"data")
    mechanisms.verify(*general[1:], mac[:8])
    assert refusal(*general, bytes(8)) == Ckr.SIGNATURE_INVALID
    assert refusal(*general, mac[:9]) == Ckr.SIGNATURE_LEN_RANGE


# ------------------------------------------------------------------ admission


WRONG_PARAMETERS = [
    (Ckm.AES_ECB, b"\x01"),
    (Ckm.AES_CBC, NIL),
    (Ckm.AES_CBC, msgspec.msgpack.encode(bytes(15))),
    (Ckm.AES_CTR, packed(0, bytes(16))),
    (Ckm.AES_CTR, packed(129, bytes(16))),
    (Ckm.AES_CTR, packed(32, bytes(15))),
    (Ckm.AES_GCM, NIL),
    (Ckm.AES_GCM, b""),
    (Ckm.AES_GCM, packed(bytes(7), b"", 128)),
    (Ckm.AES_GCM, packed(bytes(129), b"", 128)),
    (Ckm.AES_GCM, packed(bytes(12), b"", 64)),
    (Ckm.AES_GCM, packed(bytes(12), b"", 127)),
    (Ckm.AES_GCM, packed(bytes(12), b"")),
]


@pytest.mark.parametrize(("mechanism", "parameter"), WRONG_PARAMETERS)
def test_wrong_parameters_of_ciphers(mechanism: Ckm, parameter: bytes) -> None:
    arguments = (mechanism, parameter, secret(Ckk.AES), bytes(16))
    assert refusal(mechanisms.encrypt, *arguments) == Ckr.MECHANISM_PARAM_INVALID


@pytest.mark.parametrize(
    ("mechanism", "parameter"),
    [
        (Ckm.SHA256_RSA_PKCS, packed(1)),
        (Ckm.SHA256_RSA_PKCS_PSS, NIL),
        (Ckm.SHA256_RSA_PKCS_PSS, packed(int(Ckm.SHA512), 2, 32)),
        (Ckm.SHA256_RSA_PKCS_PSS, packed(int(Ckm.SHA256), 2, 223)),
        (Ckm.SHA256_RSA_PKCS_PSS, packed(int(Ckm.SHA256), 2, -1)),
        (Ckm.SHA256_RSA_PKCS_PSS, packed(int(Ckm.SHA256), 9, 32)),
        (Ckm.SHA256_RSA_PKCS_PSS, packed(int(Ckm.SHA256), 0xA, 32)),
        (Ckm.SHA3_256_RSA_PKCS_PSS, packed(int(Ckm.SHA3_256), 2, 32)),
        (Ckm.SHA3_256_RSA_PKCS_PSS, packed(int(Ckm.SHA3_256), 6, 32)),
        (Ckm.SHA3_256_RSA_PKCS_PSS, packed(int(Ckm.SHA3_512), 9, 32)),
        (Ckm.SHA256_RSA_PKCS_PSS, packed(1, 2, 32)),
    ],
)
def test_wrong_parameters_of_rsa(mechanism: Ckm, parameter: bytes) -> None:
    arguments = (mechanism, parameter, pair("RSA-2048").private, bytes(32))
    assert refusal(mechanisms.sign, *arguments) == Ckr.MECHANISM_PARAM_INVALID


def test_keys_that_do_not_fit_the_mechanism_are_refused() -> None:
    rsa_key, aes = pair("RSA-2048"), secret(Ckk.AES)
    no_sign = secret(Ckk.GENERIC_SECRET, 32, (Cka.SIGN, FALSE))
    only_sha512 = secret(Ckk.GENERIC_SECRET, 32, (Cka.ALLOWED_MECHANISMS, ulong(Ckm.SHA512_HMAC)))
    sign, inconsistent = mechanisms.sign, Ckr.KEY_TYPE_INCONSISTENT
    forbidden = Ckr.KEY_FUNCTION_NOT_PERMITTED
    assert refusal(sign, Ckm.ECDSA, NIL, rsa_key.private, bytes(32)) == inconsistent
    assert refusal(sign, Ckm.SHA256_HMAC, NIL, aes, b"") == inconsistent
    assert refusal(sign, Ckm.SHA256_HMAC, NIL, secret(Ckk.SHA_1_HMAC), b"") == inconsistent
    assert refusal(sign, Ckm.SHA256_RSA_PKCS, NIL, rsa_key.public, b"") == forbidden
    assert refusal(sign, Ckm.SHA256_HMAC, NIL, no_sign, b"") == forbidden
    assert refusal(sign, Ckm.SHA256_HMAC, NIL, only_sha512, b"") == Ckr.MECHANISM_INVALID
    assert mechanisms.sign(Ckm.SHA512_HMAC, NIL, only_sha512, b"")
    arguments = (Ckm.SHA256_RSA_PKCS, NIL, rsa_key.private, b"", bytes(256))
    assert refusal(mechanisms.verify, *arguments) == forbidden


def test_unknown_and_unfit_mechanisms_are_invalid() -> None:
    key = pair("RSA-2048").private
    invalid = Ckr.MECHANISM_INVALID
    assert refusal(mechanisms.sign, 0x7FFFFFFF, NIL, key, b"") == invalid
    assert refusal(mechanisms.sign, Ckm.AES_GCM, NIL, key, b"") == invalid
    assert refusal(mechanisms.encrypt, Ckm.ECDSA, NIL, key, b"") == invalid
    assert refusal(mechanisms.decrypt, Ckm.SHA256, NIL, key, b"") == invalid
    assert refusal(mechanisms.verify, Ckm.SHA256, NIL, key, b"", b"") == invalid
    assert refusal(mechanisms.generate_key, Ckm.EC_KEY_PAIR_GEN, NIL, []) == invalid
    assert refusal(mechanisms.generate_key_pair, Ckm.AES_KEY_GEN, NIL, [], []) == invalid


# ------------------------------------------------------------------ the table itself


def test_the_table_is_whole_and_its_infos_follow() -> None:
    infos = {info.mechanism: info for info in mechanisms.mechanism_infos()}
    assert set(infos) == set(Ckm)
    for number, row in MECHANISMS.items():
        assert row.number == number
        assert infos[number].flags == row.flags != 0
        assert row.min_key_size <= row.max_key_size
        protects, reads = Ckf.SIGN | Ckf.ENCRYPT, Ckf.VERIFY | Ckf.DECRYPT
        if row.legacy:
            assert not row.flags & protects
            assert row.flags & reads
            continue
        assert bool(row.flags & Ckf.SIGN) == bool(row.flags & Ckf.VERIFY)
        assert bool(row.flags & Ckf.ENCRYPT) == bool(row.flags & Ckf.DECRYPT)
    assert infos[Ckm.SHA256].flags == Ckf.DIGEST
    assert infos[Ckm.EC_KEY_PAIR_GEN].flags == 0x01910000
    assert not any(info.flags & 1 for info in infos.values()), "CKF_HW is never set"


def test_the_page_of_mechanisms_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "mechanisms.md"
    assert page.read_text(encoding="utf-8") == mechanism_page()


def test_a_ready_key_shows_nothing() -> None:
    key = secret(Ckk.GENERIC_SECRET)
    assert key.handle.hex() not in repr(key)
    assert str(key.handle) not in repr(key)


def test_only_slow_mechanisms_take_long() -> None:
    assert mechanisms.takes_long(Ckm.RSA_PKCS_KEY_PAIR_GEN)
    assert not mechanisms.takes_long(Ckm.SHA256_RSA_PKCS)
    assert not mechanisms.takes_long(0x7FFFFFFF)


def test_extra_material_is_never_in_the_public_half() -> None:
    for name in ("RSA-2048", "P-256", "Ed25519"):
        made = pair(name)
        assert Cka.VALUE not in made.public_attributes
        assert Cka.PRIME_1 not in made.public_attributes
        assert made.private_attributes[Cka.SENSITIVE] == TRUE
