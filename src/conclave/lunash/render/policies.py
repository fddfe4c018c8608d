"""The table of policies of HSM and partitions, that of the product (6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from conclave.operations.hsm import PolicyView

_DESCRIPTION: Final = 48
_TITLES: Final = ("Description", "Value", "Code", "Destructive")


def policy_table(policies: Sequence[PolicyView]) -> list[str]:
    """Return one line for each policy; those that are on or off say so."""
    width = max((_DESCRIPTION, *(len(each.name) + 2 for each in policies)))
    rows = [
        (each.name, _value(each), each.id, "Yes" if each.destructive else "No") for each in policies
    ]
    return [
        _line(_TITLES, width),
        _line(["=" * len(title) for title in _TITLES], width),
        *(_line(row, width) for row in rows),
    ]


def policy_set(words: str, policy: PolicyView) -> list[str]:
    """Return what a command that set a policy prints."""
    return [
        f"'{words}' successful.",
        "",
        f"Policy {policy.name} is now set to value: {policy.value}",
    ]


def _value(policy: PolicyView) -> str:
    if policy.maximum > 1:
        return str(policy.value)
    return "On" if policy.value else "Off"


def _line(cells: Sequence[str], width: int) -> str:
    description, value, code, destructive = cells
    return f"   {description:<{width}}{value:>7}  {code:>6}      {destructive}"
