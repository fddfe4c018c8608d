"""Protocols that read into one buffer: nothing of them stays when their connection is lost."""

from __future__ import annotations

import asyncio
import gc
import ssl
import weakref
from pathlib import Path
from typing import cast

import uvloop

from conclave.service.receiver import Receiver
from tests.native.certificates import make_authority, write_identity


class Echo(Receiver):
    """Says what it hears; tells of its end."""

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self.release(self._transport)
        self._ended.set()


async def speak(context: ssl.SSLContext, made: list[weakref.ref[Echo]]) -> None:
    """Connect, hear an echo, and hang up."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def make() -> Echo:
        echo = Echo(ended)
        made.append(weakref.ref(echo))
        return echo

    server = await loop.create_server(make, "127.0.0.1", 0, ssl=context)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    host, port = server.sockets[0].getsockname()
    async with asyncio.timeout(30), server:
        reader, writer = await asyncio.open_connection(host, port, ssl=trusting)
        writer.write(b"word")
        assert await reader.readexactly(4) == b"word"
        writer.close()
        await ended.wait()


def test_a_lost_connection_is_freed_without_the_collector(tmp_path: Path) -> None:
    """A worker collects rarely, and each connection may hold a frame of a megabyte."""
    write_identity(make_authority(), tmp_path, "server", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    made: list[weakref.ref[Echo]] = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        gc.collect()
        gc.disable()
        try:
            runner.run(speak(context, made))
            assert [echo() for echo in made] == [None]
        finally:
            gc.enable()
