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
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO, Final, NoReturn, ParamSpec, TypeVar, cast

from asyncssh import (
    FILEXFER_TYPE_DIRECTORY,
    FILEXFER_TYPE_REGULAR,
    FXF_APPEND,
    FXF_READ,
    FXF_WRITE,
    SFTPAttrs,
    SFTPFailure,
    SFTPName,
    SFTPNoSuchFile,
    SFTPOpUnsupported,
    SFTPPermissionDenied,
    SFTPServer,
    SSHServerChannel,
)
from asyncssh.channel import SSHChannel

from conclave.appliance.user_files import FileInfo, UserFiles
from conclave.errors import BadInput, ConclaveError, NotFound, Unavailable

P = ParamSpec("P")
R = TypeVar("R")
ROOT: Final = b"/"
MAX_OPEN_FILES: Final = 16
_SEPARATOR: Final = "/"


@dataclass(slots=True, eq=False)
class _OpenFile:
    name: str
    stream: BinaryIO
    finish: contextlib.ExitStack
    """Closes the file; one that was written takes its name then, unless an error comes before."""
    writing: bool
    size_bytes: int = 0
    refused: bool = False


class _BrokenOff(Exception):
    """An upload ended before its end."""


class ConfinedFiles(SFTPServer):
    """The file area of one user over SFTP and SCP."""

    def __init__(
        self,
        channel: SSHChannel[bytes],
        files: UserFiles,
        user_id: str,
        ended: Callable[[], bool],
        is_current: Callable[[], bool],
    ) -> None:
        super().__init__(cast("SSHServerChannel[bytes]", channel))
        self._files = files
        self._user_id = user_id
        self._ended = ended
        self._is_current = is_current
        self._open_files = 0

    def exit(self) -> None:
        """Tell sftp's clients that all went well; asyncssh itself tells none but scp's."""
        if self.channel.get_subsystem() == "sftp" and not self.channel.is_closing():
            self.channel.exit(0)

    # ---- opening and closing

    async def open(self, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        """Open a file to read it, or a new one to write it whole."""
        self._require_login()
        if self._open_files >= MAX_OPEN_FILES:
            raise SFTPFailure(f"A session may have {MAX_OPEN_FILES} files open at once.")
        name = _name(path)
        writing = bool(pflags & (FXF_WRITE | FXF_APPEND))
        if writing and (pflags & FXF_READ or pflags & FXF_APPEND):
            raise SFTPOpUnsupported("A file is written whole, from its beginning.")
        opened = await _in_thread(self._open, name, writing)
        self._open_files += 1
        return opened

    def _require_login(self) -> None:
        """Refuse whoever was disabled, deleted or changed since the session began."""
        if not self._is_current():
            raise SFTPPermissionDenied("The login is void: log in again.")

    def _open(self, name: str, writing: bool) -> _OpenFile:
        with contextlib.ExitStack() as opening:
            opens = self._files.writing if writing else self._files.open
            stream = opening.enter_context(opens(self._user_id, name))
            return _OpenFile(name, stream, opening.pop_all(), writing)

    async def close(self, file_obj: object) -> None:
        """Close a file; one that was written whole gets its name."""
        opened = _opened(file_obj)
        self._open_files -= 1
        whole = not opened.writing or not (opened.refused or self._ended())
        await _in_thread(_close, opened, whole)

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Read a part of a file."""
        self._require_login()
        return await _in_thread(os.pread, _opened(file_obj).stream.fileno(), size, offset)

    async def write(self, file_obj: object, offset: int, data: bytes) -> int:
        """Write a part of a file, within the limit."""
        self._require_login()
        opened = _opened(file_obj)
        if not opened.writing:
            raise SFTPPermissionDenied("The file was opened to read it.")
        size = max(opened.size_bytes, offset + len(data))
        try:
            self._files.check_size(size)
        except BadInput as error:
            opened.refused = True
            raise SFTPFailure(error.message) from None
        opened.size_bytes = size
        return await _in_thread(os.pwrite, opened.stream.fileno(), data, offset)

    # ---- what there is

    async def stat(self, path: bytes) -> SFTPAttrs:
        """Describe a file or the directory."""
        self._require_login()
        if _is_root(path):
            return SFTPAttrs(type=FILEXFER_TYPE_DIRECTORY, permissions=stat.S_IFDIR | 0o700, size=0)
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
        for entry in await _in_thread(self._files.list, self._user_id):
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
        self._require_login()
        await _in_thread(self._files.delete, self._user_id, _name(path))

    async def rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file; a name that is taken stays."""
        self._require_login()
        new_name = _name(newpath)
        if any(
            entry.name == new_name for entry in await _in_thread(self._files.list, self._user_id)
        ):
            raise SFTPFailure("There is a file of that name already.")
        await _in_thread(self._files.rename, self._user_id, _name(oldpath), new_name)

    async def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        """Rename a file, in place of one that has the name."""
        self._require_login()
        await _in_thread(self._files.rename, self._user_id, _name(oldpath), _name(newpath))

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


def _close(opened: _OpenFile, whole: bool) -> None:
    if whole:
        opened.finish.close()
        return
    broken_off = _BrokenOff()
    with contextlib.suppress(_BrokenOff):
        opened.finish.__exit__(_BrokenOff, broken_off, None)


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
        raise SFTPNoSuchFile("A file's name is UTF-8.") from None
    name = text.removeprefix("./").removeprefix(_SEPARATOR)
    if _SEPARATOR in name or name in {"", ".", ".."}:
        raise SFTPPermissionDenied("A user's file area has no directories.")
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
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except NotFound as error:
        raise SFTPNoSuchFile(error.message) from None
    except Unavailable as error:
        raise SFTPFailure(error.message) from None
    except ConclaveError as error:
        raise SFTPPermissionDenied(error.message) from None
    except OSError:
        # Not chained or quoted: a path of the host may stand in it.
        raise SFTPFailure("The appliance could not do that.") from None
