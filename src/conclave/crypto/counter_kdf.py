"""The counter KDF of NIST SP 800-108: CKM_SP800_108_COUNTER_KDF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.kdf.kbkdf import (
    KBKDFCMAC,
    KBKDFHMAC,
    CounterLocation,
    Mode,
)

from conclave.crypto.faults import refused
from conclave.crypto.hashes import KDF_HASHES
from conclave.crypto.material import SECRET_MAX_BYTES
from conclave.crypto.mechanism_row import Mechanism
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Ckk, Ckm
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import MAC_KEYS
from conclave.service.wire import CounterKdfParameter, CounterKdfPart

MAX_TEXT_BYTES: Final = 4096
_COUNTER, LENGTH, OCTETS = 1, 3, 4
_OF_KEYS, _OF_SEGMENTS = 1, 2
COUNTER_BITS: Final = (8, 16, 24, 32)
_LENGTH_BITS: Final = (8, 16, 24, 32, 64)
_CMAC_BYTES: Final = 16
HMACS: Final[dict[int, HashAlgorithm]] = {int(row.hmac): row.algorithm for row in KDF_HASHES}
_PARAMETER: Final = msgspec.msgpack.Decoder(CounterKdfParameter)


@dataclass(frozen=True, slots=True)
class CounterChoice:
    """A checked parameter: what stands before and after the counter; no `hmac` means AES-CMAC."""

    hmac: HashAlgorithm | None
    counter_bytes: int
    before: tuple[CounterKdfPart, ...]
    after: tuple[CounterKdfPart, ...]

    @property
    def segment_bytes(self) -> int:
        """Return how many bytes one run of the PRF gives."""
        return _CMAC_BYTES if self.hmac is None else self.hmac.digest_size


def _wrong(sentence: str) -> ConclaveError:
    return refused(Ckr.MECHANISM_PARAM_INVALID, sentence)


def counter_kdf(raw: bytes) -> CounterChoice:
    """Decode CK_SP800_108_KDF_PARAMS."""
    try:
        parameter = _PARAMETER.decode(raw)
    except msgspec.DecodeError as error:
        raise _wrong(f"The mechanism's parameter has another shape: {error}.") from None
    hmac = HMACS.get(parameter.prf)
    if hmac is None and parameter.prf != Ckm.AES_CMAC:
        raise _wrong(f"The PRF 0x{parameter.prf:x} is neither an HMAC nor AES-CMAC.")
    counters = [at for at, part in enumerate(parameter.parts) if part.kind == _COUNTER]
    if len(counters) != 1:
        raise _wrong(f"The iteration variable must be there once, not {len(counters)} times.")
    for part in parameter.parts:
        _require_part(part)
    at = counters[0]
    return CounterChoice(
        hmac,
        parameter.parts[at].width_bits // 8,
        tuple(parameter.parts[:at]),
        tuple(parameter.parts[at + 1 :]),
    )


def _require_part(part: CounterKdfPart) -> None:
    if part.kind == _COUNTER:
        if part.width_bits not in COUNTER_BITS or part.little_endian:
            raise _wrong("The iteration variable has 8, 16, 24 or 32 bits, big endian.")
    elif part.kind == LENGTH:
        require_length_part(part)
    elif part.kind != OCTETS:
        raise _wrong(f"The data type {part.kind} has no place in the counter mode.")
    elif len(part.octets) > MAX_TEXT_BYTES:
        raise _wrong(f"A byte array has at most {MAX_TEXT_BYTES} bytes.")


def require_length_part(part: CounterKdfPart) -> None:
    """Refuse a CK_SP800_108_DKM_LENGTH_FORMAT that says nothing."""
    if part.width_bits not in _LENGTH_BITS or part.method not in {_OF_KEYS, _OF_SEGMENTS}:
        raise _wrong("The length has 8, 16, 24, 32 or 64 bits, and one of two methods.")


def _written(parts: tuple[CounterKdfPart, ...], choice: CounterChoice, wanted: int) -> bytes:
    return b"".join(
        part.octets if part.kind == OCTETS else written_length(part, choice.segment_bytes, wanted)
        for part in parts
    )


def written_length(part: CounterKdfPart, segment_bytes: int, wanted: int) -> bytes:
    """Return the length of what is derived, in bits, as its format has it."""
    if part.method == _OF_SEGMENTS:
        wanted = -(-wanted // segment_bytes) * segment_bytes
    order: Literal["little", "big"] = "little" if part.little_endian else "big"
    if 8 * wanted >> part.width_bits:
        raise _wrong(f"The length of {8 * wanted} bits does not fit {part.width_bits} bits.")
    return (8 * wanted).to_bytes(part.width_bits // 8, order)


def _derive(key: ReadyKey, _: ReadyKey | None, choice: CounterChoice, wanted: int | None) -> bytes:
    length = choice.segment_bytes if wanted is None else wanted
    if -(-length // choice.segment_bytes) >> 8 * choice.counter_bytes:
        raise refused(Ckr.KEY_SIZE_RANGE, f"{length} bytes overflow the iteration variable.")
    before = _written(choice.before, choice, length)
    fixed = before + _written(choice.after, choice, length)
    is_aes = isinstance(key.handle, AES)
    value = bytes(key.handle.key if is_aes else key.handle)
    place = CounterLocation.MiddleFixed
    settings = (Mode.CounterMode, length, choice.counter_bytes, None, place, None, None, fixed)
    if choice.hmac is not None:
        kdf = KBKDFHMAC(choice.hmac, *settings, break_location=len(before))
        return kdf.derive(value)
    if not is_aes:
        raise refused(Ckr.KEY_TYPE_INCONSISTENT, "AES-CMAC needs an AES key.")
    return KBKDFCMAC(AES, *settings, break_location=len(before)).derive(value)


ROWS: Final = (
    Mechanism(
        number=Ckm.SP800_108_COUNTER_KDF,
        key_types=(Ckk.AES, *MAC_KEYS),
        min_key_size=1,
        max_key_size=SECRET_MAX_BYTES,
        unit="bytes",
        parameter=counter_kdf,
        derive=_derive,
    ),
)
