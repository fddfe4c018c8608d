"""Keys that are the hash of another key: CKM_SHA256_KEY_DERIVATION and its like."""

from __future__ import annotations

import hashlib
from typing import Final

from conclave.crypto.derive_mechanisms import cut, secret_value
from conclave.crypto.faults import refused
from conclave.crypto.hashes import HASHES, HashRow
from conclave.crypto.material import SECRET_MAX_BYTES
from conclave.crypto.mechanism_row import Derive, Mechanism
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Ckk, Ckm
from conclave.errors import Ckr
from conclave.keyring.attributes import MAC_KEYS

_SHAKES: Final = {
    Ckm.SHAKE_128_KEY_DERIVATION: hashlib.shake_128,
    Ckm.SHAKE_256_KEY_DERIVATION: hashlib.shake_256,
}


def _hashed(row: HashRow) -> Derive:
    def derive(key: ReadyKey, _other: ReadyKey | None, _: None, wanted: int | None) -> bytes:
        # SHA-1 here is for keys that exist already.
        digest = hashlib.new(row.name, secret_value(key)).digest()
        return cut(digest, wanted)

    return derive


def _shaken(number: Ckm) -> Derive:
    def derive(key: ReadyKey, _other: ReadyKey | None, _: None, wanted: int | None) -> bytes:
        if wanted is None:
            raise refused(Ckr.TEMPLATE_INCOMPLETE, "CKA_VALUE_LEN is missing.")
        return _SHAKES[number](secret_value(key)).digest(wanted)

    return derive


def _row(number: Ckm, derive: Derive) -> Mechanism:
    return Mechanism(
        number=number,
        key_types=(Ckk.AES, *MAC_KEYS),
        min_key_size=1,
        max_key_size=SECRET_MAX_BYTES,
        unit="bytes",
        derive=derive,
    )


ROWS: Final = (
    *(_row(row.key_derivation, _hashed(row)) for row in HASHES),
    *(_row(number, _shaken(number)) for number in _SHAKES),
)
