"""Private keys as PKCS #8 PrivateKeyInfo, the form in which they are wrapped."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from conclave.crypto.curves import CURVES, OCTET_CURVES
from conclave.crypto.faults import refused
from conclave.crypto.lattices import LATTICES
from conclave.crypto.number_exchange import (
    PrivateNumber,
    private_key_info,
    read_private_key_info,
)
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.rsa_mechanisms import rsa_material
from conclave.crypto.standard import Cka, Ckk
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import Attributes, ulong


def write_private_key(key: ReadyKey) -> bytes:
    """Return the DER PrivateKeyInfo of a private key."""
    if isinstance(key.handle, PrivateNumber):
        return private_key_info(key.handle.row, key.handle.value)
    encoded: bytes = key.handle.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return encoded


def read_private_key(encoded: bytes) -> Attributes:
    """Return type and material of a DER PrivateKeyInfo; raise CKR_WRAPPED_KEY_INVALID."""
    numbers = read_private_key_info(encoded)
    if numbers is not None:
        names = (Cka.PRIME, Cka.BASE, Cka.VALUE)
        return {Cka.KEY_TYPE: ulong(Ckk.DH), **dict(zip(names, numbers, strict=True))}
    try:
        key = load_der_private_key(encoded, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The cause's text is the library's and may quote what it read: it stays here.
        raise _not_a_key("no PKCS #8 private key") from None
    if isinstance(key, rsa.RSAPrivateKey):
        return {Cka.KEY_TYPE: ulong(Ckk.RSA), **rsa_material(key, key.key_size)[1]}
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _read_curve(key)
    for kind, rows in OCTET_CURVES.items():
        for row in rows:
            if isinstance(key, row.private):
                return {
                    Cka.KEY_TYPE: ulong(kind),
                    Cka.EC_PARAMS: row.params,
                    Cka.VALUE: key.private_bytes_raw(),
                }
    for kind, parameter_sets in LATTICES.items():
        for lattice in parameter_sets:
            if isinstance(key, lattice.private):
                return {
                    Cka.KEY_TYPE: ulong(kind),
                    Cka.PARAMETER_SET: ulong(lattice.number),
                    Cka.SEED: key.private_bytes_raw(),
                }
    raise _not_a_key("a private key of a type that is not supported")


def _read_curve(key: ec.EllipticCurvePrivateKey) -> Attributes:
    for row in CURVES:
        if row.curve.name == key.curve.name:
            number = key.private_numbers().private_value
            return {
                Cka.KEY_TYPE: ulong(Ckk.EC),
                Cka.EC_PARAMS: row.params,
                Cka.VALUE: number.to_bytes(row.order_bytes, "big").lstrip(b"\0"),
            }
    raise _not_a_key("a private key on a curve that is not supported")


def _not_a_key(what: str) -> ConclaveError:
    return refused(Ckr.WRAPPED_KEY_INVALID, f"What was wrapped is {what}.")
