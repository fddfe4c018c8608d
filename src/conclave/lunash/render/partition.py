"""Layouts of the partition family, those of the product where they are known (5.x and 6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from conclave.operations.hsm import RoleView
    from conclave.operations.partitions import PartitionView

_LIST_HEAD: Final = (
    f"{'':54}Storage (bytes)",
    f"{'':48}----------------------------",
    " Partition    Name                     Objects     Total      Used      Free",
    " ===========================================================================",
)
_COLUMN: Final = 43


def partition_list(partitions: Sequence[PartitionView]) -> list[str]:
    """Return one line for each partition."""
    rows = [
        f" {each.serial_number:<12} {each.name:<26}{each.object_count:>6}"
        f"{each.size:>10}{0:>10}{each.size:>10}"
        for each in partitions
    ]
    return [*_LIST_HEAD, *rows]


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
    return [f"{title + ':':<{_COLUMN}}{value}".rstrip() for title, value in rows]
