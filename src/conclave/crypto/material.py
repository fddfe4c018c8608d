"""Check key material once, when an object is created, and compute what follows from it.

Invariant: an object that exists has sound material.  `conclave.crypto.ready_key` builds on that and
checks nothing again.

CKA_PRIME_1 and its like are required although the standard lets an application leave them out:
recovering them from the private exponent would mean arithmetic on secrets in Python.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from conclave.crypto import number_exchange
from conclave.crypto.curves import (
    OctetPublicKey,
    curve_of,
    octet_curve_of,
    octet_string,
    point_content,
    read_point,
    write_point,
)
from conclave.crypto.faults import refused
from conclave.crypto.groups import group_of
from conclave.crypto.lattices import LATTICES, LatticePublicKey, row_of
from conclave.crypto.ready_key import rsa_private_numbers, rsa_public_numbers
from conclave.crypto.standard import Cka, Ckk, Ckm, Cko, name_of
from conclave.errors import Ckr
from conclave.keyring.attributes import MAC_KEYS, Attributes, key_type, object_class, ulong

RSA_MIN_BITS: Final = 2048
RSA_MAX_BITS: Final = 4096
RSA_MAX_EXPONENT_BITS: Final = 64
AES_SIZES: Final = (16, 24, 32)
XTS_SIZES: Final = (32, 64)
"""Two AES keys of the same length."""
CHACHA20_BYTES: Final = 32
DES3_BYTES: Final = 24
SECRET_MAX_BYTES: Final = 512
CHECK_VALUE_BYTES: Final = 3

PublicKey = ec.EllipticCurvePublicKey | OctetPublicKey | LatticePublicKey | rsa.RSAPublicKey


def complete_material(attributes: Attributes) -> Attributes:
    """Return what the token computes for a new object; raise when its material is not sound.

    An attribute that the application gave and the token computes must agree, or the template is
    refused with CKR_TEMPLATE_INCONSISTENT.
    """
    klass = object_class(attributes)
    if klass == Cko.DATA:
        return {}
    if klass == Cko.CERTIFICATE:
        return _certificate(attributes)
    return _CHECKS[klass, int.from_bytes(attributes[Cka.KEY_TYPE], "little")](attributes)


def public_key_info(key: PublicKey) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a public key: CKA_PUBLIC_KEY_INFO."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_bits_in_range(bits: int) -> bool:
    """Return whether RSA keys of this size are supported."""
    return RSA_MIN_BITS <= bits <= RSA_MAX_BITS and bits % 8 == 0


def _invalid(sentence: str) -> Exception:
    return refused(Ckr.ATTRIBUTE_VALUE_INVALID, sentence)


def _agreed(attributes: Attributes, number: Cka, computed: bytes) -> bytes:
    given = attributes.get(number)
    if given is not None and not hmac.compare_digest(given, computed):
        raise refused(
            Ckr.TEMPLATE_INCONSISTENT,
            f"{name_of(Cka, number)} contradicts the rest of the template; leave it out.",
        )
    return computed


# ------------------------------------------------------------------ RSA


def _require_rsa_size(attributes: Attributes) -> int:
    modulus = int.from_bytes(attributes[Cka.MODULUS])
    bits = modulus.bit_length()
    if modulus % 2 == 0:
        raise _invalid("CKA_MODULUS must be odd; it is even.")
    if not rsa_bits_in_range(bits):
        raise _invalid(
            f"CKA_MODULUS must have {RSA_MIN_BITS} to {RSA_MAX_BITS} bits in whole bytes;"
            f" it has {bits}."
        )
    exponent = int.from_bytes(attributes[Cka.PUBLIC_EXPONENT])
    if exponent.bit_length() > RSA_MAX_EXPONENT_BITS or exponent < 3 or exponent % 2 == 0:
        raise _invalid(
            f"CKA_PUBLIC_EXPONENT must be an odd number from 3 to 2^{RSA_MAX_EXPONENT_BITS}."
        )
    return bits


def _rsa_public(attributes: Attributes) -> Attributes:
    bits = _require_rsa_size(attributes)
    try:
        key = rsa_public_numbers(attributes).public_key()
    except ValueError as error:
        raise _invalid("CKA_MODULUS and CKA_PUBLIC_EXPONENT are no RSA public key.") from error
    return {
        Cka.MODULUS_BITS: _agreed(attributes, Cka.MODULUS_BITS, ulong(bits)),
        Cka.PUBLIC_KEY_INFO: _agreed(attributes, Cka.PUBLIC_KEY_INFO, public_key_info(key)),
    }


_RSA_SECRETS: Final = (
    Cka.PRIVATE_EXPONENT,
    Cka.PRIME_1,
    Cka.PRIME_2,
    Cka.EXPONENT_1,
    Cka.EXPONENT_2,
    Cka.COEFFICIENT,
)


def _rsa_private(attributes: Attributes) -> Attributes:
    bits = _require_rsa_size(attributes)
    for number in _RSA_SECRETS:
        if not 1 <= len(attributes[number]) <= bits // 8:
            raise _invalid(f"{name_of(Cka, number)} must be shorter than the modulus and not 0.")
    try:
        key = rsa_private_numbers(attributes).private_key()
    except ValueError:
        # The cause's text is the library's and may quote numbers: it stays here.
        raise _invalid("The parts of the RSA private key do not belong together.") from None
    info = public_key_info(key.public_key())
    return {Cka.PUBLIC_KEY_INFO: _agreed(attributes, Cka.PUBLIC_KEY_INFO, info)}


# ------------------------------------------------------------------ curves


def _ec_public(attributes: Attributes) -> Attributes:
    key = read_point(curve_of(attributes[Cka.EC_PARAMS]), attributes[Cka.EC_POINT])
    info = public_key_info(key)
    return {
        Cka.EC_POINT: write_point(key),
        Cka.PUBLIC_KEY_INFO: _agreed(attributes, Cka.PUBLIC_KEY_INFO, info),
    }


def _ec_private(attributes: Attributes) -> Attributes:
    row = curve_of(attributes[Cka.EC_PARAMS])
    if not 1 <= len(attributes[Cka.VALUE]) <= row.order_bytes:
        raise _invalid(f"CKA_VALUE must be a number of 1 to {row.order_bytes} bytes on {row.name}.")
    try:
        key = ec.derive_private_key(int.from_bytes(attributes[Cka.VALUE]), row.curve)
    except ValueError:
        raise _invalid(f"CKA_VALUE must lie between 0 and the order of {row.name}.") from None
    computed = _curve_facts(key.public_key())
    if Cka.EC_POINT in attributes:
        given: Attributes = {Cka.EC_POINT: write_point(read_point(row, attributes[Cka.EC_POINT]))}
        _agreed(given, Cka.EC_POINT, computed[Cka.EC_POINT])
    _agreed(attributes, Cka.PUBLIC_KEY_INFO, computed[Cka.PUBLIC_KEY_INFO])
    return computed


def _curve_facts(key: ec.EllipticCurvePublicKey) -> Attributes:
    return {Cka.EC_POINT: write_point(key), Cka.PUBLIC_KEY_INFO: public_key_info(key)}


def _octet_curve_facts(key: OctetPublicKey) -> Attributes:
    return {
        Cka.EC_POINT: octet_string(key.public_bytes_raw()),
        Cka.PUBLIC_KEY_INFO: public_key_info(key),
    }


def _octet_curve_public(attributes: Attributes) -> Attributes:
    row = octet_curve_of(key_type(attributes), attributes[Cka.EC_PARAMS])
    content = point_content(attributes[Cka.EC_POINT], (row.key_bytes,))
    computed = _octet_curve_facts(row.public.from_public_bytes(content))
    _agreed(attributes, Cka.PUBLIC_KEY_INFO, computed[Cka.PUBLIC_KEY_INFO])
    return computed


def _octet_curve_private(attributes: Attributes) -> Attributes:
    row = octet_curve_of(key_type(attributes), attributes[Cka.EC_PARAMS])
    value = attributes[Cka.VALUE]
    if len(value) != row.key_bytes:
        raise _invalid(
            f"CKA_VALUE of a key on {row.name} has {row.key_bytes} bytes, not {len(value)}."
        )
    computed = _octet_curve_facts(row.private.from_private_bytes(value).public_key())
    if Cka.EC_POINT in attributes:
        content = point_content(attributes[Cka.EC_POINT], (row.key_bytes,))
        given: Attributes = {Cka.EC_POINT: octet_string(content)}
        _agreed(given, Cka.EC_POINT, computed[Cka.EC_POINT])
    _agreed(attributes, Cka.PUBLIC_KEY_INFO, computed[Cka.PUBLIC_KEY_INFO])
    return computed


# ------------------------------------------------------------------ Diffie-Hellman over numbers


def _dh_public(attributes: Attributes) -> Attributes:
    row, value = group_of(attributes), attributes[Cka.VALUE]
    try:
        number_exchange.require_in_group(row, value)
    except number_exchange.NotInGroup:
        raise _invalid(f"CKA_VALUE is no public key of {row.name}.") from None
    info = number_exchange.public_key_info(row, value)
    return {Cka.PUBLIC_KEY_INFO: _agreed(attributes, Cka.PUBLIC_KEY_INFO, info)}


def _dh_private(attributes: Attributes) -> Attributes:
    row, value = group_of(attributes), attributes[Cka.VALUE]
    # The prime is 2q + 1: half of it is the order q.
    if not value or int.from_bytes(value) >= int.from_bytes(row.prime) // 2:
        raise _invalid(f"CKA_VALUE must lie between 0 and the order of {row.name}.")
    public = number_exchange.public_of(number_exchange.PrivateNumber(row, value))
    info = number_exchange.public_key_info(row, public.lstrip(b"\0"))
    bits = ulong(int.from_bytes(value).bit_length())
    return {
        Cka.VALUE_BITS: _agreed(attributes, Cka.VALUE_BITS, bits),
        Cka.PUBLIC_KEY_INFO: _agreed(attributes, Cka.PUBLIC_KEY_INFO, info),
    }


# ------------------------------------------------------------------ lattices


def _lattice_public(attributes: Attributes) -> Attributes:
    row = row_of(attributes)
    try:
        key = row.public.from_public_bytes(attributes[Cka.VALUE])
    except ValueError:
        raise _invalid(f"CKA_VALUE is no public key of {row.name}.") from None
    info = public_key_info(key)
    return {Cka.PUBLIC_KEY_INFO: _agreed(attributes, Cka.PUBLIC_KEY_INFO, info)}


def _lattice_private(attributes: Attributes) -> Attributes:
    row, seed = row_of(attributes), attributes[Cka.SEED]
    if len(seed) != row.seed_bytes:
        raise _invalid(f"CKA_SEED of {row.name} has {row.seed_bytes} bytes, not {len(seed)}.")
    info = public_key_info(row.private.from_seed_bytes(seed).public_key())
    return {Cka.PUBLIC_KEY_INFO: _agreed(attributes, Cka.PUBLIC_KEY_INFO, info)}


# ------------------------------------------------------------------ secret keys


def _aes(attributes: Attributes) -> Attributes:
    value = attributes[Cka.VALUE]
    if len(value) not in AES_SIZES:
        raise _invalid(f"CKA_VALUE of an AES key has 16, 24 or 32 bytes, not {len(value)}.")
    # The standard defines the check value as the encryption of one zero block.
    encryptor = Cipher(algorithms.AES(value), modes.ECB()).encryptor()  # noqa: S305 - one block
    return _secret_facts(attributes, encryptor.update(bytes(16)))


def _aes_xts(attributes: Attributes) -> Attributes:
    value = attributes[Cka.VALUE]
    if len(value) not in XTS_SIZES:
        raise _invalid(f"CKA_VALUE of an AES-XTS key has 32 or 64 bytes, not {len(value)}.")
    middle = len(value) // 2
    if hmac.compare_digest(value[:middle], value[middle:]):
        raise _invalid("The two halves of an AES-XTS key must differ (SP 800-38E).")
    return _secret_facts(attributes, _sha1(value))


def _des3(attributes: Attributes) -> Attributes:
    value = attributes[Cka.VALUE]
    if len(value) != DES3_BYTES:
        raise _invalid(f"CKA_VALUE of a triple DES key has 24 bytes, not {len(value)}.")
    encryptor = Cipher(TripleDES(value), modes.ECB()).encryptor()  # noqa: S305 - one block
    return _secret_facts(attributes, encryptor.update(bytes(8)))


def _chacha20(attributes: Attributes) -> Attributes:
    value = attributes[Cka.VALUE]
    if len(value) != CHACHA20_BYTES:
        raise _invalid(f"CKA_VALUE of a ChaCha20 key has 32 bytes, not {len(value)}.")
    return _secret_facts(attributes, _sha1(value))


def _generic(attributes: Attributes) -> Attributes:
    value = attributes[Cka.VALUE]
    if not 1 <= len(value) <= SECRET_MAX_BYTES:
        raise _invalid(f"CKA_VALUE must have 1 to {SECRET_MAX_BYTES} bytes, not {len(value)}.")
    return _secret_facts(attributes, _sha1(value))


def _sha1(value: bytes) -> bytes:
    # The standard defines these check values by SHA-1.
    return hashlib.sha1(value, usedforsecurity=False).digest()


def _secret_facts(attributes: Attributes, check: bytes) -> Attributes:
    length = ulong(len(attributes[Cka.VALUE]))
    return {
        Cka.VALUE_LEN: _agreed(attributes, Cka.VALUE_LEN, length),
        Cka.CHECK_VALUE: _check_value(attributes, check),
    }


def _check_value(attributes: Attributes, check: bytes) -> bytes:
    # An application that gives an empty check value wants none.
    if attributes.get(Cka.CHECK_VALUE) == b"":
        return b""
    return _agreed(attributes, Cka.CHECK_VALUE, check[:CHECK_VALUE_BYTES])


# ------------------------------------------------------------------ certificates


def _certificate(attributes: Attributes) -> Attributes:
    value = attributes[Cka.VALUE]
    if not value and not attributes[Cka.URL]:
        raise refused(Ckr.TEMPLATE_INCOMPLETE, "A certificate needs CKA_VALUE or CKA_URL.")
    facts = _parsed_certificate(value)
    if Cka.SUBJECT not in attributes and Cka.SUBJECT not in facts:
        raise refused(
            Ckr.TEMPLATE_INCOMPLETE, "CKA_SUBJECT is missing and CKA_VALUE does not tell it."
        )
    # Applications store certificates that no strict parser takes; what they state is kept.
    offered = {number: fact for number, fact in facts.items() if not attributes.get(number)}
    offered[Cka.CHECK_VALUE] = _check_value(attributes, _sha1(value)) if value else b""
    if attributes[Cka.URL] and Cka.NAME_HASH_ALGORITHM not in attributes:
        offered[Cka.NAME_HASH_ALGORITHM] = ulong(Ckm.SHA_1)
    return offered


def _parsed_certificate(value: bytes) -> Attributes:
    if not value:
        return {}
    try:
        certificate = x509.load_der_x509_certificate(value)
        return {
            Cka.SUBJECT: certificate.subject.public_bytes(),
            Cka.ISSUER: certificate.issuer.public_bytes(),
            Cka.SERIAL_NUMBER: _der_integer(certificate.serial_number),
            Cka.PUBLIC_KEY_INFO: certificate.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            ),
        }
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return {}


def _der_integer(number: int) -> bytes:
    content = number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True)
    if len(content) > 0x7F:
        raise ValueError("A serial number has at most 20 bytes (RFC 5280).")
    return bytes((0x02, len(content))) + content


_CHECKS: Final[dict[tuple[int, int], Callable[[Attributes], Attributes]]] = {
    (Cko.PUBLIC_KEY, Ckk.RSA): _rsa_public,
    (Cko.PRIVATE_KEY, Ckk.RSA): _rsa_private,
    (Cko.PUBLIC_KEY, Ckk.EC): _ec_public,
    (Cko.PRIVATE_KEY, Ckk.EC): _ec_private,
    (Cko.PUBLIC_KEY, Ckk.EC_EDWARDS): _octet_curve_public,
    (Cko.PRIVATE_KEY, Ckk.EC_EDWARDS): _octet_curve_private,
    (Cko.PUBLIC_KEY, Ckk.EC_MONTGOMERY): _octet_curve_public,
    (Cko.PRIVATE_KEY, Ckk.EC_MONTGOMERY): _octet_curve_private,
    (Cko.PUBLIC_KEY, Ckk.DH): _dh_public,
    (Cko.PRIVATE_KEY, Ckk.DH): _dh_private,
    **{(Cko.PUBLIC_KEY, kind): _lattice_public for kind in LATTICES},
    **{(Cko.PRIVATE_KEY, kind): _lattice_private for kind in LATTICES},
    (Cko.SECRET_KEY, Ckk.AES): _aes,
    (Cko.SECRET_KEY, Ckk.AES_XTS): _aes_xts,
    (Cko.SECRET_KEY, Ckk.CHACHA20): _chacha20,
    (Cko.SECRET_KEY, Ckk.DES3): _des3,
    (Cko.SECRET_KEY, Ckk.HKDF): _generic,
    **{(Cko.SECRET_KEY, kind): _generic for kind in MAC_KEYS},
}
