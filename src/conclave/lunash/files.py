"""Files over SSH: scp, sftp and pscp, confined to the user's own file area.

It is one flat directory.  What is not there whole has no name, so an upload that breaks off, or
grows beyond the limit, leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import posixpath
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final, NoReturn, ParamSpec, TypeVar, cast

from asyncssh import (
    FILEXFER_TYPE_DIRECTORY,
    FILEXFER_TYPE_REGULAR,
    FXF_APPEND,
    FXF_READ,
    FXF_WRITE,
    SFTPAttrs,
    SFTPError,
    SFTPFailure,
    SFTPName,
    SFTPNoSuchFile,
    SFTPOpUnsupported,
    SFTPPermissionDenied,
    SFTPServer,
    SSHServerChannel,
)
from asyncssh.channel import SSHChannel

from conclave import faults
from conclave.appliance.user_files import FileInfo, Incoming, UserFiles, check_new_name
from conclave.errors import BadInput, ConclaveError, Conflict, NotAllowed, NotFound, Unavailable
from conclave.lunash.file_records import BrokenOff, FileChange, FileRecords

P = ParamSpec("P")
R = TypeVar("R")
ROOT: Final = b"/"
MAX_OPEN_FILES: Final = 16
MAX_READ_BYTES: Final = 4 << 20
"""What asyncssh tells clients by limits@openssh.com; those who ask for more get so much."""
_SEPARATOR: Final = "/"


@dataclass(slots=True, eq=False)
class _OpenFile:
    name: str
    stream: BinaryIO
    finish: contextlib.ExitStack
    """Closes the file; one that was written takes its name then, unless an error comes before."""
    incoming: Incoming | None = None
    size_bytes: int = 0
    refusal: ConclaveError | None = None


class ConfinedFiles(SFTPServer):
    """The file area of one user over SFTP and SCP."""

    def __init__(
        self,
        channel: SSHChannel[bytes],
        files: UserFiles,
        records: FileRecords,
        ended: Callable[[], bool],
    ) -> None:
        super().__init__(cast("SSHServerChannel[bytes]", channel))
        self._files = files
        self._user_id = records.user_id
        self._records = records
        self._ended = ended
        self._open_files: set[_OpenFile] = set()

    async def exit(self) -> None:
        """Tell sftp's clients that all went well; asyncssh itself tells none but scp's.

        Whatever is still open came from a client that is gone, and is not kept.
        """
        for opened in list(self._open_files):
            with contextlib.suppress(SFTPError):
                await self.close(opened)
        if self.channel.get_subsystem() == "sftp" and not self.channel.is_closing():
            self.channel.exit(0)

    # ---- opening and closing

    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        """Open a file to read it, or a new one to write it whole."""
        self._require_login()
        if len(self._open_files) >= MAX_OPEN_FILES:
            raise SFTPFailure(f"A session may have {MAX_OPEN_FILES} files open at once.")
        writing = bool(pflags & (FXF_WRITE | FXF_APPEND))
        if writing and (pflags & FXF_READ or pflags & FXF_APPEND):
            raise SFTPOpUnsupported("A file is written whole, from its beginning.")
        with _answering():
            if writing:
                self._records.require_writable()
                with self._records.refusals(FileChange("file.upload", path)):
                    opened = await _in_thread(self._open_new, _name(path))
                self._open_files.add(opened)
                return opened
            async with self._recording(FileChange("file.download", path)):
                opened = await _in_thread(self._open, _name(path))
                self._open_files.add(opened)
            return opened

    def _require_login(self) -> None:
        """Refuse whoever was disabled, deleted or changed since the session began."""
        if not self._records.is_current():
            raise SFTPPermissionDenied("The login is void: log in again.")

    def _open(self, name: str) -> _OpenFile:
        with contextlib.ExitStack() as opening:
            stream = opening.enter_context(self._files.open(self._user_id, name))
            return _OpenFile(name, stream, opening.pop_all())

    def _open_new(self, name: str) -> _OpenFile:
        with contextlib.ExitStack() as opening:
            incoming = opening.enter_context(self._files.writing(self._user_id, name))
            return _OpenFile(name, incoming.stream, opening.pop_all(), incoming)

    async def close(self, file_obj: object) -> None:
        """Close a file; one that was written whole gets its name."""
        opened = _opened(file_obj)
        self._open_files.discard(opened)
        with _answering():
            if opened.incoming is None:
                await _in_thread(opened.finish.close)
                return
            change = FileChange("file.upload", opened.name.encode(), size_bytes=opened.size_bytes)
            with self._records.refusals(change):
                if opened.refusal is None and (self._ended() or not self._records.is_current()):
                    opened.refusal = BrokenOff(faults.UPLOAD_BODY, "The upload was broken off.")
                await _in_thread(_close, opened)
            await self._records.done(change)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read a part of a file."""
        self._require_login()
        if offset > self._files.max_file_bytes:
            return b""
        length = min(size, MAX_READ_BYTES)
        return await _in_thread(os.pread, _opened(file_obj).stream.fileno(), length, offset)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write a part of a file, within the limit."""
        self._require_login()
        opened = _opened(file_obj)
        if opened.incoming is None:
            raise SFTPPermissionDenied("The file was opened to read it.")
        size = max(opened.size_bytes, offset + len(data))
        with _answering():
            try:
                await _in_thread(self._files.take, opened.incoming, size)
            except BadInput as error:
                opened.refusal = error
                raise
            opened.size_bytes = max(opened.size_bytes, size)
            return await _in_thread(os.pwrite, opened.stream.fileno(), data, offset)

    # ---- what there is

    async def stat(self, path: bytes) -> SFTPAttrs:
        """Describe a file or the directory."""
        self._require_login()
        if _is_root(path):
            return SFTPAttrs(type=FILEXFER_TYPE_DIRECTORY, permissions=stat.S_IFDIR | 0o700, size=0)
        with _answering():
            return _attributes(await _in_thread(self._find, _name(path)))

    async def lstat(self, path: bytes) -> SFTPAttrs:
        """Describe a file or the directory."""
        return await self.stat(path)

    async def fstat(self, file_obj: object) -> SFTPAttrs:
        """Describe an open file."""
        status = os.fstat(_opened(file_obj).stream.fileno())
        return _attributes(FileInfo("", status.st_size, status.st_mtime))

    async def scandir(self, path: bytes) -> AsyncIterator[SFTPName]:
        """List the files."""
        self._require_login()
        if not _is_root(path):
            raise SFTPNoSuchFile("There are no directories here.")
        with _answering():
            entries = await _in_thread(self._files.list, self._user_id)
        for entry in entries:
            yield SFTPName(entry.name.encode(), attrs=_attributes(entry))

    def _find(self, name: str) -> FileInfo:
        for entry in self._files.list(self._user_id):
            if entry.name == name:
                return entry
        raise SFTPNoSuchFile(f"There is no file {name[:80]!r}.")

    def realpath(self, path: bytes) -> bytes:
        """Return a path as seen from the file area."""
        return posixpath.normpath(posixpath.join(ROOT, path)).replace(b"//", ROOT)

    # ---- changes

    async def remove(self, path: bytes) -> None:
        """Delete a file."""
        async with self._changing(FileChange("file.delete", path)):
            await _in_thread(self._files.delete, self._user_id, _name(path))

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file; a name that is taken stays."""
        async with self._changing(FileChange("file.rename", oldpath, newpath)):
            new_name = check_new_name(_name(newpath))
            entries = await _in_thread(self._files.list, self._user_id)
            if any(entry.name == new_name for entry in entries):
                message = "There is a file of that name already."
                raise Conflict(faults.FILE_PATTERN, message)
            await _in_thread(self._files.rename, self._user_id, _name(oldpath), new_name)

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file, in place of one that has the name."""
        async with self._changing(FileChange("file.rename", oldpath, newpath)):
            await _in_thread(self._files.rename, self._user_id, _name(oldpath), _name(newpath))

    @contextlib.asynccontextmanager
    async def _changing(self, change: FileChange) -> AsyncIterator[None]:
        """Record a change, or what refuses it, and answer as sftp does."""
        self._require_login()
        with _answering():
            async with self._recording(change):
                yield

    @contextlib.asynccontextmanager
    async def _recording(self, change: FileChange) -> AsyncIterator[None]:
        self._records.require_writable()
        with self._records.refusals(change):
            yield
        await self._records.done(change)

    def setstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Pass over modes and times, which clients set after an upload."""

    def lsetstat(self, path: bytes, attrs: SFTPAttrs) -> None:
        """Pass over modes and times."""

    def fsetstat(self, file_obj: object, attrs: SFTPAttrs) -> None:
        """Pass over modes and times."""

    def fsync(self, file_obj: object) -> None:
        """Pass over: a file that matters is verified when it is used."""

    # ---- what there is not

    def mkdir(self, path: bytes, attrs: SFTPAttrs) -> NoReturn:
        """Refuse: the file area is flat."""
        raise _refused("directories")

    def rmdir(self, path: bytes) -> NoReturn:
        """Refuse: the file area is flat."""
        raise _refused("directories")

    def readlink(self, path: bytes) -> NoReturn:
        """Refuse: there are no links."""
        raise _refused("links")

    def symlink(self, oldpath: bytes, newpath: bytes) -> NoReturn:
        """Refuse: there are no links."""
        raise _refused("links")

    def link(self, oldpath: bytes, newpath: bytes) -> NoReturn:
        """Refuse: there are no links."""
        raise _refused("links")

    def statvfs(self, path: bytes) -> NoReturn:
        """Refuse: the host's file systems are nobody's business."""
        raise _refused("file systems")

    def fstatvfs(self, file_obj: object) -> NoReturn:
        """Refuse: the host's file systems are nobody's business."""
        raise _refused("file systems")

    def lock(self, file_obj: object, offset: int, length: int, flags: int) -> NoReturn:
        """Refuse: there are no locks."""
        raise _refused("locks")

    def unlock(self, file_obj: object, offset: int, length: int) -> NoReturn:
        """Refuse: there are no locks."""
        raise _refused("locks")


