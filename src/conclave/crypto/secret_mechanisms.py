"""AES, HMAC, the generation of secret keys, and the digests that the module computes itself."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from functools import partial
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.padding import PKCS7

from conclave.crypto import parameters
from conclave.crypto.faults import refused
from conclave.crypto.hashes import HASHES, MACS_ONLY, MacRow
from conclave.crypto.material import AES_SIZES, SECRET_MAX_BYTES, complete_material
from conclave.crypto.mechanism_row import Crypt, Generate, Mechanism, Sign, Verify
from conclave.crypto.parameters import AES_BLOCK_BYTES
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.signatures import require_signature_length, wrong_signature
from conclave.crypto.standard import Cka, Ckk, Ckm
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import Attributes, read_ulong
from conclave.service.wire import CtrParameter, GcmParameter

_FULL_TAG_BITS: Final = 128
_MIN_TAG_BYTES: Final = parameters.GCM_TAG_BITS[0] // 8
_Unauthenticated = modes.ECB | modes.CBC | modes.CTR
_PADDING: Final = PKCS7(8 * AES_BLOCK_BYTES)


def does_not_decrypt() -> ConclaveError:
    """Return the error for a ciphertext that is not the key's."""
    return refused(Ckr.ENCRYPTED_DATA_INVALID, "The ciphertext does not decrypt under this key.")


def _whole_blocks(data: bytes, ckr: Ckr) -> None:
    if len(data) % AES_BLOCK_BYTES:
        raise refused(ckr, f"The input must be whole blocks of 16 bytes, not {len(data)} bytes.")


def _transform(key: ReadyKey, mode: _Unauthenticated, data: bytes, *, encrypt: bool) -> bytes:
    cipher = Cipher(key.handle, mode)
    context = cipher.encryptor() if encrypt else cipher.decryptor()
    return context.update(data) + context.finalize()


# ------------------------------------------------------------------ ECB and CBC

_ECB: Final = modes.ECB()  # noqa: S305 - the standard has it; one block at a time it is sound


def _encrypt_ecb(key: ReadyKey, _: None, data: bytes) -> bytes:
    _whole_blocks(data, Ckr.DATA_LEN_RANGE)
    return _transform(key, _ECB, data, encrypt=True)


def _decrypt_ecb(key: ReadyKey, _: None, data: bytes) -> bytes:
    _whole_blocks(data, Ckr.ENCRYPTED_DATA_LEN_RANGE)
    return _transform(key, _ECB, data, encrypt=False)


def _encrypt_cbc(key: ReadyKey, vector: bytes, data: bytes) -> bytes:
    _whole_blocks(data, Ckr.DATA_LEN_RANGE)
    return _transform(key, modes.CBC(vector), data, encrypt=True)


def _decrypt_cbc(key: ReadyKey, vector: bytes, data: bytes) -> bytes:
    _whole_blocks(data, Ckr.ENCRYPTED_DATA_LEN_RANGE)
    return _transform(key, modes.CBC(vector), data, encrypt=False)


def _encrypt_cbc_pad(key: ReadyKey, vector: bytes, data: bytes) -> bytes:
    padder = _PADDING.padder()
    padded = padder.update(data) + padder.finalize()
    return _transform(key, modes.CBC(vector), padded, encrypt=True)


def _decrypt_cbc_pad(key: ReadyKey, vector: bytes, data: bytes) -> bytes:
    _whole_blocks(data, Ckr.ENCRYPTED_DATA_LEN_RANGE)
    if not data:
        raise refused(Ckr.ENCRYPTED_DATA_LEN_RANGE, "The ciphertext has at least one block.")
    unpadder = _PADDING.unpadder()
    padded = _transform(key, modes.CBC(vector), data, encrypt=False)
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise does_not_decrypt() from None


# ------------------------------------------------------------------ CTR


