"""The mechanism table and the operations on it.

Invariant: what the table advertises works, and nothing works that it does not advertise: the flags
of a row follow from its functions.  A new mechanism is a row in one of the modules below and a
function beside it; C_GetMechanismInfo and docs/mechanisms.md follow by themselves.

No operation returns a signature or a ciphertext that it has not computed whole; a wrong signature,
tag or padding raises, so that no caller can forget to look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import msgspec

from conclave.crypto import (
    chained_kdf,
    cipher_mechanisms,
    counter_kdf,
    curve_mechanisms,
    derive_mechanisms,
    hash_derivation,
    lattice_mechanisms,
    legacy_mechanisms,
    number_mechanisms,
    password_derivation,
    rsa_mechanisms,
    secret_mechanisms,
    wrap_mechanisms,
)
from conclave.crypto.faults import refused
from conclave.crypto.mechanism_row import Mechanism
from conclave.crypto.ready_key import ReadyKey, load_key
from conclave.crypto.standard import Cka, Ckf, Ckk, Ckm, Cko, name_of
from conclave.errors import Ckr, ConclaveError
from conclave.keyring.attributes import Attributes, ulong
from conclave.keyring.templates import STRICT, ObjectPolicy, Template, complete_key, plan_key
from conclave.service.wire import MechanismInfo

__all__ = [
    "MECHANISMS",
    "Mechanism",
    "ReadyKey",
    "admit",
    "cannot",
    "decrypt",
    "encrypt",
    "generate_key",
    "generate_key_pair",
    "load_key",
    "mechanism_infos",
    "sign",
    "sign_recover",
    "takes_long",
    "verify",
    "verify_recover",
]


def _table(rows: Iterable[Mechanism]) -> dict[int, Mechanism]:
    table = {int(row.number): row for row in sorted(rows, key=lambda row: row.number)}
    for wrapping in wrap_mechanisms.CIPHERS_THAT_WRAP:
        row = table[wrapping.number]
        table[wrapping.number] = replace(
            row,
            wrap=row.encrypt,
            unwrap=row.decrypt,
            wraps_private_keys=wrapping.private_keys,
        )
    return table


MECHANISMS: Final = _table(
    (
        *rsa_mechanisms.ROWS,
        *curve_mechanisms.ROWS,
        *secret_mechanisms.ROWS,
        *cipher_mechanisms.ROWS,
        *lattice_mechanisms.ROWS,
        *legacy_mechanisms.ROWS,
        *wrap_mechanisms.ROWS,
        *derive_mechanisms.ROWS,
        *number_mechanisms.ROWS,
        *counter_kdf.ROWS,
        *chained_kdf.ROWS,
        *hash_derivation.ROWS,
        *password_derivation.ROWS,
    )
)
_SIGN: Final = int(Ckf.SIGN)
_VERIFY: Final = int(Ckf.VERIFY)
_ENCRYPT: Final = int(Ckf.ENCRYPT)
_DECRYPT: Final = int(Ckf.DECRYPT)
_DEFAULT_ID_BYTES: Final = 20

Rows = Mapping[int, Mechanism]
"""Mechanisms by number: all, or what a cluster's policy leaves of them."""
Parameter = msgspec.Raw | bytes
"""The msgpack form of a mechanism's parameter."""


def mechanism_infos(rows: Rows = MECHANISMS) -> list[MechanismInfo]:
    """Return what C_GetMechanismList and C_GetMechanismInfo report."""
    return [
        MechanismInfo(int(row.number), row.min_key_size, row.max_key_size, int(row.flags))
        for row in rows.values()
    ]


def takes_long(mechanism: int) -> bool:
    """Return whether a mechanism takes milliseconds and so does not belong in an event loop."""
    row = MECHANISMS.get(mechanism)
    return row is not None and row.takes_long


def sign(  # noqa: PLR0917 - the shape of SIGN on the wire
    mechanism: int,
    parameter: Parameter,
    key: ReadyKey,
    data: bytes,
    prehashed: bool = False,
    rows: Rows = MECHANISMS,
) -> bytes:
    """Return the signature (or MAC) of data; with `prehashed` the data are the digest already."""
    row = rows.get(mechanism)
    if row is None or row.sign is None:
        raise cannot(mechanism, "sign")
    admit(row, key, _SIGN, prehashed=prehashed)
    return row.sign(key, row.parameter(bytes(parameter)), data, prehashed)


def verify(  # noqa: PLR0917 - the shape of VERIFY on the wire
    mechanism: int,
    parameter: Parameter,
    key: ReadyKey,
    data: bytes,
    signature: bytes,
    prehashed: bool = False,
    rows: Rows = MECHANISMS,
) -> None:
    """Raise CKR_SIGNATURE_INVALID or CKR_SIGNATURE_LEN_RANGE unless the signature is right."""
    row = rows.get(mechanism)
    if row is None or row.verify is None:
        raise cannot(mechanism, "verify")
    admit(row, key, _VERIFY, prehashed=prehashed)
    row.verify(key, row.parameter(bytes(parameter)), data, signature, prehashed)


