"""Published vectors of wrapping and derivation beyond those of the standards' own texts."""

from __future__ import annotations

import msgspec
import pytest

from conclave.crypto import mechanisms
from conclave.crypto.curves import CURVES, MONTGOMERY
from conclave.crypto.derivation import derive_key
from conclave.crypto.derive_mechanisms import stretched
from conclave.crypto.mechanisms import load_key
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.crypto.wrapping import unwrap_key, wrap_key
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import FALSE, TRUE, Attributes, ulong
from conclave.keyring.templates import build_object
from tests.support.crypto_vectors import (
    CHAINED_ORDERS,
    NIL,
    RSA_PARTS,
    Case,
    cases,
    each,
    hash_row,
    hashes_of_keys,
    mask_row,
    octets,
    packed,
)

Pair = tuple[int, bytes]
READABLE = [(int(Cka.SENSITIVE), FALSE), (int(Cka.EXTRACTABLE), TRUE)]
USES = [(int(number), TRUE) for number in (Cka.WRAP, Cka.UNWRAP, Cka.DERIVE)]
NULL_KDF, SALT_NULL, SALT_DATA = 1, 1, 2
CONCAT = {"sha224": 0xF, "sha256": 0x10, "sha384": 0x11, "sha512": 0x12}
PRFS = {"sha1": 1, "sha224": 3, "sha256": 4, "sha384": 5, "sha512": 6}


def head(kind: Ckk) -> list[Pair]:
    return [(int(Cka.CLASS), ulong(Cko.SECRET_KEY)), (int(Cka.KEY_TYPE), ulong(kind))]


def secret(value: bytes, kind: Ckk = Ckk.GENERIC_SECRET) -> Attributes:
    uses = [pair for pair in USES if kind != Ckk.GENERIC_SECRET or pair[0] == Cka.DERIVE]
    return build_object([*head(kind), *uses, *READABLE, (int(Cka.VALUE), value)])


def length(number: int) -> Pair:
    return int(Cka.VALUE_LEN), ulong(number)


def value(mechanism: Ckm, parameter: bytes, base: Attributes, *template: Pair) -> bytes:
    keys = {b"base": base}
    return derive_key(mechanism, parameter, keys.__getitem__, b"base", [*READABLE, *template])[
        Cka.VALUE
    ]


def refusal(mechanism: Ckm, parameter: bytes, base: Attributes, *template: Pair) -> int:
    with pytest.raises(ConclaveError) as caught:
        value(mechanism, parameter, base, *template)
    return caught.value.fault.ckr


# ------------------------------------------------------------------ wrapping


@pytest.mark.parametrize(
    ("mechanism", "case"),
    [
        *((Ckm.AES_KEY_WRAP, case) for case in cases("aes_wrap_wycheproof")),
        *((Ckm.AES_KEY_WRAP_KWP, case) for case in cases("aes_kwp_wycheproof")),
    ],
)
def test_aes_key_wrap(mechanism: Ckm, case: Case) -> None:
    key, sealed = secret(octets(case["key"]), Ckk.AES), octets(case["wrapped"])
    template = [*head(Ckk.GENERIC_SECRET), *READABLE]

    def unwrapped() -> Attributes:
        return unwrap_key(mechanism, NIL, load_key(key), sealed, template, unwrapping=key)

    if case["plaintext"] == "FAIL":
        with pytest.raises(ConclaveError) as caught:
            unwrapped()
        assert caught.value.fault.ckr in {Ckr.WRAPPED_KEY_INVALID, Ckr.WRAPPED_KEY_LEN_RANGE}
        return
    plain = octets(case["plaintext"])
    assert unwrapped()[Cka.VALUE] == plain
    assert wrap_key(mechanism, NIL, load_key(key), secret(plain), wrapping=key) == sealed


def unwrapping_rsa(case: Case) -> Attributes:
    parts = [(int(number), octets(case[name])) for name, number in RSA_PARTS.items()]
    rsa = [(int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)), (int(Cka.KEY_TYPE), ulong(Ckk.RSA))]
    return build_object([*rsa, (int(Cka.UNWRAP), TRUE), *parts])


