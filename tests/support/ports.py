"""Ports for what is stopped and started again, or listens later than it is told of."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
SPAN: Final = 12_000
ATTEMPTS: Final = 100


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that nobody has now, and that the kernel gives to nobody who asks for any.

    One that the kernel chose would be given to others as soon as it is closed, as the port of a
    connection that they open or of a listener with port 0.
    """
    lowest = int(EPHEMERAL.read_text().split()[0])
    for _ in range(ATTEMPTS):
        port = random.randrange(lowest - SPAN, lowest)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise AssertionError(f"{address} has no free port from {lowest - SPAN} to {lowest - 1}.")
