"""Keys of Diffie-Hellman over numbers inside the system's libcrypto.

pyca/cryptography will remove what it has of it, and Python's integers must never see a private key
at work (rule L3).  libcrypto knows the groups, raises to secret powers in constant time and checks
that the other's number lies in the group of prime order before it is used.
"""

from __future__ import annotations

import ctypes
from typing import Final

from conclave import faults
from conclave.crypto.groups import GENERATOR, GroupRow
from conclave.crypto.libcrypto import BYTES, KEY_SIGNATURES, POINTER, SIZE, LoadedKey, loaded
from conclave.errors import InternalFault

_CHECKED: Final = 0
"""libcrypto need not look at the other's number again, which would take thrice the exchange."""
_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_OCTET_STRING: Final = 0x04
_SEQUENCE: Final = 0x30
_DH: Final = bytes.fromhex("06092a864886f70d010301")
"""dhKeyAgreement of PKCS #3."""
_VERSION: Final = bytes.fromhex("020100")
_LIBRARY: Final = loaded(
    {
        **KEY_SIGNATURES,
        "BN_bin2bn": (POINTER, [BYTES, ctypes.c_int, POINTER]),
        "BN_free": (None, [POINTER]),
        "BN_CTX_new": (POINTER, []),
        "BN_CTX_free": (None, [POINTER]),
        "BN_kronecker": (ctypes.c_int, [POINTER, POINTER, POINTER]),
        "EVP_PKEY_derive_init": (ctypes.c_int, [POINTER]),
        "EVP_PKEY_CTX_set_dh_pad": (ctypes.c_int, [POINTER, ctypes.c_int]),
        "EVP_PKEY_derive_set_peer_ex": (ctypes.c_int, [POINTER, POINTER, ctypes.c_int]),
        "EVP_PKEY_derive": (ctypes.c_int, [POINTER, BYTES, SIZE]),
    }
)
AVAILABLE: Final = _LIBRARY is not None


class NotInGroup(Exception):
    """A number is no public key of a group."""


class PrivateNumber:
    """A private key, loaded; it has no repr that could show it."""

    __slots__ = ("key", "row", "value")

    def __init__(self, row: GroupRow, value: bytes) -> None:
        self.row, self.value = row, value
        self.key = LoadedKey(_required(), private_key_info(row, value), private=True)


def exchange(private: PrivateNumber, public: bytes) -> bytes:
    """Return the secret, as long as the prime (PKCS #3); raise `NotInGroup`."""
    library, size = _required(), len(private.row.prime)
    number = public.lstrip(b"\0")
    require_in_group(private.row, number)
    peer = LoadedKey(library, public_key_info(private.row, number), private=False)
    output = ctypes.create_string_buffer(size)
    length = ctypes.c_size_t(size)
    context = library.EVP_PKEY_CTX_new(private.key.pointer, None)
    try:
        done = (
            library.EVP_PKEY_derive_init(context) > 0
            and library.EVP_PKEY_CTX_set_dh_pad(context, 1) > 0
            and library.EVP_PKEY_derive_set_peer_ex(context, peer.pointer, _CHECKED) > 0
            and library.EVP_PKEY_derive(context, output, ctypes.byref(length)) > 0
        )
    finally:
        library.EVP_PKEY_CTX_free(context)
    if not done or length.value != size:
        library.ERR_clear_error()
        raise InternalFault(faults.INTERNAL, "libcrypto does not agree on a secret.")
    return output.raw


def public_of(private: PrivateNumber) -> bytes:
    """Return the public key of a private one: what is agreed with the generator."""
    return exchange(private, GENERATOR)


def require_in_group(row: GroupRow, number: bytes) -> None:
    """Raise `NotInGroup` unless a number without leading zeros is a public key of the group.

    The prime is a safe one, 2q + 1: the group of order q is that of the squares, and of the numbers
    from 2 to p - 2 the Legendre symbol tells which these are.  That is the check of SP 800-56A,
    5.6.2.3.1, without a power.
    """
    value, prime = int.from_bytes(number), int.from_bytes(row.prime)
    if not 2 <= value <= prime - 2 or _legendre(number, row.prime) != 1:
        raise NotInGroup


def _legendre(number: bytes, prime: bytes) -> int:
    library = _required()
    context = library.BN_CTX_new()
    above, below = (library.BN_bin2bn(octets, len(octets), None) for octets in (number, prime))
    try:
        return int(library.BN_kronecker(above, below, context))
    finally:
        library.BN_free(above)
        library.BN_free(below)
        library.BN_CTX_free(context)


def _required() -> ctypes.CDLL:
    if _LIBRARY is None:
        raise InternalFault(faults.INTERNAL, "Diffie-Hellman over numbers needs libcrypto.so.3.")
    return _LIBRARY


# ------------------------------------------------------------------ DER


def _der(tag: int, *contents: bytes) -> bytes:
    content = b"".join(contents)
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8 or 1, "big")
    if len(content) > 0x7F:
        length = bytes((0x80 | len(length),)) + length
    return bytes((tag,)) + length + content


def _number(value: bytes) -> bytes:
    return _der(_INTEGER, b"\0" if value[0] & 0x80 else b"", value)


def _algorithm(row: GroupRow) -> bytes:
    return _der(_SEQUENCE, _DH, _der(_SEQUENCE, _number(row.prime), _number(GENERATOR)))


def public_key_info(row: GroupRow, number: bytes) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a number without leading zeros."""
    return _der(_SEQUENCE, _algorithm(row), _der(_BIT_STRING, b"\0", _number(number)))


def private_key_info(row: GroupRow, value: bytes) -> bytes:
    """Return the DER PrivateKeyInfo of a number without leading zeros."""
    return _der(_SEQUENCE, _VERSION, _algorithm(row), _der(_OCTET_STRING, _number(value)))


def read_private_key_info(encoded: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Return prime, generator and number of a DER PrivateKeyInfo, None for one of something else.

    The length of the private value, which PKCS #3 allows among the parameters, is skipped.
    """
    try:
        whole, after = _take(_SEQUENCE, encoded)
        _, rest = _take(_INTEGER, whole)
        algorithm, rest = _take(_SEQUENCE, rest)
        if after or not algorithm.startswith(_DH):
            return None
        parameters, _ = _take(_SEQUENCE, algorithm[len(_DH) :])
        prime, parameters = _take(_INTEGER, parameters)
        generator, _ = _take(_INTEGER, parameters)
        value, _ = _take(_INTEGER, _take(_OCTET_STRING, rest)[0])
    except ValueError:
        return None
    return prime.lstrip(b"\0"), generator.lstrip(b"\0"), value.lstrip(b"\0")


def _take(tag: int, data: bytes) -> tuple[bytes, bytes]:
    """Return the content of the value that data begin with, and what follows it."""
    if len(data) < 2 or data[0] != tag:
        raise ValueError("another value was expected")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start])
    if len(data) < start + length:
        raise ValueError("the value is cut off")
    return data[start : start + length], data[start + length :]
