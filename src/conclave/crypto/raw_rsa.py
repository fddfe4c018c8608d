"""RSA without padding (CKM_RSA_X_509), by the system's libcrypto.

pyca/cryptography offers no RSA without padding, and Python's integers must never see a private key
at work (rule L3).  So these two operations go to the libcrypto that Python's own `ssl` module is
linked to, which blinds the private one.  Where that library is missing the mechanism is not
advertised.
"""

from __future__ import annotations

import ctypes
from typing import Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from conclave.crypto.faults import refused
from conclave.crypto.libcrypto import BYTES, KEY_SIGNATURES, POINTER, SIZE, LoadedKey, loaded
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Cko
from conclave.errors import Ckr

_RSA_NO_PADDING: Final = 3
_WORKS: Final = (ctypes.c_int, [POINTER, BYTES, SIZE, BYTES, ctypes.c_size_t])
_LIBRARY: Final = loaded(
    {
        **KEY_SIGNATURES,
        "EVP_PKEY_CTX_set_rsa_padding": (ctypes.c_int, [POINTER, ctypes.c_int]),
        "EVP_PKEY_encrypt_init": (ctypes.c_int, [POINTER]),
        "EVP_PKEY_decrypt_init": (ctypes.c_int, [POINTER]),
        "EVP_PKEY_encrypt": _WORKS,
        "EVP_PKEY_decrypt": _WORKS,
    }
)
AVAILABLE: Final = _LIBRARY is not None


def _raw_key(key: ReadyKey) -> LoadedKey:
    private = key.object_class == Cko.PRIVATE_KEY
    if private:
        form = PrivateFormat.TraditionalOpenSSL
        der = key.handle.private_bytes(Encoding.DER, form, NoEncryption())
    else:
        der = key.handle.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return LoadedKey(_required(), der, private=private)


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
        key.extra = _raw_key(key)
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
