"""Bind the appliance's listening sockets, in the daemon, before anything is started on them."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final

from conclave import faults
from conclave.errors import NotAllowed

BACKLOG: Final = 1024


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
        message = f"The {what} listener cannot use {address} port {port}: {cause.strerror}."
        raise NotAllowed(faults.SERVICE_FAILED, message) from cause
    return listener


def bind_all(addresses: Iterable[str], port: int, *, what: str) -> list[socket.socket]:
    """Return one listening socket for each address, or none of them."""
    listeners: list[socket.socket] = []
    try:
        for address in addresses:
            listener = bind_socket(address, port, what=what)
            listeners.append(listener)
            listener.listen(BACKLOG)
    except NotAllowed:
        for listener in listeners:
            listener.close()
        raise
    return listeners
