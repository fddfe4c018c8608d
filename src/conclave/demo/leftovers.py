"""Remove what a deleted demonstration left outside of its directory.

As root, PostgreSQL's data cannot be in there.  Every demonstration notes its state directories
beside them; the next one removes the data of those that are gone.

Invariant: data are removed only if a demonstration noted their state directory, that is gone, and
no PostgreSQL works on them.  Data of appliances that are no demonstration are never touched.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from conclave.store.postgresql import account as accounts
from conclave.store.postgresql.account import Account
from conclave.store.postgresql.server import processes_in

NOTES: Final = "demonstrations"


def note(state_dir: Path, account: Account) -> None:
    """Remember a demonstration's state directory, which exists, if its data lie elsewhere."""
    if account.is_ours:
        return
    notes = accounts.SYSTEM_DIRECTORY / NOTES
    accounts.make_parents(notes, account)
    notes.mkdir(0o700, exist_ok=True)
    name = accounts.directories(state_dir, account).data.parent.name
    (notes / name).write_bytes(os.fsencode(state_dir.absolute()))


def sweep(account: Account) -> list[Path]:
    """Remove the data of every noted state directory that is gone; return those directories."""
    notes = accounts.SYSTEM_DIRECTORY / NOTES
    if account.is_ours or not notes.is_dir():
        return []
    gone = []
    for entry in sorted(notes.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # another demonstration sweeps as well
            state_dir = Path(os.fsdecode(entry.read_bytes()))
            if os.path.lexists(state_dir):
                continue
            if processes_in(accounts.directories(state_dir, account).data):
                continue
            entry.unlink()
            accounts.remove(state_dir, account)
            gone.append(state_dir)
    with contextlib.suppress(OSError):  # others are noted in it
        notes.rmdir()
    return gone
