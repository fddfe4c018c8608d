"""The parameter sets of ML-DSA (FIPS 204) and ML-KEM (FIPS 203).

A private key is its seed (CKA_SEED): pyca/cryptography neither reads nor gives the expanded form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem

from conclave.crypto.faults import refused
from conclave.crypto.standard import Cka, Ckk, name_of
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes, key_type, read_ulong

LatticePrivateKey = (
    mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
    | mlkem.MLKEM768PrivateKey
    | mlkem.MLKEM1024PrivateKey
)
LatticePublicKey = (
    mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
    | mlkem.MLKEM768PublicKey
    | mlkem.MLKEM1024PublicKey
)


@dataclass(frozen=True, slots=True)
class LatticeRow:
    """A parameter set."""

    name: str
    number: int
    """The value of CKA_PARAMETER_SET (CKP_ML_DSA_44 and so on)."""
    seed_bytes: int
    public_bytes: int
    signature_bytes: int
    """0 where nothing is signed."""
    private: type[LatticePrivateKey]
    public: type[LatticePublicKey]
    ciphertext_bytes: int = 0
    """0 where nothing is encapsulated."""


ML_DSA: Final = (
    LatticeRow("ML-DSA-44", 1, 32, 1312, 2420, mldsa.MLDSA44PrivateKey, mldsa.MLDSA44PublicKey),
    LatticeRow("ML-DSA-65", 2, 32, 1952, 3309, mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey),
    LatticeRow("ML-DSA-87", 3, 32, 2592, 4627, mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey),
)
ML_KEM: Final = (
    LatticeRow(
        "ML-KEM-768", 2, 64, 1184, 0, mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey, 1088
    ),
    LatticeRow(
        "ML-KEM-1024", 3, 64, 1568, 0, mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey, 1568
    ),
)
LATTICES: Final[dict[int, tuple[LatticeRow, ...]]] = {Ckk.ML_DSA: ML_DSA, Ckk.ML_KEM: ML_KEM}
"""By key type."""


def lattice_of(kind: int, parameter_set: bytes) -> LatticeRow:
    """Return the row of CKA_PARAMETER_SET; raise CKR_ATTRIBUTE_VALUE_INVALID."""
    rows = LATTICES[kind]
    number = read_ulong(parameter_set)
    for row in rows:
        if row.number == number:
            return row
    names = ", ".join(f"{row.number} ({row.name})" for row in rows)
    raise refused(
        Ckr.ATTRIBUTE_VALUE_INVALID,
        f"CKA_PARAMETER_SET of a {name_of(Ckk, kind)} key is one of {names}, not {number}.",
    )


def row_of(attributes: Attributes) -> LatticeRow:
    """Return the parameter set of a key."""
    return lattice_of(key_type(attributes), attributes[Cka.PARAMETER_SET])