def test_rsa_oaep_unwraps() -> None:
    keys: dict[str, Attributes] = {}
    for case in cases("rsa_oaep_wycheproof"):
        if case["modulus"] not in keys:
            keys[case["modulus"]] = unwrapping_rsa(case)
        key = keys[case["modulus"]]
        digest, mask = hash_row(case["hash"]), mask_row(case["mask"])
        how = packed(int(digest.digest), int(mask.mask_generation), octets(case["label"]))
        arguments = (Ckm.RSA_PKCS_OAEP, how, load_key(key), octets(case["wrapped"]))
        template = [*head(Ckk.GENERIC_SECRET), *READABLE]
        if case["plaintext"] == "FAIL":
            with pytest.raises(ConclaveError) as caught:
                unwrap_key(*arguments, template, unwrapping=key)
            assert caught.value.fault.ckr in {Ckr.WRAPPED_KEY_INVALID, Ckr.WRAPPED_KEY_LEN_RANGE}
            continue
        made = unwrap_key(*arguments, template, unwrapping=key)
        assert made[Cka.VALUE] == octets(case["plaintext"])


# ------------------------------------------------------------------ derivation


@each("ecdh_wycheproof")
def test_ecdh(case: Case) -> None:
    rows = {row.name: (Ckk.EC, row.params) for row in CURVES}
    rows |= {row.name: (Ckk.EC_MONTGOMERY, row.params) for row in MONTGOMERY}
    kind, params = rows[case["curve"]]
    number = octets(case["private"])
    base = build_object(
        [
            (int(Cka.CLASS), ulong(Cko.PRIVATE_KEY)),
            (int(Cka.KEY_TYPE), ulong(kind)),
            (int(Cka.DERIVE), TRUE),
            (int(Cka.EC_PARAMS), params),
            (int(Cka.VALUE), number.lstrip(b"\0") if kind == Ckk.EC else number),
        ]
    )
    parameter = packed(NULL_KDF, b"", octets(case["public"]))
    if case["secret"] == "FAIL":
        assert refusal(Ckm.ECDH1_DERIVE, parameter, base) == Ckr.MECHANISM_PARAM_INVALID
        return
    assert value(Ckm.ECDH1_DERIVE, parameter, base) == octets(case["secret"])


@pytest.mark.parametrize("kind", [Ckk.GENERIC_SECRET, Ckk.HKDF])
def test_hkdf(kind: Ckk) -> None:
    for case in (*cases("hkdf_wycheproof"), *cases("hkdf_acvp")):
        salt, wanted = octets(case["salt"]), octets(case["derived"])
        how = packed(
            True,
            True,
            int(hash_row(case["hash"]).digest),
            SALT_DATA if salt else SALT_NULL,
            octets(case["info"]),
            salt,
        )
        base = secret(octets(case["secret"]), kind)
        assert value(Ckm.HKDF_DERIVE, how, base, length(len(wanted))) == wanted


@each("concat_kdf")
def test_the_one_step_kdf(case: Case) -> None:
    wanted, shared = octets(case["derived"]), octets(case["shared"])
    assert stretched(CONCAT[case["hash"]], octets(case["secret"]), shared, len(wanted)) == wanted


@pytest.mark.parametrize("case", hashes_of_keys("digests_sha2", "digests"))
def test_a_key_is_the_hash_of_another(case: Case) -> None:
    message, digest = octets(case["message"]), octets(case["digest"])
    mechanism = hash_row(case["hash"]).key_derivation
    assert value(mechanism, NIL, secret(message)) == digest
    assert value(mechanism, NIL, secret(message), length(16)) == digest[:16]
    assert refusal(mechanism, NIL, secret(message), length(65)) == Ckr.KEY_SIZE_RANGE


@each("shake")
def test_a_key_is_the_shake_of_another(case: Case) -> None:
    mechanism, output = Ckm[f"SHAKE_{case['shake']}_KEY_DERIVATION"], octets(case["output"])
    base = secret(octets(case["message"]))
    assert value(mechanism, NIL, base, length(len(output))) == output
    assert refusal(mechanism, NIL, base) == Ckr.TEMPLATE_INCOMPLETE


