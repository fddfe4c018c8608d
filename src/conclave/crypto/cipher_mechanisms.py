"""AES-CCM, AES-XTS, ChaCha20-Poly1305, CMAC and GMAC.

A ReadyKey of CKK_AES keeps the cipher, one of CKK_AES_XTS or CKK_CHACHA20 its bytes or its AEAD.
"""

from __future__ import annotations

import hmac
from functools import partial
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.cmac import CMAC

from conclave.crypto import parameters
from conclave.crypto.faults import refused
from conclave.crypto.material import AES_SIZES, CHACHA20_BYTES, XTS_SIZES
from conclave.crypto.mechanism_row import Mechanism
from conclave.crypto.parameters import AES_BLOCK_BYTES
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.secret_mechanisms import does_not_decrypt, generator
from conclave.crypto.signatures import require_signature_length, wrong_signature
from conclave.crypto.standard import Ckk, Ckm
from conclave.errors import Ckr
from conclave.service.wire import CcmParameter, ChaChaParameter, GcmParameter

_TAG_BYTES: Final = 16

# ------------------------------------------------------------------ CCM


def _ccm_of(key: ReadyKey, tag_bytes: int) -> AESCCM:
    return AESCCM(key.handle.key, tag_bytes)


def _ccm_length(parameter: CcmParameter, length: int, ckr: Ckr) -> None:
    if parameter.data_bytes != length:
        raise refused(
            ckr, f"CK_CCM_PARAMS names {parameter.data_bytes} bytes of data; there are {length}."
        )
    if length >= 1 << 8 * (15 - len(parameter.nonce)):
        raise refused(ckr, f"With this nonce {length} bytes are too many.")


def _encrypt_ccm(key: ReadyKey, parameter: CcmParameter, data: bytes) -> bytes:
    _ccm_length(parameter, len(data), Ckr.DATA_LEN_RANGE)
    cipher = _ccm_of(key, parameter.tag_bytes)
    return cipher.encrypt(parameter.nonce, data, parameter.additional_data)


def _decrypt_ccm(key: ReadyKey, parameter: CcmParameter, data: bytes) -> bytes:
    _ccm_length(parameter, len(data) - parameter.tag_bytes, Ckr.ENCRYPTED_DATA_LEN_RANGE)
    cipher = _ccm_of(key, parameter.tag_bytes)
    try:
        return cipher.decrypt(parameter.nonce, data, parameter.additional_data)
    except InvalidTag:
        raise does_not_decrypt() from None


# ------------------------------------------------------------------ XTS

_XTS_MOST_BYTES: Final = AES_BLOCK_BYTES << 20
"""IEEE 1619: a data unit has at most 2^20 blocks."""


def _xts(key: ReadyKey, tweak: bytes, data: bytes, *, encrypt: bool) -> bytes:
    if not AES_BLOCK_BYTES <= len(data) <= _XTS_MOST_BYTES:
        ckr = Ckr.DATA_LEN_RANGE if encrypt else Ckr.ENCRYPTED_DATA_LEN_RANGE
        raise refused(ckr, f"A data unit has 16 bytes to 2^20 blocks, not {len(data)} bytes.")
    cipher = Cipher(key.handle, modes.XTS(tweak))
    context = cipher.encryptor() if encrypt else cipher.decryptor()
    return context.update(data) + context.finalize()


def _encrypt_xts(key: ReadyKey, tweak: bytes, data: bytes) -> bytes:
    return _xts(key, tweak, data, encrypt=True)


def _decrypt_xts(key: ReadyKey, tweak: bytes, data: bytes) -> bytes:
    return _xts(key, tweak, data, encrypt=False)


# ------------------------------------------------------------------ ChaCha20-Poly1305


def _encrypt_chacha(key: ReadyKey, parameter: ChaChaParameter, data: bytes) -> bytes:
    sealed: bytes = key.handle.encrypt(parameter.nonce, data, parameter.additional_data)
    return sealed


def _decrypt_chacha(key: ReadyKey, parameter: ChaChaParameter, data: bytes) -> bytes:
    if len(data) < _TAG_BYTES:
        raise refused(
            Ckr.ENCRYPTED_DATA_LEN_RANGE,
            f"The ciphertext ends with a tag of 16 bytes; it has {len(data)} in all.",
        )
    try:
        opened: bytes = key.handle.decrypt(parameter.nonce, data, parameter.additional_data)
    except InvalidTag:
        raise does_not_decrypt() from None
    return opened


# ------------------------------------------------------------------ CMAC and GMAC


def _cmac(key: ReadyKey, data: bytes) -> bytes:
    context = CMAC(key.handle)
    context.update(data)
    return context.finalize()


def _require_mac(given: bytes, expected: bytes) -> None:
    require_signature_length(given, len(expected))
    if not hmac.compare_digest(given, expected):
        raise wrong_signature()


def _part(length: int) -> int:
    if not 1 <= length <= AES_BLOCK_BYTES:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID, f"The MAC must have 1 to 16 bytes, not {length}."
        )
    return length


