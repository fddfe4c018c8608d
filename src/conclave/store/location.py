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


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says."""

    engine: Literal["sqlite", "postgresql"] = "sqlite"
    run_dir: str = ""
    """Socket directory of PostgreSQL; empty with SQLite."""


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

    def choose_sqlite(self) -> None:
        """Let the SQLite store serve from now on."""
        self._write(Choice())

    def choose_postgresql(self, run_dir: Path) -> None:
        """Let the PostgreSQL behind that socket directory serve from now on."""
        self._write(Choice("postgresql", str(run_dir)))

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
