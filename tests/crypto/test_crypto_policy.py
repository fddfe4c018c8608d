"""The policy of mechanisms: what it takes away is neither listed nor done, what is left works."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from conclave.crypto import mechanisms
from conclave.crypto.curves import CURVES, MONTGOMERY, CurveRow
from conclave.crypto.mechanisms import MECHANISMS, ReadyKey, Rows, load_key, mechanism_infos
from conclave.crypto.policy import MechanismPolicy, governed
from conclave.crypto.refusals import refusals, restricted_types
from conclave.crypto.standard import Cka, Ckf, Ckk, Ckm
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import ulong
from conclave.service.wire import MechanismInfo
from tests.support.crypto_vectors import NIL, packed, secret_key

PSS_SHA1 = packed(int(Ckm.SHA_1), 1, 20)
PSS_SHA256 = packed(int(Ckm.SHA256), 2, 32)
SHA1_INFO = bytes.fromhex("3021300906052b0e03021a05000414") + bytes(20)


@cache
def rsa_pair(bits: int) -> tuple[ReadyKey, ReadyKey]:
    template = [(Cka.MODULUS_BITS, ulong(bits))]
    pair = mechanisms.generate_key_pair(Ckm.RSA_PKCS_KEY_PAIR_GEN, NIL, template, [])
    return load_key(pair[0]), load_key(pair[1])


@cache
def curve_pair(name: str) -> tuple[ReadyKey, ReadyKey]:
    row = next(row for row in CURVES if row.name == name)
    template = [(Cka.EC_PARAMS, row.params)]
    pair = mechanisms.generate_key_pair(Ckm.EC_KEY_PAIR_GEN, NIL, template, [])
    return load_key(pair[0]), load_key(pair[1])


def refuse(ckr: Ckr, call: object, *arguments: object, rows: Rows) -> None:
    """Expect a refusal with a return value."""
    assert callable(call)
    with pytest.raises(ConclaveError) as caught:
        call(*arguments, rows=rows)
    assert caught.value.fault.ckr == ckr


def flags(rows: Rows) -> dict[int, int]:
    return {info.mechanism: info.flags for info in mechanism_infos(rows)}


def test_without_rules_the_table_stays_as_it_is() -> None:
    rows = governed(MECHANISMS, MechanismPolicy(legacy=True))
    assert rows == MECHANISMS
    assert all(rows[number] is row for number, row in MECHANISMS.items())


def test_sha1_verifies_and_signs_no_more() -> None:
    rows = governed(MECHANISMS, MechanismPolicy(sha1_signatures=False))
    public, private = rsa_pair(2048)
    for mechanism in (Ckm.SHA1_RSA_PKCS, Ckm.SHA1_RSA_PKCS_PSS, Ckm.ECDSA_SHA1):
        assert flags(rows)[mechanism] & (Ckf.SIGN | Ckf.VERIFY) == Ckf.VERIFY
    made = mechanisms.sign(Ckm.SHA1_RSA_PKCS, NIL, private, b"data")
    mechanisms.verify(Ckm.SHA1_RSA_PKCS, NIL, public, b"data", made, rows=rows)
    sign = mechanisms.sign
    refuse(Ckr.MECHANISM_INVALID, sign, Ckm.SHA1_RSA_PKCS, NIL, private, b"data", rows=rows)
    pss = (Ckm.RSA_PKCS_PSS, PSS_SHA1, private, bytes(20))
    refuse(Ckr.MECHANISM_PARAM_INVALID, sign, *pss, rows=rows)
    refuse(Ckr.DATA_INVALID, sign, Ckm.RSA_PKCS, NIL, private, SHA1_INFO, rows=rows)
    digest = hashlib.sha256(b"data").digest()
    made = sign(Ckm.RSA_PKCS_PSS, PSS_SHA256, private, digest, rows=rows)
    mechanisms.verify(Ckm.SHA256_RSA_PKCS_PSS, PSS_SHA256, public, b"data", made, rows=rows)
    assert sign(Ckm.RSA_PKCS, NIL, private, b"other data", rows=rows)
    assert rows[Ckm.SHA_1_HMAC] is MECHANISMS[Ckm.SHA_1_HMAC]


def test_small_rsa_keys_are_neither_made_nor_used() -> None:
    rows = governed(MECHANISMS, MechanismPolicy(min_rsa_bits=3072))
    public, private = rsa_pair(2048)
    small = Ckr.KEY_SIZE_RANGE
    refuse(small, mechanisms.sign, Ckm.SHA256_RSA_PKCS, NIL, private, b"data", rows=rows)
    refuse(small, mechanisms.encrypt, Ckm.RSA_PKCS, NIL, public, b"data", rows=rows)
    made = mechanisms.sign(Ckm.SHA256_RSA_PKCS, NIL, private, b"data")
    verify = (Ckm.SHA256_RSA_PKCS, NIL, public, b"data", made)
    refuse(small, mechanisms.verify, *verify, rows=rows)
    template = [(Cka.MODULUS_BITS, ulong(2048))]
    make = mechanisms.generate_key_pair
    refuse(small, make, Ckm.RSA_PKCS_KEY_PAIR_GEN, NIL, template, [], rows=rows)
    assert {info.min_key_size for info in mechanism_infos(rows) if "RSA" in name(info)} == {3072}
    large = rsa_pair(3072)
    made = mechanisms.sign(Ckm.SHA256_RSA_PKCS, NIL, large[1], b"data", rows=rows)
    mechanisms.verify(Ckm.SHA256_RSA_PKCS, NIL, large[0], b"data", made, rows=rows)


def name(info: MechanismInfo) -> str:
    return Ckm(info.mechanism).name


def test_small_curves_are_neither_made_nor_used() -> None:
    rows = governed(MECHANISMS, MechanismPolicy(min_curve_bits=256))
    private = curve_pair("P-224")[1]
    small = Ckr.KEY_SIZE_RANGE
    refuse(small, mechanisms.sign, Ckm.ECDSA_SHA256, NIL, private, b"data", rows=rows)
    template = [(Cka.EC_PARAMS, CURVES[0].params)]
    make = mechanisms.generate_key_pair
    refuse(small, make, Ckm.EC_KEY_PAIR_GEN, NIL, template, [], rows=rows)
    refuse(Ckr.TEMPLATE_INCOMPLETE, make, Ckm.EC_KEY_PAIR_GEN, NIL, [], [], rows=rows)
    assert rows[Ckm.ECDSA].min_key_size == 256
    assert mechanisms.sign(Ckm.ECDSA_SHA256, NIL, curve_pair("P-256")[1], b"data", rows=rows)


@pytest.mark.parametrize("row", CURVES, ids=lambda row: row.name)
def test_the_approved_set_has_the_nist_curves_only(row: CurveRow) -> None:
    rows = governed(MECHANISMS, MechanismPolicy(fips=True))
    sign = (Ckm.ECDSA_SHA256, NIL, curve_pair(row.name)[1], b"data")
    make, template = mechanisms.generate_key_pair, [(Cka.EC_PARAMS, row.params)]
    if row.name.startswith("P-"):
        assert mechanisms.sign(*sign, rows=rows)
        assert make(Ckm.EC_KEY_PAIR_GEN, NIL, template, [], rows=rows)
        return
    refuse(Ckr.CURVE_NOT_SUPPORTED, mechanisms.sign, *sign, rows=rows)
    refuse(Ckr.CURVE_NOT_SUPPORTED, make, Ckm.EC_KEY_PAIR_GEN, NIL, template, [], rows=rows)


def test_agreement_by_another_curve_is_refused() -> None:
    fips = governed(MECHANISMS, MechanismPolicy(fips=True))
    sized = governed(MECHANISMS, MechanismPolicy(min_curve_bits=384))
    assert sized[Ckm.ECDH1_DERIVE].min_key_size == 255
    assert sized[Ckm.ECDSA].min_key_size == 384
    template = [(Cka.EC_PARAMS, MONTGOMERY[0].params)]
    pair = mechanisms.generate_key_pair(Ckm.EC_MONTGOMERY_KEY_PAIR_GEN, NIL, template, [])
    for rows, key, ckr in (
        (fips, load_key(pair[1]), Ckr.CURVE_NOT_SUPPORTED),
        (fips, curve_pair("secp256k1")[1], Ckr.CURVE_NOT_SUPPORTED),
        (sized, curve_pair("P-256")[1], Ckr.KEY_SIZE_RANGE),
    ):
        allowed = replace(key, usage=int(Ckf.DERIVE))
        with pytest.raises(ConclaveError) as caught:
            mechanisms.admit(rows[Ckm.ECDH1_DERIVE], allowed, Ckf.DERIVE)
        assert caught.value.fault.ckr == ckr


def test_the_approved_set_lists_what_it_does() -> None:
    rows = governed(MECHANISMS, MechanismPolicy(fips=True, legacy=True))
    gone = {Ckm(number) for number in MECHANISMS} - {Ckm(number) for number in rows}
    assert gone <= {
        Ckm.RSA_X_509,
        Ckm.EC_MONTGOMERY_KEY_PAIR_GEN,
        Ckm.CHACHA20_KEY_GEN,
        Ckm.CHACHA20_POLY1305,
        *(number for number in gone if number.name.endswith("_KEY_DERIVATION")),
    }
    assert {Ckm.CHACHA20_POLY1305, Ckm.SHA256_KEY_DERIVATION} <= gone
    key = secret_key(Ckk.CHACHA20, bytes(32))
    arguments = (Ckm.CHACHA20_POLY1305, packed(bytes(12), b""), key, b"data")
    refuse(Ckr.MECHANISM_INVALID, mechanisms.encrypt, *arguments, rows=rows)
    assert not flags(rows)[Ckm.SHA1_RSA_PKCS] & Ckf.SIGN
    listed = flags(rows)[Ckm.RSA_PKCS]
    assert not listed & (Ckf.ENCRYPT | Ckf.WRAP)
    assert listed & Ckf.DECRYPT
    public, private = rsa_pair(2048)
    encrypt = (Ckm.RSA_PKCS, NIL, public, b"data")
    refuse(Ckr.MECHANISM_INVALID, mechanisms.encrypt, *encrypt, rows=rows)
    made = mechanisms.encrypt(*encrypt)
    assert mechanisms.decrypt(Ckm.RSA_PKCS, NIL, private, made, rows=rows) == b"data"


# ------------------------------------------------------------------ told in advance


def told(key: ReadyKey, rows: Rows) -> dict[tuple[int, int], int]:
    """Return what a module is told: mechanism and one use → CK_RV."""
    return {
        (mechanism, use): value
        for mechanism, uses, value in refusals(key, rows)
        for use in (Ckf.SIGN, Ckf.VERIFY, Ckf.ENCRYPT, Ckf.DECRYPT)
        if uses & use
    }


@pytest.mark.parametrize(
    "policy",
    [
        MechanismPolicy(),
        MechanismPolicy(fips=True),
        MechanismPolicy(sha1_signatures=False, legacy=True),
        MechanismPolicy(min_rsa_bits=3072, min_curve_bits=384),
    ],
)
def test_what_is_told_in_advance_is_what_a_use_would_say(policy: MechanismPolicy) -> None:
    rows = governed(MECHANISMS, policy)
    keys = [*rsa_pair(2048), *curve_pair("P-256"), *curve_pair("secp256k1")]
    listed = replace(curve_pair("P-256")[1], allowed_mechanisms=frozenset({int(Ckm.ECDSA)}))
    for key in (*keys, secret_key(Ckk.DES3, bytes(range(24))), listed):
        said = told(key, rows)
        if key.key_type not in restricted_types(rows) and not key.allowed_mechanisms:
            assert not said
        for number, row in MECHANISMS.items():
            for use in (Ckf.SIGN, Ckf.VERIFY, Ckf.ENCRYPT, Ckf.DECRYPT):
                if key.key_type in row.key_types and key.usage & row.flags & use:
                    assert said.get((number, use), 0) == at_use(number, use, key, rows)


USES: dict[Ckf, Callable[..., object]] = {
    Ckf.SIGN: mechanisms.sign,
    Ckf.VERIFY: mechanisms.verify,
    Ckf.ENCRYPT: mechanisms.encrypt,
    Ckf.DECRYPT: mechanisms.decrypt,
}


def at_use(mechanism: int, use: Ckf, key: ReadyKey, rows: Rows) -> int:
    """Return what an operation refuses before it looks at parameter and data, else CKR_OK."""
    no_parameter = b"\x81\xc0\xc0"
    operation = USES[use]
    more = (b"",) if use == Ckf.VERIFY else ()
    with pytest.raises(ConclaveError) as caught:
        operation(mechanism, no_parameter, key, b"", *more, rows=rows)
    value = caught.value.fault.ckr
    return 0 if value == Ckr.MECHANISM_PARAM_INVALID else int(value)
