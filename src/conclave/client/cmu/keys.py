"""Templates of the keys that cmu generates, from the options that were given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from conclave.client.cmu.attributes import given, key_type_named, name_of_attribute, number
from conclave.client.refusals import misused
from conclave.client.templates import Value
from conclave.crypto.curves import CURVES, EDWARDS, MONTGOMERY, OctetCurveRow
from conclave.crypto.lattices import ML_DSA
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko
from conclave.keyring.attributes import SCHEMAS

USES: Final = ("encrypt", "decrypt", "sign", "verify", "wrap", "unwrap", "derive")
_SHARED: Final = ("id", "modifiable", "startDate", "endDate")
_GUARDED: Final = ("private", "sensitive", "extractable")
_PARAMETER_SETS: Final = {row.name.removeprefix("ML-DSA-"): row for row in ML_DSA}
_BY_NAME: Final = {row.name.lower(): row for row in CURVES}
_CURVES: Final = {
    **{
        number: _BY_NAME[name]
        for number, name in (("2", "p-224"), ("3", "p-256"), ("4", "p-384"), ("5", "p-521"))
        if name in _BY_NAME
    },
    **_BY_NAME,
}
"""The reference counts NIST's curves from P-192, which is not supported."""
_SECRET_MECHANISMS: Final = {
    Ckk.AES: Ckm.AES_KEY_GEN,
    Ckk.GENERIC_SECRET: Ckm.GENERIC_SECRET_KEY_GEN,
    Ckk.SHA_1_HMAC: Ckm.SHA_1_KEY_GEN,
    Ckk.SHA224_HMAC: Ckm.SHA224_KEY_GEN,
    Ckk.SHA256_HMAC: Ckm.SHA256_KEY_GEN,
    Ckk.SHA384_HMAC: Ckm.SHA384_KEY_GEN,
    Ckk.SHA512_HMAC: Ckm.SHA512_KEY_GEN,
    Ckk.SHA512_224_HMAC: Ckm.SHA512_224_KEY_GEN,
    Ckk.SHA512_256_HMAC: Ckm.SHA512_256_KEY_GEN,
    Ckk.SHA3_256_HMAC: Ckm.SHA3_256_KEY_GEN,
    Ckk.SHA3_384_HMAC: Ckm.SHA3_384_KEY_GEN,
    Ckk.SHA3_512_HMAC: Ckm.SHA3_512_KEY_GEN,
    Ckk.AES_XTS: Ckm.AES_XTS_KEY_GEN,
    Ckk.CHACHA20: Ckm.CHACHA20_KEY_GEN,
}
DEFAULT_MODULUS_BITS: Final = "2048"
DEFAULT_CURVE: Final = "3"
DEFAULT_PARAMETER_SET: Final = "65"
DEFAULT_KEY_BYTES: Final = "32"


@dataclass(frozen=True, slots=True)
class PairPlan:
    """What a key pair is generated from."""

    mechanism: Ckm
    public: dict[int, Value]
    private: dict[int, Value]


def plan_pair(values: Mapping[str, str]) -> PairPlan:
    """Return how to generate the pair that these options ask for; raise BadInput."""
    kind = key_type_named(values.get("keyType", "RSA"))
    mechanism, material = _material(kind, values)
    label = values.get("label", "")
    shared: dict[int, Value] = {Cka.TOKEN: True, **given(values, *_SHARED)}
    public = {
        **shared,
        Cka.LABEL: values.get("labelPublic", label),
        **uses(values, Cko.PUBLIC_KEY, kind),
        **material,
    }
    private = {
        **shared,
        Cka.LABEL: values.get("labelPrivate", label),
        **given(values, *_GUARDED),
        **uses(values, Cko.PRIVATE_KEY, kind),
    }
    _require_all_used(values, Cko.PUBLIC_KEY, Cko.PRIVATE_KEY, kind)
    return PairPlan(mechanism, public, private)


