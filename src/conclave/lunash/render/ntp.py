"""Layouts of `sysconf ntp`: list and status begin as the product's do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from conclave.lunash.render.tables import fields

if TYPE_CHECKING:
    from conclave.operations.ntp import NtpServers, NtpStatus

_RULE: Final = "=" * 65


def ntp_list(servers: NtpServers) -> Sequence[str]:
    """Return the time servers."""
    return [_RULE, "NTP Servers:", *(f"server {each.id}" for each in servers.servers), _RULE]


def ntp_status(status: NtpStatus) -> Sequence[str]:
    """Return whether the service runs, and what the clock follows."""
    lines = [
        f"NTP is {'running' if status.enabled else 'not running'}",
        f"NTP is {'enabled' if status.enabled else 'disabled'}",
        "",
    ]
    rows = [
        ("Clock follows", status.server or status.synchronized_to),
        ("Offset to the host (ms)", str(status.offset_milliseconds)),
    ]
    if status.server:
        rows += [
            ("Stratum", str(status.stratum)),
            ("Delay (ms)", str(status.delay_milliseconds)),
            ("Last answer (UTC)", status.last_answer),
        ]
    if status.error:
        rows.append(("Last failure", status.error))
    return lines + fields(rows)
