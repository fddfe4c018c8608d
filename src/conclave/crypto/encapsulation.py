"""Encapsulate and decapsulate keys: the shared secret becomes a key and is never seen.

A key from here never counts as always sensitive or never extractable: another party has the same.
It has what CKA_ENCAPSULATE_TEMPLATE or CKA_DECAPSULATE_TEMPLATE of the key that made it says.
"""

from __future__ import annotations

from typing import Final

from conclave.crypto.faults import refused
from conclave.crypto.mechanisms import MECHANISMS, Parameter, Rows, admit, cannot
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Cka, Ckf, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes, read_ulong
from conclave.keyring.templates import (
    STRICT,
    ObjectPolicy,
    Template,
    complete_unwrapped_key,
    joined_template,
    plan_derived,
)

_ENCAPSULATE: Final = int(Ckf.ENCAPSULATE)
_DECAPSULATE: Final = int(Ckf.DECAPSULATE)


def encapsulate_key(
    mechanism: int,
    parameter: Parameter,
    key: ReadyKey,
    template: Template,
    *,
    encapsulating: Attributes,
    policy: ObjectPolicy = STRICT,
    rows: Rows = MECHANISMS,
) -> tuple[bytes, Attributes]:
    """Return a ciphertext for the owner of the private key, and the key that it stands for."""
    row = rows.get(mechanism)
    if row is None or row.encapsulate is None:
        raise cannot(mechanism, "encapsulate keys")
    row.parameter(bytes(parameter))
    admit(row, key, _ENCAPSULATE)
    # The standard has another value here than for C_DecapsulateKey: the key is the wrong one.
    joined = joined_template(
        template, Cka.ENCAPSULATE_TEMPLATE, [encapsulating], Ckr.KEY_HANDLE_INVALID
    )
    planned = plan_derived(joined, Cko.SECRET_KEY, [], policy=policy)
    ciphertext, secret = row.encapsulate(key)
    return ciphertext, _complete(planned, secret)


def decapsulate_key(
    mechanism: int,
    parameter: Parameter,
    key: ReadyKey,
    ciphertext: bytes,
    template: Template,
    *,
    decapsulating: Attributes,
    policy: ObjectPolicy = STRICT,
    rows: Rows = MECHANISMS,
) -> Attributes:
    """Return the key that a ciphertext stands for; another key if it was tampered with."""
    row = rows.get(mechanism)
    if row is None or row.decapsulate is None:
        raise cannot(mechanism, "decapsulate keys")
    row.parameter(bytes(parameter))
    admit(row, key, _DECAPSULATE)
    joined = joined_template(template, Cka.DECAPSULATE_TEMPLATE, [decapsulating])
    planned = plan_derived(joined, Cko.SECRET_KEY, [], policy=policy)
    return _complete(planned, row.decapsulate(key, ciphertext))


def _complete(planned: Attributes, secret: bytes) -> Attributes:
    wanted = planned.get(Cka.VALUE_LEN)
    if wanted is not None and read_ulong(wanted) != len(secret):
        raise refused(
            Ckr.TEMPLATE_INCONSISTENT,
            f"The shared secret has {len(secret)} bytes; CKA_VALUE_LEN says {read_ulong(wanted)}.",
        )
    return complete_unwrapped_key(planned, {Cka.VALUE: secret})
