"""Which engine serves the cluster store of this member, and how to open it.

Invariant: the answer changes by replacing one small file, so that a crash in the middle of a
conversion leaves the member with the store that it had.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
from sqlalchemy import Engine

from conclave import faults
from conclave.errors import InternalFault
from conclave.store.engine import (
    open_postgresql_reader,
    open_postgresql_writer,
    open_reader_engine,
)
from conclave.store.engine import (
    open_writer_engine as open_sqlite_writer,
)
from conclave.store.repository import ClusterReader

ENGINE_FILE: Final = "engine.json"
SQLITE_FILE: Final = "cluster.db"

EngineName = Literal["sqlite", "postgresql"]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says."""

    engine: EngineName = "sqlite"
    run_dir: str = ""
    """Socket directory of PostgreSQL; empty with SQLite."""
    wanted: EngineName = "sqlite"
    """What the store is to move to once its cluster has an authorized member."""


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """The directory of the cluster store, and the choice that is kept in it."""

    directory: Path

    @property
    def sqlite_path(self) -> Path:
        """Return where the SQLite store is, or would be."""
        return self.directory / SQLITE_FILE

    def choice(self) -> Choice:
        """Return what serves; SQLite while nothing else was chosen.

        Raises InternalFault when the file is damaged.
        """
        path = self.directory / ENGINE_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Choice)
        except FileNotFoundError:
            return Choice()
        except msgspec.MsgspecError as cause:
            message = f"{path} does not say which engine serves the cluster store: {cause}."
            raise InternalFault(faults.STORAGE_FAILED, message) from cause

    @property
    def is_to_move(self) -> bool:
        """Tell whether SQLite serves, and PostgreSQL was asked for."""
        choice = self.choice()
        return choice.engine == "sqlite" and choice.wanted == "postgresql"

    def choose_sqlite(self, *, wanted: EngineName = "sqlite") -> None:
        """Let the SQLite store serve from now on, and note what it is to move to."""
        self._write(Choice(wanted=wanted))

    def choose_postgresql(self, run_dir: Path) -> None:
        """Let the PostgreSQL behind that socket directory serve from now on."""
        self._write(Choice("postgresql", str(run_dir), "postgresql"))

    def require_engine(self, engine: EngineName, name: str, why: str) -> None:
        """Refuse to open any store when the file `name` is lost and another engine is chosen.

        An old SQLite store may lie beside, which must never serve again.  Raises InternalFault
        (STORAGE_FAILED) that names the file and `why` it must be wrong.
        """
        if self.choice().engine != engine:
            message = (
                f"{self.directory / name} is lost or wrong, since {why}; the SQLite store of the"
                " time before is not opened in its place. Put the file back, or factory-reset the"
                " cluster service, then create or join a cluster."
            )
            raise InternalFault(faults.STORAGE_FAILED, message)

    def _write(self, choice: Choice) -> None:
        path = self.directory / ENGINE_FILE
        temporary = path.with_name(path.name + ".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(choice))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_reader(location: StoreLocation) -> ClusterReader:
    """Open the store that serves for reading."""
    choice = location.choice()
    if choice.engine == "postgresql":
        return ClusterReader(open_postgresql_reader(Path(choice.run_dir)).connect())
    return ClusterReader(open_reader_engine(location.sqlite_path).connect())


def open_writer_engine(location: StoreLocation) -> Engine:
    """Open the store that serves for its only writer."""
    choice = location.choice()
    if choice.engine == "postgresql":
        return open_postgresql_writer(Path(choice.run_dir))
    return open_sqlite_writer(location.sqlite_path)
