"""The files of the audit log; everything here blocks and belongs to one thread.

Invariant: a file is only ever appended to; `head` says how far the log went, so a log that was cut
at its end is noticed at the next opening.  A line that a crash left unfinished is taken away:
nobody was told that it is there.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conclave import faults
from conclave.audit.chain import (
    Checkpoint,
    Head,
    checkpoint_line,
    link,
    read_checkpoint,
    read_head,
    sign,
)
from conclave.audit.events import AuditEvent, EventKind, Outcome
from conclave.errors import Conflict, InternalFault

_HEAD_BYTES: Final = 512
_PREFIX: Final = "audit-"
_SUFFIX: Final = ".jsonl"
_CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large the log may grow."""

    file_bytes: int
    files: int


class AuditFiles:
    """A directory with the records in files of bounded size, the head and the signing key."""

    def __init__(self, directory: Path, bounds: Bounds) -> None:
        self._directory = directory
        self._bounds = bounds
        self._key = _signing_key(directory / "signing.key")
        self._head_file = os.open(
            directory / "head", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        self._current = -1
        self._size = 0
        self.head = Head()
        self.damage = self._recover()
        """What was found wrong at the opening; empty when nothing was."""

    @property
    def key(self) -> str:
        """Return the public key of the checkpoints, hexadecimal."""
        return self._key.public_key().public_bytes_raw().hex()

    def paths(self) -> list[Path]:
        """Return the files, oldest first."""
        return sorted(self._directory.glob(f"{_PREFIX}*{_SUFFIX}"))

    def append(self, events: Sequence[tuple[datetime, AuditEvent]]) -> None:
        """Write events durably; raise OSError with the log as it was."""
        if self._size >= self._bounds.file_bytes:
            self.rotate()
        head, lines = self.head, []
        for moment, event in events:
            line, head = link(head, moment, event)
            lines.append(line)
        text = b"".join(lines)
        try:
            _write_all(self._current, text)
            os.fdatasync(self._current)
        except OSError:
            # What a full disk took of it must not stand before the next attempt.
            with contextlib.suppress(OSError):
                os.ftruncate(self._current, self._size)
            raise
        self._size += len(text)
        self.head = head
        self._save_head()

    def rotate(self) -> None:
        """Begin a new file, and drop the oldest beyond the bound."""
        if self._size == 0:
            return
        self._begin_file()
        for path in self.paths()[: -self._bounds.files]:
            path.unlink()

    def checkpoint(self) -> Checkpoint:
        """Sign the head."""
        return sign(self.head, self._key)

    def lines(self) -> Iterator[bytes]:
        """Return the records as they are now, oldest first, as lines."""
        streams = [path.open("rb") for path in self.paths()]
        return _lines(streams, self.head.sequence)

    def page(self, offset: int, limit: int) -> tuple[list[bytes], int]:
        """Return so many records from an offset, newest first, and how many there are.

        Only the files that hold the page are read, since whoever writes waits meanwhile.
        """
        paths = self.paths()
        first = _first_sequence(paths[0]) if paths else self.head.sequence + 1
        found: list[bytes] = []
        for path in reversed(paths):
            if len(found) >= limit:
                break
            lines = path.read_bytes().splitlines(keepends=True)
            skipped = min(offset, len(lines))
            offset -= skipped
            newest_first = lines[len(lines) - skipped - 1 :: -1] if skipped < len(lines) else []
            found += newest_first[: limit - len(found)]
        return found, self.head.sequence + 1 - first

    def export(self) -> Iterator[bytes]:
        """Return the log as it is now in chunks, and a checkpoint of its end."""
        last = checkpoint_line(self.checkpoint())
        streams = [path.open("rb") for path in self.paths()]
        sizes = [os.fstat(stream.fileno()).st_size for stream in streams]
        return _chunks(list(zip(streams, sizes, strict=True)), last)

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._current, self._head_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._current = self._head_file = -1

    # ---- opening

    def _recover(self) -> str:
        saved = self._saved_head()
        paths = self.paths()
        damage = ""
        if paths:
            damage = self._read_last(paths[-1], saved)
            self._open_file(paths[-1])
        if saved is not None and saved.sequence > self.head.sequence:
            damage = (
                f"records {self.head.sequence + 1} to {saved.sequence} are missing: the log was"
                " cut at its end"
            )
            self.head = saved
        if not paths or damage:
            self._begin_file()
        return damage

    def _read_last(self, path: Path, saved: Head | None) -> str:
        """Find the head in the newest file; return what is wrong with it."""
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
        damage, number = "", 0
        for line in content[:whole].splitlines():
            number += 1
            try:
                before, made = read_head(line)
            except Conflict:
                damage = damage or f"line {number} of {path.name} was changed"
                continue
            if number > 1 and before != self.head:
                damage = damage or f"line {number} of {path.name} does not follow the one before"
            if saved is not None and made.sequence == saved.sequence and made != saved:
                damage = damage or f"record {made.sequence} is not the one that was written"
            self.head = made
        if number == 0:
            # Begun by a rotation that nothing followed, unless its records were taken away.
            self.head = Head(_first_sequence(path) - 1)
            if saved is not None and saved.sequence == self.head.sequence:
                self.head = saved
        return damage

    def _saved_head(self) -> Head | None:
        text = os.pread(self._head_file, _HEAD_BYTES, 0).rstrip()
        try:
            checkpoint = read_checkpoint(text)
        except Conflict:
            return None
        if checkpoint.key != self.key:
            return None
        return Head(checkpoint.sequence, checkpoint.digest)

    # ---- writing

    def _save_head(self) -> None:
        text = checkpoint_line(self.checkpoint())
        # The records are on disk; a head that lags behind them is believed as well.
        with contextlib.suppress(OSError):
            os.pwrite(self._head_file, text.ljust(_HEAD_BYTES), 0)

    def _begin_file(self) -> None:
        name = f"{_PREFIX}{self.head.sequence + 1:012d}{_SUFFIX}"
        self._open_file(self._directory / name)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _open_file(self, path: Path) -> None:
        opened = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        if self._current >= 0:
            os.close(self._current)
        self._current = opened
        self._size = os.fstat(opened).st_size


def _first_sequence(path: Path) -> int:
    return int(path.stem.removeprefix(_PREFIX))


def _lines(streams: list[io.BufferedReader], last: int) -> Iterator[bytes]:
    ending = f'{{"sequence":{last + 1},'.encode()
    with contextlib.ExitStack() as closing:
        for stream in streams:
            closing.enter_context(stream)
        for stream in streams:
            for line in stream:
                if line.startswith(ending):
                    return  # appended meanwhile
                yield line


def _chunks(streams: list[tuple[io.BufferedReader, int]], last: bytes) -> Iterator[bytes]:
    with contextlib.ExitStack() as closing:
        for stream, _ in streams:
            closing.enter_context(stream)
        for stream, size in streams:
            left = size  # what is appended meanwhile belongs to a later checkpoint
            while left > 0 and (chunk := stream.read(min(left, _CHUNK_BYTES))):
                left -= len(chunk)
                yield chunk
    yield last


def damage_event(damage: str) -> AuditEvent:
    """Return the record of damage that was found."""
    return AuditEvent(kind=EventKind.LOG, outcome=Outcome.FAILED, door="appliance", note=damage)


def _write_all(descriptor: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(descriptor, view) :]


def _signing_key(path: Path) -> Ed25519PrivateKey:
    """Read the key, or make it the first time."""
    try:
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except FileNotFoundError:
        pass
    except ValueError as cause:
        message = f"The audit log's signing key {path} cannot be read: it has another form."
        raise InternalFault(faults.INTERNAL, message) from cause
    key = Ed25519PrivateKey.generate()
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, key.private_bytes_raw())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    return key