def plan_key(values: Mapping[str, str]) -> tuple[Ckm, dict[int, Value]]:
    """Return mechanism and template of the secret key that these options ask for."""
    kind = key_type_named(values.get("keyType", "AES"))
    if kind not in _SECRET_MECHANISMS:
        raise misused("Option -keyType names a key pair; use generatekeypair.")
    _require_all_used(values, Cko.SECRET_KEY, Cko.SECRET_KEY, kind)
    length = number("keyLength", values.get("keyLength", DEFAULT_KEY_BYTES))
    return _SECRET_MECHANISMS[kind], {
        Cka.TOKEN: True,
        Cka.LABEL: values.get("label", ""),
        Cka.VALUE_LEN: length,
        **given(values, *_SHARED, *_GUARDED),
        **uses(values, Cko.SECRET_KEY, kind),
    }


def _material(kind: Ckk, values: Mapping[str, str]) -> tuple[Ckm, dict[int, Value]]:
    if kind is Ckk.RSA:
        _refuse(values, "RSA", "curveType", "parameterSet")
        if values.get("keygenmech", "1") != "1":
            raise misused("Option -keygenmech must be 1 (PKCS): no other mechanism is supported.")
        bits = number("modulusBits", values.get("modulusBits", DEFAULT_MODULUS_BITS))
        exponent = number("publicExponent", values.get("publicExponent", "65537"))
        encoded = exponent.to_bytes((exponent.bit_length() + 7) // 8)
        material: dict[int, Value] = {Cka.MODULUS_BITS: bits, Cka.PUBLIC_EXPONENT: encoded}
        return Ckm.RSA_PKCS_KEY_PAIR_GEN, material
    _refuse(values, "such", "modulusBits", "publicExponent", "keygenmech")
    if kind is Ckk.ML_DSA:
        _refuse(values, "MLDSA", "curveType")
        chosen = _PARAMETER_SETS.get(values.get("parameterSet", DEFAULT_PARAMETER_SET))
        if chosen is None:
            raise misused(f"Option -parameterSet is one of {', '.join(_PARAMETER_SETS)}.")
        return Ckm.ML_DSA_KEY_PAIR_GEN, {Cka.PARAMETER_SET: chosen.number}
    _refuse(values, "such", "parameterSet")
    if kind is Ckk.EC:
        curve = _CURVES.get(values.get("curveType", DEFAULT_CURVE).lower())
        if curve is None:
            raise misused(f"Option -curveType is one of {', '.join(_CURVES)}.")
        return Ckm.EC_KEY_PAIR_GEN, {Cka.EC_PARAMS: curve.params}
    if kind is Ckk.EC_EDWARDS:
        row = _octet_curve(values, EDWARDS)
        return Ckm.EC_EDWARDS_KEY_PAIR_GEN, {Cka.EC_PARAMS: row.params}
    if kind is Ckk.EC_MONTGOMERY:
        row = _octet_curve(values, MONTGOMERY)
        return Ckm.EC_MONTGOMERY_KEY_PAIR_GEN, {Cka.EC_PARAMS: row.params}
    raise misused("Option -keyType names a secret key; use generatekey.")


def _octet_curve(values: Mapping[str, str], rows: tuple[OctetCurveRow, ...]) -> OctetCurveRow:
    name = values.get("curveType", rows[0].name).lower()
    for row in rows:
        if row.name.lower() == name:
            return row
    known = ", ".join(row.name for row in rows)
    raise misused(f"Option -curveType of such a key is one of {known}.")


def uses(values: Mapping[str, str], object_class: Cko, kind: Ckk) -> dict[int, Value]:
    """Return what was said of those uses that an object of this class has."""
    possible = SCHEMAS[object_class, kind].rows
    return {use: value for use, value in given(values, *USES).items() if use in possible}


def _require_all_used(values: Mapping[str, str], one: Cko, other: Cko, kind: Ckk) -> None:
    possible = {*SCHEMAS[one, kind].rows, *SCHEMAS[other, kind].rows}
    for use, value in given(values, *USES).items():
        if value and use not in possible:
            raise misused(f"Option -{name_of_attribute(Cka(use))} does not go with such a key.")


def _refuse(values: Mapping[str, str], kind: str, *names: str) -> None:
    for name in names:
        if name in values:
            raise misused(f"Option -{name} does not go with a key of {kind} type.")
