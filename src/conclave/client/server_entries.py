"""What `vtl addServer` and `vtl deleteServer` do: a cluster's entries, in either file.

Invariant: what is added can be connected with, as far as the files tell, and replaces nothing
unless it was told to; whoever edits at the same time, this tool or the registration script, waits.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from conclave.client.clusters import (
    DEFAULT_COMMON_NAME,
    MAX_CLUSTERS,
    ClusterEntry,
    endpoint_of,
    registered_indexes,
    where,
    with_cluster,
    without_cluster,
)
from conclave.client.configuration import (
    INI_NAME,
    SECTION,
    SERVER_VARIABLE,
    Document,
    configuration_path,
    locked,
    parse,
    read_document,
    write_document,
)
from conclave.client.dialogue import client_tls_context
from conclave.client.refusals import misused
from conclave.client.tools.faces import Outcome
from conclave.client.tools.prompts import Cancelled, Prompts
from conclave.errors import BadInput


def add_server(values: Mapping[str, str], environment: Mapping[str, str]) -> Outcome:
    """Write a cluster's five entries; raise BadInput when they cannot serve."""
    path = configuration_path(environment)
    with _edited(path):
        document = read_document(path) if path.exists() else parse(b"", ini=path.name == INI_NAME)
        entry = _entry(values, _chosen_index(document, values))
        _require_room(document, entry, force="force" in values)
        try:
            client_tls_context(entry)
        except BadInput as fault:
            raise misused(fault.message) from fault
        write_document(with_cluster(document, entry), path)
    told = {"index": entry.index, "entry": where(entry), "file": str(path)}
    text = f"Server: {entry.index:02}  {where(entry)}, in {path}"
    return Outcome(text, told, complaints=_unread(environment))


def delete_server(
    values: Mapping[str, str], environment: Mapping[str, str], prompts: Prompts
) -> Outcome:
    """Take a cluster's entries out; its files stay. Raises BadInput, or Cancelled."""
    path = configuration_path(environment)
    index = _index(values["index"])
    server = _server_at(read_document(path), index)
    if "force" not in values:
        question = f"Server: {index:02}  {server}\nDelete these entries of {path}? (yes/no) : "
        if prompts.question(question).strip().lower() not in {"y", "yes"}:
            raise Cancelled
    with _edited(path):
        document = read_document(path)
        if _server_at(document, index) != server:
            raise misused(f"Index {index:02} was changed meanwhile; nothing was deleted.")
        write_document(without_cluster(document, index), path)
    told = {"index": index, "entry": server, "file": str(path)}
    return Outcome("", told, complaints=_unread(environment))


@contextlib.contextmanager
def _edited(path: Path) -> Iterator[None]:
    """Keep others from editing a file meanwhile; raise BadInput when it cannot be written."""
    try:
        with locked(path):
            yield
    except OSError as cause:
        message = f"{path.name} in {path.parent} cannot be written: {cause.strerror}."
        raise misused(message) from cause


def _entry(values: Mapping[str, str], index: int) -> ClusterEntry:
    endpoint = endpoint_of(values["server"])
    if endpoint is None:
        raise misused(f"Option -server must be address:port; it is {values['server']!r}.")
    certificate, key, ca = (Path(values[name]).absolute() for name in ("certificate", "key", "ca"))
    common_name = values.get("cn", DEFAULT_COMMON_NAME)
    return ClusterEntry(index, *endpoint, certificate, key, ca, common_name)


def _chosen_index(document: Document, values: Mapping[str, str]) -> int:
    """Return the index that was named, or the first that is free."""
    if "index" in values:
        return _index(values["index"])
    taken = registered_indexes(document)
    for index in range(MAX_CLUSTERS):
        if index not in taken:
            return index
    raise misused("Indexes 00 to 09 all hold a cluster: vtl deleteServer frees one.")


def _index(text: str) -> int:
    if not re.fullmatch(r"0?[0-9]", text):
        raise misused(f"Option -index is 00 to {MAX_CLUSTERS - 1:02}; it is {text!r}.")
    return int(text)


def _require_room(document: Document, entry: ClusterEntry, *, force: bool) -> None:
    if force:
        return
    for index in registered_indexes(document):
        server = _server_at(document, index)
        if index == entry.index:
            raise misused(f"Index {index:02} holds the cluster at {server}; -force replaces it.")
        if server == where(entry):
            raise misused(
                f"{server} is at index {index:02} already; its keyrings would show twice."
            )


def _server_at(document: Document, index: int) -> str:
    server = document.get(SECTION, f"LNHServer{index:02}")
    if server is None:
        raise misused(f"Index {index:02} holds no cluster; vtl listServers shows all.")
    return server


def _unread(environment: Mapping[str, str]) -> tuple[str, ...]:
    if not environment.get(SERVER_VARIABLE):
        return ()
    return (f"While {SERVER_VARIABLE} stands in the environment, the file is not read.",)
