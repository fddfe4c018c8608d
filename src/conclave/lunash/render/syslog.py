"""Layouts of `syslog`: the list of remote hosts is the product's, the others are ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from conclave.lunash.render.tables import table

if TYPE_CHECKING:
    from conclave.operations.support_info import WrittenFile
    from conclave.operations.syslog import Lines, Logs, RemoteHosts


def log_list(logs: Logs) -> Sequence[str]:
    """Return the logs."""
    rows = [(each.id, str(each.size), str(each.older_files)) for each in logs.logs]
    return table(("Log", "Bytes", "Older files"), rows)


def log_tail(lines: Lines) -> Sequence[str]:
    """Return lines of a log as they are."""
    return lines.entries


def exported_file(file: WrittenFile) -> Sequence[str]:
    """Return where the log was written."""
    name = file.url.rpartition("/")[2]
    return [f"The log was written to {name!r} among your files; 'my file list' lists them."]


def remote_host_list(hosts: RemoteHosts) -> Sequence[str]:
    """Return the remote hosts."""
    found = [f"  {each.host}:{each.port}, {each.protocol}" for each in hosts.remote_hosts]
    return ["Remote logging server(s):", "", *(found or ["  none"])]
