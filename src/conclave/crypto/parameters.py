"""Decode mechanism parameters as docs/protocol.md lists them, once and within bounds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import padding

from conclave.crypto.faults import refused
from conclave.crypto.hashes import OAEP_HASHES, PSS_HASHES, HashPairs, HashRow
from conclave.errors import Ckr
from conclave.service.wire import CtrParameter, GcmParameter, OaepParameter, PssParameter

AES_BLOCK_BYTES: Final = 16
GCM_NONCE_BYTES: Final = range(8, 129)
GCM_TAG_BITS: Final = range(96, 129, 8)
MAX_LABEL_BYTES: Final = 4096
_NIL: Final = b"\xc0"
_MAX_SALT_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class PssChoice:
    """A checked PSS parameter."""

    padding: padding.PSS
    hash_row: HashRow
    salt_bytes: int


@dataclass(frozen=True, slots=True)
class OaepChoice:
    """A checked OAEP parameter."""

    padding: padding.OAEP
    hash_row: HashRow


def no_parameter(raw: bytes) -> None:
    """Accept nil only."""
    if raw != _NIL:
        raise _refused("The mechanism takes no parameter; one was given.")


@lru_cache(maxsize=256)
def pss(raw: bytes) -> PssChoice:
    """Decode CK_RSA_PKCS_PSS_PARAMS."""
    parameter = decode(_PSS, raw)
    hash_row, mask_row = _hashes(PSS_HASHES, parameter.hash_mechanism, parameter.mask_generation)
    if not 0 <= parameter.salt_bytes <= _MAX_SALT_BYTES:
        raise _refused(f"The salt must have 0 to {_MAX_SALT_BYTES} bytes.")
    return PssChoice(
        padding.PSS(padding.MGF1(mask_row.algorithm), parameter.salt_bytes),
        hash_row,
        parameter.salt_bytes,
    )


def oaep(raw: bytes) -> OaepChoice:
    """Decode CK_RSA_PKCS_OAEP_PARAMS."""
    parameter = decode(_OAEP, raw)
    hash_row, mask_row = _hashes(OAEP_HASHES, parameter.hash_mechanism, parameter.mask_generation)
    if len(parameter.label) > MAX_LABEL_BYTES:
        raise _refused(f"The label must have at most {MAX_LABEL_BYTES} bytes.")
    scheme = padding.OAEP(
        padding.MGF1(mask_row.algorithm), hash_row.algorithm, parameter.label or None
    )
    return OaepChoice(scheme, hash_row)


def block_vector(raw: bytes) -> bytes:
    """Decode the initialisation vector of CBC: 16 bytes."""
    vector = decode(_BYTES, raw)
    if len(vector) != AES_BLOCK_BYTES:
        raise _refused(f"The initialisation vector has 16 bytes; {len(vector)} were given.")
    return vector


def ctr(raw: bytes) -> CtrParameter:
    """Decode CK_AES_CTR_PARAMS."""
    parameter = decode(_CTR, raw)
    if not 1 <= parameter.counter_bits <= 8 * AES_BLOCK_BYTES:
        raise _refused(f"The counter has 1 to 128 bits, not {parameter.counter_bits}.")
    if len(parameter.counter_block) != AES_BLOCK_BYTES:
        raise _refused(f"A counter block has 16 bytes, not {len(parameter.counter_block)}.")
    return parameter


def gcm(raw: bytes) -> GcmParameter:
    """Decode CK_GCM_PARAMS; nonces of fewer than 8 bytes are refused, as weak and never needed."""
    parameter = decode(_GCM, raw)
    if len(parameter.nonce) not in GCM_NONCE_BYTES:
        raise _refused(f"The nonce must have 8 to 128 bytes, not {len(parameter.nonce)}.")
    if parameter.tag_bits not in GCM_TAG_BITS:
        raise _refused(f"The tag must have 96, 104, ... 128 bits, not {parameter.tag_bits}.")
    return parameter


def public_number(raw: bytes) -> bytes:
    """Decode the other's public value: a big number."""
    return decode(_BYTES, raw)


def output_length(raw: bytes) -> int:
    """Decode CK_MAC_GENERAL_PARAMS: the length of the MAC in bytes."""
    return decode(_LENGTH, raw)


T = TypeVar("T")

_PSS: Final = msgspec.msgpack.Decoder(PssParameter)
_OAEP: Final = msgspec.msgpack.Decoder(OaepParameter)
_BYTES: Final = msgspec.msgpack.Decoder(bytes)
_CTR: Final = msgspec.msgpack.Decoder(CtrParameter)
_GCM: Final = msgspec.msgpack.Decoder(GcmParameter)
_LENGTH: Final = msgspec.msgpack.Decoder(int)


def decode(decoder: msgspec.msgpack.Decoder[T], raw: bytes) -> T:
    """Return a parameter; raise CKR_MECHANISM_PARAM_INVALID for one of another shape."""
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise _refused(f"The mechanism's parameter has another shape: {error}.") from None


def _hashes(pairs: HashPairs, digest: int, mask_generation: int) -> tuple[HashRow, HashRow]:
    pair = pairs.get((digest, mask_generation))
    if pair is None:
        raise _refused(
            f"The hash mechanism 0x{digest:x} with the mask generation function"
            f" 0x{mask_generation:x} is not supported."
        )
    return pair


def _refused(sentence: str) -> Exception:
    return refused(Ckr.MECHANISM_PARAM_INVALID, sentence)
