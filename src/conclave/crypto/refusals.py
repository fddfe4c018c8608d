"""Tell in advance what a key will be refused for, so that C_SignInit can say it, not only C_Sign.

Only what follows from key and mechanism is told; what depends on parameter or data is refused when
it comes.
"""

from __future__ import annotations

from typing import Final

from conclave.crypto.mechanisms import MECHANISMS, Rows, admit
from conclave.crypto.ready_key import ReadyKey
from conclave.crypto.standard import Ckf
from conclave.errors import Ckr, ConclaveError

Refusal = tuple[int, int, int]
"""Mechanism, CKF bits of the uses that are refused with it, CK_RV."""

_BEGUN: Final = int(
    Ckf.ENCRYPT | Ckf.DECRYPT | Ckf.SIGN | Ckf.SIGN_RECOVER | Ckf.VERIFY | Ckf.VERIFY_RECOVER
)
"""Uses that begin with a call of their own."""


def restricted_types(rows: Rows) -> frozenset[int]:
    """Return the key types for which a policy takes or changes anything."""
    changed = [row for number, row in MECHANISMS.items() if rows.get(number) is not row]
    return frozenset(int(kind) for row in changed for kind in row.key_types)


def refusals(key: ReadyKey, rows: Rows = MECHANISMS) -> list[Refusal]:
    """Return what the key's attributes permit and the policy or its own list of mechanisms not."""
    found = []
    for number, row in MECHANISMS.items():
        uses = row.flags & key.usage & _BEGUN
        if not uses or key.key_type not in row.key_types:
            continue
        left = rows.get(number)
        kept = uses & left.flags if left is not None else 0
        if uses & ~kept:
            found.append((number, uses & ~kept, int(Ckr.MECHANISM_INVALID)))
        if left is not None and kept:
            try:
                admit(left, key, kept)
            except ConclaveError as error:
                found.append((number, kept, int(error.fault.ckr)))
    return found
