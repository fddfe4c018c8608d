"""ECDSA, Ed25519 and Ed448, and key pairs for these and for X25519 and X448.

ECDSA signatures are r ‖ s, each as long as the curve's order; OpenSSL draws the nonce.  Signatures
are not verified before they leave: on a P-256 key that would cost four times the signing, and ECDSA
with a random nonce gives a computing fault no lever on the key as RSA's remainder form does.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from conclave.crypto.curves import (
    CURVES,
    EDWARDS,
    MONTGOMERY,
    OctetCurveRow,
    curve_of,
    octet_curve_of,
    octet_string,
    write_point,
)
from conclave.crypto.faults import refused
from conclave.crypto.hashes import HASHES, HashRow
from conclave.crypto.material import public_key_info
from conclave.crypto.mechanism_row import GeneratePair, Mechanism, Sign, Verify
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.signatures import (
    require_digest_length,
    require_signature_length,
    wrong_signature,
)
from conclave.crypto.standard import Cka, Ckf, Ckk, Ckm
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes

_EDWARDS_SIGNATURE_BYTES: Final = {row.bits: 2 * row.key_bytes for row in EDWARDS}
_LONGEST_ORDER_BYTES: Final = max(row.order_bytes for row in CURVES)
# pyca asks for a digest of a known hash function and OpenSSL only for bytes: a hash whose output
# may have any length stands for all lengths.  Nothing is ever hashed with it.
_OF_LENGTH: Final = tuple(
    ec.ECDSA(Prehashed(hashes.SHAKE256(length))) if length else None
    for length in range(_LONGEST_ORDER_BYTES + 1)
)


def _sign(key: ReadyKey, data: bytes, algorithm: ec.ECDSA | None) -> bytes:
    r, s = decode_dss_signature(key.handle.sign(data, algorithm))
    length = key.size_bytes
    return r.to_bytes(length, "big") + s.to_bytes(length, "big")


def _verify(key: ReadyKey, data: bytes, signature: bytes, algorithm: ec.ECDSA | None) -> None:
    length = key.size_bytes
    require_signature_length(signature, 2 * length)
    r, s = int.from_bytes(signature[:length]), int.from_bytes(signature[length:])
    try:
        key.handle.verify(encode_dss_signature(r, s), data, algorithm)
    except InvalidSignature:
        raise wrong_signature() from None


def _digest(key: ReadyKey, data: bytes) -> bytes:
    # FIPS 186-5, 6.4.1: only the leftmost bits count, as many as the order has.
    if not data:
        raise refused(Ckr.DATA_LEN_RANGE, "CKM_ECDSA signs a digest; none was given.")
    return data[: key.size_bytes]


def _sign_digest(key: ReadyKey, _: None, data: bytes, _prehashed: bool) -> bytes:
    digest = _digest(key, data)
    return _sign(key, digest, _OF_LENGTH[len(digest)])


def _verify_digest(key: ReadyKey, _: None, data: bytes, signature: bytes, _prehashed: bool) -> None:
    digest = _digest(key, data)
    _verify(key, digest, signature, _OF_LENGTH[len(digest)])


def _hashed(row: HashRow) -> tuple[Sign, Verify]:
    whole, prepared = ec.ECDSA(row.algorithm), ec.ECDSA(row.prehashed)

    def sign(key: ReadyKey, _: None, data: bytes, prehashed: bool) -> bytes:
        if prehashed:
            require_digest_length(data, row.digest_bytes)
        return _sign(key, data, prepared if prehashed else whole)

    def verify(key: ReadyKey, _: None, data: bytes, signature: bytes, prehashed: bool) -> None:
        if prehashed:
            require_digest_length(data, row.digest_bytes)
        _verify(key, data, signature, prepared if prehashed else whole)

    return sign, verify


def _sign_edwards(key: ReadyKey, _: None, data: bytes, _prehashed: bool) -> bytes:
    signature: bytes = key.handle.sign(data)
    return signature


def _verify_edwards(
    key: ReadyKey, _: None, data: bytes, signature: bytes, _prehashed: bool
) -> None:
    require_signature_length(signature, _EDWARDS_SIGNATURE_BYTES[key.size_bits])
    try:
        key.handle.verify(signature, data)
    except InvalidSignature:
        raise wrong_signature() from None


# ------------------------------------------------------------------ key pairs


def _params(public: Attributes, private: Attributes, default: bytes | None) -> bytes:
    params = public.get(Cka.EC_PARAMS) or private.get(Cka.EC_PARAMS) or default
    if params is None:
        raise refused(Ckr.TEMPLATE_INCOMPLETE, "CKA_EC_PARAMS is missing.")
    return params


def _generate_pair(public: Attributes, private: Attributes) -> tuple[Attributes, Attributes]:
    params = _params(public, private, None)
    row = curve_of(params)
    key = ec.generate_private_key(row.curve)
    point = key.public_key()
    shared: Attributes = {
        Cka.EC_PARAMS: params,
        Cka.EC_POINT: write_point(point),
        Cka.PUBLIC_KEY_INFO: public_key_info(point),
    }
    value = key.private_numbers().private_value.to_bytes(row.order_bytes, "big")
    return shared, {**shared, Cka.VALUE: value.lstrip(b"\0")}


def _octet_curve_generator(kind: Ckk, default: bytes) -> GeneratePair:
    def generate(public: Attributes, private: Attributes) -> tuple[Attributes, Attributes]:
        params = _params(public, private, default)
        key = octet_curve_of(kind, params).private.generate()
        point = key.public_key()
        shared: Attributes = {
            Cka.EC_PARAMS: params,
            Cka.EC_POINT: octet_string(point.public_bytes_raw()),
            Cka.PUBLIC_KEY_INFO: public_key_info(point),
        }
        return shared, {**shared, Cka.VALUE: key.private_bytes_raw()}

    return generate


# ------------------------------------------------------------------ rows

_FLAGS: Final = Ckf.EC_F_P | Ckf.EC_NAMED_CURVE | Ckf.EC_UNCOMPRESS
_prime_curve: Final = partial(
    Mechanism,
    key_types=(Ckk.EC,),
    min_key_size=min(row.order_bits for row in CURVES),
    max_key_size=max(row.order_bits for row in CURVES),
    unit="bits",
    curve_flags=_FLAGS,
)


def _octet_curve(kind: Ckk, rows: tuple[OctetCurveRow, ...]) -> partial[Mechanism]:
    return partial(
        Mechanism,
        key_types=(kind,),
        min_key_size=min(row.bits for row in rows),
        max_key_size=max(row.bits for row in rows),
        unit="bits",
        curve_flags=_FLAGS,
    )


_edwards: Final = _octet_curve(Ckk.EC_EDWARDS, EDWARDS)
_montgomery: Final = _octet_curve(Ckk.EC_MONTGOMERY, MONTGOMERY)


def _hashed_row(row: HashRow) -> Mechanism:
    sign, verify = _hashed(row)
    return _prime_curve(number=row.ecdsa, hashes=True, sign=sign, verify=verify)


ROWS: Final = (
    _prime_curve(number=Ckm.EC_KEY_PAIR_GEN, generate_pair=_generate_pair),
    _prime_curve(number=Ckm.ECDSA, sign=_sign_digest, verify=_verify_digest),
    *(_hashed_row(row) for row in HASHES),
    _edwards(
        number=Ckm.EC_EDWARDS_KEY_PAIR_GEN,
        generate_pair=_octet_curve_generator(Ckk.EC_EDWARDS, EDWARDS[0].params),
    ),
    _montgomery(
        number=Ckm.EC_MONTGOMERY_KEY_PAIR_GEN,
        generate_pair=_octet_curve_generator(Ckk.EC_MONTGOMERY, MONTGOMERY[0].params),
    ),
    _edwards(number=Ckm.EDDSA, sign=_sign_edwards, verify=_verify_edwards),
)
