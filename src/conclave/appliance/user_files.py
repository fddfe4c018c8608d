"""The files of each appliance user: what scp, sftp, REST and LunaSH put there and take away.

Invariant: whatever name a door was given, only a regular file directly below that user's own
directory is read, written or removed.  A name is one path component of plain characters; files are
opened without following links and looked at again once they are open; a new one is written beside
its place and renamed into it whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from conclave import faults
from conclave.appliance.user_rules import USER_ID_PATTERN
from conclave.errors import BadInput, ConclaveError, NotFound, Unavailable

FILES_MAX: Final = 1000
INCOMING_MAX: Final = 64
SHOWN_CHARACTERS: Final = 80
ENDINGS: Final = (
    "pem",
    "spkg",
    "auth",
    "lic",
    "tar.gz",
    "log",
    "txt",
    "tgz",
    "pid",
    "bin",
    "pub",
    "jsonl",
    "csv",
)
_RESERVED: Final = frozenset({"server.pem"})
_STEP_BYTES: Final = 1 << 20
"""What a growing file takes of the quota at a time, so that not each write counts all files."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._ -]{0,63}")
_UNFINISHED: Final = ".part-"


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One file; `modified_s` is the host's time of its last change, in seconds since 1970."""

    name: str
    size_bytes: int
    modified_s: float


def check_name(name: str) -> str:
    """Return the name of a file; raise BadInput when it breaks the rule."""
    if not _NAME.fullmatch(name) or name != name.strip():
        message = (
            "A file's name must be 1 to 64 characters of A-Z, a-z, 0-9, _, ., space and -, begin"
            f" with a letter, a digit or _ and not end in a space; it is {name[:80]!r}."
        )
        raise BadInput(faults.BAD_REQUEST, message)
    return name


def check_new_name(name: str) -> str:
    """Return the name that a file is to get; raise BadInput for one that none may have."""
    if name in _RESERVED or not re.search(rf"\.({'|'.join(ENDINGS)})$", name):
        message = (
            f"A file's name must end in one of {', '.join(ENDINGS)} and not be server.pem;"
            f" it is {name[:80]!r}."
        )
        raise BadInput(faults.FILE_PATTERN, message)
    return check_name(name)


def shown_name(name: str) -> str:
    """Return a file's name as records have it: bounded, printable, whatever a client sent."""
    return name[:SHOWN_CHARACTERS].encode("unicode_escape").decode("ascii")[:SHOWN_CHARACTERS]


@dataclass(slots=True, eq=False)
class Incoming:
    """A file that is being written; it takes its name once it is whole."""

    user_id: str
    stream: BinaryIO
    path: Path
    """Where it is meanwhile."""
    name: str = ""
    """The name it is to get, as it was given; "" as long as that is not known."""
    taken_bytes: int = 0
    """What it has of its user's quota."""
    stream_bytes: int = 0
    """What was written by `UserFiles.append`."""


