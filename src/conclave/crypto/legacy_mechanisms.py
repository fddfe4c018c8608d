"""Triple DES, to read and check what exists: it decrypts and verifies, and protects nothing new.

A worker offers it only while the setting `limits.legacy_mechanisms` is true.
"""

from __future__ import annotations

import hmac
from functools import partial
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.padding import PKCS7

from conclave.crypto import parameters
from conclave.crypto.faults import refused
from conclave.crypto.material import DES3_BYTES
from conclave.crypto.mechanism_row import Evidence, Mechanism
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.secret_mechanisms import does_not_decrypt
from conclave.crypto.signatures import require_signature_length, wrong_signature
from conclave.crypto.standard import Ckk, Ckm
from conclave.errors import Ckr

_BLOCK_BYTES: Final = 8
_PADDING: Final = PKCS7(8 * _BLOCK_BYTES)
_BYTES: Final = msgspec.msgpack.Decoder(bytes)


def des_vector(raw: bytes) -> bytes:
    """Decode the initialisation vector of CBC: 8 bytes."""
    vector = parameters.decode(_BYTES, raw)
    if len(vector) != _BLOCK_BYTES:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID,
            f"The initialisation vector has 8 bytes; {len(vector)} were given.",
        )
    return vector


def _open(key: ReadyKey, mode: modes.ECB | modes.CBC, data: bytes) -> bytes:
    if len(data) % _BLOCK_BYTES:
        raise refused(
            Ckr.ENCRYPTED_DATA_LEN_RANGE,
            f"The input must be whole blocks of 8 bytes, not {len(data)} bytes.",
        )
    context = Cipher(key.handle, mode).decryptor()
    return context.update(data) + context.finalize()


def _decrypt_ecb(key: ReadyKey, _: None, data: bytes) -> bytes:
    return _open(key, modes.ECB(), data)  # noqa: S305 - the standard has it


def _decrypt_cbc(key: ReadyKey, vector: bytes, data: bytes) -> bytes:
    return _open(key, modes.CBC(vector), data)


def _decrypt_cbc_pad(key: ReadyKey, vector: bytes, data: bytes) -> bytes:
    if not data:
        raise refused(Ckr.ENCRYPTED_DATA_LEN_RANGE, "The ciphertext has at least one block.")
    unpadder = _PADDING.unpadder()
    padded = _open(key, modes.CBC(vector), data)
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise does_not_decrypt() from None


def _verify_cmac(key: ReadyKey, _: None, data: bytes, signature: bytes, _prehashed: bool) -> None:
    require_signature_length(signature, _BLOCK_BYTES)
    context = CMAC(key.handle)
    context.update(data)
    if not hmac.compare_digest(signature, context.finalize()):
        raise wrong_signature()


_des3: Final = partial(
    Mechanism,
    key_types=(Ckk.DES3,),
    min_key_size=DES3_BYTES,
    max_key_size=DES3_BYTES,
    unit="bytes",
    legacy=True,
    proof=Evidence.IN_WORKER,
)
ROWS: Final = (
    _des3(number=Ckm.DES3_ECB, decrypt=_decrypt_ecb),
    _des3(number=Ckm.DES3_CBC, parameter=des_vector, decrypt=_decrypt_cbc),
    _des3(number=Ckm.DES3_CBC_PAD, parameter=des_vector, decrypt=_decrypt_cbc_pad),
    _des3(number=Ckm.DES3_CMAC, verify=_verify_cmac),
)
