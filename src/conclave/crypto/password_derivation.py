"""Keys made of passwords: CKM_PKCS5_PBKD2 (PBKDF2 of RFC 8018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from conclave.crypto.faults import refused
from conclave.crypto.hashes import HASHES
from conclave.crypto.material import (
    CHACHA20_BYTES,
    SECRET_MAX_BYTES,
    complete_material,
)
from conclave.crypto.mechanism_row import Mechanism
from conclave.crypto.parameters import decode
from conclave.crypto.standard import Cka, Ckk, Ckm
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import MAC_KEYS, Attributes, key_type, read_ulong
from conclave.service.wire import Pbkdf2Parameter

MAX_SALT_BYTES: Final = 4096
MAX_PASSWORD_BYTES: Final = 4096
MAX_ROUNDS: Final = 4_000_000
"""Iterations times blocks of the hash: a second or two of one of the threads that make keys."""
_ALGORITHMS: Final = {
    number: next(row.algorithm for row in HASHES if row.digest == digest)
    for number, digest in (
        (1, Ckm.SHA_1),
        (3, Ckm.SHA224),
        (4, Ckm.SHA256),
        (5, Ckm.SHA384),
        (6, Ckm.SHA512),
    )
}
"""CKP_PKCS5_PBKD2_HMAC_SHA1 and its like."""
_FIXED_BYTES: Final = {Ckk.CHACHA20: CHACHA20_BYTES}
_PARAMETER: Final = msgspec.msgpack.Decoder(Pbkdf2Parameter)


@dataclass(frozen=True, slots=True, repr=False)
class Pbkdf2Choice:
    """A checked parameter; it has no repr that could show the password."""

    algorithm: HashAlgorithm
    iterations: int
    salt: bytes
    password: bytes


def _wrong(sentence: str) -> ConclaveError:
    return refused(Ckr.MECHANISM_PARAM_INVALID, sentence)


def pbkdf2(raw: bytes) -> Pbkdf2Choice:
    """Decode CK_PKCS5_PBKD2_PARAMS2."""
    parameter = decode(_PARAMETER, raw)
    algorithm = _ALGORITHMS.get(parameter.prf)
    if algorithm is None:
        raise _wrong(f"The pseudo-random function 0x{parameter.prf:x} is not supported.")
    if not 1 <= parameter.iterations <= MAX_ROUNDS:
        raise _wrong(f"There must be 1 to {MAX_ROUNDS} iterations, not {parameter.iterations}.")
    if len(parameter.salt) > MAX_SALT_BYTES or len(parameter.password) > MAX_PASSWORD_BYTES:
        raise _wrong(f"Salt and password have at most {MAX_SALT_BYTES} bytes each.")
    return Pbkdf2Choice(algorithm, parameter.iterations, parameter.salt, parameter.password)


def _generate(planned: Attributes, choice: Pbkdf2Choice) -> Attributes:
    given = planned.get(Cka.VALUE_LEN)
    length = _FIXED_BYTES.get(Ckk(key_type(planned))) if given is None else read_ulong(given)
    if length is None:
        raise refused(Ckr.TEMPLATE_INCOMPLETE, "CKA_VALUE_LEN is missing.")
    if not 1 <= length <= SECRET_MAX_BYTES:
        raise refused(
            Ckr.KEY_SIZE_RANGE, f"CKA_VALUE_LEN must be 1 to {SECRET_MAX_BYTES}, not {length}."
        )
    rounds = choice.iterations * -(-length // choice.algorithm.digest_size)
    if rounds > MAX_ROUNDS:
        raise _wrong(f"Iterations times blocks of the hash must be at most {MAX_ROUNDS}.")
    kdf = PBKDF2HMAC(choice.algorithm, length, choice.salt, choice.iterations)
    value: Attributes = {Cka.VALUE: kdf.derive(choice.password)}
    return {**value, **complete_material({**planned, **value})}


ROWS: Final = (
    Mechanism(
        number=Ckm.PKCS5_PBKD2,
        key_types=(Ckk.GENERIC_SECRET, Ckk.AES, Ckk.CHACHA20, Ckk.HKDF, *MAC_KEYS[1:]),
        min_key_size=1,
        max_key_size=SECRET_MAX_BYTES,
        unit="bytes",
        parameter=pbkdf2,
        generate=_generate,
        takes_long=True,
    ),
)
