"""Layouts of the hsm family, those of the product where they are known (7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from conclave import __version__
from conclave.lunash.render.policies import policy_table
from conclave.versions import BUILD

if TYPE_CHECKING:
    from conclave.operations.firmware import FirmwareView
    from conclave.operations.hsm import HsmView, PolicyView
    from conclave.operations.hsm_state import HsmInformation, HsmTimeView
    from conclave.operations.partitions import PartitionView

MAX_PARTITIONS: Final = 100
_COLUMN: Final = 40
_FIPS: Final = (
    "   FIPS 140-2 Operation:",
    "   =====================",
    "   The HSM is NOT in FIPS 140-2 approved operation mode.",
    "",
)


def hsm_show(
    hsm: HsmView,
    partitions: Sequence[PartitionView],
    *,
    appliance_version: str,
    logged_in: bool,
    zeroizes: bool = True,
    clock_warning: str = "",
) -> list[str]:
    """Return the HSM with its partitions; `zeroizes` is what three wrong passwords do."""
    storage = hsm.storage_space
    software = (
        ("Software Version", f"{appliance_version}-{BUILD}"),
        ("Conclave Version", __version__),
    )
    return [
        "",
        *_block("Appliance Details", "=", software, 36),
        *_block("HSM Details", "=", _details(hsm, logged_in=logged_in, zeroizes=zeroizes)),
        "   Partitions created on HSM:",
        "   ==============================",
        *(_partition_line(each) for each in partitions),
        *([] if partitions else ["   There are no partitions."]),
        "",
        "",
        f"   Number of partitions allowed:        {MAX_PARTITIONS}",
        f"   Number of partitions created:        {len(partitions)}",
        "",
        *_FIPS,
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
        *([f"   {clock_warning}", ""] if clock_warning else []),
    ]


def login_caution(left: int) -> list[str]:
    """Return what is said before a login of the HSM SO after wrong passwords."""
    if left == 2:
        return [
            "",
            "Caution:  You have only TWO HSM Admin logins attempts left (including",
            "          this one). If you fail two more consecutive login attempts",
            "          (i.e. with no successful logins in between) the HSM will",
            "          be ZEROIZED!!!",
        ]
    if left == 1:
        return [
            "",
            "Caution:  This is your LAST available HSM Admin login attempt",
            "          If it fails, the HSM will be ZEROIZED!!!",
        ]
    return []


def time_show(time: HsmTimeView) -> list[str]:
    """Return the HSM's clock beside the appliance's."""
    rows = (
        ("HSM Time", f"{time.hsm_time} {time.time_zone}"),
        ("Appliance Time", f"{time.appliance_time} {time.time_zone}"),
        ("Synchronized", "Yes" if time.synchronized else "No"),
    )
    return [*_rows(rows, _COLUMN), *(["", f"   {time.warning}"] if time.warning else [])]


def information_show(information: HsmInformation) -> list[str]:
    """Return what was counted."""
    return _rows(
        (
            ("Operation Requests", str(information.operation_requests)),
            ("Operation Errors", str(information.operation_errors)),
            ("Crypto Operation Requests", str(information.crypto_operation_requests)),
            ("Crypto Operation Errors", str(information.crypto_operation_errors)),
            ("Critical Events", str(information.critical_events)),
            ("Non-Critical Events", str(information.non_critical_events)),
        ),
        _COLUMN,
    )


def firmware_show(firmware: FirmwareView) -> list[str]:
    """Return the firmware that runs, and those that it could be changed to."""
    newer = firmware.upgrade_version != firmware.firmware_version
    return _rows(
        (
            ("Current Firmware", firmware.firmware_version),
            ("Rollback Firmware", "Not available"),
            ("Upgrade Firmware", firmware.upgrade_version if newer else "Not available"),
            ("Conclave Version", __version__),
        ),
        _COLUMN,
    )


def hsm_policies(hsm: HsmView, policies: Sequence[PolicyView]) -> list[str]:
    """Return the HSM's policies."""
    head = (
        ("HSM Label", hsm.label),
        ("Serial #", hsm.serial_number),
        ("Firmware", hsm.firmware_version),
    )
    return [
        *_rows(head, 39),
        "",
        "   The following policies may be changed by the HSM SO.",
        '   Changing policies marked "destructive" will zeroize (erase',
        "   completely) the entire HSM.",
        "",
        *policy_table(policies),
    ]


def attempts_left(hsm: HsmView, *, zeroizes: bool = True) -> str:
    """Return how many logins the HSM SO has left."""
    if hsm.zeroized or not hsm.initialized:
        return "HSM IS ZEROIZED !!!!"
    if not zeroizes:
        return "not limited, but each takes longer"
    return f"{hsm.so_logins_left} before HSM zeroization!"


def _details(hsm: HsmView, *, logged_in: bool, zeroizes: bool) -> list[tuple[str, str]]:
    return [
        ("HSM Label", hsm.label),
        ("Serial #", hsm.serial_number),
        ("Firmware", hsm.firmware_version),
        ("HSM Model", "Conclave"),
        ("Authentication Method", "Password"),
        ("HSM Admin login status", "Logged In" if logged_in else "Not Logged In"),
        ("HSM Admin login attempts left", attempts_left(hsm, zeroizes=zeroizes)),
        ("RPV Initialized", "No"),
        ("Audit Role Initialized", "No"),
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
