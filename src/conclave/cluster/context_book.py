"""Which proofs of the password for one use of a key this member has given (rule C14).

Invariant: a context ticket's id is in the book of the member that issued it from its issue to its
expiry, and in no other; whoever takes it first binds it to one use.  The book dies with the
process, and with it every proof that was not used: nobody gets a second use out of a restart.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final

from conclave import faults
from conclave.errors import CredentialRefused, Unavailable
from conclave.service.context_tickets import CONTEXT_SECONDS
from conclave.service.messages import SpendContext
from conclave.service.quiet import Nothing

MAX_CONTEXTS: Final = 65536


@dataclass(slots=True)
class _Issued:
    expires_ms: int
    use_digest: bytes = b""
    """Empty until it is spent."""


@dataclass(slots=True)
class ContextBook:
    """The context tickets of this member that have not expired, in the order of their expiry."""

    _issued: dict[bytes, _Issued] = field(default_factory=dict)

    def issue(self, context_id: bytes, now_ms: int) -> int:
        """Enter a new id; return its expiry in cluster time."""
        for known in [name for name, row in self._issued.items() if row.expires_ms <= now_ms]:
            del self._issued[known]
        if len(self._issued) >= MAX_CONTEXTS:
            message = f"{MAX_CONTEXTS} proofs of a password wait for their use; try again."
            raise Unavailable(faults.BUSY, message)
        expires_ms = now_ms + CONTEXT_SECONDS * 1000
        self._issued[context_id] = _Issued(expires_ms)
        return expires_ms

    def spend(self, params: SpendContext, now_ms: int) -> Nothing:
        """Take an id for one use; raise CredentialRefused when another one has it."""
        row = self._issued.get(params.context_id)
        if row is None or row.expires_ms <= now_ms:
            raise _spent("is not known here any more")
        if not row.use_digest:
            row.use_digest = params.use_digest
        if not hmac.compare_digest(row.use_digest, params.use_digest):
            raise _spent("was used already")
        return Nothing()


def _spent(what: str) -> CredentialRefused:
    return CredentialRefused(faults.NOT_LOGGED_IN, f"This proof of the password {what}.")
