"""Layouts of the partition family, those of the product where they are known (5.x and 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from conclave.lunash.render.policies import policy_table

if TYPE_CHECKING:
    from conclave.operations.hsm import PolicyView
    from conclave.operations.hsm_roles import RoleView
    from conclave.operations.partitions import PartitionView

_SERIAL: Final = 13
_NAME: Final = 25
_FIGURES: Final = ("Total", "Used", "Free")
_COLUMN: Final = 43


def partition_list(partitions: Sequence[PartitionView]) -> list[str]:
    """Return one line for each partition.

    The columns are the product's, which has serial numbers of 9 digits; longer serial numbers and
    names widen theirs.
    """
    serial = max(_SERIAL, *(len(each.serial_number) + 2 for each in partitions), 0)
    name = max(_NAME, *(len(each.name) + 2 for each in partitions), 0)
    wider = " " * (serial - _SERIAL + name - _NAME)
    rows = [
        f" {each.serial_number:<{serial}}{each.name:<{name}}{each.object_count:>7}"
        f"{each.size:>10}{0:>10}{each.size:>10}"
        for each in partitions
    ]
    return [
        f"{wider}{'':54}Storage (bytes)",
        f"{wider}{'':48}{'-' * 28}",
        f" {'Partition':<{serial}}{'Name':<{name}}Objects"
        + "".join(f"{title:>10}" for title in _FIGURES),
        " " + "=" * (75 + len(wider)),
        *rows,
    ]


def partition_show(partition: PartitionView, owner: RoleView | None) -> list[str]:
    """Return one partition; `owner` is its Crypto Officer, None while it has none."""
    locked = owner is not None and owner.locked_out
    left = 10 if owner is None else owner.login_attempts_left
    attempts = (
        "None - Owner is Locked Out" if locked else f"{left} before Partition Owner is Locked Out"
    )
    to_change = owner is not None and owner.pin_to_be_changed
    rows = (
        ("Partition Name", partition.name),
        ("Partition SN", partition.serial_number),
        ("Partition Label", partition.label),
        ("Partition Version", str(partition.version)),
        ("Partition Initialized", "yes" if partition.state == "initialized" else "no"),
        ("Partition Owner Locked Out", "yes" if locked else "no"),
        ("Partition Owner PIN To Be Changed", "yes" if to_change else "no"),
        ("Partition Owner Login Attempts Left", attempts),
        (
            "Partition Storage Information (Bytes)",
            f"Total={partition.size}, Used=0, Free={partition.size}",
        ),
        ("Partition Object Count", str(partition.object_count)),
    )
    return _rows(rows)


def partition_contents(partition: PartitionView) -> list[str]:
    """Return how much a partition holds."""
    return _rows(
        (
            ("Partition Name", partition.name),
            ("Partition SN", partition.serial_number),
            ("Partition Label", partition.label),
            ("Storage (Bytes)", f"Total={partition.size}, Used=0, Free={partition.size}"),
            ("Number of objects", str(partition.object_count)),
        )
    )


def partition_policies(partition: PartitionView, policies: Sequence[PolicyView]) -> list[str]:
    """Return the policies of one partition."""
    head = _rows(
        (
            ("Partition Name", partition.name),
            ("Partition SN", partition.serial_number),
            ("Partition Label", partition.label),
        )
    )
    return [*head, "", *policy_table(policies)]


def _rows(rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"{title + ':':<{_COLUMN}}{value}".rstrip() for title, value in rows]
