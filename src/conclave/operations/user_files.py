"""The files of each user: packages that come up, backups and logs that go down."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import io
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, Final

from conclave import faults
from conclave.appliance.user_files import FileInfo, check_name
from conclave.errors import BadInput, NotAllowed, NotFound
from conclave.lunash.render.user import file_list
from conclave.operations.commands import PATH, Command, Option
from conclave.operations.hsm import Reference
from conclave.operations.model import (
    DONE,
    EVERYBODY,
    Call,
    Media,
    NoArguments,
    Reply,
    Result,
    operation,
)
from conclave.operations.rights import current_user
from conclave.operations.users import USER, USERS, check_user

FILES: Final = f"{USER}/files"
FILE: Final = f"{FILES}/{{fileid}}"
RAW: Final = "raw"
_CHUNK_BYTES: Final = 256 * 1024
_BLOCK: Final = 512
_MISSING: Final = (faults.USER_NOT_FOUND, faults.USER_NOT_OWN, faults.FILE_NOT_FOUND)


class FileEntry(Reference, frozen=True):
    """One file in a list; its time is the host's, UTC."""

    size: int
    last_updated: str


class FileList(Result, frozen=True):
    """A user's files."""

    files: list[FileEntry]


class FileView(Result, frozen=True):
    """One file; its time is the host's, UTC."""

    download: str
    last_updated: str
    size: int


def check_own_files(call: Call, _arguments: object) -> None:
    """Files are their user's alone."""
    user = call.by.user
    if call.path["userid"] != user.user_id:
        message = f"User {user.user_id} has no right to the files of others."
        raise NotAllowed(faults.USER_NOT_OWN, message)


_CHECKS: Final = (check_own_files, check_user)


def _url(call: Call, name: str) -> str:
    return f"{USERS}/{call.path['userid']}/files/{name}"


@operation(
    "file.list",
    "GET",
    FILES,
    summary="List one's own files.",
    chapter="2",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200,),
    result=FileList,
    checks=_CHECKS,
    faults=_MISSING,
    paged=True,
    commands=(
        Command(
            words="my file list",
            summary="List your files.",
            chapter="5, 7",
            render=file_list,
        ),
    ),
)
async def list_files(call: Call, _arguments: NoArguments) -> Reply:
    """List one's own files."""
    found = await asyncio.to_thread(call.appliance.files.list, call.path["userid"])
    return Reply(body=FileList(files=[_entry(call, each) for each in found]))


def _entry(call: Call, info: FileInfo) -> FileEntry:
    return FileEntry(
        id=info.name,
        url=_url(call, info.name),
        size=info.size_bytes,
        last_updated=_changed(info),
    )


def _changed(info: FileInfo) -> str:
    return f"{datetime.datetime.fromtimestamp(info.modified_s, datetime.UTC):%Y-%m-%d %H:%M:%S}"


async def _info(call: Call) -> FileInfo:
    name = check_name(call.path["fileid"])
    for each in await asyncio.to_thread(call.appliance.files.list, call.path["userid"]):
        if each.name == name:
            return each
    message = f"User {call.path['userid']} has no file {name!r}."
    raise NotFound(faults.FILE_NOT_FOUND, message)


@operation(
    "file.show",
    "GET",
    FILE,
    summary="Show size and age of a file of one's own.",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200,),
    result=FileView,
    checks=_CHECKS,
    faults=_MISSING,
    only="REST: 'my file list' shows size and age of each file.",
)
async def show_file(call: Call, _arguments: NoArguments) -> Reply:
    """Show a file."""
    info = await _info(call)
    return Reply(
        body=FileView(
            download=f"{_url(call, info.name)}/download",
            last_updated=_changed(info),
            size=info.size_bytes,
        )
    )


