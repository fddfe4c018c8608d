"""Where the HSM lives on disk: the master key's file and the sealed state.

Invariant: the state file shows nothing but a row number and ciphertext, and a state that was
reported as stored is on disk (WAL, synchronous FULL).
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from conclave import faults
from conclave.crypto.seal import KEY_BYTES, SealBroken, new_key, seal, unseal
from conclave.errors import InternalFault, Unavailable
from conclave.hsm.keys import MasterKeys
from conclave.hsm.model import HsmState

MASTER_KEY_NAME: Final = "master.key"
STATE_NAME: Final = "hsm.db"
FORMAT: Final = 1
BUSY_TIMEOUT_SECONDS: Final = 5.0

_AAD: Final = b"conclave hsm state"
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(HsmState)


def make_master_key(path: Path) -> None:
    """Make the master key's file, whole or not at all, of mode 0600; an existing one stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(new_key())
            stream.flush()
            os.fsync(stream.fileno())
        # A link, unlike a rename, never replaces the key of an HSM that exists.
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def read_master_key(path: Path) -> bytes:
    """Return the 32 bytes; raise InternalFault when the file is missing, short or readable."""
    try:
        key = path.read_bytes()
        mode = path.stat().st_mode & 0o777
    except OSError as cause:
        message = f"The HSM master key {path} cannot be read: {cause.strerror}."
        raise InternalFault(faults.INTERNAL, message) from cause
    if mode & 0o077:
        message = f"The HSM master key {path} must have mode 0600; it has {mode:04o}."
        raise InternalFault(faults.INTERNAL, message)
    if len(key) != KEY_BYTES:
        message = f"The HSM master key {path} must have {KEY_BYTES} bytes; it has {len(key)}."
        raise InternalFault(faults.INTERNAL, message)
    return key


class StateFile:
    """The sealed state in SQLite; all methods belong to one thread."""

    def __init__(self, path: Path, keys: MasterKeys) -> None:
        path.touch(mode=0o600, exist_ok=True)
        self._key = keys.state
        try:
            self._open(path)
        except sqlite3.Error as cause:
            message = f"The HSM's state {path} cannot be opened: {cause}."
            raise InternalFault(faults.INTERNAL, message) from cause

    def _open(self, path: Path) -> None:
        self._database = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=True
        )
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            self._database.execute(f"PRAGMA {pragma}").fetchall()
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS hsm_state (id INTEGER PRIMARY KEY CHECK (id = 1),"
            " format INTEGER NOT NULL, sealed BLOB NOT NULL)"
        )

    def load(self) -> HsmState | None:
        """Return the stored state, or None in a new file; raise InternalFault if damaged."""
        row = self._database.execute("SELECT format, sealed FROM hsm_state").fetchone()
        if row is None:
            return None
        stored_format, sealed = row
        if stored_format != FORMAT:
            message = f"The HSM's state has format {stored_format}; this release knows {FORMAT}."
            raise InternalFault(faults.INTERNAL, message)
        try:
            return _DECODER.decode(unseal(self._key, sealed, _AAD))
        except (SealBroken, msgspec.DecodeError) as cause:
            message = "The HSM's state does not open under its master key."
            raise InternalFault(faults.INTERNAL, message) from cause

    def save(self, state: HsmState) -> None:
        """Replace the state durably; raise Unavailable when the disk does not take it."""
        sealed = seal(self._key, _ENCODER.encode(state), _AAD)
        try:
            self._database.execute(
                "INSERT INTO hsm_state (id, format, sealed) VALUES (1, ?, ?)"
                " ON CONFLICT (id) DO UPDATE"
                " SET format = excluded.format, sealed = excluded.sealed",
                (FORMAT, sealed),
            )
        except sqlite3.Error as cause:
            message = f"The HSM cannot store its state: {cause}. Nothing was changed."
            raise Unavailable(faults.HSM_STORAGE, message) from cause

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
