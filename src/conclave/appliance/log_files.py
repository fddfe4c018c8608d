"""The appliance's log files: each a current one and a bounded number of older ones.

Invariants: only the daemon turns files over, by renaming; whoever writes one opens it anew when its
name belongs to another.  All together have a bound, except for what a process writes in between.
"""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from conclave import faults
from conclave.appliance.system_log import LUNALOGS, MESSAGES
from conclave.errors import BadInput, NotFound

MAX_ENTRIES: Final = 200_000
MAX_SEARCH: Final = 256
_NAME: Final = re.compile(r"([a-z][a-z0-9-]{0,31})(\.log)?")
_TEXT_LOGS: Final = frozenset({MESSAGES, LUNALOGS})


@dataclass(frozen=True, slots=True)
class LogInfo:
    """One log; `modified_s` is the host's time of its last line, in seconds since 1970."""

    name: str
    size_bytes: int
    older_files: int
    modified_s: float


class LogFiles:
    """All logs below one directory; its calls touch the disk."""

    def __init__(self, directory: Path, max_file_bytes: int, max_files: int) -> None:
        self._directory = directory
        self._max_file_bytes = max_file_bytes
        self._max_files = max_files

    def path(self, name: str) -> Path:
        """Return the current file of a log."""
        return self._directory / (name if name in _TEXT_LOGS else f"{name}.log")

    def logs(self) -> tuple[LogInfo, ...]:
        """Return all logs by name."""
        found = []
        for name in self._names():
            path = self.path(name)
            with contextlib.suppress(FileNotFoundError):
                about = path.stat()
                older = len(self._older(path))
                found.append(LogInfo(name, about.st_size, older, about.st_mtime))
        return tuple(found)

    def append(self, name: str, line: str) -> None:
        """Write a line to a log that the daemon itself keeps, and turn it over when it is full."""
        path = self.path(name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, line.encode("utf-8", "replace"))
            full = os.fstat(descriptor).st_size >= self._max_file_bytes
        finally:
            os.close(descriptor)
        if full:
            self._turn_over(path)

    def tail(self, name: str, entries: int, search: str = "") -> list[str]:
        """Return the last lines of a log that hold a text; raise NotFound, BadInput."""
        if not 1 <= entries <= MAX_ENTRIES:
            message = f"entries must lie between 1 and {MAX_ENTRIES}; it is {entries}."
            raise BadInput(faults.BAD_REQUEST, message)
        self._require(name)
        found = deque[str](maxlen=entries)
        for line in self._lines(name):
            if search in line:
                found.append(line)
        return list(found)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Return the whole of a log, the oldest line first; raise NotFound."""
        self._require(name)
        return (line.encode() + b"\n" for line in self._lines(name))

    def archive(self, stream: BinaryIO) -> int:
        """Write all files of all logs as a .tgz and return how many there were."""
        paths = [each for name in self._names() for each in self._files(name)]
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    archive.add(path, f"logs/{path.name}", recursive=False, filter=_anonymous)
        return len(paths)

    def rotate(self) -> int:
        """Turn all files with lines over and return how many there were."""
        return sum(self._turn_over(self.path(name)) for name in self._names())

    def rotate_full(self) -> None:
        """Turn the files over that are full; the bound holds for whoever writes them."""
        for info in self.logs():
            if info.size_bytes >= self._max_file_bytes:
                self._turn_over(self.path(info.name))

    def clean_up(self) -> int:
        """Remove the older files and return how many there were."""
        gone = [path for name in self._names() for path in self._older(self.path(name))]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _names(self) -> Iterable[str]:
        names = (entry.name for entry in os.scandir(self._directory) if entry.is_file())
        matches = (_NAME.fullmatch(name) for name in names)
        return sorted(
            found[1] for found in matches if found and bool(found[2]) != (found[1] in _TEXT_LOGS)
        )

    def _require(self, name: str) -> None:
        known = self._names()
        if name not in known:
            message = f"There is no log {name[:32]!r}; there are: {', '.join(known)}."
            raise NotFound(faults.NO_SUCH_RESOURCE, message)

    def _older(self, path: Path) -> list[Path]:
        """Return the older files of a log, the oldest first."""
        numbers = range(self._max_files - 1, 0, -1)
        paths = (path.with_name(f"{path.name}.{number}") for number in numbers)
        return [each for each in paths if each.is_file()]

    def _files(self, name: str) -> list[Path]:
        path = self.path(name)
        return [*self._older(path), path]

    def _lines(self, name: str) -> Iterator[str]:
        for path in self._files(name):
            with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as stream:
                yield from (line.rstrip("\n") for line in stream)

    def _turn_over(self, path: Path) -> bool:
        """Make the current file the newest of the older ones; the oldest goes."""
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size == 0:
                return False
            for older in self._older(path):
                number = int(older.suffix[1:]) + 1
                if number >= self._max_files:
                    older.unlink()
                else:
                    older.replace(path.with_name(f"{path.name}.{number}"))
            path.replace(path.with_name(f"{path.name}.1"))
            return True
        return False


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