@operation(
    "file.download",
    "GET",
    f"{FILE}/download",
    summary="Download a file of one's own, inside a .tgz; as it is with ?raw=true.",
    chapter="5",
    arguments=NoArguments,
    roles=EVERYBODY,
    statuses=(200,),
    result=Result,
    checks=_CHECKS,
    faults=_MISSING,
    flags=(RAW,),
    only="REST: scp and sftp bring files down from LunaSH's port.",
    media=frozenset({Media.JSON, Media.OCTETS}),
    audited=True,
)
async def download_file(call: Call, _arguments: NoArguments) -> Reply:
    """Download a file."""
    info = await _info(call)
    stream = await asyncio.to_thread(call.appliance.files.open, call.path["userid"], info.name)
    if RAW in call.flags:
        return Reply(download=_pieces(stream))
    return Reply(download=as_tgz(info, stream))


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while piece := stream.read(_CHUNK_BYTES):
            yield piece


def as_tgz(info: FileInfo, stream: BinaryIO) -> Iterator[bytes]:
    """Yield a gzipped tar with one file in it; a file that grows meanwhile is cut at its size."""
    head = tarfile.TarInfo(info.name)
    head.size, head.mtime, head.mode = info.size_bytes, int(info.modified_s), 0o600
    buffer = io.BytesIO()
    with stream, gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1, mtime=0) as packed:
        packed.write(head.tobuf(tarfile.PAX_FORMAT))
        left = info.size_bytes
        while left > 0:
            piece = stream.read(min(left, _CHUNK_BYTES)) or bytes(min(left, _CHUNK_BYTES))
            left -= len(piece)
            packed.write(piece)
            yield _taken(buffer)
        packed.write(bytes(-info.size_bytes % _BLOCK + 2 * _BLOCK))
    yield _taken(buffer)


def _taken(buffer: io.BytesIO) -> bytes:
    piece = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return piece


@operation(
    "file.upload",
    "POST",
    FILES,
    summary="Upload one file, as multipart, among one's own; one of that name is replaced.",
    chapter="2",
    arguments=NoArguments,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=(*_MISSING, faults.FILE_PATTERN, faults.UPLOAD_BODY, faults.UPLOAD_LIMIT),
    media=frozenset({Media.FORM}),
    only="REST: scp and sftp bring files up to LunaSH's port.",
)
async def upload_file(call: Call, _arguments: NoArguments) -> Reply:
    """Keep an uploaded file."""
    upload = call.upload
    if upload is None:
        raise BadInput(faults.UPLOAD_BODY, "There is no file in the body.")
    # A body may take an hour, and its user be disabled or deleted meanwhile.
    current_user(call.appliance.users, call.by.login)
    await asyncio.to_thread(call.appliance.files.keep, upload.incoming)
    return Reply(location=_url(call, upload.incoming.name))


@operation(
    "file.delete",
    "DELETE",
    FILE,
    summary="Delete a file of one's own.",
    arguments=NoArguments,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=_MISSING,
    commands=(
        Command(
            words="my file delete",
            summary="Delete one of your files.",
            options=(
                Option(
                    name="file",
                    summary="name of the file",
                    value="filename",
                    target=f"{PATH}fileid",
                    required=True,
                    positional=True,
                ),
            ),
            success="'my file delete' successful.",
        ),
    ),
)
async def delete_file(call: Call, _arguments: NoArguments) -> Reply:
    """Delete a file."""
    await asyncio.to_thread(call.appliance.files.delete, call.path["userid"], call.path["fileid"])
    return DONE


@operation(
    "file.clear",
    "DELETE",
    FILES,
    summary="Delete all files of one's own.",
    arguments=NoArguments,
    roles=EVERYBODY,
    checks=_CHECKS,
    faults=_MISSING[:2],
    commands=(
        Command(
            words="my file clear",
            summary="Delete all your files.",
            proceed="Type 'proceed' to delete all your files, or 'quit' to quit now.",
            success="'my file clear' successful.",
        ),
    ),
)
async def clear_files(call: Call, _arguments: NoArguments) -> Reply:
    """Delete all files."""
    await asyncio.to_thread(call.appliance.files.clear, call.path["userid"])
    return DONE
