"""Layouts of the audit family; they are ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conclave.lunash.render.tables import fields, table

if TYPE_CHECKING:
    from conclave.operations.audit import AuditRecords, AuditVerdict, AuditView

_COLUMNS = ("time", "user", "source", "door", "operation", "target", "outcome", "fault")


def audit_list(log: AuditView) -> list[str]:
    """Return the log's state and its files, oldest first."""
    rows = (
        ("Newest Record", str(log.sequence)),
        ("Hash", log.hash),
        ("Signature", log.signature),
        ("Public Key", log.public_key),
        ("Size (Bytes)", str(log.total_bytes)),
    )
    return [*fields(rows), "", *log.files]


def audit_tail(found: AuditRecords) -> list[str]:
    """Return records, the newest at the end as in any log."""
    titles = [name.capitalize() for name in _COLUMNS]
    return table(titles, [_cells(record) for record in reversed(found.records)])


def audit_verify(verdict: AuditVerdict) -> list[str]:
    """Return what a verification found."""
    return [
        f"The audit log is whole: {verdict.records} records, {verdict.first} to {verdict.last}.",
        f"Hash of the newest: {verdict.hash}",
    ]


def _cells(record: Mapping[str, Any]) -> list[str]:
    return [str(record.get(name, "")) for name in _COLUMNS]