# ------------------------------------------------------------------ passwords


def of_password(case: Case, *template: Pair) -> Attributes:
    how = packed(
        PRFS[case["hash"]],
        int(case["iterations"]),
        octets(case["salt"]),
        octets(case["password"]),
    )
    return mechanisms.generate_key(Ckm.PKCS5_PBKD2, how, [*READABLE, *template])


@each("pbkdf2")
def test_a_key_of_a_password(case: Case) -> None:
    wanted = octets(case["derived"])
    assert of_password(case, length(len(wanted)))[Cka.VALUE] == wanted


def test_a_key_of_a_password_is_of_any_type_that_has_its_length() -> None:
    (case, *_) = [case for case in cases("pbkdf2") if case["hash"] == "sha256"]
    aes = of_password(case, *head(Ckk.AES), length(32))
    assert aes[Cka.VALUE] == octets(case["derived"])[:32]
    assert aes[Cka.KEY_TYPE] == ulong(Ckk.AES)
    assert aes[Cka.KEY_GEN_MECHANISM] == ulong(Ckm.PKCS5_PBKD2)
    assert len(of_password(case, *head(Ckk.CHACHA20))[Cka.VALUE]) == 32
    assert len(of_password(case, *head(Ckk.SHA256_HMAC), length(20))[Cka.VALUE]) == 20


@pytest.mark.parametrize(
    ("prf", "iterations", "salt", "template", "ckr"),
    [
        (2, 1, b"", [length(16)], Ckr.MECHANISM_PARAM_INVALID),
        (4, 0, b"", [length(16)], Ckr.MECHANISM_PARAM_INVALID),
        (4, 4_000_001, b"", [length(16)], Ckr.MECHANISM_PARAM_INVALID),
        (4, 2_000_001, b"", [length(33)], Ckr.MECHANISM_PARAM_INVALID),
        (4, 1, bytes(4097), [length(16)], Ckr.MECHANISM_PARAM_INVALID),
        (4, 1, b"", [], Ckr.TEMPLATE_INCOMPLETE),
        (4, 1, b"", [length(513)], Ckr.KEY_SIZE_RANGE),
        (4, 1, b"", [*head(Ckk.AES), length(17)], Ckr.ATTRIBUTE_VALUE_INVALID),
        (4, 1, b"", [*head(Ckk.DES3), length(24)], Ckr.TEMPLATE_INCONSISTENT),
    ],
)
def test_what_cannot_be_made_of_a_password_is_told(
    prf: int, iterations: int, salt: bytes, template: list[Pair], ckr: Ckr
) -> None:
    with pytest.raises(ConclaveError) as caught:
        mechanisms.generate_key(Ckm.PKCS5_PBKD2, packed(prf, iterations, salt, b"secret"), template)
    assert caught.value.fault.ckr == ckr
    assert "secret" not in caught.value.message


def test_a_key_for_hkdf_is_made_and_derives_only() -> None:
    template = [length(32), (int(Cka.DERIVE), TRUE), *READABLE]
    key = mechanisms.generate_key(Ckm.HKDF_KEY_GEN, NIL, template)
    assert key[Cka.KEY_TYPE] == ulong(Ckk.HKDF)
    assert len(key[Cka.VALUE]) == 32
    how = msgspec.msgpack.encode((True, True, int(Ckm.SHA256), SALT_NULL, b"", b""))
    same = secret(key[Cka.VALUE])
    wanted = value(Ckm.HKDF_DERIVE, how, same, length(40))
    assert value(Ckm.HKDF_DERIVE, how, key, length(40)) == wanted
    with pytest.raises(ConclaveError) as caught:
        mechanisms.sign(Ckm.SHA256_HMAC, NIL, load_key(key), b"")
    assert caught.value.fault.ckr == Ckr.KEY_TYPE_INCONSISTENT


# ------------------------------------------------------------------ SP 800-108, chained

ITERATED, COUNTER, LENGTH, OCTETS = 1, 2, 3, 4


def prf_of(case: Case) -> tuple[int, Attributes]:
    kind, name = case["prf"].split("_", 1)
    value = octets(case["key"])
    if kind == "CMAC":
        return int(Ckm.AES_CMAC), secret(value, Ckk.AES)
    return int(hash_row(name).hmac), secret(value)


