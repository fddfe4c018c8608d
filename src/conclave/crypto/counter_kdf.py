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
from conclave.crypto.parameters import AES_BLOCK_BYTES, decode
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Ckk, Ckm
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import MAC_KEYS
from conclave.service.wire import CounterKdfParameter, CounterKdfPart

MAX_TEXT_BYTES: Final = 4096
_COUNTER, _LENGTH, _OCTETS = 1, 3, 4
_OF_KEYS, _OF_SEGMENTS = 1, 2
_COUNTER_BITS: Final = (8, 16, 24, 32)
_LENGTH_BITS: Final = (8, 16, 24, 32, 64)
_HMACS: Final[dict[int, HashAlgorithm]] = {int(row.hmac): row.algorithm for row in KDF_HASHES}
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
        return segment_bytes(self.hmac)


def wrong(sentence: str) -> ConclaveError:
    """Return the error for a parameter of an SP 800-108 KDF."""
    return refused(Ckr.MECHANISM_PARAM_INVALID, sentence)


def counter_kdf(raw: bytes) -> CounterChoice:
    """Decode CK_SP800_108_KDF_PARAMS."""
    parameter = decode(_PARAMETER, raw)
    hmac = chosen_hmac(parameter.prf)
    counters = [at for at, part in enumerate(parameter.parts) if part.kind == _COUNTER]
    if len(counters) != 1:
        raise wrong(f"The iteration variable must be there once, not {len(counters)} times.")
    for part in parameter.parts:
        if part.kind == _COUNTER:
            require_counter(part, "iteration variable")
        else:
            require_fixed(part)
    at = counters[0]
    return CounterChoice(
        hmac,
        parameter.parts[at].width_bits // 8,
        tuple(parameter.parts[:at]),
        tuple(parameter.parts[at + 1 :]),
    )


def chosen_hmac(prf: int) -> HashAlgorithm | None:
    """Return the hash of a PRF that is an HMAC, None for AES-CMAC."""
    hmac = _HMACS.get(prf)
    if hmac is None and prf != Ckm.AES_CMAC:
        raise wrong(f"The PRF 0x{prf:x} is neither HMAC with SHA-1 or SHA-2 nor AES-CMAC.")
    return hmac


def segment_bytes(hmac: HashAlgorithm | None) -> int:
    """Return how many bytes one run of a PRF gives."""
    return AES_BLOCK_BYTES if hmac is None else hmac.digest_size


def require_counter(part: CounterKdfPart, name: str) -> None:
    """Refuse a CK_SP800_108_COUNTER_FORMAT of another form than NIST's vectors have."""
    if part.width_bits not in _COUNTER_BITS or part.little_endian:
        raise wrong(f"The {name} has 8, 16, 24 or 32 bits, big endian.")


def require_fixed(part: CounterKdfPart) -> None:
    """Refuse a part that is neither a byte array nor a CK_SP800_108_DKM_LENGTH_FORMAT."""
    if part.kind == _LENGTH:
        if part.width_bits not in _LENGTH_BITS or part.method not in {_OF_KEYS, _OF_SEGMENTS}:
            raise wrong("The length has 8, 16, 24, 32 or 64 bits, and one of two methods.")
    elif part.kind != _OCTETS:
        raise wrong(f"The data type {part.kind} has no place in this mode.")
    elif len(part.octets) > MAX_TEXT_BYTES:
        raise wrong(f"A byte array has at most {MAX_TEXT_BYTES} bytes.")


def written(part: CounterKdfPart, segment: int, wanted: int) -> bytes:
    """Return the octets of a fixed part: for a length those of what is derived, in bits."""
    if part.kind == _OCTETS:
        return part.octets
    if part.method == _OF_SEGMENTS:
        wanted = -(-wanted // segment) * segment
    order: Literal["little", "big"] = "little" if part.little_endian else "big"
    if 8 * wanted >> part.width_bits:
        raise wrong(f"The length of {8 * wanted} bits does not fit {part.width_bits} bits.")
    return (8 * wanted).to_bytes(part.width_bits // 8, order)


def _derive(key: ReadyKey, _: ReadyKey | None, choice: CounterChoice, wanted: int | None) -> bytes:
    length = choice.segment_bytes if wanted is None else wanted
    if -(-length // choice.segment_bytes) >> 8 * choice.counter_bytes:
        raise refused(Ckr.KEY_SIZE_RANGE, f"{length} bytes overflow the iteration variable.")
    before, after = (
        b"".join(written(part, choice.segment_bytes, length) for part in parts)
        for parts in (choice.before, choice.after)
    )
    fixed = before + after
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
