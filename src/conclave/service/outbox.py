"""What a connection has to say: encoded at once, sent together.

Invariant: every frame that leaves here is within the protocol's limit, and its bytes are not
touched again once they were handed to the transport.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from conclave.errors import Ckr
from conclave.service.wire import FRAME_HEADER_BYTES, MAX_FRAME_BYTES, Response, ResponseWithState

_encode_into = msgspec.msgpack.Encoder().encode_into
_NO_LENGTH: Final = bytes(FRAME_HEADER_BYTES)


class Outbox:
    """Collect frames for one transport."""

    __slots__ = ("_buffer", "_flush_planned", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._buffer = bytearray()
        self._flush_planned = False

    def __len__(self) -> int:
        return len(self._buffer)

    def append(self, message: msgspec.Struct) -> None:
        """Add one message; an answer that no frame holds becomes CKR_DEVICE_MEMORY."""
        buffer = self._buffer
        start = len(buffer)
        buffer += _NO_LENGTH
        body = start + FRAME_HEADER_BYTES
        _encode_into(message, buffer, body)
        length = len(buffer) - body
        if length > MAX_FRAME_BYTES:
            del buffer[start:]
            self.append(_too_long(message))
            return
        buffer[start:body] = length.to_bytes(FRAME_HEADER_BYTES, "big")

    def flush(self) -> None:
        """Hand everything to the transport in one write."""
        if self._buffer:
            buffer, self._buffer = self._buffer, bytearray()
            if not self.transport.is_closing():
                self.transport.write(buffer)

    def flush_soon(self) -> None:
        """Send together what several tasks answer in one round of the event loop."""
        if not self._flush_planned:
            self._flush_planned = True
            asyncio.get_running_loop().call_soon(self._planned_flush)

    def _planned_flush(self) -> None:
        self._flush_planned = False
        self.flush()


def _too_long(message: msgspec.Struct) -> Response:
    request_id = message.request_id if isinstance(message, Response) else 0
    value = int(Ckr.DEVICE_MEMORY)
    if isinstance(message, ResponseWithState):
        return ResponseWithState(request_id, value, None, None, message.state)
    return Response(request_id, value)
