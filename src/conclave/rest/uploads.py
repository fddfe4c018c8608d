"""Receive one file of a multipart body, in pieces, into a file of its user without a name.

Invariant: nothing is kept of a body that is too large, too slow, broken, or holds more than one
file; what comes in counts for its user's quota from its first byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from conclave import faults
from conclave.appliance.user_files import Incoming, UserFiles
from conclave.errors import BadInput
from conclave.operations.model import Upload
from conclave.rest.errors import too_large

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

UPLOAD_SECONDS: Final = 3600.0
"""From the first to the last byte."""
_OVERHEAD_BYTES: Final = 64 * 1024
"""Of the body around its file."""
_HEADER_BYTES: Final = 4096
_BOUNDARY: Final = re.compile(r"boundary=\"?([!-~]{1,70}?)\"?(?:;|$)", re.IGNORECASE)
_FIRST_LINE: Final = re.compile(rb"\A--([!-~]{1,70})\r\n")
_FILE_NAME: Final = re.compile(rb'filename="([^"\r\n]{0,255})"')


@contextlib.asynccontextmanager
async def received(
    chunks: AsyncIterator[bytes],
    content_type: str,
    *,
    files: UserFiles,
    user_id: str,
    chunk_seconds: float,
) -> AsyncIterator[Upload]:
    """Yield the file of a body; raise BadInput or LimitReached for what is none or too much."""
    opened = contextlib.ExitStack()
    incoming = opened.enter_context(files.receiving(user_id))
    try:
        receiver = _Receiver(files, incoming)
        try:
            async with asyncio.timeout(UPLOAD_SECONDS):
                await _feed(receiver, chunks, content_type, files.max_file_bytes, chunk_seconds)
        except TimeoutError:
            message = f"No more of the body arrived for {chunk_seconds:g} s, or not all in time."
            raise BadInput(faults.REQUEST_TIMEOUT, message) from None
        yield receiver.finished()
    finally:
        # Large files take their time to go.
        await asyncio.to_thread(opened.close)


async def _feed(
    receiver: _Receiver,
    chunks: AsyncIterator[bytes],
    content_type: str,
    max_bytes: int,
    chunk_seconds: float,
) -> None:
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    parser: MultipartParser | None = None
    total = 0
    while chunk := await asyncio.wait_for(anext(chunks, b""), chunk_seconds):
        total += len(chunk)
        if total > max_bytes + _OVERHEAD_BYTES:
            raise too_large(max_bytes)
        try:
            if parser is None:
                parser = MultipartParser(_boundary(content_type, chunk), receiver.callbacks())
            # What it finds is written at once, and the disk may be slow.
            await asyncio.to_thread(parser.write, chunk)
        except FormParserError:
            raise _not_multipart() from None
    if parser is None:
        raise _not_multipart()


class _Receiver:
    """Take the parser's events; only a part with a file's name is kept."""

    def __init__(self, files: UserFiles, incoming: Incoming) -> None:
        self._files = files
        self._incoming = incoming
        self._headers = bytearray()
        self._named = False
        self._keeping = False
        self._whole = False

    def callbacks(self) -> MultipartCallbacks:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header,
            "on_header_value": self._header,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    def finished(self) -> Upload:
        """Return the file; raise BadInput when there is none or the body was cut short."""
        if not self._named or not self._whole:
            raise _not_multipart()
        return Upload(incoming=self._incoming)

    def _begin(self) -> None:
        self._headers.clear()
        self._keeping = False

    def _header(self, data: bytes, start: int, end: int) -> None:
        self._headers += data[start:end]
        if len(self._headers) > _HEADER_BYTES:
            raise _not_multipart()

    def _headers_end(self) -> None:
        found = _FILE_NAME.search(self._headers)
        if found is None:
            return
        if self._named:
            message = "One call takes one file; this body holds several."
            raise BadInput(faults.UPLOAD_LIMIT, message)
        self._files.give_name(self._incoming, found[1].decode("utf-8", "replace"))
        self._named = self._keeping = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._keeping:
            self._files.append(self._incoming, data[start:end])

    def _end(self) -> None:
        self._whole = True


def _boundary(content_type: str, first: bytes) -> bytes:
    """Return the boundary that the header names; the vendor's media type may leave it out."""
    named = _BOUNDARY.search(content_type)
    if named is not None:
        return named[1].encode()
    found = _FIRST_LINE.match(first)
    if found is None:
        raise _not_multipart()
    return found[1]


def _not_multipart() -> BadInput:
    message = "The body must be multipart/form-data with one whole file in it."
    return BadInput(faults.UPLOAD_BODY, message)
