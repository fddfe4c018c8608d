"""What operations tell of the customers of a service provider (`conclave.operations.customers`)."""

from __future__ import annotations

import enum
from typing import Final


class Reveals(enum.Enum):
    """What an operation tells of others than the customer who calls it."""

    NOTHING = "nothing"
    """A customer may call it like anybody of the role."""
    SIFTED = "sifted"
    """Its handler leaves out what is not the caller's."""
    USE = "use"
    """What everybody does while the cluster service runs; no customer may call it then."""
    HISTORY = "history"
    """What everybody did; no customer may call it, and while the service is stopped nobody may who
    could be one."""

    @property
    def asked(self) -> tuple[str, ...]:
        """Return what is asked of the cluster process to know a customer."""
        return () if self is Reveals.NOTHING else ASKED


ASKED: Final = ("is_customer",)
"""What it takes to know a customer."""
