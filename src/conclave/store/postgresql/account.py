"""Which account PostgreSQL runs as, and where its files are.

PostgreSQL refuses to run as root.  A member that is not root runs it as itself, with its data below
the state directory.  A member that is root takes another account; the state directory is closed to
that account, so data and sockets lie below SYSTEM_DIRECTORY, named by the state directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.errors import BadInput, InternalFault, NotFound

SYSTEM_DIRECTORY: Final = Path("/var/lib/conclave-postgresql")
"""Not below the state of an installed appliance, which is closed to every other account."""
CANDIDATES: Final = ("conclave", "postgres", "nobody")
SOCKET_NAME: Final = ".s.PGSQL.5432"
UPSTREAM: Final = "upstream"
MAX_SOCKET_PATH_BYTES: Final = 107
_NAME_CHARACTERS: Final = 16
_MAKE_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns the data and runs PostgreSQL."""

    name: str
    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        """Tell whether it is the account of this process."""
        return self.uid == os.geteuid()


@dataclass(frozen=True, slots=True)
class Directories:
    """Where one member's PostgreSQL keeps its data, and its sockets and configuration."""

    data: Path
    run: Path

    @property
    def upstream_socket(self) -> Path:
        """Return the socket that a standby connects to: whoever serves it, serves it there.

        PostgreSQL's account must be able to connect, so its mode has to be 0666; the directory
        is what protects it.
        """
        return self.run / UPSTREAM / SOCKET_NAME


def find(configured: str = "") -> Account:
    """Return the account to run PostgreSQL as.

    That is our own; for root the configured one, or the first of CANDIDATES that exists.  Raises
    BadInput for a configured one that cannot serve, NotFound when there is none.
    """
    if os.geteuid() != 0:
        return _own_account(configured)
    for name in (configured,) if configured else CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            break
        return Account(name, entry.pw_uid, entry.pw_gid)
    if configured:
        message = (
            "Setting postgresql.account must name an account of this machine that is not root;"
            f" it is {configured!r}."
        )
        raise BadInput(faults.BAD_REQUEST, message)
    message = (
        "PostgreSQL does not run as root, and none of the accounts"
        f" {', '.join(CANDIDATES)} exists: name one in the setting postgresql.account."
    )
    raise NotFound(faults.POSTGRESQL_MISSING, message)


def directories(state_dir: Path, account: Account) -> Directories:
    """Return where the PostgreSQL of the member with that state directory lives."""
    if not account.is_ours:
        base = _system_base(state_dir)
        return Directories(base / "data", base / "run")
    base = state_dir.absolute() / "cluster"
    run = base / "run"
    if len(os.fsencode(run / UPSTREAM / SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
        parent = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp"))  # noqa: S108 - checked when made
        run = parent / f"conclave-{_name(state_dir)}"
    return Directories(base / "postgresql", run)


def prepare(places: Directories, account: Account) -> None:
    """Make both directories, mode 0700 and owned by the account; what is in them stays.

    Raises InternalFault when one of them exists and belongs to somebody else.
    """
    for path in (places.data, places.run, places.run / UPSTREAM):
        make_owned(path, account)


def make_owned(path: Path, account: Account) -> None:
    """Make a directory of mode 0700 that the account owns; missing parents are ours, mode 0755.

    Raises InternalFault when it exists and is not a directory of that account.
    """
    for _ in range(_MAKE_ATTEMPTS):
        # A parent may go between the two steps: with another member, when it was its last.
        with contextlib.suppress(FileNotFoundError):
            make_parents(path, account)
            with contextlib.suppress(FileExistsError):
                path.mkdir(0o700)
                os.chown(path, account.uid, account.gid)
            break
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid:
        message = f"{path} must be a directory of account {account.name}; it belongs to another."
        raise InternalFault(faults.POSTGRESQL_FAILED, message)
    path.chmod(0o700)


def make_parents(path: Path, account: Account) -> None:
    """Make the directories above a path, open to the account to pass whatever the umask is."""
    if account.is_ours:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        return
    for parent in reversed(path.parents):
        if not parent.exists():
            with contextlib.suppress(FileExistsError):
                parent.mkdir(0o755)
                parent.chmod(0o755)


def remove(state_dir: Path, account: Account) -> None:
    """Delete data, sockets and what else was made for that state directory; may be repeated."""
    places = directories(state_dir, account)
    for path in (places.data, places.run, *leftovers(places.data)):
        shutil.rmtree(path, ignore_errors=True)
    rewinding_mark(places.data).unlink(missing_ok=True)
    if not account.is_ours:
        shutil.rmtree(_system_base(state_dir), ignore_errors=True)
        with contextlib.suppress(OSError):  # another member's is in it
            SYSTEM_DIRECTORY.rmdir()


def leftovers(data: Path) -> tuple[Path, Path]:
    """Return where a copy is made, and where the data that it replaces go meanwhile."""
    return data.with_name(data.name + ".new"), data.with_name(data.name + ".old")


def rewinding_mark(data: Path) -> Path:
    """Return the file that says that the data may have been rewound in part."""
    return data.with_name(data.name + ".rewinding")


def _own_account(configured: str) -> Account:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        message = f"PostgreSQL needs an account with a name; user id {uid} has none."
        raise NotFound(faults.POSTGRESQL_MISSING, message) from None
    if configured not in ("", name):
        message = (
            f"Setting postgresql.account must be empty or {name!r}, since the daemon is not root;"
            f" it is {configured!r}."
        )
        raise BadInput(faults.BAD_REQUEST, message)
    return Account(name, uid, os.getegid())


def _system_base(state_dir: Path) -> Path:
    return SYSTEM_DIRECTORY / _name(state_dir)


def _name(state_dir: Path) -> str:
    digest = hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()
    return digest[:_NAME_CHARACTERS]
