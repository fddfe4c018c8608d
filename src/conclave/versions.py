"""The versions that stand for an appliance of the guide's family, beside Conclave's own (rule D6).

Clients, scripts and people who know such appliances look for these; `conclave.__version__` is what
really runs.  They are the least versions that the guide asks for in production, so every check
against its minima passes on a current installation and refuses an appliance that says it is older.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Versions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Versions of the four parts that the guide names."""

    appliance: str = "7.8.5"
    """Appliance software."""
    firmware: str = "7.8.4"
    """HSM firmware."""
    package: str = "1.0.4"
    """The cluster's secure package."""
    client: str = "10.7.2"
    """The HSM client."""


MINIMUM: Final = Versions()
"""The guide's least versions for clusters in production."""
BUILD: Final = 1
"""Build number behind the versions where the family prints one."""
