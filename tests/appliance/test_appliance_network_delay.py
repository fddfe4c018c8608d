"""Answers of several small writes leave at once, on every listener that is bound here."""

from __future__ import annotations

import asyncio
import socket

from conclave.appliance.connections import BoundedListener, ConnectionBudget
from conclave.appliance.network import bind_socket
from tests.support.appliance_bench import random_loopback


def test_accepted_connections_delay_no_small_writes() -> None:
    async def scene() -> int:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        plain = bind_socket(random_loopback(), 0, what="REST")
        listener = BoundedListener.take_over(plain, ConnectionBudget(4))
        async with await asyncio.start_server(accepted, sock=listener):
            address, port = listener.getsockname()
            _, writer = await asyncio.open_connection(address, port)
            async with asyncio.timeout(60):
                set_there = await found
            writer.close()
            await writer.wait_closed()
        return set_there

    assert asyncio.run(scene())
