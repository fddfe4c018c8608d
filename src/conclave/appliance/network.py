"""Bind the appliance's listening sockets, in the daemon, before anything is started on them."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.errors import NotAllowed
from conclave.port_holders import name_holder

BACKLOG: Final = 1024

_log = logging.getLogger(__name__)


def bind_socket(address: str, port: int, *, what: str) -> socket.socket:
    """Return a bound TCP socket; raise NotAllowed naming address, port and cause."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio sends small writes at once only where the protocol is named: else the second part of
    # an answer waits 40 ms for the peer's acknowledgement of the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        listener.bind((address, port))
        listener.setblocking(False)
    except OSError as cause:
        listener.close()
        raise _refusal(cause, address, port, what) from cause
    return listener


def listen_on(listener: socket.socket, *, what: str) -> None:
    """Accept connections from now on; raise NotAllowed when somebody else came first.

    A port that is bound is not ours until somebody listens: another one may take it meanwhile.
    """
    try:
        listener.listen(BACKLOG)
    except OSError as cause:
        if listener.family == socket.AF_UNIX:
            raise
        address, port = listener.getsockname()[:2]
        raise _refusal(cause, address, port, what) from cause


def _refusal(cause: OSError, address: str, port: int, what: str) -> NotAllowed:
    holder = name_holder(address, port) if cause.errno == errno.EADDRINUSE else ""
    message = f"The {what} listener cannot use {address} port {port}: {cause.strerror}{holder}."
    return NotAllowed(faults.SERVICE_FAILED, message)


def bind_locally(path: str) -> list[socket.socket]:
    """Return a Unix socket that everybody on this host may connect to, or none, with a warning.

    A socket that an earlier run left there is replaced, nothing else is.
    """
    if not path:
        return []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_name(Path(path))
        listener.bind(path)
        Path(path).chmod(0o666)
        listener.setblocking(False)
    except OSError as cause:
        listener.close()
        _log.warning("Clients of this host use TCP: no socket at %s: %s.", path, cause.strerror)
        return []
    return [listener]


def close_all(listeners: Iterable[socket.socket]) -> None:
    """Close listening sockets; Unix ones lose their names."""
    for listener in listeners:
        if listener.family == socket.AF_UNIX:
            with contextlib.suppress(OSError):
                _remove_name(Path(listener.getsockname()))
        listener.close()


def _remove_name(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            path.unlink()


def bind_all(addresses: Iterable[str], port: int, *, what: str) -> list[socket.socket]:
    """Return one listening socket for each address, or none of them."""
    listeners: list[socket.socket] = []
    try:
        for address in addresses:
            listener = bind_socket(address, port, what=what)
            listeners.append(listener)
            listen_on(listener, what=what)
    except NotAllowed:
        for listener in listeners:
            listener.close()
        raise
    return listeners