def _counter(parameter: CtrParameter, data: bytes, ckr: Ckr) -> modes.CTR:
    # OpenSSL counts in all 128 bits.  Refusing what would overflow the counter's own bits makes
    # both counts the same, and a key stream never repeats within a call.
    blocks = -(-len(data) // AES_BLOCK_BYTES)
    room = 1 << parameter.counter_bits
    start = int.from_bytes(parameter.counter_block) % room
    if start + blocks > room:
        raise refused(
            ckr, f"{blocks} blocks overflow the counter of {parameter.counter_bits} bits."
        )
    return modes.CTR(parameter.counter_block)


def _encrypt_ctr(key: ReadyKey, parameter: CtrParameter, data: bytes) -> bytes:
    counter = _counter(parameter, data, Ckr.DATA_LEN_RANGE)
    return _transform(key, counter, data, encrypt=True)


def _decrypt_ctr(key: ReadyKey, parameter: CtrParameter, data: bytes) -> bytes:
    counter = _counter(parameter, data, Ckr.ENCRYPTED_DATA_LEN_RANGE)
    return _transform(key, counter, data, encrypt=False)


# ------------------------------------------------------------------ GCM


def _encrypt_gcm(key: ReadyKey, parameter: GcmParameter, data: bytes) -> bytes:
    if parameter.tag_bits == _FULL_TAG_BITS and key.gcm is not None:
        return key.gcm.encrypt(parameter.nonce, data, parameter.additional_data)
    context = Cipher(key.handle, modes.GCM(parameter.nonce)).encryptor()
    context.authenticate_additional_data(parameter.additional_data)
    ciphertext = context.update(data) + context.finalize()
    return ciphertext + context.tag[: parameter.tag_bits // 8]


def _decrypt_gcm(key: ReadyKey, parameter: GcmParameter, data: bytes) -> bytes:
    tag_bytes = parameter.tag_bits // 8
    if len(data) < tag_bytes:
        raise refused(
            Ckr.ENCRYPTED_DATA_LEN_RANGE,
            f"The ciphertext ends with a tag of {tag_bytes} bytes; it has {len(data)} in all.",
        )
    try:
        if parameter.tag_bits == _FULL_TAG_BITS and key.gcm is not None:
            return key.gcm.decrypt(parameter.nonce, data, parameter.additional_data)
        mode = modes.GCM(parameter.nonce, data[-tag_bytes:], _MIN_TAG_BYTES)
        context = Cipher(key.handle, mode).decryptor()
        context.authenticate_additional_data(parameter.additional_data)
        return context.update(data[:-tag_bytes]) + context.finalize()
    except InvalidTag:
        raise does_not_decrypt() from None


# ------------------------------------------------------------------ HMAC


def _hmac(row: MacRow) -> tuple[Sign, Verify]:
    name = row.name

    def sign(key: ReadyKey, _: None, data: bytes, _prehashed: bool) -> bytes:
        return hmac.digest(key.handle, data, name)

    def verify(key: ReadyKey, _: None, data: bytes, signature: bytes, _prehashed: bool) -> None:
        require_signature_length(signature, row.digest_bytes)
        if not hmac.compare_digest(signature, hmac.digest(key.handle, data, name)):
            raise wrong_signature()

    return sign, verify


def _truncated_hmac(row: MacRow) -> tuple[Sign, Verify]:
    name = row.name

    def require(length: int) -> None:
        if not 1 <= length <= row.digest_bytes:
            raise refused(
                Ckr.MECHANISM_PARAM_INVALID,
                f"The MAC must have 1 to {row.digest_bytes} bytes, not {length}.",
            )

    def sign(key: ReadyKey, length: int, data: bytes, _prehashed: bool) -> bytes:
        require(length)
        return hmac.digest(key.handle, data, name)[:length]

    def verify(key: ReadyKey, length: int, data: bytes, signature: bytes, _prehashed: bool) -> None:
        require(length)
        require_signature_length(signature, length)
        if not hmac.compare_digest(signature, hmac.digest(key.handle, data, name)[:length]):
            raise wrong_signature()

    return sign, verify


# ------------------------------------------------------------------ generation


def generator(sizes: range | tuple[int, ...], default: int | None = None) -> Generate:
    """Return what makes secret keys of these sizes in bytes; one is given, or the default."""
    rule = f"{sizes[0]} to {sizes[-1]}"
    if not isinstance(sizes, range):
        rule = " or ".join(map(str, sizes))

    def generate(planned: Attributes, _: None) -> Attributes:
        given = planned.get(Cka.VALUE_LEN)
        length = default if given is None else read_ulong(given)
        if length is None:
            raise refused(Ckr.TEMPLATE_INCOMPLETE, "CKA_VALUE_LEN is missing.")
        if length not in sizes:
            raise refused(Ckr.KEY_SIZE_RANGE, f"CKA_VALUE_LEN must be {rule} bytes, not {length}.")
        value: Attributes = {Cka.VALUE: os.urandom(length)}
        return {**value, **complete_material({**planned, **value})}

    return generate


# ------------------------------------------------------------------ rows

_SECRET_SIZES: Final = range(1, SECRET_MAX_BYTES + 1)
_aes: Final = partial(
    Mechanism,
    key_types=(Ckk.AES,),
    min_key_size=AES_SIZES[0],
    max_key_size=AES_SIZES[-1],
    unit="bytes",
)


def _cipher(
    number: Ckm, decode: Callable[[bytes], object], encrypt: Crypt, decrypt: Crypt
) -> Mechanism:
    return _aes(number=number, parameter=decode, encrypt=encrypt, decrypt=decrypt)


def _hash_rows(row: MacRow) -> tuple[Mechanism, ...]:
    mac = partial(
        Mechanism,
        key_types=(Ckk.GENERIC_SECRET, row.hmac_key_type),
        min_key_size=_SECRET_SIZES[0],
        max_key_size=_SECRET_SIZES[-1],
        unit="bytes",
    )
    sign, verify = _hmac(row)
    sign_part, verify_part = _truncated_hmac(row)
    return (
        Mechanism(number=row.digest, digest=True),
        mac(number=row.hmac, sign=sign, verify=verify),
        mac(
            number=row.hmac_general,
            parameter=parameters.output_length,
            sign=sign_part,
            verify=verify_part,
        ),
        Mechanism(
            number=row.key_generation,
            key_types=(row.hmac_key_type,),
            min_key_size=_SECRET_SIZES[0],
            max_key_size=_SECRET_SIZES[-1],
            unit="bytes",
            generate=generator(_SECRET_SIZES, default=row.digest_bytes),
        ),
    )


ROWS: Final = (
    _aes(number=Ckm.AES_KEY_GEN, generate=generator(AES_SIZES)),
    _cipher(Ckm.AES_ECB, parameters.no_parameter, _encrypt_ecb, _decrypt_ecb),
    _cipher(Ckm.AES_CBC, parameters.block_vector, _encrypt_cbc, _decrypt_cbc),
    _cipher(Ckm.AES_CBC_PAD, parameters.block_vector, _encrypt_cbc_pad, _decrypt_cbc_pad),
    _cipher(Ckm.AES_CTR, parameters.ctr, _encrypt_ctr, _decrypt_ctr),
    _cipher(Ckm.AES_GCM, parameters.gcm, _encrypt_gcm, _decrypt_gcm),
    Mechanism(
        number=Ckm.GENERIC_SECRET_KEY_GEN,
        key_types=(Ckk.GENERIC_SECRET,),
        min_key_size=8 * _SECRET_SIZES[0],
        max_key_size=8 * _SECRET_SIZES[-1],
        unit="bits",
        generate=generator(_SECRET_SIZES),
    ),
    Mechanism(
        number=Ckm.HKDF_KEY_GEN,
        key_types=(Ckk.HKDF,),
        min_key_size=_SECRET_SIZES[0],
        max_key_size=_SECRET_SIZES[-1],
        unit="bytes",
        generate=generator(_SECRET_SIZES),
    ),
    *(mechanism for row in (*HASHES, *MACS_ONLY) for mechanism in _hash_rows(row)),
)
