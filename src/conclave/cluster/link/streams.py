"""Streams of bytes between members: frames with a bound, and a pipe that ends as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Final

from conclave.service.frames import HEADER_BYTES, FrameTooLong

READ_BYTES: Final = 256 << 10
MAX_UNSENT_BYTES: Final = 1 << 20
"""How much a pipe holds for a receiver that is slower than the sender, each way."""
LINGER_SECONDS: Final = 10.0
"""How long the last bytes of a stream may take to leave."""
KEEPALIVE: Final = (5, 2, 3)
"""Seconds of silence, seconds between probes, probes: a machine that is gone is noticed in 11 s."""
UNANSWERED_MS: Final = 30_000
"""How long the other machine may leave sent bytes unacknowledged."""

StreamPair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def read_frame(reader: asyncio.StreamReader, limit: int) -> bytes:
    """Return one frame's body; raise FrameTooLong before a byte of it is kept, EOFError at the end.

    A stream that ends inside a frame raises asyncio.IncompleteReadError, which is an EOFError.
    """
    length = int.from_bytes(await reader.readexactly(HEADER_BYTES), "big")
    if not 0 < length <= limit:
        raise FrameTooLong(length, limit)
    return await reader.readexactly(length)


async def finish(writers: Iterable[asyncio.StreamWriter]) -> None:
    """Close streams, giving what was written the time to leave; then cut them off."""
    open_writers = list(writers)
    for writer in open_writers:
        writer.close()
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            for writer in open_writers:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        pass
    finally:
        for writer in open_writers:
            writer.transport.abort()


async def pipe(left: StreamPair, right: StreamPair) -> None:
    """Carry bytes both ways until one side ends; then let what was read leave, and end both.

    TLS cannot close one direction alone, so the end of one is the end of both.  When it is
    cancelled, both are cut off at once.
    """
    for _, writer in (left, right):
        writer.transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
    pumps = [
        asyncio.create_task(_pump(left[0], right[1])),
        asyncio.create_task(_pump(right[0], left[1])),
    ]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        await finish((left[1], right[1]))
    finally:
        for _, writer in (left, right):
            writer.transport.abort()
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()


def watch_for_loss(writer: asyncio.StreamWriter) -> None:
    """Let the kernel notice that the other machine is gone."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is None:
        return
    idle, interval, count = KEEPALIVE
    with contextlib.suppress(OSError):  # it may be closed already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED_MS)
