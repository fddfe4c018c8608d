"""Read published vectors, and make keys of them as a worker would.

The files stand in tests/vectors, each with its origin and licence.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from conclave.crypto import mechanisms
from conclave.crypto.hashes import HASHES, MACS_ONLY, PSS_MASKS, HashRow, MacRow, MaskRow
from conclave.crypto.mechanisms import ReadyKey, load_key
from conclave.crypto.standard import Cka, Ckk, Cko
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import ulong
from conclave.keyring.templates import build_object

VECTORS = Path(__file__).parent.parent / "vectors"
NIL = b"\xc0"
Case = dict[str, str]


def cases(name: str) -> list[Case]:
    content = json.loads((VECTORS / f"{name}.json").read_text())
    assert content["origin"]
    assert content["licence"]
    found: list[Case] = content["cases"]
    return found


def each(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases(name))


def packed(*values: object) -> bytes:
    return msgspec.msgpack.encode(values)


def octets(digits: str) -> bytes:
    return bytes.fromhex(digits.rjust(len(digits) + len(digits) % 2, "0"))


def hash_row(name: str) -> HashRow:
    return next(row for row in HASHES if row.name == name)


def mac_row(name: str) -> MacRow:
    return next(row for row in (*HASHES, *MACS_ONLY) if row.name == name)


def mask_row(name: str) -> MaskRow:
    return next(row for row in PSS_MASKS if row.hash_row.name == name)


def hashes_of_keys(*names: str) -> list[Case]:
    """Return the cases of digests whose message a key can have, and a mechanism that derives so."""
    return [case for name in names for case in cases(name) if of_key(case)]


def of_key(case: Case) -> bool:
    """Return whether a digest is one that a mechanism makes a key of."""
    return bool(case["message"]) and any(row.name == case["hash"] for row in HASHES)


CHAINED_ORDERS = {
    "none": ("iterated", "fixed"),
    "iterator": ("counter", "iterated", "fixed"),
    "before": ("iterated", "counter", "fixed"),
    "after": ("iterated", "fixed", "counter"),
}
"""Where a case of the feedback or the double-pipeline KDF has its counter."""


def secret_key(kind: Ckk, value: bytes) -> ReadyKey:
    return load_key(
        build_object(
            [
                (Cka.CLASS, ulong(Cko.SECRET_KEY)),
                (Cka.KEY_TYPE, ulong(kind)),
                (Cka.VALUE, value),
            ]
        )
    )


def rsa_public_key(modulus: str, exponent: str) -> ReadyKey:
    return load_key(
        build_object(
            [
                (Cka.CLASS, ulong(Cko.PUBLIC_KEY)),
                (Cka.KEY_TYPE, ulong(Ckk.RSA)),
                (Cka.MODULUS, octets(modulus)),
                (Cka.PUBLIC_EXPONENT, octets(exponent)),
            ]
        )
    )


RSA_PARTS = {
    "modulus": Cka.MODULUS,
    "public_exponent": Cka.PUBLIC_EXPONENT,
    "exponent": Cka.PRIVATE_EXPONENT,
    "prime_1": Cka.PRIME_1,
    "prime_2": Cka.PRIME_2,
    "exponent_1": Cka.EXPONENT_1,
    "exponent_2": Cka.EXPONENT_2,
    "coefficient": Cka.COEFFICIENT,
}


def rsa_private_key(case: Case) -> ReadyKey:
    template = [(number, octets(case[name])) for name, number in RSA_PARTS.items()]
    head = [(Cka.CLASS, ulong(Cko.PRIVATE_KEY)), (Cka.KEY_TYPE, ulong(Ckk.RSA))]
    return load_key(build_object([*head, *template]))


def judge(result: str, mechanism: int, parameter: bytes, *arguments: object) -> None:
    """Verify; the vector says P for a right signature and F for a wrong one."""
    key, message, signature = arguments
    assert isinstance(key, ReadyKey)
    assert isinstance(message, bytes)
    assert isinstance(signature, bytes)
    if result == "P":
        mechanisms.verify(mechanism, parameter, key, message, signature)
        return
    with pytest.raises(ConclaveError) as caught:
        mechanisms.verify(mechanism, parameter, key, message, signature)
    assert caught.value.fault.ckr == Ckr.SIGNATURE_INVALID
