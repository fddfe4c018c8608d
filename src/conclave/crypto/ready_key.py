"""Load an object's attributes into a key that is ready for work.

A ready key is made once and kept by the worker.  Its attributes come out of our own authenticated
blobs and were checked when the object was made (`conclave.crypto.material`), so nothing is checked
again: checking an RSA key's primes takes 40 ms, loading it a few microseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from conclave.crypto.curves import (
    OctetPrivateKey,
    OctetPublicKey,
    curve_of,
    octet_curve_of,
    point_content,
    read_point,
)
from conclave.crypto.faults import refused
from conclave.crypto.groups import group_of
from conclave.crypto.lattices import LATTICES, LatticePrivateKey, LatticePublicKey, row_of
from conclave.crypto.number_exchange import PrivateNumber
from conclave.crypto.standard import Cka, Ckf, Ckk, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import (
    KEY_CLASSES,
    MAC_KEYS,
    TRUE,
    ULONG_BYTES,
    Attributes,
    key_type,
    object_class,
    read_ulong,
)

_USAGE: Final = (
    (Cka.ENCRYPT, Ckf.ENCRYPT),
    (Cka.DECRYPT, Ckf.DECRYPT),
    (Cka.SIGN, Ckf.SIGN),
    (Cka.SIGN_RECOVER, Ckf.SIGN_RECOVER),
    (Cka.VERIFY, Ckf.VERIFY),
    (Cka.VERIFY_RECOVER, Ckf.VERIFY_RECOVER),
    (Cka.WRAP, Ckf.WRAP),
    (Cka.UNWRAP, Ckf.UNWRAP),
    (Cka.DERIVE, Ckf.DERIVE),
    (Cka.ENCAPSULATE, Ckf.ENCAPSULATE),
    (Cka.DECAPSULATE, Ckf.DECAPSULATE),
)
_IN_CONTEXT: Final = Ckf.SIGN | Ckf.SIGN_RECOVER | Ckf.DECRYPT


@dataclass(slots=True, eq=False, repr=False)
class ReadyKey:
    """A key to work with; it has no repr that could show its secret."""

    object_class: int
    key_type: int
    size_bits: int
    size_bytes: int
    """Bytes of the modulus, of the curve's order, or of a secret key."""
    usage: int
    """The Ckf bits that the key permits."""
    allowed_mechanisms: frozenset[int]
    """Empty means any."""
    handle: Any
    """The loaded key of pyca/cryptography; for a MAC key its bytes."""
    context_usage: int = 0
    """What it permits after a context login; `usage` of such a key is empty."""
    gcm: AESGCM | None = None
    extra: Any = None
    """What one family of mechanisms keeps with the key."""


def usage_of(attributes: Attributes) -> int:
    """Return the Ckf bits that a key's attributes permit.

    A key that asks for the password before each use neither unwraps nor derives: the standard has
    a context for what has a C_SignInit or C_DecryptInit only.
    """
    usage = 0
    for number, flag in _USAGE:
        if attributes.get(number) == TRUE:
            usage |= flag.value
    return usage & _IN_CONTEXT if attributes.get(Cka.ALWAYS_AUTHENTICATE) == TRUE else usage


def _split_usage(attributes: Attributes) -> tuple[int, int]:
    """Return what a key permits freely, and what after a context login."""
    usage = usage_of(attributes)
    return (0, usage) if attributes.get(Cka.ALWAYS_AUTHENTICATE) == TRUE else (usage, 0)


def key_size_bits(attributes: Attributes) -> int:
    """Return the size of a key: of the modulus, prime, curve's order or the secret value."""
    kind = key_type(attributes)
    if kind == Ckk.RSA:
        return int.from_bytes(attributes[Cka.MODULUS]).bit_length()
    if kind == Ckk.EC:
        return curve_of(attributes[Cka.EC_PARAMS]).order_bits
    if kind in {Ckk.EC_EDWARDS, Ckk.EC_MONTGOMERY}:
        return octet_curve_of(kind, attributes[Cka.EC_PARAMS]).bits
    if kind == Ckk.DH:
        return group_of(attributes).bits
    if kind in LATTICES:
        return 8 * row_of(attributes).public_bytes
    return 8 * len(attributes[Cka.VALUE])


def is_key(attributes: Attributes) -> bool:
    """Return whether an object is a key."""
    return object_class(attributes) in KEY_CLASSES


def load_key(attributes: Attributes) -> ReadyKey:
    """Make an object ready for work; raise CKR_KEY_HANDLE_INVALID when it is no key."""
    if not is_key(attributes):
        raise refused(
            Ckr.KEY_HANDLE_INVALID, "The object is a certificate or data; a key is needed."
        )
    klass, kind = object_class(attributes), key_type(attributes)
    handle = _LOADERS[klass, kind](attributes)
    bits = key_size_bits(attributes)
    usage, context_usage = _split_usage(attributes)
    return ReadyKey(
        object_class=klass,
        key_type=kind,
        size_bits=bits,
        size_bytes=(bits + 7) // 8,
        usage=usage,
        context_usage=context_usage,
        allowed_mechanisms=_mechanisms(attributes.get(Cka.ALLOWED_MECHANISMS, b"")),
        handle=handle,
        gcm=AESGCM(attributes[Cka.VALUE]) if kind == Ckk.AES else None,
    )


def _mechanisms(value: bytes) -> frozenset[int]:
    return frozenset(
        read_ulong(value[start : start + ULONG_BYTES])
        for start in range(0, len(value), ULONG_BYTES)
    )


