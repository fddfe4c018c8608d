"""The feedback and the double-pipeline KDF of NIST SP 800-108.

CKM_SP800_108_FEEDBACK_KDF and CKM_SP800_108_DOUBLE_PIPELINE_KDF.  pyca/cryptography has the counter
mode alone; these two are a loop over its HMAC and CMAC.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from conclave.crypto.counter_kdf import (
    MAX_TEXT_BYTES,
    chosen_hmac,
    require_counter,
    require_fixed,
    segment_bytes,
    written,
    wrong,
)
from conclave.crypto.derive_mechanisms import secret_value
from conclave.crypto.faults import refused
from conclave.crypto.material import SECRET_MAX_BYTES
from conclave.crypto.mechanism_row import Mechanism
from conclave.crypto.parameters import decode
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Ckk, Ckm
from conclave.errors import Ckr
from conclave.keyring.attributes import MAC_KEYS
from conclave.service.wire import CounterKdfParameter, CounterKdfPart, FeedbackKdfParameter

_ITERATED, _COUNTER = 1, 2
_PIPELINE: Final = msgspec.msgpack.Decoder(CounterKdfParameter)
_FEEDBACK: Final = msgspec.msgpack.Decoder(FeedbackKdfParameter)

Prf = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class ChainChoice:
    """A checked parameter; `vector` is None for the double pipeline, whose parts give its first."""

    hash_name: str | None
    """None means AES-CMAC."""
    segment_bytes: int
    parts: tuple[CounterKdfPart, ...]
    vector: bytes | None


def feedback_kdf(raw: bytes) -> ChainChoice:
    """Decode CK_SP800_108_FEEDBACK_KDF_PARAMS."""
    parameter = decode(_FEEDBACK, raw)
    if len(parameter.vector) > MAX_TEXT_BYTES:
        raise wrong(f"The initial value has at most {MAX_TEXT_BYTES} bytes.")
    return _choice(parameter.prf, parameter.parts, parameter.vector)


def double_pipeline_kdf(raw: bytes) -> ChainChoice:
    """Decode CK_SP800_108_KDF_PARAMS."""
    parameter = decode(_PIPELINE, raw)
    return _choice(parameter.prf, parameter.parts, None)


def _choice(prf: int, parts: list[CounterKdfPart], vector: bytes | None) -> ChainChoice:
    algorithm = chosen_hmac(prf)
    kinds = [part.kind for part in parts]
    if kinds.count(_ITERATED) != 1 or kinds.count(_COUNTER) > 1:
        raise wrong("The iteration variable must be there once, the counter at most once.")
    for part in parts:
        _require_part(part)
    name = None if algorithm is None else algorithm.name.replace("-", "_")
    return ChainChoice(name, segment_bytes(algorithm), tuple(parts), vector)


def _require_part(part: CounterKdfPart) -> None:
    if part.kind == _ITERATED:
        if part.width_bits or part.octets:
            raise wrong("The iteration variable of this mode has no format.")
    elif part.kind == _COUNTER:
        require_counter(part, "counter")
    else:
        require_fixed(part)


def _prf(key: ReadyKey, choice: ChainChoice) -> Prf:
    if choice.hash_name is not None:
        value, name = secret_value(key), choice.hash_name
        return lambda data: hmac.digest(value, data, name)
    if not isinstance(key.handle, AES):
        raise refused(Ckr.KEY_TYPE_INCONSISTENT, "AES-CMAC needs an AES key.")
    return partial(_cmac, key.handle)


def _cmac(algorithm: AES, data: bytes) -> bytes:
    context = CMAC(algorithm)
    context.update(data)
    return context.finalize()


def _derive(key: ReadyKey, _: ReadyKey | None, choice: ChainChoice, wanted: int | None) -> bytes:
    length = choice.segment_bytes if wanted is None else wanted
    prf, size = _prf(key, choice), choice.segment_bytes
    fixed = {
        at: written(part, size, length)
        for at, part in enumerate(choice.parts)
        if part.kind not in {_ITERATED, _COUNTER}
    }
    chained = b"".join(fixed.values()) if choice.vector is None else choice.vector
    made, segment = b"", chained
    # At most 512 bytes in segments of 16 and more: no counter of 8 bits overflows.
    for number in range(1, -(-length // size) + 1):
        chained = prf(chained) if choice.vector is None else segment
        segment = prf(
            b"".join(
                fixed[at]
                if at in fixed
                else chained
                if part.kind == _ITERATED
                else number.to_bytes(part.width_bits // 8, "big")
                for at, part in enumerate(choice.parts)
            )
        )
        made += segment
    return made[:length]


_chained: Final = partial(
    Mechanism,
    key_types=(Ckk.AES, *MAC_KEYS),
    min_key_size=1,
    max_key_size=SECRET_MAX_BYTES,
    unit="bytes",
    derive=_derive,
)
ROWS: Final = (
    _chained(number=Ckm.SP800_108_FEEDBACK_KDF, parameter=feedback_kdf),
    _chained(number=Ckm.SP800_108_DOUBLE_PIPELINE_KDF, parameter=double_pipeline_kdf),
)
