"""The policies of HSM and partitions, as tables: a policy that is listed has an effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.errors import BadInput, NotAllowed, NotFound
from conclave.hsm.views import PolicyInfo

FORCE_CHANGE: Final = 21
MAX_FAILED_LOGINS: Final = 20
INVERTED_MIN_LENGTH: Final = 25
PER_KEY_AUTHORIZATION: Final = 40
PARTITION_VERSION: Final = 41


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A row of a policy table; `destructive` asks for a confirmation before a change."""

    number: int
    name: str
    default: int
    lowest: int
    highest: int
    destructive: bool = False


def _table(*rows: PolicyRule) -> Mapping[int, PolicyRule]:
    return {row.number: row for row in rows}


HSM_POLICIES: Final = _table(
    PolicyRule(FORCE_CHANGE, "Force user PIN change after set/reset", 1, 0, 1),
)
V1_POLICIES: Final = _table(
    PolicyRule(MAX_FAILED_LOGINS, "Max failed user logins allowed", 10, 1, 10),
    PolicyRule(INVERTED_MIN_LENGTH, "Minimum PIN length (inverted: 255 - min)", 247, 0, 247),
    PolicyRule(PER_KEY_AUTHORIZATION, "Require Per-Key Authorization Data", 1, 0, 1, True),
    PolicyRule(PARTITION_VERSION, "Enable Partition Version", 1, 1, 1, True),
)
V0_POLICIES: Final = _table(
    V1_POLICIES[MAX_FAILED_LOGINS],
    V1_POLICIES[INVERTED_MIN_LENGTH],
    PolicyRule(PER_KEY_AUTHORIZATION, "Require Per-Key Authorization Data", 0, 0, 0, True),
    PolicyRule(PARTITION_VERSION, "Enable Partition Version", 0, 0, 1, True),
)


def partition_table(version: int) -> Mapping[int, PolicyRule]:
    """Return the table for V0 or V1 partitions."""
    return V1_POLICIES if version == 1 else V0_POLICIES


def value_of(table: Mapping[int, PolicyRule], values: Mapping[int, int], number: int) -> int:
    """Return a policy's value, or its default when it was never set."""
    return values.get(number, table[number].default)


def list_policies(
    table: Mapping[int, PolicyRule], values: Mapping[int, int]
) -> tuple[PolicyInfo, ...]:
    """Return all policies of a table in the order of their numbers."""
    return tuple(
        PolicyInfo(
            row.number,
            row.name,
            value_of(table, values, row.number),
            row.lowest,
            row.highest,
            row.destructive,
        )
        for row in sorted(table.values(), key=lambda row: row.number)
    )


def changed_policies(
    table: Mapping[int, PolicyRule],
    values: Mapping[int, int],
    number: int,
    value: int,
    *,
    confirmed: bool,
) -> dict[int, int]:
    """Return the values with one changed; raise NotFound, BadInput or NotAllowed."""
    row = table.get(number)
    if row is None:
        known = ", ".join(str(known) for known in sorted(table))
        message = f"There is no policy {number} here; there are {known}."
        raise NotFound(faults.INVALID_POLICY, message)
    if not row.lowest <= value <= row.highest:
        message = (
            f"Policy {number} ({row.name}) must lie between {row.lowest} and {row.highest};"
            f" it cannot be {value}."
        )
        raise BadInput(faults.BAD_REQUEST, message)
    if row.destructive and not confirmed and value != value_of(table, values, number):
        message = f"Changing policy {number} ({row.name}) is destructive and must be confirmed."
        raise NotAllowed(faults.HSM_OPERATION, message)
    return {**values, number: value}
