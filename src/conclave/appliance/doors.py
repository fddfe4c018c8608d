"""The listeners that the daemon starts and stops.

`conclave.doors.make_doors(appliance)` is imported when the daemon starts.  The daemon binds
the sockets (so a taken port is named before anything starts) and hands them over; 8443 is open as
long as the daemon runs, 50070 as long as the cluster service does.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Door(Protocol):
    """One HTTPS listener over any number of bound sockets."""

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext) -> None:
        """Listen and serve until `stop`; `tls` may get another certificate while it is in use."""

    async def stop(self, *, deadline_seconds: float) -> None:
        """Finish what is in flight, at most until the deadline, and close the sockets."""


class ShellDoor(Protocol):
    """The SSH listener over any number of bound sockets."""

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Listen and serve until `stop`."""

    async def stop(self, *, deadline_seconds: float) -> None:
        """End the sessions and close the sockets."""


@dataclass(frozen=True, slots=True)
class Doors:
    """All listeners of one appliance."""

    rest: Door
    """8443."""
    admin: Door
    """50070: cluster and keyring calls only."""
    shell: ShellDoor | None = None
    """LunaSH over SSH; None where it is not served."""
