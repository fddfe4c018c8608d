"""All commands of LunaSH, collected from the operations and from the families of larger ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from conclave.appliance.appliance import Appliance
from conclave.errors import ConclaveError
from conclave.lunash.families import (
    audit,
    cluster,
    hsm,
    package,
    partition,
    partition_setup,
    service,
    system,
    user,
)
from conclave.operations.catalogue import OPERATIONS
from conclave.operations.commands import Command
from conclave.operations.model import AnyOperation

_FAMILIES: Final = (
    audit,
    cluster,
    hsm,
    package,
    partition,
    partition_setup,
    service,
    system,
    user,
)
_OF_THE_PACKAGE: Final = frozenset({"cluster", "keyring"})
"""Families that stand and fall with the cluster's package, whatever their commands call (D2)."""
COMMANDS: Final[tuple[Command, ...]] = (
    *(command for operation in OPERATIONS for command in operation.commands),
    *(command for family in _FAMILIES for command in family.COMMANDS),
)
OPERATIONS_BY_NAME: Final[Mapping[str, AnyOperation]] = MappingProxyType(
    {operation.name: operation for operation in OPERATIONS}
)
Offered = Callable[[Command], bool]
"""Tells whether a session that opens now has a command."""


def operations_of(command: Command) -> Sequence[AnyOperation]:
    """Return the operations that a command calls."""
    if command.run is not None:
        return [OPERATIONS_BY_NAME[name] for name in command.operations]
    return [each for each in OPERATIONS if command in each.commands]


def offered_by(appliance: Appliance) -> Offered:
    """Return what asks whether the cluster's package is there for the commands that need it."""

    def offered(command: Command) -> bool:
        needed = any(each.needs_cluster_package for each in operations_of(command))
        if not needed and command.path[0] not in _OF_THE_PACKAGE:
            return True
        try:
            appliance.packages.cluster.require()
        except ConclaveError:
            return False
        return True

    return offered
