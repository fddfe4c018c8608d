"""Become the account, ask the kernel to end us with our parent, and run a program of PostgreSQL.

Invariant: no program of PostgreSQL that a member started outlives the thread that started it, even
when that one is killed: the kernel then sends SIGQUIT, the immediate shutdown of PostgreSQL.

Run as a file by a bare interpreter: `launcher.py UID GID PARENT PROGRAM ARGUMENT...`; it imports
nothing but the standard library, since it runs before every start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

NOT_STARTED_STATUS: Final = 126
_PR_SET_PDEATHSIG: Final = 1


def main(arguments: list[str]) -> None:
    """Become UID and GID unless we are, then replace this process by PROGRAM."""
    uid, gid, parent = (int(number) for number in arguments[:3])
    program = arguments[3]
    if os.geteuid() != uid:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    # Asked for after setuid, which would take it back; and the parent may have died before.
    if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT), 0, 0, 0) != 0:
        sys.exit(NOT_STARTED_STATUS)
    if os.getppid() != parent:
        sys.exit(NOT_STARTED_STATUS)
    os.chdir("/")
    os.execv(program, arguments[3:])  # noqa: S606 - the program and its arguments are ours


if __name__ == "__main__":
    main(sys.argv[1:])
