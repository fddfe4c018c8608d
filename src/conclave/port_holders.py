"""Say who holds a TCP port that cannot be bound, as far as Linux tells this account.

The ports that Conclave listens on by default lie where the kernel takes the ports of outgoing
connections from, so that it may be no listener at all that is in the way.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
_LISTENS: Final = "0A"
_TIME_WAIT: Final = "06"


@dataclass(frozen=True, slots=True)
class _Socket:
    """A row of the kernel's list."""

    address: str
    port: int
    peer: str
    peer_port: int
    listens: bool
    user_id: int
    inode: int


def name_holder(address: str, port: int) -> str:
    """Return a sentence's end like ", held by ...", or "" when nobody is seen there."""
    sockets = [row for row in _sockets() if row.port == port and _meet(row.address, address)]
    if not sockets:
        return ""
    found = max(sockets, key=lambda row: row.listens)
    what = "a listener" if found.listens else f"a connection to {found.peer} port {found.peer_port}"
    return f", held by {what} of {_owner(found)}"


def _meet(held: str, wanted: str) -> bool:
    return held == wanted or any(
        ipaddress.ip_address(each).is_unspecified for each in (held, wanted)
    )


def _sockets() -> Iterator[_Socket]:
    for name in ("tcp", "tcp6"):
        try:
            _header, *lines = (PROC / "net" / name).read_text().splitlines()
        except (OSError, ValueError):
            continue
        for line in lines:
            _number, local, remote, state, _queues, _timer, _retries, user, _timeout, inode, *_ = (
                line.split()
            )
            if state != _TIME_WAIT:  # it hinders no listener that says SO_REUSEADDR
                listens = state == _LISTENS
                yield _Socket(*_end(local), *_end(remote), listens, int(user), int(inode))


def _end(text: str) -> tuple[str, int]:
    """Return address and port of one end: words of four bytes in the host's order."""
    words, port = text.split(":")
    raw = b"".join(
        struct.pack("=I", int(words[start : start + 8], 16)) for start in range(0, len(words), 8)
    )
    found = ipaddress.ip_address(raw)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found), int(port, 16)


def _owner(found: _Socket) -> str:
    wanted = f"socket:[{found.inode}]"
    for process in PROC.iterdir():
        if process.name.isdecimal() and _has(process, wanted):
            return f"process {process.name} ({_name(process)})"
    return f"a process of user {found.user_id}"


def _has(process: Path, wanted: str) -> bool:
    try:
        return any(str(entry.readlink()) == wanted for entry in (process / "fd").iterdir())
    except OSError:
        return False  # another account's, or it has ended


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="replace").strip()
    except OSError:
        return "ended"