class UserFiles:
    """All users' files below one directory; its calls touch the disk.

    A user's files and what comes in never have more bytes together than the setting
    `files.max_user_bytes`; a file that is to be replaced no longer counts.
    """

    def __init__(self, root: Path, max_file_bytes: int, max_user_bytes: int) -> None:
        self._root = root
        self.max_file_bytes = max_file_bytes
        self.max_user_bytes: Final = max_user_bytes
        self._incoming: dict[str, set[Incoming]] = {}
        self._counting = threading.Lock()

    def directory(self, user_id: str) -> Path:
        """Return a user's directory, which is made when it is missing."""
        if not re.fullmatch(USER_ID_PATTERN, user_id) or user_id.strip(".") == "":
            raise BadInput(faults.BAD_REQUEST, f"There is no user {user_id[:40]!r}.")
        directory = self._root / user_id
        with _storing():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory

    def list(self, user_id: str) -> tuple[FileInfo, ...]:
        """Return a user's files by name."""
        found = []
        with os.scandir(self.directory(user_id)) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and _NAME.fullmatch(entry.name):
                    about = entry.stat(follow_symlinks=False)
                    found.append(FileInfo(entry.name, about.st_size, about.st_mtime))
        return tuple(sorted(found, key=lambda each: each.name))

    def open(self, user_id: str, name: str) -> BinaryIO:
        """Open a file for reading; raise NotFound when there is none of that name."""
        path = self.directory(user_id) / check_name(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            raise _missing(user_id, name) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _missing(user_id, name)
        return os.fdopen(descriptor, "rb")

    def store(self, user_id: str, name: str, content: Iterable[bytes]) -> FileInfo:
        """Write a file whole, replacing one of the same name; refuse one that is too large."""
        with self.writing(user_id, name) as incoming:
            for piece in content:
                self.append(incoming, piece)
        return FileInfo(
            name, incoming.stream_bytes, (self.directory(user_id) / name).stat().st_mtime
        )

    @contextlib.contextmanager
    def writing(self, user_id: str, name: str) -> Iterator[Incoming]:
        """Open a new file that takes its name when the block ends well, and is gone otherwise."""
        check_new_name(name)
        with self.receiving(user_id) as incoming:
            self.give_name(incoming, name)
            yield incoming
            self.keep(incoming)

    @contextlib.contextmanager
    def receiving(self, user_id: str) -> Iterator[Incoming]:
        """Open a new file without a name, which is gone when the block ends unless it was kept."""
        temporary = self.directory(user_id) / f"{_UNFINISHED}{secrets.token_hex(8)}"
        with _storing(), temporary.open("xb") as stream:
            incoming = Incoming(user_id, stream, temporary)
            try:
                self._admit(incoming)
                yield incoming
            finally:
                temporary.unlink(missing_ok=True)
                with self._counting:
                    self._dismiss(incoming)

    def give_name(self, incoming: Incoming, name: str) -> None:
        """Say what a file will be called, by no rule yet: what it replaces no longer counts."""
        with self._counting:
            coming = self._incoming.get(incoming.user_id, set())
            names = {each.name for each in self.list(incoming.user_id)}
            names |= {each.name for each in coming if each.name}
            if len(names | {name}) > FILES_MAX:
                raise _too_many(incoming.user_id, names, coming)
            incoming.name = name

    def append(self, incoming: Incoming, piece: bytes) -> None:
        """Write on at the end; raise BadInput beyond a limit, Unavailable when the disk is full."""
        incoming.stream_bytes += len(piece)
        self.take(incoming, incoming.stream_bytes)
        with _storing():
            incoming.stream.write(piece)

    def keep(self, incoming: Incoming) -> None:
        """Give a whole file its name; raise BadInput for one that none may have."""
        target = self.directory(incoming.user_id) / check_new_name(incoming.name)
        with _storing():
            incoming.stream.flush()
            size_bytes = os.fstat(incoming.stream.fileno()).st_size
            self.take(incoming, size_bytes)
            os.fsync(incoming.stream.fileno())
            with self._counting:
                # What it was to replace may have another name by now, and count again.
                self._free(incoming, size_bytes)
                incoming.path.replace(target)
                self._dismiss(incoming)

    def take(self, incoming: Incoming, size_bytes: int) -> None:
        """Let a file that is written grow to a size; raise BadInput beyond either limit."""
        if size_bytes > self.max_file_bytes:
            message = (
                f"A file may have {self.max_file_bytes} bytes at most (files.max_file_bytes);"
                f" {incoming.name!r} has {size_bytes} or more."
            )
            raise BadInput(faults.REQUEST_TOO_LARGE, message)
        if size_bytes <= incoming.taken_bytes:
            return
        with self._counting:
            free = self._free(incoming, size_bytes)
            incoming.taken_bytes = min(size_bytes + _STEP_BYTES, free)

    def _free(self, incoming: Incoming, size_bytes: int) -> int:
        """Return what a file may have of the quota; raise BadInput when it has more."""
        others = self._used_beside(incoming)
        free = self.max_user_bytes - others
        if size_bytes > free:
            message = (
                f"The files of user {incoming.user_id} may have {self.max_user_bytes} bytes"
                f" together (files.max_user_bytes); the others have {others}, and"
                f" {incoming.name!r} has {size_bytes} or more: delete some."
            )
            raise BadInput(faults.REQUEST_TOO_LARGE, message)
        return free

    def _admit(self, incoming: Incoming) -> None:
        """Count a file that begins; refuse one too many."""
        user_id = incoming.user_id
        with self._counting:
            coming = self._incoming.setdefault(user_id, set())
            if len(coming) >= INCOMING_MAX:
                raise _too_many(user_id, {each.name for each in self.list(user_id)}, coming)
            coming.add(incoming)

    def _dismiss(self, incoming: Incoming) -> None:
        coming = self._incoming.get(incoming.user_id, set())
        coming.discard(incoming)
        if not coming:
            self._incoming.pop(incoming.user_id, None)

    def _used_beside(self, incoming: Incoming) -> int:
        user_id = incoming.user_id
        kept = sum(each.size_bytes for each in self.list(user_id) if each.name != incoming.name)
        coming = self._incoming.get(user_id, set()) - {incoming}
        return kept + sum(each.taken_bytes for each in coming)

    def delete(self, user_id: str, name: str) -> None:
        """Remove a file; raise NotFound when there is none of that name."""
        self.open(user_id, name).close()
        with _storing():
            (self.directory(user_id) / name).unlink()

    def rename(self, user_id: str, name: str, new_name: str) -> None:
        """Give a file another name, in place of one that has it; raise NotFound."""
        self.open(user_id, name).close()
        target = self.directory(user_id) / check_new_name(new_name)
        with _storing():
            (self.directory(user_id) / name).replace(target)

    def clear(self, user_id: str) -> int:
        """Remove all files of a user and return how many there were."""
        files = self.list(user_id)
        for file in files:
            self.delete(user_id, file.name)
        return len(files)

    def forget(self, user_id: str) -> None:
        """Remove a user's directory with everything in it."""
        shutil.rmtree(self.directory(user_id), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what interrupted uploads have left."""
        for path in self._root.glob(f"*/{_UNFINISHED}*"):
            path.unlink(missing_ok=True)


def _too_many(user_id: str, names: set[str], coming: set[Incoming]) -> BadInput:
    message = (
        f"User {user_id} may have {FILES_MAX} files, {INCOMING_MAX} of them on their way in; there"
        f" are {len(names)} and {len(coming)}, and no more are allowed: delete some."
    )
    return BadInput(faults.BAD_REQUEST, message)


def _missing(user_id: str, name: str) -> NotFound:
    message = f"User {user_id} has no file {name!r}."
    return NotFound(faults.FILE_NOT_FOUND, message)


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except ConclaveError:
        raise
    except OSError as cause:
        message = f"The file cannot be stored: {cause.strerror or cause}."
        raise Unavailable(faults.STORAGE_FULL, message) from cause
