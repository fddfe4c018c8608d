"""Derivation by published vectors, and how protected what comes out of it is."""

from __future__ import annotations

import hashlib
import os
from typing import Literal

import msgspec
import pytest

from conclave.crypto.curves import CURVES, MONTGOMERY, octet_string
from conclave.crypto.derivation import derive_key
from conclave.crypto.derive_mechanisms import stretched
from conclave.crypto.hashes import HASHES
from conclave.crypto.standard import UNAVAILABLE_INFORMATION, Cka, Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import FALSE, TRUE, Attributes, ulong
from conclave.keyring.templates import build_object
from tests.support.crypto_vectors import Case, each, hash_row, octets, packed

BASE, OTHER = b"base", b"other"
READABLE = [(int(Cka.SENSITIVE), FALSE), (int(Cka.EXTRACTABLE), TRUE)]
DERIVES = (int(Cka.DERIVE), TRUE)
KDFS = {"sha1": 2, "sha224": 5, "sha256": 6, "sha384": 7, "sha512": 8}
NULL_KDF = 1
SALT_NULL, SALT_DATA, SALT_KEY = 1, 2, 4

Pair = tuple[int, bytes]


def length(number: int) -> Pair:
    return int(Cka.VALUE_LEN), ulong(number)


def secret(value: bytes, *more: Pair) -> Attributes:
    head = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET))]
    return build_object([*head, DERIVES, (int(Cka.VALUE), value), *more])


def curve_key(kind: Ckk, params: bytes, value: bytes) -> Attributes:
    head = [(int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)), (int(Cka.KEY_TYPE), ulong(kind))]
    material = [(int(Cka.EC_PARAMS), params), (int(Cka.VALUE), value)]
    return build_object([*head, DERIVES, *material])


def derived(
    mechanism: Ckm,
    parameter: bytes,
    base: Attributes,
    *template: Pair,
    other: Attributes | None = None,
) -> Attributes:
    keys = {BASE: base, OTHER: other or {}}
    return derive_key(mechanism, parameter, keys.__getitem__, BASE, template)


def value(mechanism: Ckm, parameter: bytes, base: Attributes, *template: Pair) -> bytes:
    return derived(mechanism, parameter, base, *READABLE, *template)[Cka.VALUE]


def refused_value(
    mechanism: Ckm,
    parameter: bytes,
    base: Attributes,
    *template: Pair,
    other: Attributes | None = None,
) -> int:
    with pytest.raises(ConclaveError) as caught:
        derived(mechanism, parameter, base, *template, other=other)
    return caught.value.fault.ckr


# ------------------------------------------------------------------ ECDH


@each("ecdh")
@pytest.mark.parametrize("mechanism", [Ckm.ECDH1_DERIVE, Ckm.ECDH1_COFACTOR_DERIVE])
def test_ecdh_on_prime_curves(case: Case, mechanism: Ckm) -> None:
    (row,) = [row for row in CURVES if row.name == case["curve"]]
    x, y = (octets(case[name]).lstrip(b"\0").rjust(row.order_bytes, b"\0") for name in ("x", "y"))
    base = curve_key(Ckk.EC, row.params, octets(case["private"]))
    for point in (b"\x04" + x + y, octet_string(b"\x04" + x + y)):
        parameter = packed(NULL_KDF, b"", point)
        if case["secret"] == "FAIL":
            wrong = refused_value(mechanism, parameter, base)
            assert wrong == Ckr.MECHANISM_PARAM_INVALID
            continue
        whole = octets(case["secret"])
        assert value(mechanism, parameter, base) == whole
        # The standard cuts at the leading end.
        assert value(mechanism, parameter, base, length(16)) == whole[-16:]
        for name, kdf in KDFS.items():
            made = value(mechanism, packed(kdf, b"shared", point), base)
            first = whole + (1).to_bytes(4, "big") + b"shared"
            assert made == hashlib.new(name, first).digest()


@each("x25519_x448")
def test_ecdh_on_montgomery_curves(case: Case) -> None:
    (row,) = [row for row in MONTGOMERY if row.name == case["curve"]]
    base = curve_key(Ckk.EC_MONTGOMERY, row.params, octets(case["private"]))
    parameter = packed(NULL_KDF, b"", octets(case["public"]))
    assert value(Ckm.ECDH1_DERIVE, parameter, base) == octets(case["secret"])
    low_order = packed(NULL_KDF, b"", bytes(row.key_bytes))
    wrong = refused_value(Ckm.ECDH1_DERIVE, low_order, base)
    assert wrong == Ckr.MECHANISM_PARAM_INVALID