def _sign_cmac(key: ReadyKey, _: None, data: bytes, _prehashed: bool) -> bytes:
    return _cmac(key, data)


def _verify_cmac(key: ReadyKey, _: None, data: bytes, signature: bytes, _prehashed: bool) -> None:
    _require_mac(signature, _cmac(key, data))


def _sign_part(key: ReadyKey, length: int, data: bytes, _prehashed: bool) -> bytes:
    return _cmac(key, data)[: _part(length)]


def _verify_part(
    key: ReadyKey, length: int, data: bytes, signature: bytes, _prehashed: bool
) -> None:
    _require_mac(signature, _cmac(key, data)[: _part(length)])


def _gmac(key: ReadyKey, parameter: GcmParameter, data: bytes) -> bytes:
    context = Cipher(key.handle, modes.GCM(parameter.nonce)).encryptor()
    context.authenticate_additional_data(parameter.additional_data)
    context.authenticate_additional_data(data)
    context.finalize()
    return context.tag[: parameter.tag_bits // 8]


def _sign_gmac(key: ReadyKey, parameter: GcmParameter, data: bytes, _prehashed: bool) -> bytes:
    return _gmac(key, parameter, data)


def _verify_gmac(
    key: ReadyKey, parameter: GcmParameter, data: bytes, signature: bytes, _prehashed: bool
) -> None:
    _require_mac(signature, _gmac(key, parameter, data))


# ------------------------------------------------------------------ parameters

_CCM_NONCE_BYTES: Final = range(7, 14)
_CCM_TAG_BYTES: Final = range(4, 17, 2)
_CHACHA_NONCE_BYTES: Final = 12
_CCM: Final = msgspec.msgpack.Decoder(CcmParameter)
_CHACHA: Final = msgspec.msgpack.Decoder(ChaChaParameter)


def _refused(sentence: str) -> Exception:
    return refused(Ckr.MECHANISM_PARAM_INVALID, sentence)


def ccm(raw: bytes) -> CcmParameter:
    """Decode CK_CCM_PARAMS."""
    parameter = parameters.decode(_CCM, raw)
    if len(parameter.nonce) not in _CCM_NONCE_BYTES:
        raise _refused(f"The nonce must have 7 to 13 bytes, not {len(parameter.nonce)}.")
    if parameter.tag_bytes not in _CCM_TAG_BYTES:
        raise _refused(f"The MAC must have 4, 6, ... 16 bytes, not {parameter.tag_bytes}.")
    return parameter


def chacha20_poly1305(raw: bytes) -> ChaChaParameter:
    """Decode CK_SALSA20_CHACHA20_POLY1305_PARAMS."""
    parameter = parameters.decode(_CHACHA, raw)
    if len(parameter.nonce) != _CHACHA_NONCE_BYTES:
        raise _refused(f"The nonce must have 12 bytes (RFC 8439), not {len(parameter.nonce)}.")
    return parameter


# ------------------------------------------------------------------ rows

_aes: Final = partial(
    Mechanism,
    key_types=(Ckk.AES,),
    min_key_size=AES_SIZES[0],
    max_key_size=AES_SIZES[-1],
    unit="bytes",
)
_xts_row: Final = partial(
    Mechanism,
    key_types=(Ckk.AES_XTS,),
    min_key_size=XTS_SIZES[0],
    max_key_size=XTS_SIZES[-1],
    unit="bytes",
)
_chacha: Final = partial(
    Mechanism,
    key_types=(Ckk.CHACHA20,),
    min_key_size=CHACHA20_BYTES,
    max_key_size=CHACHA20_BYTES,
    unit="bytes",
)
ROWS: Final = (
    _aes(number=Ckm.AES_CCM, parameter=ccm, encrypt=_encrypt_ccm, decrypt=_decrypt_ccm),
    _aes(number=Ckm.AES_CMAC, sign=_sign_cmac, verify=_verify_cmac),
    _aes(
        number=Ckm.AES_CMAC_GENERAL,
        parameter=parameters.output_length,
        sign=_sign_part,
        verify=_verify_part,
    ),
    _aes(number=Ckm.AES_GMAC, parameter=parameters.gcm, sign=_sign_gmac, verify=_verify_gmac),
    _xts_row(
        number=Ckm.AES_XTS,
        parameter=parameters.block_vector,
        encrypt=_encrypt_xts,
        decrypt=_decrypt_xts,
    ),
    _xts_row(number=Ckm.AES_XTS_KEY_GEN, generate=generator(XTS_SIZES)),
    _chacha(
        number=Ckm.CHACHA20_POLY1305,
        parameter=chacha20_poly1305,
        encrypt=_encrypt_chacha,
        decrypt=_decrypt_chacha,
    ),
    _chacha(
        number=Ckm.CHACHA20_KEY_GEN, generate=generator((CHACHA20_BYTES,), default=CHACHA20_BYTES)
    ),
)