def _refused(what: str) -> SFTPOpUnsupported:
    return SFTPOpUnsupported(f"A user's file area has no {what}.")


def _close(opened: _OpenFile) -> None:
    """Give a file its name, or take it away and raise what refused it."""
    with opened.finish:
        if opened.refusal is not None:
            raise opened.refusal


def _opened(file_obj: object) -> _OpenFile:
    if not isinstance(file_obj, _OpenFile):
        raise SFTPFailure("That is no open file.")
    return file_obj


def _is_root(path: bytes) -> bool:
    return path in {b"", b".", b"./", ROOT, b"/."}


def _name(path: bytes) -> str:
    """Return the file's name that a path means; refuse every way out of the directory."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        raise BadInput(faults.FILE_PATTERN, "A file's name is UTF-8.") from None
    name = text.removeprefix("./").removeprefix(_SEPARATOR)
    if _SEPARATOR in name or name in {"", ".", ".."}:
        raise NotAllowed(faults.FILE_PATTERN, "A user's file area has no directories.")
    return name


def _attributes(entry: FileInfo) -> SFTPAttrs:
    return SFTPAttrs(
        type=FILEXFER_TYPE_REGULAR,
        size=entry.size_bytes,
        permissions=stat.S_IFREG | 0o600,
        uid=0,
        gid=0,
        atime=int(entry.modified_s),
        mtime=int(entry.modified_s),
    )


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.to_thread(function, *args, **kwargs)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    """Turn refusals into sftp's."""
    try:
        yield
    except NotFound as error:
        raise SFTPNoSuchFile(error.message) from None
    except (BadInput, Conflict, Unavailable) as error:
        raise SFTPFailure(error.message) from None
    except ConclaveError as error:
        raise SFTPPermissionDenied(error.message) from None
    except OSError:
        # Not chained or quoted: a path of the host may stand in it.
        raise SFTPFailure("The appliance could not do that.") from None