@each("x963_kdf")
def test_the_kdf_of_x963(case: Case) -> None:
    wanted = octets(case["derived"])
    shared = octets(case["shared"])
    made = stretched(KDFS[case["hash"]], octets(case["secret"]), shared, len(wanted))
    assert made == wanted


@pytest.mark.parametrize("kdf", [3, 4, 9, *range(0xA, 0xF), *range(0x13, 0x17), 0x17])
def test_a_kdf_without_published_vectors_is_not_offered(kdf: int) -> None:
    (row, *_) = [row for row in CURVES if row.name == "P-256"]
    base = curve_key(Ckk.EC, row.params, os.urandom(31))
    parameter = packed(kdf, b"", base[Cka.EC_POINT])
    assert refused_value(Ckm.ECDH1_DERIVE, parameter, base) == Ckr.MECHANISM_PARAM_INVALID


def test_what_ecdh_does_not_take_is_told() -> None:
    (row, *_) = [row for row in CURVES if row.name == "P-256"]
    base = curve_key(Ckk.EC, row.params, os.urandom(31))
    point = base[Cka.EC_POINT]
    ecdh, invalid = Ckm.ECDH1_DERIVE, Ckr.MECHANISM_PARAM_INVALID
    for parameter in (packed(3, b"", point), packed(NULL_KDF, b"x", point), packed(NULL_KDF)):
        assert refused_value(ecdh, parameter, base) == invalid
    assert refused_value(ecdh, packed(NULL_KDF, b"", point), base, length(33)) == Ckr.KEY_SIZE_RANGE
    head = [(int(Cka.CLASS), ulong(Cko.PUBLIC_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.EC))]
    material = [(int(Cka.EC_PARAMS), row.params), (int(Cka.EC_POINT), point)]
    public = build_object([*head, DERIVES, *material])
    parameter = packed(NULL_KDF, b"", point)
    assert refused_value(ecdh, parameter, public) == Ckr.KEY_TYPE_INCONSISTENT
    assert refused_value(ecdh, parameter, secret(bytes(32))) == Ckr.KEY_TYPE_INCONSISTENT


# ------------------------------------------------------------------ HKDF


def hkdf(case: Case, *, extract: bool, expand: bool, kind: int, salt: bytes) -> bytes:
    digest = int(hash_row(case["hash"]).digest)
    return packed(extract, expand, digest, kind, octets(case["info"]), salt)


@each("hkdf")
def test_hkdf(case: Case) -> None:
    salt, wanted = octets(case["salt"]), octets(case["derived"])
    kind = SALT_DATA if salt else SALT_NULL
    base, size = secret(octets(case["secret"])), length(len(wanted))
    both = hkdf(case, extract=True, expand=True, kind=kind, salt=salt)
    assert value(Ckm.HKDF_DERIVE, both, base, size) == wanted
    first = hkdf(case, extract=True, expand=False, kind=kind, salt=salt)
    assert value(Ckm.HKDF_DERIVE, first, base) == octets(case["prk"])
    second = hkdf(case, extract=False, expand=True, kind=SALT_NULL, salt=b"")
    assert value(Ckm.HKDF_DERIVE, second, secret(octets(case["prk"])), size) == wanted
    data = derived(Ckm.HKDF_DATA, both, base, size)
    assert data[Cka.CLASS] == ulong(Cko.DATA)
    assert data[Cka.VALUE] == wanted
    assert Cka.VALUE_LEN not in data
    if salt:
        of_key = hkdf(case, extract=True, expand=True, kind=SALT_KEY, salt=OTHER)
        made = derived(Ckm.HKDF_DERIVE, of_key, base, *READABLE, size, other=secret(salt))
        assert made[Cka.VALUE] == wanted


@pytest.mark.parametrize("name", ["sha3_224", "sha3_256", "sha3_384", "sha3_512"])
def test_no_key_is_derived_with_sha3_that_has_no_published_vectors(name: str) -> None:
    row, base = hash_row(name), secret(bytes(32))
    hkdf_choice = packed(True, True, int(row.digest), SALT_DATA, b"info", b"salt")
    counter = packed(int(row.hmac), [[COUNTER, b"", 32, False, 0]])
    iterated = [[COUNTER, b"", 0, False, 0]]
    for mechanism, parameter in (
        (Ckm.HKDF_DERIVE, hkdf_choice),
        (Ckm.SP800_108_COUNTER_KDF, counter),
        (Ckm.SP800_108_FEEDBACK_KDF, packed(int(row.hmac), iterated, b"")),
        (Ckm.SP800_108_DOUBLE_PIPELINE_KDF, packed(int(row.hmac), iterated)),
    ):
        wrong = refused_value(mechanism, parameter, base, length(32))
        assert wrong == Ckr.MECHANISM_PARAM_INVALID, mechanism


