"""Derive keys: who may be derived from, and what the new key is.

Invariant: a key that is derived by mere copying of bits (concatenation, exclusive or, extraction)
is no less protected than the keys it came from.  Every key that takes part has its say by its
CKA_DERIVE_TEMPLATE.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from conclave.crypto.faults import refused
from conclave.crypto.material import SECRET_MAX_BYTES
from conclave.crypto.mechanisms import MECHANISMS, Parameter, Rows, admit, cannot, load_key
from conclave.crypto.standard import Cka, Ckf, Cko
from conclave.errors import Ckr
from conclave.keyring.attributes import Attributes, object_class, read_ulong
from conclave.keyring.templates import (
    STRICT,
    ObjectPolicy,
    Template,
    complete_derived,
    joined_template,
    plan_derived,
)

_DERIVE: Final = int(Ckf.DERIVE)
_LONGEST: Final = SECRET_MAX_BYTES

Find = Callable[[bytes], Attributes]
"""From the reference of a key to its attributes; raises CKR_KEY_HANDLE_INVALID."""


def derive_key(  # noqa: PLR0917 - the shape of DERIVE_KEY on the wire
    mechanism: int,
    parameter: Parameter,
    find: Find,
    base: bytes,
    template: Template,
    policy: ObjectPolicy = STRICT,
    *,
    rows: Rows = MECHANISMS,
) -> Attributes:
    """Return the key, or the data object, that a base key gives."""
    row = rows.get(mechanism)
    if row is None or row.derive is None:
        raise cannot(mechanism, "derive keys")
    decoded = row.parameter(bytes(parameter))
    references = [base]
    second = row.second_key(decoded) if row.second_key is not None else None
    if second is not None:
        references.append(second)
    sources = [find(reference) for reference in references]
    keys = [load_key(source) for source in sources]
    admit(row, keys[0], _DERIVE)
    for key, source in zip(keys[1:], sources[1:], strict=True):
        if object_class(source) != Cko.SECRET_KEY:
            raise refused(Ckr.KEY_TYPE_INCONSISTENT, "The second key must be a secret key.")
        if not key.usage & _DERIVE:
            raise refused(
                Ckr.KEY_FUNCTION_NOT_PERMITTED, "The second key's CKA_DERIVE is not true."
            )
    wanted_class = Cko.DATA if row.derives_data else Cko.SECRET_KEY
    planned = plan_derived(
        joined_template(template, Cka.DERIVE_TEMPLATE, sources),
        wanted_class,
        sources if row.inherits_protection else [],
        policy=policy,
    )
    wanted = planned.get(Cka.VALUE_LEN)
    length = None if wanted is None else _checked_length(read_ulong(wanted))
    value = row.derive(keys[0], keys[1] if len(keys) > 1 else None, decoded, length)
    return complete_derived(planned, value, sources)


def _checked_length(length: int) -> int:
    # More than any key holds; the type's own sizes are checked with the material.
    if not 1 <= length <= _LONGEST:
        raise refused(Ckr.KEY_SIZE_RANGE, f"CKA_VALUE_LEN must be 1 to {_LONGEST}, not {length}.")
    return length
