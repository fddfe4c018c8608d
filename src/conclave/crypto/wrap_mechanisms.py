"""Mechanisms that wrap keys, and which ciphers wrap too.

A wrapping function takes and gives bytes, as encryption does; what the bytes of a key are is said
in `conclave.crypto.wrapping`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap,
    aes_key_wrap_with_padding,
)

from conclave.crypto import parameters
from conclave.crypto.faults import refused
from conclave.crypto.material import AES_SIZES, RSA_MAX_BITS, RSA_MIN_BITS
from conclave.crypto.mechanism_row import Evidence, Mechanism
from conclave.crypto.parameters import OaepChoice
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Ckk, Ckm
from conclave.errors import Ckr, ConclaveError
from conclave.service.wire import RsaAesParameter

_GROUP_BYTES: Final = 8
_SHORTEST_WRAPPED: Final = 3 * _GROUP_BYTES
_SHORTEST_PADDED: Final = 2 * _GROUP_BYTES
_NIL: Final = b"\xc0"
_VECTOR: Final = msgspec.msgpack.encode(bytes.fromhex("a6a6a6a6a6a6a6a6"))
"""Of RFC 3394, section 2.2.3.1."""
_PADDED_VECTOR: Final = msgspec.msgpack.encode(bytes.fromhex("a65959a6"))
"""Of RFC 5649, section 3."""
_RSA_AES: Final = msgspec.msgpack.Decoder(RsaAesParameter)


@dataclass(frozen=True, slots=True)
class CipherThatWraps:
    """A cipher that wraps by encrypting; `private_keys` says whether it takes them."""

    number: Ckm
    private_keys: bool


CIPHERS_THAT_WRAP: Final = (
    CipherThatWraps(Ckm.RSA_PKCS, private_keys=False),
    CipherThatWraps(Ckm.RSA_PKCS_OAEP, private_keys=False),
    CipherThatWraps(Ckm.AES_CBC_PAD, private_keys=True),
    CipherThatWraps(Ckm.AES_GCM, private_keys=True),
    CipherThatWraps(Ckm.AES_CCM, private_keys=True),
)


@dataclass(frozen=True, slots=True)
class RsaAesChoice:
    """A checked parameter of CKM_RSA_AES_KEY_WRAP."""

    aes_bytes: int
    oaep: OaepChoice


def default_vector(raw: bytes) -> None:
    """Accept nil or the initial value of RFC 3394."""
    _require_vector(raw, _VECTOR)


def default_padded_vector(raw: bytes) -> None:
    """Accept nil or the initial value of RFC 5649."""
    _require_vector(raw, _PADDED_VECTOR)


def _require_vector(raw: bytes, standard: bytes) -> None:
    if raw not in {_NIL, standard}:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID,
            "The initial value must be the standard's or absent; another one was given.",
        )


def rsa_aes(raw: bytes) -> RsaAesChoice:
    """Decode CK_RSA_AES_KEY_WRAP_PARAMS."""
    try:
        parameter = _RSA_AES.decode(raw)
    except msgspec.DecodeError as error:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID, f"The mechanism's parameter has another shape: {error}."
        ) from None
    if parameter.aes_bits not in {8 * size for size in AES_SIZES}:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID,
            f"The AES key has 128, 192 or 256 bits, not {parameter.aes_bits}.",
        )
    return RsaAesChoice(parameter.aes_bits // 8, parameters.oaep(bytes(parameter.oaep)))


# ------------------------------------------------------------------ AES key wrap


def _does_not_unwrap() -> ConclaveError:
    return refused(Ckr.ENCRYPTED_DATA_INVALID, "The wrapped key does not open under this key.")


def _require_groups(data: bytes, shortest: int, ckr: Ckr) -> None:
    if len(data) < shortest or len(data) % _GROUP_BYTES:
        raise refused(
            ckr,
            f"The input must be whole groups of 8 bytes, at least {shortest} bytes, not"
            f" {len(data)}.",
        )


def _wrap(key: ReadyKey, _: None, data: bytes) -> bytes:
    _require_groups(data, _SHORTEST_PADDED, Ckr.DATA_LEN_RANGE)
    return aes_key_wrap(key.handle.key, data)


def _unwrap(key: ReadyKey, _: None, data: bytes) -> bytes:
    _require_groups(data, _SHORTEST_WRAPPED, Ckr.ENCRYPTED_DATA_LEN_RANGE)
    try:
        return aes_key_unwrap(key.handle.key, data)
    except InvalidUnwrap:
        raise _does_not_unwrap() from None


def _wrap_padded(key: ReadyKey, _: None, data: bytes) -> bytes:
    if not data:
        raise refused(Ckr.DATA_LEN_RANGE, "The input must have at least one byte; it has none.")
    return aes_key_wrap_with_padding(key.handle.key, data)


def _unwrap_padded(key: ReadyKey, _: None, data: bytes) -> bytes:
    return _open_padded(key.handle.key, data)


def _open_padded(key: bytes, data: bytes) -> bytes:
    _require_groups(data, _SHORTEST_PADDED, Ckr.ENCRYPTED_DATA_LEN_RANGE)
    try:
        return aes_key_unwrap_with_padding(key, data)
    except InvalidUnwrap:
        raise _does_not_unwrap() from None


# ------------------------------------------------------------------ RSA and AES together


def _wrap_rsa_aes(key: ReadyKey, choice: RsaAesChoice, data: bytes) -> bytes:
    passing = os.urandom(choice.aes_bytes)
    head: bytes = key.handle.encrypt(passing, choice.oaep.padding)
    return head + aes_key_wrap_with_padding(passing, data)


def _unwrap_rsa_aes(key: ReadyKey, choice: RsaAesChoice, data: bytes) -> bytes:
    head, rest = data[: key.size_bytes], data[key.size_bytes :]
    _require_groups(rest, _SHORTEST_PADDED, Ckr.ENCRYPTED_DATA_LEN_RANGE)
    try:
        passing: bytes = key.handle.decrypt(head, choice.oaep.padding)
    except ValueError:
        raise _does_not_unwrap() from None
    if len(passing) != choice.aes_bytes:
        raise _does_not_unwrap()
    return _open_padded(passing, rest)


# ------------------------------------------------------------------ rows

_aes: Final = partial(
    Mechanism,
    key_types=(Ckk.AES,),
    min_key_size=AES_SIZES[0],
    max_key_size=AES_SIZES[-1],
    unit="bytes",
    wraps_private_keys=True,
)
ROWS: Final = (
    Mechanism(
        number=Ckm.RSA_AES_KEY_WRAP,
        key_types=(Ckk.RSA,),
        min_key_size=RSA_MIN_BITS,
        max_key_size=RSA_MAX_BITS,
        unit="bits",
        parameter=rsa_aes,
        wrap=_wrap_rsa_aes,
        unwrap=_unwrap_rsa_aes,
        wraps_private_keys=True,
        proof=Evidence.PARTS,
    ),
    _aes(
        number=Ckm.AES_KEY_WRAP,
        parameter=default_vector,
        encrypt=_wrap,
        decrypt=_unwrap,
        wrap=_wrap,
        unwrap=_unwrap,
    ),
    _aes(
        number=Ckm.AES_KEY_WRAP_KWP,
        parameter=default_padded_vector,
        encrypt=_wrap_padded,
        decrypt=_unwrap_padded,
        wrap=_wrap_padded,
        unwrap=_unwrap_padded,
    ),
)
