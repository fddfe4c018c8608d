"""The data of one PostgreSQL as a whole: rewound in part, replaced by a copy, kept elsewhere.

Invariant: data that pg_rewind may have changed are marked beside them, durably, before it begins;
the mark goes only when a copy has taken their place, or when they were seen to stream.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

from conclave import faults
from conclave.errors import Conflict, InternalFault
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql.account import Account

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
    """Note that the data are whole: they were seen to stream, or are new ones.

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

    Raises InternalFault (STORAGE_FAILED) when they cannot be kept: nothing was changed then.
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


def _keep(data: Path, kept: Path) -> None:
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            data.rename(kept)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # On another disk: copied whole, under another name until it is.
            part = kept.with_name(kept.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(data, part, symlinks=True)
            os.sync()
            part.rename(kept)
        _sync(kept.parent)
        logger.error("This member's copy of the store could not be read; it was kept as %s.", kept)
    except (OSError, shutil.Error) as error:
        message = f"The store in {data} cannot be kept as {kept}: {error}."
        raise InternalFault(faults.STORAGE_FAILED, message) from error


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
