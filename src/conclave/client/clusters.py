"""The clusters a client is registered with: the LNHServer entries of Chrystoki.conf."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.client.configuration import SECTION, Document, remove_entries, set_entries
from conclave.errors import BadInput, LimitReached

MAX_CLUSTERS: Final = 10
MAX_PORT: Final = 65_535
MAX_SOCKET_BYTES: Final = 107
"""sun_path has 108 bytes with its final zero (unix(7))."""
DEFAULT_RECEIVE_TIMEOUT_MS: Final = 20_000
DEFAULT_COMMON_NAME: Final = "lnh.thalesgroup.com"
_ENDPOINT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\s:\[\]]+)):([0-9]{1,5})")
_SERVER_NAME: Final = re.compile(r"LNHServer([0-9]{2})")


@dataclass(frozen=True, slots=True)
class ClusterEntry:
    """How to reach one cluster: its entry member, and who this client is there."""

    index: int
    host: str
    port: int
    certificate_file: Path
    key_file: Path
    ca_file: Path
    common_name: str
    socket: str = ""
    """The path of its Unix socket, where it is on this host; tried before host and port."""


def endpoint_of(text: str) -> tuple[str, int] | None:
    """Return host and port of address:port, IPv6 addresses in brackets; None for another text."""
    found = _ENDPOINT.fullmatch(text)
    if found is None or not 1 <= int(found.group(3)) <= MAX_PORT:
        return None
    host = found.group(1) or found.group(2)
    return (host, int(found.group(3))) if _is_host_name(host) else None


def where(entry: ClusterEntry) -> str:
    """Return the entry member's address:port as `endpoint_of` takes it."""
    host = f"[{entry.host}]" if ":" in entry.host else entry.host
    return f"{host}:{entry.port}"


def registered_indexes(document: Document) -> list[int]:
    """Return the indexes of the clusters in their order, gaps allowed."""
    return sorted(
        {
            int(found.group(1))
            for entry in document.entries
            if entry.section == SECTION
            and (found := _SERVER_NAME.fullmatch(entry.name))
            and int(found.group(1)) < MAX_CLUSTERS
        }
    )


def registered_clusters(document: Document) -> tuple[ClusterEntry, ...]:
    """Return the clusters in the order of their indexes, gaps allowed; raise as for one of them."""
    return tuple(registered_cluster(document, index) for index in registered_indexes(document))


def with_cluster(document: Document, entry: ClusterEntry) -> Document:
    """Return the document with all five entries of the cluster's index set."""
    if not 0 <= entry.index < MAX_CLUSTERS:
        message = f"A client knows clusters 00 to {MAX_CLUSTERS - 1:02}; {entry.index} is not one."
        raise LimitReached(faults.CLIENT_CONFIGURATION, message)
    # Another cluster's socket would be in the way of this one.
    document = remove_entries(document, SECTION, [f"{_SOCKET}{entry.index:02}"])
    return set_entries(document, SECTION, entry_values(entry))


def without_cluster(document: Document, index: int) -> Document:
    """Return the document without the entries of an index."""
    return remove_entries(document, SECTION, [name + f"{index:02}" for name in (*_NAMES, _SOCKET)])


def entry_values(entry: ClusterEntry) -> Mapping[str, str]:
    """Return the five entries as names and values."""
    values = (
        where(entry),
        str(entry.certificate_file),
        str(entry.key_file),
        str(entry.ca_file),
        entry.common_name,
    )
    return {name + f"{entry.index:02}": value for name, value in zip(_NAMES, values, strict=True)}


def receive_timeout_seconds(document: Document) -> float:
    """Return ReceiveTimeout, which the file gives in milliseconds."""
    text = document.get(SECTION, "ReceiveTimeout")
    if text is None:
        return DEFAULT_RECEIVE_TIMEOUT_MS / 1000
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        message = f"Entry ReceiveTimeout must be a number of milliseconds; it is {text!r}."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    return int(text) / 1000


_NAMES: Final = (
    "LNHServer",
    "LNHServerClientCert",
    "LNHServerClientKey",
    "LNHServerCAFile",
    "LNHServerCN",
)
_SOCKET: Final = "LNHServerSocket"


def registered_cluster(document: Document, index: int) -> ClusterEntry:
    """Return the cluster of an index.

    Without LNHServerCN the name is DEFAULT_COMMON_NAME. Raises BadInput when another of its five
    entries is missing or malformed.
    """
    endpoint, certificate, key, ca = (
        _required(document, name + f"{index:02}") for name in _NAMES[:-1]
    )
    common_name = document.get(SECTION, f"{_NAMES[-1]}{index:02}") or DEFAULT_COMMON_NAME
    found = endpoint_of(endpoint)
    if found is None:
        message = f"Entry LNHServer{index:02} must be address:port; it is {endpoint!r}."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    if not _is_host_name(common_name):
        message = f"Entry LNHServerCN{index:02} must be a name as a host's; it is {common_name!r}."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    socket = document.get(SECTION, f"{_SOCKET}{index:02}") or ""
    if "\0" in socket or len(os.fsencode(socket)) > MAX_SOCKET_BYTES:
        message = f"Entry {_SOCKET}{index:02} must be a path of at most {MAX_SOCKET_BYTES} bytes."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    return ClusterEntry(index, *found, Path(certificate), Path(key), Path(ca), common_name, socket)


def _is_host_name(text: str) -> bool:
    try:
        return "\0" not in text and bool(text.encode("idna"))
    except UnicodeError:
        return False


def _required(document: Document, name: str) -> str:
    value = document.get(SECTION, name)
    if not value:
        message = f"Section {SECTION} lacks the entry {name}; register this client again."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    if "\0" in value:
        message = f"Entry {name} holds a byte 0; no file and no host has such a name."
        raise BadInput(faults.CLIENT_CONFIGURATION, message)
    return value
