"""One worker's connection to a worker of another member, for FORWARD.

Invariant: nothing waits for a connection to be made, and no longer than ANSWER_SECONDS for an
answer; a peer that is slower, or breaks the protocol, loses the connection, and whoever asked does
the work himself.  The peer's key must be the one that the list of members gives (rule C3).
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from typing import Final

import msgspec

from conclave.clock import ApplianceClock
from conclave.service.client_gate import PeerCertificate
from conclave.service.frames import HEADER_BYTES, frame
from conclave.service.wire import (
    MAX_FRAME_BYTES,
    Forward,
    Greeting,
    Hello,
    Member,
    Operation,
    Request,
)

ANSWER_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 3.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 5.0
MAX_OUTSTANDING: Final = 64
MAX_UNSENT_BYTES: Final = 1 << 20
_MAX_REQUEST_ID: Final = 0xFFFFFFFF
_NIL: Final = msgspec.Raw(b"\xc0")

_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode


class PeerAnswer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An answer whose result is passed on as it came."""

    request_id: int
    value: int
    result: msgspec.Raw = _NIL
    ticket: bytes | None = None


_decode_answer = msgspec.msgpack.Decoder(PeerAnswer).decode
_decode_bytes = msgspec.msgpack.Decoder(bytes).decode
_decode_greeting = msgspec.msgpack.Decoder(Greeting).decode

_BROKEN: Final = (
    OSError, EOFError, TimeoutError, ssl.SSLError, msgspec.DecodeError, UnicodeDecodeError,
    ValueError,
)  # fmt: skip
"""What ends a connection: the network's errors, and a peer that does not keep to the protocol."""


class PeerLink:
    """A connection that is made again and again until `close`."""

    def __init__(self, member: Member, context: ssl.SSLContext, clock: ApplianceClock) -> None:
        self.member = member
        self._context = context
        self._clock = clock
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[PeerAnswer]] = {}
        self._last_id = 0
        self._task = asyncio.create_task(self._run())

    @property
    def outstanding(self) -> int:
        """Return how many requests the peer has not answered yet."""
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Tell whether a request can be sent right now."""
        writer = self._writer
        return (
            writer is not None
            and len(self._waiting) < MAX_OUTSTANDING
            and writer.transport.get_write_buffer_size() < MAX_UNSENT_BYTES
        )

    async def close(self) -> None:
        """End the connection; whoever waits is told that there is no answer."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def ask(self, forward: Forward, min_position: int) -> PeerAnswer | None:
        """Return the peer's answer to the client's request, None when it gave none in time."""
        if self._writer is None:
            return None
        self._last_id = self._last_id % _MAX_REQUEST_ID + 1
        number = self._last_id
        args = msgspec.Raw(_encode(forward))
        future: asyncio.Future[PeerAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        body = _encode(Request(number, Operation.FORWARD, None, args, min_position))
        if len(body) > MAX_FRAME_BYTES:
            del self._waiting[number]
            return None
        self._writer.write(frame(body))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await future
            return _decode_answer(_decode_bytes(answer.result)) if answer.value == 0 else None
        except TimeoutError:
            self._abort("it did not answer in time")
            return None
        except msgspec.DecodeError as error:
            self._abort(f"its answer has another shape ({error})")
            return None
        except ConnectionResetError:
            return None
        finally:
            self._waiting.pop(number, None)

    # ------------------------------------------------------------------ the connection

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                reader, writer = await self._connect()
            except _BROKEN as error:
                _log.info("No connection to member %s: %s", self.member.member_id, error)
            else:
                pause = FIRST_PAUSE_SECONDS
                await self._serve(reader, writer)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                self.member.address,
                self.member.crypto_port,
                ssl=self._context,
                limit=2 * MAX_FRAME_BYTES,
            )
            try:
                self._check_peer(writer)
                greeting = _decode_greeting(await _read_frame(reader))
                if greeting.member_id != self.member.member_id:
                    raise ConnectionError(f"it says that it is member {greeting.member_id}")
                hello = msgspec.Raw(_encode(Hello(os.urandom(16), "conclave-member")))
                writer.write(frame(_encode(Request(1, Operation.HELLO, None, hello))))
                if _decode_answer(await _read_frame(reader)).value != 0:
                    raise ConnectionError("it refused HELLO")
            except BaseException:
                writer.transport.abort()
                raise
        return reader, writer

    def _check_peer(self, writer: asyncio.StreamWriter) -> None:
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        peer = PeerCertificate.read(der)
        if peer.key_sha256 != self.member.key_sha256:
            raise ConnectionError("its key is not the one that is listed for it")
        if not peer.valid_at(self._clock.now_ms()):
            raise ConnectionError("its certificate is not valid at the appliance's time")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._last_id = 1
        self._writer = writer
        _log.info("A connection to member %s stands.", self.member.member_id)
        try:
            while True:
                answer = _decode_answer(await _read_frame(reader))
                future = self._waiting.pop(answer.request_id, None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except _BROKEN as error:
            _log.info("The connection to member %s ended: %s", self.member.member_id, error)
        finally:
            self._writer = None
            writer.transport.abort()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionResetError())

    def _abort(self, reason: str) -> None:
        _log.warning("Member %s is left alone for now: %s.", self.member.member_id, reason)
        if self._writer is not None:
            self._writer.transport.abort()


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(HEADER_BYTES), "big")
    if not 0 < length <= MAX_FRAME_BYTES:
        raise ConnectionError(f"it sent a frame of {length} bytes")
    return await reader.readexactly(length)
