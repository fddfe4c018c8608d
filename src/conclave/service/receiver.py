"""Reading without a buffer of one's own for each read.

A protocol of the usual kind gets its bytes from a read of TLS that takes 256 kB from the system and
gives them back, which costs a worker as much as ten requests.
"""

from __future__ import annotations

import abc
import asyncio
from typing import Final

RECEIVE_BYTES: Final = 1 << 18


class Receiver(asyncio.BufferedProtocol, abc.ABC):
    """A protocol whose reads go through one buffer of the process."""

    _received = memoryview(bytearray(RECEIVE_BYTES))
    """Filled and taken from in one turn of the event loop, so that all connections can share it."""

    def get_buffer(self, _size_hint: int) -> memoryview:
        """Return where the next read goes."""
        return self._received

    def buffer_updated(self, count: int) -> None:
        """Take what was read."""
        self.data_received(bytes(self._received[:count]))

    @staticmethod
    def release(transport: asyncio.BaseTransport) -> None:
        """Let go of a protocol whose connection is lost.

        The layer of TLS keeps the two methods above after that, and with them, in a cycle, what
        both sides hold: up to a frame, until the rare collection of a worker.
        """
        transport.set_protocol(_NOBODY)

    @abc.abstractmethod
    def data_received(self, data: bytes) -> None:
        """Serve what one read has brought."""


class _Nobody(asyncio.BufferedProtocol):
    """Stands where a protocol was."""


_NOBODY: Final = _Nobody()