def part(kind: int, value: bytes = b"", bits: int = 0, method: int = 0) -> list[object]:
    return [kind, value, bits, False, method]


def chained_parts(case: Case) -> list[list[object]]:
    parts = {
        "counter": part(COUNTER, bits=int(case["bits"])),
        "iterated": part(ITERATED),
        "fixed": part(OCTETS, octets(case["fixed"])),
    }
    return [parts[name] for name in CHAINED_ORDERS[case["counter"]]]


@each("feedback_kdf")
def test_the_feedback_kdf(case: Case) -> None:
    prf, base = prf_of(case)
    wanted = octets(case["derived"])
    how = packed(prf, chained_parts(case), octets(case["vector"]))
    assert value(Ckm.SP800_108_FEEDBACK_KDF, how, base, length(len(wanted))) == wanted


@each("double_pipeline_kdf")
def test_the_double_pipeline_kdf(case: Case) -> None:
    prf, base = prf_of(case)
    wanted = octets(case["derived"])
    how = packed(prf, chained_parts(case))
    assert value(Ckm.SP800_108_DOUBLE_PIPELINE_KDF, how, base, length(len(wanted))) == wanted


@pytest.mark.parametrize("method", [1, 2])
def test_the_chained_kdfs_write_the_length(method: int) -> None:
    base, prf = secret(bytes(32)), int(Ckm.SHA256_HMAC)
    # 20 bytes are asked for; a segment has 32.
    bits = {1: 160, 2: 256}[method]
    told = [part(ITERATED), part(LENGTH, bits=32, method=method)]
    written = [part(ITERATED), part(OCTETS, bits.to_bytes(4, "big"))]
    for mechanism, more in (
        (Ckm.SP800_108_FEEDBACK_KDF, (b"vector",)),
        (Ckm.SP800_108_DOUBLE_PIPELINE_KDF, ()),
    ):
        made = [
            value(mechanism, packed(prf, parts, *more), base, length(20))
            for parts in (told, written)
        ]
        assert made[0] == made[1]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [part(ITERATED), part(ITERATED)],
        [part(ITERATED, bits=32)],
        [part(ITERATED, b"x")],
        [part(ITERATED), part(COUNTER, bits=32), part(COUNTER, bits=32)],
        [part(ITERATED), part(COUNTER, bits=12)],
        [part(ITERATED), [COUNTER, b"", 32, True, 0]],
        [part(ITERATED), part(LENGTH, bits=32)],
        [part(ITERATED), part(5)],
        [part(ITERATED), part(OCTETS, bytes(4097))],
    ],
)
def test_what_the_chained_kdfs_do_not_take_is_told(parts: list[object]) -> None:
    base, invalid = secret(bytes(32)), Ckr.MECHANISM_PARAM_INVALID
    prf = int(Ckm.SHA256_HMAC)
    assert refusal(Ckm.SP800_108_FEEDBACK_KDF, packed(prf, parts, b""), base) == invalid
    assert refusal(Ckm.SP800_108_DOUBLE_PIPELINE_KDF, packed(prf, parts), base) == invalid


def test_the_chained_kdfs_need_a_fitting_key_and_a_known_prf() -> None:
    base, parts = secret(bytes(32)), [part(ITERATED)]
    pipeline = Ckm.SP800_108_DOUBLE_PIPELINE_KDF
    cmac = packed(int(Ckm.AES_CMAC), parts)
    assert refusal(pipeline, cmac, base) == Ckr.KEY_TYPE_INCONSISTENT
    unknown = packed(int(Ckm.SHA256), parts)
    assert refusal(pipeline, unknown, base) == Ckr.MECHANISM_PARAM_INVALID
    long = packed(int(Ckm.SHA256_HMAC), parts, bytes(4097))
    assert refusal(Ckm.SP800_108_FEEDBACK_KDF, long, base) == Ckr.MECHANISM_PARAM_INVALID
    assert len(value(pipeline, packed(int(Ckm.SHA256_HMAC), parts), base)) == 32
