"""Mechanisms that derive keys: ECDH, HKDF, and the simple ones of the standard.

A derivation gives bytes; what becomes of them is said in `conclave.crypto.derivation`.  `wanted`
is the length that the template asks for in bytes, None when it does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF

from conclave.crypto.curves import CURVES, MONTGOMERY, point_content, read_point
from conclave.crypto.faults import refused
from conclave.crypto.hashes import KDF_HASHES, SHA2
from conclave.crypto.material import SECRET_MAX_BYTES
from conclave.crypto.mechanism_row import Mechanism
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Ckk, Ckm, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import MAC_KEYS
from conclave.service.wire import EcdhParameter, HkdfParameter

T = TypeVar("T")

MAX_TEXT_BYTES: Final = 4096
_NO_KDF: Final = 1
_KDFS: Final = {
    number: next(row.algorithm for row in KDF_HASHES if row.digest == digest)
    for number, digest in (
        (2, Ckm.SHA_1),
        (5, Ckm.SHA224),
        (6, Ckm.SHA256),
        (7, Ckm.SHA384),
        (8, Ckm.SHA512),
    )
}
"""CKD_SHA1_KDF and its like: ANSI X9.63 with that hash."""
_FIRST_OF_SP_800_56: Final = 0xF
_SP_800_56_KDFS: Final = dict(enumerate((row.algorithm for row in SHA2), _FIRST_OF_SP_800_56))
"""CKD_SHA224_KDF_SP800 and its like: the one-step KDF of SP 800-56A with that hash."""
_HASHES: Final = {int(row.digest): row.algorithm for row in KDF_HASHES}
_SALT_NULL, _SALT_DATA, _SALT_KEY = 1, 2, 4
_ECDH: Final = msgspec.msgpack.Decoder(EcdhParameter)
_HKDF: Final = msgspec.msgpack.Decoder(HkdfParameter)
_BYTES: Final = msgspec.msgpack.Decoder(bytes)
_BIT: Final = msgspec.msgpack.Decoder(int)


def _wrong(sentence: str) -> ConclaveError:
    return refused(Ckr.MECHANISM_PARAM_INVALID, sentence)


def _decoded(decoder: msgspec.msgpack.Decoder[T], raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise _wrong(f"The mechanism's parameter has another shape: {error}.") from None


def secret_value(key: ReadyKey) -> bytes:
    """Return the bytes of a secret key."""
    return bytes(key.handle.key if isinstance(key.handle, AES) else key.handle)


def cut(value: bytes, wanted: int | None) -> bytes:
    """Return the leading bytes that are wanted; there may be too few."""
    if wanted is None:
        return value
    if wanted > len(value):
        raise refused(
            Ckr.KEY_SIZE_RANGE,
            f"CKA_VALUE_LEN is {wanted}; the mechanism gives {len(value)} bytes.",
        )
    return value[:wanted]


def last_bytes(shared: bytes, wanted: int | None) -> bytes:
    """Return what is left of an agreed secret: as many bytes of its end as are wanted."""
    if wanted is not None and wanted > len(shared):
        raise refused(
            Ckr.KEY_SIZE_RANGE, f"CKA_VALUE_LEN is {wanted}; the secret has {len(shared)} bytes."
        )
    # PKCS #11: "The truncation removes bytes from the leading end of the secret value."
    return shared if wanted is None else shared[len(shared) - wanted :]


# ------------------------------------------------------------------ ECDH


def ecdh(raw: bytes) -> EcdhParameter:
    """Decode CK_ECDH1_DERIVE_PARAMS."""
    parameter = _decoded(_ECDH, raw)
    if parameter.kdf not in {_NO_KDF, *_KDFS, *_SP_800_56_KDFS}:
        raise _wrong(f"The key derivation function 0x{parameter.kdf:x} is not supported.")
    if parameter.kdf == _NO_KDF and parameter.shared_data:
        raise _wrong("CKD_NULL takes no shared data; some were given.")
    if len(parameter.shared_data) > MAX_TEXT_BYTES:
        raise _wrong(f"The shared data must have at most {MAX_TEXT_BYTES} bytes.")
    return parameter


def _agree(
    key: ReadyKey, _: ReadyKey | None, parameter: EcdhParameter, wanted: int | None
) -> bytes:
    if key.object_class != Cko.PRIVATE_KEY:
        raise refused(Ckr.KEY_TYPE_INCONSISTENT, "The base key must be a private key.")
    try:
        shared = _exchange(key, parameter.public_data)
    except (ValueError, ConclaveError):
        # A point off the curve, or one of low order, which would give everybody the same secret.
        raise _wrong("The public data are no point of the key's curve.") from None
    if parameter.kdf != _NO_KDF:
        return stretched(parameter.kdf, shared, parameter.shared_data, wanted)
    return last_bytes(shared, wanted)


def stretched(kdf: int, secret: bytes, shared_data: bytes, wanted: int | None) -> bytes:
    """Return what a KDF makes of a secret: `wanted` bytes, or one hash."""
    one_step = _SP_800_56_KDFS.get(kdf)
    algorithm = _KDFS[kdf] if one_step is None else one_step
    length = algorithm.digest_size if wanted is None else wanted
    if one_step is not None:
        return ConcatKDFHash(algorithm, length, shared_data or None).derive(secret)
    return X963KDF(algorithm, length, shared_data or None).derive(secret)


def _exchange(key: ReadyKey, point: bytes) -> bytes:
    handle = key.handle
    shared: bytes
    if key.key_type == Ckk.EC_MONTGOMERY:
        (octet_row,) = [row for row in MONTGOMERY if isinstance(handle, row.private)]
        content = point_content(point, (octet_row.key_bytes,))
        shared = handle.exchange(octet_row.public.from_public_bytes(content))
        return shared
    (row,) = [row for row in CURVES if row.curve.name == handle.curve.name]
    shared = handle.exchange(ec.ECDH(), read_point(row, point))
    return shared


# ------------------------------------------------------------------ HKDF


@dataclass(frozen=True, slots=True)
class HkdfChoice:
    """A checked HKDF parameter; `salt_key` refers to a key whose value is the salt."""

    algorithm: hashes.HashAlgorithm
    extract: bool
    expand: bool
    info: bytes
    salt: bytes
    salt_key: bytes | None


def hkdf(raw: bytes) -> HkdfChoice:
    """Decode CK_HKDF_PARAMS."""
    parameter = _decoded(_HKDF, raw)
    algorithm = _HASHES.get(parameter.hash_mechanism)
    if algorithm is None:
        raise _wrong(f"The hash mechanism 0x{parameter.hash_mechanism:x} is not supported.")
    if not parameter.extract and not parameter.expand:
        raise _wrong("HKDF extracts, expands or does both; neither was asked for.")
    if len(parameter.info) > MAX_TEXT_BYTES:
        raise _wrong(f"The info must have at most {MAX_TEXT_BYTES} bytes.")
    kind, salt = parameter.salt_type, parameter.salt
    if parameter.extract and kind not in {_SALT_NULL, _SALT_DATA, _SALT_KEY}:
        raise _wrong(f"The salt type {kind} is none of CKF_HKDF_SALT_NULL, _DATA and _KEY.")
    of_key = parameter.extract and kind == _SALT_KEY
    if kind == _SALT_DATA and len(salt) > MAX_TEXT_BYTES:
        raise _wrong(f"The salt must have at most {MAX_TEXT_BYTES} bytes.")
    return HkdfChoice(
        algorithm=algorithm,
        extract=parameter.extract,
        expand=parameter.expand,
        info=parameter.info,
        salt=salt if parameter.extract and kind == _SALT_DATA else b"",
        salt_key=salt if of_key else None,
    )


def hkdf_salt_key(choice: HkdfChoice) -> bytes | None:
    """Return the reference of the key that is the salt, if one is."""
    return choice.salt_key


def _hkdf(
    key: ReadyKey, salt_key: ReadyKey | None, choice: HkdfChoice, wanted: int | None
) -> bytes:
    salt = choice.salt if salt_key is None else secret_value(salt_key)
    if not choice.expand:
        return cut(HKDF.extract(choice.algorithm, salt or None, secret_value(key)), wanted)
    if wanted is None:
        raise refused(Ckr.TEMPLATE_INCOMPLETE, "CKA_VALUE_LEN is missing.")
    if not choice.extract:
        return HKDFExpand(choice.algorithm, wanted, choice.info).derive(secret_value(key))
    return HKDF(choice.algorithm, wanted, salt or None, choice.info).derive(secret_value(key))


# ------------------------------------------------------------------ concatenation and extraction


def octets(raw: bytes) -> bytes:
    """Decode CK_KEY_DERIVATION_STRING_DATA."""
    data = _decoded(_BYTES, raw)
    if not 1 <= len(data) <= SECRET_MAX_BYTES:
        raise _wrong(f"The data must have 1 to {SECRET_MAX_BYTES} bytes, not {len(data)}.")
    return data


def other_key(raw: bytes) -> bytes:
    """Decode the handle of another key: on the wire its reference."""
    return _decoded(_BYTES, raw)


def first_bit(raw: bytes) -> int:
    """Decode CK_EXTRACT_PARAMS: the number of the bit to begin with, 0 the first of the key."""
    bit = _decoded(_BIT, raw)
    if bit < 0:
        raise _wrong(f"The first bit must be 0 or more, not {bit}.")
    return bit


def _itself(reference: bytes) -> bytes:
    return reference


def _base_and_key(key: ReadyKey, other: ReadyKey | None, _: bytes, wanted: int | None) -> bytes:
    last = b"" if other is None else secret_value(other)
    return cut(secret_value(key) + last, wanted)


def _base_and_data(key: ReadyKey, _: ReadyKey | None, data: bytes, wanted: int | None) -> bytes:
    return cut(secret_value(key) + data, wanted)


def _data_and_base(key: ReadyKey, _: ReadyKey | None, data: bytes, wanted: int | None) -> bytes:
    return cut(data + secret_value(key), wanted)


def _xor(key: ReadyKey, _: ReadyKey | None, data: bytes, wanted: int | None) -> bytes:
    return cut(bytes(a ^ b for a, b in zip(secret_value(key), data, strict=False)), wanted)


def _extract(key: ReadyKey, _: ReadyKey | None, bit: int, wanted: int | None) -> bytes:
    value = secret_value(key)
    bits = 8 * len(value)
    if bit >= bits:
        raise _wrong(f"The key has {bits} bits; the first bit is {bit}.")
    if wanted is None:
        raise refused(Ckr.TEMPLATE_INCOMPLETE, "CKA_VALUE_LEN is missing.")
    # Bits are counted from the most significant one and go round at the end (PKCS #11, 6.27.7).
    whole, mask = int.from_bytes(value), (1 << bits) - 1
    turned = (whole << bit | whole >> (bits - bit)) & mask
    return cut(turned.to_bytes(len(value), "big"), wanted)


# ------------------------------------------------------------------ rows

_curves: Final = partial(
    Mechanism,
    key_types=(Ckk.EC, Ckk.EC_MONTGOMERY),
    min_key_size=min(row.order_bits for row in CURVES),
    max_key_size=max(row.order_bits for row in CURVES),
    unit="bits",
    parameter=ecdh,
    derive=_agree,
)
_secret: Final = partial(Mechanism, min_key_size=1, max_key_size=SECRET_MAX_BYTES, unit="bytes")
_any: Final = partial(_secret, key_types=(Ckk.AES, *MAC_KEYS), inherits_protection=True)
_from_hkdf: Final = partial(
    _secret,
    key_types=(Ckk.HKDF, Ckk.GENERIC_SECRET),
    parameter=hkdf,
    second_key=hkdf_salt_key,
    derive=_hkdf,
)
ROWS: Final = (
    _any(
        number=Ckm.CONCATENATE_BASE_AND_KEY,
        parameter=other_key,
        second_key=_itself,
        derive=_base_and_key,
    ),
    _any(number=Ckm.CONCATENATE_BASE_AND_DATA, parameter=octets, derive=_base_and_data),
    _any(number=Ckm.CONCATENATE_DATA_AND_BASE, parameter=octets, derive=_data_and_base),
    _any(number=Ckm.XOR_BASE_AND_DATA, parameter=octets, derive=_xor),
    _any(number=Ckm.EXTRACT_KEY_FROM_KEY, parameter=first_bit, derive=_extract),
    _curves(number=Ckm.ECDH1_DERIVE),
    # Every curve of the table has the cofactor 1 or, in RFC 7748, multiplies by it anyway.
    _curves(number=Ckm.ECDH1_COFACTOR_DERIVE),
    _from_hkdf(number=Ckm.HKDF_DERIVE),
    _from_hkdf(number=Ckm.HKDF_DATA, derives_data=True),
)
