"""RSA without padding (CKM_RSA_X_509), by the system's libcrypto.

pyca/cryptography offers no RSA without padding, and Python's integers must never see a private key
at work (rule L3).  So these two operations go to the libcrypto that Python's own `ssl` module is
linked to, which blinds the private one.  Where that library is missing the mechanism is not
advertised.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from conclave import faults
from conclave.crypto.faults import refused
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Cko
from conclave.errors import Ckr, InternalFault

_RSA_NO_PADDING: Final = 3
_POINTER: Final = ctypes.c_void_p
_BYTES: Final = ctypes.c_char_p
_SIZE: Final = ctypes.POINTER(ctypes.c_size_t)
_SIGNATURES: Final[dict[str, tuple[object, list[object]]]] = {
    "d2i_AutoPrivateKey": (_POINTER, [_POINTER, ctypes.POINTER(_BYTES), ctypes.c_long]),
    "d2i_PUBKEY": (_POINTER, [_POINTER, ctypes.POINTER(_BYTES), ctypes.c_long]),
    "EVP_PKEY_free": (None, [_POINTER]),
    "EVP_PKEY_CTX_new": (_POINTER, [_POINTER, _POINTER]),
    "EVP_PKEY_CTX_free": (None, [_POINTER]),
    "EVP_PKEY_CTX_set_rsa_padding": (ctypes.c_int, [_POINTER, ctypes.c_int]),
    "EVP_PKEY_encrypt_init": (ctypes.c_int, [_POINTER]),
    "EVP_PKEY_decrypt_init": (ctypes.c_int, [_POINTER]),
    "EVP_PKEY_encrypt": (ctypes.c_int, [_POINTER, _BYTES, _SIZE, _BYTES, ctypes.c_size_t]),
    "EVP_PKEY_decrypt": (ctypes.c_int, [_POINTER, _BYTES, _SIZE, _BYTES, ctypes.c_size_t]),
    "ERR_clear_error": (None, []),
}


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libcrypto.so.3")
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library


_LIBRARY: Final = _load()
AVAILABLE: Final = _LIBRARY is not None


class RawKey:
    """An RSA key inside libcrypto, freed with its last reference."""

    __slots__ = ("__weakref__", "pointer")

    def __init__(self, key: ReadyKey) -> None:
        library = _required()
        if key.object_class == Cko.PRIVATE_KEY:
            form = PrivateFormat.TraditionalOpenSSL
            der = key.handle.private_bytes(Encoding.DER, form, NoEncryption())
            read = library.d2i_AutoPrivateKey
        else:
            der = key.handle.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            read = library.d2i_PUBKEY
        self.pointer = read(None, ctypes.byref(_BYTES(der)), len(der))
        if not self.pointer:
            library.ERR_clear_error()
            raise InternalFault(faults.INTERNAL, "libcrypto does not read an RSA key of ours.")
        weakref.finalize(self, library.EVP_PKEY_free, self.pointer)


def private_operation(key: ReadyKey, data: bytes, *, out_of_range: Ckr = Ckr.DATA_INVALID) -> bytes:
    """Return data^d mod n; raise `out_of_range` unless data is a number below the modulus."""
    library = _required()
    return _operate(
        key, data, library.EVP_PKEY_decrypt_init, library.EVP_PKEY_decrypt, out_of_range
    )


def public_operation(key: ReadyKey, data: bytes, *, out_of_range: Ckr = Ckr.DATA_INVALID) -> bytes:
    """Return data^e mod n; raise `out_of_range` unless data is a number below the modulus."""
    library = _required()
    return _operate(
        key, data, library.EVP_PKEY_encrypt_init, library.EVP_PKEY_encrypt, out_of_range
    )


def _required() -> ctypes.CDLL:
    if _LIBRARY is None:
        raise refused(Ckr.MECHANISM_INVALID, "CKM_RSA_X_509 needs libcrypto.so.3 on this host.")
    return _LIBRARY


def _operate(
    key: ReadyKey,
    data: bytes,
    prepare: ctypes._NamedFuncPointer,
    operate: ctypes._NamedFuncPointer,
    out_of_range: Ckr,
) -> bytes:
    length = key.size_bytes
    if not 1 <= len(data) <= length:
        raise refused(
            Ckr.DATA_LEN_RANGE, f"The data must have 1 to {length} bytes, not {len(data)}."
        )
    library = _required()
    if key.extra is None:
        key.extra = RawKey(key)
    context = library.EVP_PKEY_CTX_new(key.extra.pointer, None)
    output = ctypes.create_string_buffer(length)
    size = ctypes.c_size_t(length)
    try:
        done = (
            prepare(context) > 0
            and library.EVP_PKEY_CTX_set_rsa_padding(context, _RSA_NO_PADDING) > 0
            and operate(context, output, ctypes.byref(size), data.rjust(length, b"\0"), length) > 0
        )
    finally:
        library.EVP_PKEY_CTX_free(context)
    if not done or size.value != length:
        library.ERR_clear_error()
        raise refused(out_of_range, "The data are no number below the modulus.")
    return output.raw
