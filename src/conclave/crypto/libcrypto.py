"""The system's libcrypto, for what pyca/cryptography lacks and Python must not compute (rule L3).

It is the library that Python's own `ssl` module is linked to.  Where it is missing, or lacks a
function, the mechanisms that need it are not advertised.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping
from typing import Any, Final

from conclave import faults
from conclave.errors import InternalFault

POINTER: Final = ctypes.c_void_p
BYTES: Final = ctypes.c_char_p
SIZE: Final = ctypes.POINTER(ctypes.c_size_t)

Signatures = Mapping[str, tuple[Any, list[Any]]]
"""By name of a function: the type of its result and those of its arguments."""
KEY_SIGNATURES: Final[Signatures] = {
    "d2i_AutoPrivateKey": (POINTER, [POINTER, ctypes.POINTER(BYTES), ctypes.c_long]),
    "d2i_PUBKEY": (POINTER, [POINTER, ctypes.POINTER(BYTES), ctypes.c_long]),
    "EVP_PKEY_free": (None, [POINTER]),
    "EVP_PKEY_CTX_new": (POINTER, [POINTER, POINTER]),
    "EVP_PKEY_CTX_free": (None, [POINTER]),
    "ERR_clear_error": (None, []),
}


def loaded(signatures: Signatures) -> ctypes.CDLL | None:
    """Return the library with the functions that are named, None where it has not all of them."""
    try:
        library = ctypes.CDLL("libcrypto.so.3")
        for name, (result, arguments) in signatures.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError):
        return None
    return library


class LoadedKey:
    """A key inside libcrypto, freed with its last reference."""

    __slots__ = ("__weakref__", "pointer")

    def __init__(self, library: ctypes.CDLL, der: bytes, *, private: bool) -> None:
        read = library.d2i_AutoPrivateKey if private else library.d2i_PUBKEY
        self.pointer = read(None, ctypes.byref(BYTES(der)), len(der))
        if not self.pointer:
            library.ERR_clear_error()
            raise InternalFault(faults.INTERNAL, "libcrypto does not read a key of ours.")
        weakref.finalize(self, library.EVP_PKEY_free, self.pointer)