@pytest.mark.parametrize(
    ("parameter", "template", "ckr"),
    [
        ((True, True, int(Ckm.SHA256), SALT_NULL, b"", b""), [], Ckr.TEMPLATE_INCOMPLETE),
        ((False, False, int(Ckm.SHA256), SALT_NULL, b"", b""), [], Ckr.MECHANISM_PARAM_INVALID),
        ((True, True, int(Ckm.SHA256_HMAC), 1, b"", b""), [], Ckr.MECHANISM_PARAM_INVALID),
        ((True, True, int(Ckm.SHA256), 3, b"", b""), [], Ckr.MECHANISM_PARAM_INVALID),
        ((True, False, int(Ckm.SHA256), 1, b"", b""), [length(33)], Ckr.KEY_SIZE_RANGE),
        ((True, True, int(Ckm.SHA256), 1, b"", b""), [length(513)], Ckr.KEY_SIZE_RANGE),
        ((True, True, int(Ckm.SHA256), 1, b"", b""), [length(0)], Ckr.KEY_SIZE_RANGE),
    ],
)
def test_what_hkdf_does_not_take_is_told(
    parameter: tuple[object, ...], template: list[Pair], ckr: Ckr
) -> None:
    base = secret(bytes(32))
    assert refused_value(Ckm.HKDF_DERIVE, packed(*parameter), base, *template) == ckr


# ------------------------------------------------------------------ SP 800-108

COUNTER, LENGTH, OCTETS = 1, 3, 4
PRFS = {f"HMAC_{row.name.upper()}": int(row.hmac) for row in HASHES}


def counter_base(case: Case) -> Attributes:
    if case["prf"].startswith("HMAC"):
        return secret(octets(case["key"]))
    head = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.AES))]
    return build_object([*head, DERIVES, (int(Cka.VALUE), octets(case["key"]))])


@each("counter_kdf")
def test_the_counter_kdf(case: Case) -> None:
    prf = PRFS.get(case["prf"], int(Ckm.AES_CMAC))
    before, after = ([OCTETS, octets(case[name]), 0, False, 0] for name in ("before", "after"))
    parameter = packed(prf, [before, [COUNTER, b"", int(case["bits"]), False, 0], after])
    wanted = octets(case["derived"])
    base, size = counter_base(case), length(len(wanted))
    assert value(Ckm.SP800_108_COUNTER_KDF, parameter, base, size) == wanted


@pytest.mark.parametrize(
    ("method", "order", "bits"), [(1, "big", 160), (1, "little", 160), (2, "big", 256)]
)
def test_the_counter_kdf_writes_lengths(
    method: int, order: Literal["big", "little"], bits: int
) -> None:
    kdf, base = Ckm.SP800_108_COUNTER_KDF, secret(bytes(32))
    counter = [COUNTER, b"", 32, False, 0]
    parts = [counter, [LENGTH, b"", 32, order == "little", method]]
    written = [counter, [OCTETS, bits.to_bytes(4, order), 0, False, 0]]
    made = value(kdf, packed(int(Ckm.SHA256_HMAC), parts), base, length(20))
    assert made == value(kdf, packed(int(Ckm.SHA256_HMAC), written), base, length(20))


@pytest.mark.parametrize(
    ("prf", "parts", "ckr"),
    [
        (Ckm.SHA256, [[COUNTER, b"", 32, False, 0]], Ckr.MECHANISM_PARAM_INVALID),
        (Ckm.SHA256_HMAC, [], Ckr.MECHANISM_PARAM_INVALID),
        (Ckm.SHA256_HMAC, [[COUNTER, b"", 32, False, 0]] * 2, Ckr.MECHANISM_PARAM_INVALID),
        (Ckm.SHA256_HMAC, [[COUNTER, b"", 12, False, 0]], Ckr.MECHANISM_PARAM_INVALID),
        (Ckm.SHA256_HMAC, [[COUNTER, b"", 32, True, 0]], Ckr.MECHANISM_PARAM_INVALID),
        (
            Ckm.SHA256_HMAC,
            [[COUNTER, b"", 32, False, 0], [LENGTH, b"", 8, False, 1]],
            Ckr.MECHANISM_PARAM_INVALID,
        ),
        (Ckm.AES_CMAC, [[COUNTER, b"", 32, False, 0]], Ckr.KEY_TYPE_INCONSISTENT),
    ],
)
def test_what_the_counter_kdf_does_not_take_is_told(prf: Ckm, parts: object, ckr: Ckr) -> None:
    base, size = secret(bytes(32)), length(64)
    parameter = packed(int(prf), parts)
    assert refused_value(Ckm.SP800_108_COUNTER_KDF, parameter, base, size) == ckr


