"""The data of one PostgreSQL as a whole: rewound in part, replaced by a copy, kept elsewhere.

Invariant: data that pg_rewind may have changed are marked beside them, durably, before it begins;
the mark goes only when a copy has taken their place, or when they were started after pg_rewind had
ended well.  They are whole then: pg_rewind ends well only if nothing had to be changed, or after it
has flushed all that it changed, and has written into the control file how far the log of the other
server reached when the last block was copied.  PostgreSQL lets nobody connect to a standby before
it has replayed its log up to there, from before the two parted; and it ends instead of going on
along another timeline.  So a server that answers has all that the other one had at that moment and
nothing else, its log lies flushed on this disk, and it may be started again, or promoted, as any
other copy.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.errors import Conflict, InternalFault
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql.account import Account

PART: Final = ".part"
"""How the name of data ends that are kept in part only, as yet."""

logger = logging.getLogger(__name__)


def is_half_rewound(data: Path) -> bool:
    """Tell whether data may have been rewound in part."""
    return accounts.rewinding_mark(data).exists()


def require_whole(data: Path) -> None:
    """Raise Conflict (STORE_DIVERGED) for data that may have been rewound in part."""
    if is_half_rewound(data):
        message = f"The store in {data} was rewound in part: it must be copied anew."
        raise Conflict(faults.STORE_DIVERGED, message)


def mark(data: Path) -> None:
    """Note durably that the data are about to be rewound; InternalFault when the disk refuses."""
    path = accounts.rewinding_mark(data)
    try:
        path.touch(mode=0o600)
        _sync(path)
        _sync(path.parent)
    except OSError as error:
        message = f"The store cannot be rewound, since {path} cannot be written: {error.strerror}."
        raise InternalFault(faults.STORAGE_FAILED, message) from error


def unmark(data: Path) -> None:
    """Note that the data are whole: they answered after a complete rewind, or are new ones.

    Raises InternalFault when the disk refuses.
    """
    path = accounts.rewinding_mark(data)
    if not path.exists():
        return
    try:
        path.unlink()
        _sync(path.parent)
    except OSError as error:
        message = f"{path} cannot be removed: {error.strerror}."
        raise InternalFault(faults.STORAGE_FAILED, message) from error


def fresh_directory(data: Path, account: Account) -> Path:
    """Make an empty directory for new data; what an earlier attempt left is deleted."""
    fresh, old = accounts.leftovers(data)
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    accounts.make_owned(fresh, account)
    return fresh


def take_over(data: Path, fresh: Path, kept: Path | None = None) -> None:
    """Put a whole copy in the place of the data, which are deleted, or kept as `kept`.

    Raises InternalFault (STORAGE_FAILED) when they cannot be kept: nothing was changed then, unless
    its message says that they could not be moved back.
    """
    _, old = accounts.leftovers(data)
    if kept is not None:
        _keep(data, kept)
    if data.exists():
        data.rename(old)
    fresh.rename(data)
    _sync(data.parent)
    # The name above is durable before the mark goes, which was that of the data it has replaced.
    unmark(data)
    shutil.rmtree(old, ignore_errors=True)


def prepare_to_keep(data: Path, kept: Path | None) -> None:
    """Make sure that data can be kept, if they are to be, before a copy that replaces them is made.

    What an interrupted attempt left is deleted.  Raises InternalFault (STORAGE_FAILED) when there
    is no such place, or no room in it.
    """
    if kept is None:
        return
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in kept.parent.glob(f"*{PART}"):
            shutil.rmtree(left, ignore_errors=True)
        if not data.exists() or data.stat().st_dev == kept.parent.stat().st_dev:
            return
        needed = sum(path.lstat().st_size for path in data.rglob("*"))
        free = shutil.disk_usage(kept.parent).free
    except OSError as error:
        raise _unkept(data, kept, f"{error}; nothing was changed") from error
    if needed > free:
        reason = f"it needs {needed} bytes of room there, and {free} are free; nothing was changed"
        raise _unkept(data, kept, reason)


def _keep(data: Path, kept: Path) -> None:
    part = kept.with_name(kept.name + PART)
    is_there = False
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            data.rename(kept)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # On another disk: copied whole, under another name until it is.
            shutil.copytree(data, part, symlinks=True)
            os.sync()
            part.rename(kept)
        is_there = True
        _sync(kept.parent)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(part, ignore_errors=True)
        if is_there:
            _take_back(data, kept)
        raise _unkept(data, kept, f"{error}; nothing was changed") from error
    logger.error("This member's copy of the store could not be read; it was kept as %s.", kept)


def _take_back(data: Path, kept: Path) -> None:
    """Let data be where they were before they were kept."""
    if data.exists():
        shutil.rmtree(kept, ignore_errors=True)
        return
    try:
        kept.rename(data)
    except OSError as error:
        raise _unkept(data, kept, f"{error}; it lies there, perhaps not durably") from error


def _unkept(data: Path, kept: Path, reason: str) -> InternalFault:
    message = f"The store in {data} cannot be kept as {kept}: {reason}."
    return InternalFault(faults.STORAGE_FAILED, message)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
