"""Layouts of the hsm family, those of the product where they are known (7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from conclave import __version__

if TYPE_CHECKING:
    from conclave.operations.hsm import HsmView
    from conclave.operations.partitions import PartitionView

MAX_PARTITIONS: Final = 100
_COLUMN: Final = 40


def hsm_show(
    hsm: HsmView, partitions: Sequence[PartitionView], *, logged_in: bool, auditor: bool = False
) -> list[str]:
    """Return the HSM with its partitions."""
    storage = hsm.storage_space
    return [
        "",
        *_block("Appliance Details", "=", [("Software Version", f"Conclave {__version__}")], 36),
        *_block("HSM Details", "=", _details(hsm, logged_in=logged_in, auditor=auditor)),
        "   Partitions created on HSM:",
        "   ==============================",
        *(_partition_line(each) for each in partitions),
        *([] if partitions else ["   There are no partitions."]),
        "",
        "",
        f"   Number of partitions allowed:        {MAX_PARTITIONS}",
        f"   Number of partitions created:        {len(partitions)}",
        "",
        "   HSM Storage Information:",
        "   ========================",
        *_rows(
            (
                ("Maximum HSM Storage Space (Bytes)", str(storage["total"])),
                ("Space In Use (Bytes)", str(storage["used"])),
                ("Free Space Left (Bytes)", str(storage["free"])),
            ),
            _COLUMN,
        ),
        "",
    ]


def attempts_left(hsm: HsmView) -> str:
    """Return how many logins the HSM SO has left."""
    if hsm.zeroized or not hsm.initialized:
        return "HSM IS ZEROIZED !!!!"
    return f"{hsm.so_logins_left} before HSM zeroization!"


def _details(hsm: HsmView, *, logged_in: bool, auditor: bool) -> list[tuple[str, str]]:
    return [
        ("HSM Label", hsm.label),
        ("Serial #", hsm.serial_number),
        ("Firmware", f"Conclave {__version__}"),
        ("HSM Model", "Conclave"),
        ("Authentication Method", "Password"),
        ("HSM Admin login status", "Logged In" if logged_in else "Not Logged In"),
        ("HSM Admin login attempts left", attempts_left(hsm)),
        ("RPV Initialized", "No"),
        ("Audit Role Initialized", "Yes" if auditor else "No"),
        ("Remote Login Initialized", "No"),
        ("Manually Zeroized", "No"),
        ("Secure Transport Mode", "No"),
        ("HSM Tamper State", "No tamper(s)"),
    ]


def _partition_line(partition: PartitionView) -> str:
    return f"   Partition: {partition.serial_number},     Name: {partition.name}"


def _block(title: str, line: str, rows: Sequence[tuple[str, str]], column: int = 39) -> list[str]:
    head = f"   {title}:"
    return [head, f"   {line * (len(head) - 3)}", *_rows(rows, column), ""]


def _rows(rows: Sequence[tuple[str, str]], column: int) -> list[str]:
    return [f"   {title + ':':<{column - 3}}{value}".rstrip() for title, value in rows]
