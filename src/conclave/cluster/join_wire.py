"""Carry the messages of a join over a stream of the link's `join` channel."""

from __future__ import annotations

import asyncio
from typing import Final

from conclave import faults
from conclave.cluster.link.streams import read_frame
from conclave.cluster.pake import MAX_MESSAGE_BYTES, broken
from conclave.errors import Unavailable
from conclave.service.frames import FrameTooLong, frame

MESSAGE_SECONDS: Final = 30.0
"""How long a message may take: an admin's password is hashed, a certificate made meanwhile."""


class StreamWire:
    """One message a frame; each comes, or has left, within `seconds`.

    Raises Unavailable: BUSY when the connection ends or nothing comes, JOIN_BROKEN for a frame of
    more than 64 KiB.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        seconds: float = MESSAGE_SECONDS,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._seconds = seconds

    @property
    def ended(self) -> bool:
        """Tell whether the other side ended the connection, and left nothing to be received."""
        return self._reader.at_eof() or self._reader.exception() is not None

    async def send(self, message: bytes) -> None:
        """Send one message."""
        try:
            async with asyncio.timeout(self._seconds):
                self._writer.write(frame(message))
                await self._writer.drain()
        except (OSError, TimeoutError) as cause:
            raise _lost() from cause

    async def receive(self, seconds: float | None = None) -> bytes:
        """Return the next message; `seconds` is for one that may take longer than others."""
        try:
            async with asyncio.timeout(seconds or self._seconds):
                return await read_frame(self._reader, MAX_MESSAGE_BYTES)
        except FrameTooLong as cause:
            raise broken(f"A message of the join is too long: {cause}") from cause
        except (OSError, EOFError, TimeoutError) as cause:
            raise _lost() from cause


def _lost() -> Unavailable:
    message = "The other side of the join ended the connection, or did not answer in time."
    return Unavailable(faults.BUSY, message)