# ------------------------------------------------------------------ copying bits


@each("derivation_examples")
def test_the_standards_own_examples(case: Case) -> None:
    mechanism, wanted = Ckm[case["mechanism"]], octets(case["derived"])
    base, size = secret(octets(case["base"])), length(len(wanted))
    if mechanism == Ckm.CONCATENATE_BASE_AND_KEY:
        other = secret(octets(case["data"]))
        parameter = msgspec.msgpack.encode(OTHER)
        made = derived(mechanism, parameter, base, size, other=other)
        assert made[Cka.VALUE] == wanted
        return
    data: object = int(case["bit"]) if "bit" in case else octets(case["data"])
    assert derived(mechanism, msgspec.msgpack.encode(data), base, size)[Cka.VALUE] == wanted


def test_bits_that_are_copied_stay_as_protected_as_their_source() -> None:
    joined, data = Ckm.CONCATENATE_BASE_AND_DATA, msgspec.msgpack.encode(b"data")
    hidden, open_key = secret(bytes(16)), secret(bytes(16), *READABLE)
    made = derived(joined, data, hidden)
    assert made[Cka.SENSITIVE] == TRUE
    assert made[Cka.EXTRACTABLE] == FALSE
    for number, given in READABLE:
        assert refused_value(joined, data, hidden, (number, given)) == Ckr.TEMPLATE_INCONSISTENT
    assert derived(joined, data, open_key, *READABLE)[Cka.VALUE] == bytes(16) + b"data"
    both = Ckm.CONCATENATE_BASE_AND_KEY
    other = msgspec.msgpack.encode(OTHER)
    wrong = refused_value(both, other, open_key, *READABLE, other=hidden)
    assert wrong == Ckr.TEMPLATE_INCONSISTENT


def test_always_is_only_said_of_what_always_was() -> None:
    joined, data = Ckm.CONCATENATE_BASE_AND_DATA, msgspec.msgpack.encode(b"data")
    created = derived(joined, data, secret(bytes(16)))
    assert created[Cka.ALWAYS_SENSITIVE] == FALSE
    assert created[Cka.NEVER_EXTRACTABLE] == FALSE
    generated = {
        **secret(bytes(16)),
        Cka.ALWAYS_SENSITIVE: TRUE,
        Cka.NEVER_EXTRACTABLE: TRUE,
    }
    made = derived(joined, data, generated)
    assert made[Cka.ALWAYS_SENSITIVE] == TRUE
    assert made[Cka.NEVER_EXTRACTABLE] == TRUE
    assert made[Cka.LOCAL] == FALSE
    assert made[Cka.KEY_GEN_MECHANISM] == ulong(UNAVAILABLE_INFORMATION)


def test_who_may_not_be_derived_from_is_told() -> None:
    data = msgspec.msgpack.encode(b"data")
    head = [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.GENERIC_SECRET))]
    idle = build_object([*head, (int(Cka.VALUE), bytes(16))])
    joined, both = Ckm.CONCATENATE_BASE_AND_DATA, Ckm.CONCATENATE_BASE_AND_KEY
    base, other = secret(bytes(16)), msgspec.msgpack.encode(OTHER)
    assert refused_value(joined, data, idle) == Ckr.KEY_FUNCTION_NOT_PERMITTED
    assert refused_value(both, other, base, other=idle) == Ckr.KEY_FUNCTION_NOT_PERMITTED
    assert refused_value(Ckm.AES_ECB, data, base) == Ckr.MECHANISM_INVALID
    given = (int(Cka.VALUE), bytes(4))
    assert refused_value(joined, data, base, given) == Ckr.TEMPLATE_INCONSISTENT
    private = (int(Cka.CLASS), ulong(Cko.PRIVATE_KEY))
    assert refused_value(joined, data, base, private) == Ckr.TEMPLATE_INCONSISTENT
    assert refused_value(joined, data, base, length(21)) == Ckr.KEY_SIZE_RANGE
    aes = (int(Cka.KEY_TYPE), ulong(Ckk.AES))
    assert refused_value(joined, data, base, aes) == Ckr.ATTRIBUTE_VALUE_INVALID
    assert derived(joined, data, base, aes, length(16))[Cka.VALUE] == bytes(16)
    extract = Ckm.EXTRACT_KEY_FROM_KEY
    bit = msgspec.msgpack.encode(128)
    assert refused_value(extract, bit, base, length(4)) == Ckr.MECHANISM_PARAM_INVALID