def sign_recover(
    mechanism: int, parameter: Parameter, key: ReadyKey, data: bytes, rows: Rows = MECHANISMS
) -> bytes:
    """Return a signature of data that gives them back."""
    row = rows.get(mechanism)
    if row is None or row.sign_recover is None:
        raise cannot(mechanism, "sign with recovery")
    admit(row, key, Ckf.SIGN_RECOVER)
    return row.sign_recover(key, row.parameter(bytes(parameter)), data)


def verify_recover(
    mechanism: int, parameter: Parameter, key: ReadyKey, signature: bytes, rows: Rows = MECHANISMS
) -> bytes:
    """Return the data of a signature; raise as `verify` does when it is wrong."""
    row = rows.get(mechanism)
    if row is None or row.verify_recover is None:
        raise cannot(mechanism, "recover data from signatures")
    admit(row, key, Ckf.VERIFY_RECOVER)
    return row.verify_recover(key, row.parameter(bytes(parameter)), signature)


def encrypt(
    mechanism: int, parameter: Parameter, key: ReadyKey, data: bytes, rows: Rows = MECHANISMS
) -> bytes:
    """Return the ciphertext of data."""
    row = rows.get(mechanism)
    if row is None or row.encrypt is None:
        raise cannot(mechanism, "encrypt")
    admit(row, key, _ENCRYPT)
    return row.encrypt(key, row.parameter(bytes(parameter)), data)


def decrypt(
    mechanism: int, parameter: Parameter, key: ReadyKey, data: bytes, rows: Rows = MECHANISMS
) -> bytes:
    """Return the plaintext of data; raise CKR_ENCRYPTED_DATA_INVALID when there is none."""
    row = rows.get(mechanism)
    if row is None or row.decrypt is None:
        raise cannot(mechanism, "decrypt")
    admit(row, key, _DECRYPT)
    return row.decrypt(key, row.parameter(bytes(parameter)), data)


def generate_key(
    mechanism: int,
    parameter: Parameter,
    template: Template,
    *,
    policy: ObjectPolicy = STRICT,
    rows: Rows = MECHANISMS,
) -> Attributes:
    """Return a new secret key."""
    row = rows.get(mechanism)
    if row is None or row.generate is None:
        raise cannot(mechanism, "generate keys")
    decoded = row.parameter(bytes(parameter))
    asked = dict(template).get(Cka.KEY_TYPE, b"")
    kind = next((kind for kind in row.key_types if ulong(kind) == asked), row.key_types[0])
    planned = plan_key(template, Cko.SECRET_KEY, kind, policy=policy)
    return complete_key(planned, row.generate(planned, decoded), mechanism)


def generate_key_pair(
    mechanism: int,
    parameter: Parameter,
    public_template: Template,
    private_template: Template,
    *,
    policy: ObjectPolicy = STRICT,
    rows: Rows = MECHANISMS,
) -> tuple[Attributes, Attributes]:
    """Return a new public and private key, in this order.

    A half without CKA_ID, or with an empty one, gets the other's; if neither has one, both get the
    SHA-256 of the public key cut to 20 bytes, so that applications which pair keys by it find them.
    """
    row = rows.get(mechanism)
    if row is None or row.generate_pair is None:
        raise cannot(mechanism, "generate key pairs")
    row.parameter(bytes(parameter))
    kind: Ckk = row.key_types[0]
    public = plan_key(public_template, Cko.PUBLIC_KEY, kind, policy=policy)
    private = plan_key(private_template, Cko.PRIVATE_KEY, kind, policy=policy)
    public_material, private_material = row.generate_pair(public, private)
    info_hash = hashlib.sha256(public_material[Cka.PUBLIC_KEY_INFO]).digest()
    identity = public[Cka.ID] or private[Cka.ID] or info_hash[:_DEFAULT_ID_BYTES]
    for planned in (public, private):
        planned[Cka.ID] = planned[Cka.ID] or identity
    return (
        complete_key(public, public_material, mechanism),
        complete_key(private, private_material, mechanism),
    )


def admit(row: Mechanism, key: ReadyKey, usage: int, *, prehashed: bool = False) -> None:
    """Raise unless the mechanism works with the key and the key permits the use."""
    if key.key_type not in row.key_types:
        raise refused(
            Ckr.KEY_TYPE_INCONSISTENT,
            f"{name_of(Ckm, row.number)} does not work with a {name_of(Ckk, key.key_type)} key.",
        )
    if not key.usage & usage:
        raise refused(
            Ckr.KEY_FUNCTION_NOT_PERMITTED,
            f"The key's attributes do not permit CKF_{Ckf(usage).name}.",
        )
    if key.allowed_mechanisms and row.number not in key.allowed_mechanisms:
        raise refused(
            Ckr.MECHANISM_INVALID,
            f"The key's CKA_ALLOWED_MECHANISMS do not hold {name_of(Ckm, row.number)}.",
        )
    if row.key_rule is not None:
        row.key_rule(key)
    if prehashed and not row.hashes:
        raise refused(
            Ckr.MECHANISM_PARAM_INVALID, f"{name_of(Ckm, row.number)} takes no digest for data."
        )


def cannot(mechanism: int, what: str) -> ConclaveError:
    """Return the error for a mechanism that does not do something."""
    return refused(Ckr.MECHANISM_INVALID, f"{name_of(Ckm, mechanism)} does not {what}.")
