"""What an HSM counts since its appliance started: what it was asked, refused, and lived through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from conclave import faults
from conclave.errors import ConclaveError, CredentialRefused


@dataclass(slots=True)
class HsmCounts:
    """Logins and changes of the HSM, its partitions, roles and policies; no cryptography."""

    requests: int = 0
    errors: int = 0
    critical_events: int = 0
    """Zeroizations."""
    non_critical_events: int = 0
    """Wrong passwords of the HSM's roles, and logins to locked ones."""

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the request inside, and how it ends."""
        self.requests += 1
        try:
            yield
        except ConclaveError as error:
            self.errors += 1
            if isinstance(error, CredentialRefused):
                # What a zeroized HSM refuses later is no credential's failure.
                zeroized = error.fault is faults.HSM_ZEROIZED
                self.critical_events += zeroized
                self.non_critical_events += not zeroized
            raise