def _number(attributes: Attributes, number: Cka) -> int:
    return int.from_bytes(attributes[number])


def rsa_public_numbers(attributes: Attributes) -> rsa.RSAPublicNumbers:
    """Return the public numbers of an RSA key, public or private."""
    return rsa.RSAPublicNumbers(
        e=_number(attributes, Cka.PUBLIC_EXPONENT), n=_number(attributes, Cka.MODULUS)
    )


def rsa_private_numbers(attributes: Attributes) -> rsa.RSAPrivateNumbers:
    """Return the numbers of an RSA private key as the attributes hold them, unchecked."""
    return rsa.RSAPrivateNumbers(
        p=_number(attributes, Cka.PRIME_1),
        q=_number(attributes, Cka.PRIME_2),
        d=_number(attributes, Cka.PRIVATE_EXPONENT),
        dmp1=_number(attributes, Cka.EXPONENT_1),
        dmq1=_number(attributes, Cka.EXPONENT_2),
        iqmp=_number(attributes, Cka.COEFFICIENT),
        public_numbers=rsa_public_numbers(attributes),
    )


def _load_rsa_private(attributes: Attributes) -> rsa.RSAPrivateKey:
    return rsa_private_numbers(attributes).private_key(unsafe_skip_rsa_key_validation=True)


def _load_rsa_public(attributes: Attributes) -> rsa.RSAPublicKey:
    return rsa_public_numbers(attributes).public_key()


def _load_ec_private(attributes: Attributes) -> ec.EllipticCurvePrivateKey:
    # With the public point at hand OpenSSL checks it, which is half as dear as computing it.
    point = read_point(curve_of(attributes[Cka.EC_PARAMS]), attributes[Cka.EC_POINT])
    numbers = ec.EllipticCurvePrivateNumbers(_number(attributes, Cka.VALUE), point.public_numbers())
    return numbers.private_key()


def _load_ec_public(attributes: Attributes) -> ec.EllipticCurvePublicKey:
    return read_point(curve_of(attributes[Cka.EC_PARAMS]), attributes[Cka.EC_POINT])


def _load_octet_curve_private(attributes: Attributes) -> OctetPrivateKey:
    row = octet_curve_of(key_type(attributes), attributes[Cka.EC_PARAMS])
    return row.private.from_private_bytes(attributes[Cka.VALUE])


def _load_octet_curve_public(attributes: Attributes) -> OctetPublicKey:
    row = octet_curve_of(key_type(attributes), attributes[Cka.EC_PARAMS])
    content = point_content(attributes[Cka.EC_POINT], (row.key_bytes,))
    return row.public.from_public_bytes(content)


def _load_dh_private(attributes: Attributes) -> PrivateNumber:
    return PrivateNumber(group_of(attributes), attributes[Cka.VALUE])


def _load_lattice_private(attributes: Attributes) -> LatticePrivateKey:
    return row_of(attributes).private.from_seed_bytes(attributes[Cka.SEED])


def _load_lattice_public(attributes: Attributes) -> LatticePublicKey:
    return row_of(attributes).public.from_public_bytes(attributes[Cka.VALUE])


def _load_aes(attributes: Attributes) -> algorithms.AES:
    return algorithms.AES(attributes[Cka.VALUE])


def _load_chacha20(attributes: Attributes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(attributes[Cka.VALUE])


def _load_des3(attributes: Attributes) -> TripleDES:
    return TripleDES(attributes[Cka.VALUE])


def _load_bytes(attributes: Attributes) -> bytes:
    return attributes[Cka.VALUE]


_LOADERS: Final[dict[tuple[int, int], Callable[[Attributes], object]]] = {
    (Cko.PRIVATE_KEY, Ckk.RSA): _load_rsa_private,
    (Cko.PUBLIC_KEY, Ckk.RSA): _load_rsa_public,
    (Cko.PRIVATE_KEY, Ckk.EC): _load_ec_private,
    (Cko.PUBLIC_KEY, Ckk.EC): _load_ec_public,
    (Cko.PRIVATE_KEY, Ckk.EC_EDWARDS): _load_octet_curve_private,
    (Cko.PUBLIC_KEY, Ckk.EC_EDWARDS): _load_octet_curve_public,
    (Cko.PRIVATE_KEY, Ckk.EC_MONTGOMERY): _load_octet_curve_private,
    (Cko.PUBLIC_KEY, Ckk.EC_MONTGOMERY): _load_octet_curve_public,
    (Cko.PRIVATE_KEY, Ckk.DH): _load_dh_private,
    (Cko.PUBLIC_KEY, Ckk.DH): _load_bytes,
    **{(Cko.PRIVATE_KEY, kind): _load_lattice_private for kind in LATTICES},
    **{(Cko.PUBLIC_KEY, kind): _load_lattice_public for kind in LATTICES},
    (Cko.SECRET_KEY, Ckk.AES): _load_aes,
    (Cko.SECRET_KEY, Ckk.AES_XTS): _load_aes,
    (Cko.SECRET_KEY, Ckk.CHACHA20): _load_chacha20,
    (Cko.SECRET_KEY, Ckk.DES3): _load_des3,
    (Cko.SECRET_KEY, Ckk.HKDF): _load_bytes,
    **{(Cko.SECRET_KEY, kind): _load_bytes for kind in MAC_KEYS},
}
