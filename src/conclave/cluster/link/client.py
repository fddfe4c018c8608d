"""Calls to one other member, and the two plain streams: PostgreSQL's and the join's.

Invariant: a call ends with its result, with the error that the other member raised, with
LinkRefused or BUSY when nothing was done, or with OUTCOME_UNKNOWN when it writes, was sent and was
not answered: never with a guess.  One call's deadline never ends the connection that others use;
a peer that says nothing at all does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Any, Final

import msgspec

from conclave import faults
from conclave.cluster.link.codec import (
    MAX_FRAME_BYTES,
    MAX_IN_FLIGHT,
    MAX_UNSENT_BYTES,
    MAX_WRITES_IN_FLIGHT,
    Answer,
    Call,
    answer_decoder,
    encoder,
    result_decoder,
)
from conclave.cluster.link.hello import Channel, Hello, JudgePeer, introduce
from conclave.cluster.link.identity import LinkIdentity, join_context
from conclave.cluster.link.messages import LINK_METHODS
from conclave.cluster.link.streams import READ_BYTES, StreamPair, read_frame, watch_for_loss
from conclave.errors import InternalFault, Unavailable
from conclave.service.channel_errors import error_from_wire
from conclave.service.frames import FrameTooLong, frame
from conclave.service.quiet import Nothing, Quiet

CONNECT_SECONDS: Final = 5.0
"""For one attempt: TCP, TLS and both hellos."""
FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 2.0
"""How long a peer that let a call's deadline pass may go on to say nothing."""

Address = Callable[[], tuple[str, int]]

_UNREACHABLE = (
    OSError,
    EOFError,
    TimeoutError,
    FrameTooLong,
    msgspec.DecodeError,
    UnicodeDecodeError,
)

_log = logging.getLogger(__name__)


class _CallConnection:
    """One introduced connection; `waiting` maps call ids to those who wait."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self.waiting: dict[int, asyncio.Future[Answer]] = {}
        self.alive = True
        self.heard_at = self._loop.time()
        self._silence: asyncio.TimerHandle | None = None
        self._last_id = 0
        self._reading = self._loop.create_task(self._read())

    async def _read(self) -> None:
        cause = "closed by the other member"
        try:
            while True:
                answer = answer_decoder.decode(await read_frame(self._reader, MAX_FRAME_BYTES))
                self._heard()
                future = self.waiting.pop(answer.call_id, None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except _UNREACHABLE as error:
            cause = str(error) or cause
        finally:
            self._lost(cause)

    def _heard(self) -> None:
        self.heard_at = self._loop.time()
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _lost(self, cause: str) -> None:
        self.alive = False
        self._writer.transport.abort()
        if self._silence is not None:
            self._silence.cancel()
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError(cause))
                future.exception()  # whoever stopped waiting must not cause a warning
        self.waiting.clear()

    def send(self, method: str, params: msgspec.Raw) -> tuple[int, asyncio.Future[Answer]]:
        """Write a call; raise Unavailable, with nothing sent, when a bound is reached."""
        if self._writer.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise Unavailable(faults.BUSY, "The other member does not read what it is sent.")
        self._last_id += 1
        body = encoder.encode(Call(self._last_id, method, params))
        if len(body) > MAX_FRAME_BYTES:
            message = f"A call of {method} has {len(body)} bytes; {MAX_FRAME_BYTES} are allowed."
            raise InternalFault(faults.INTERNAL, message)
        future: asyncio.Future[Answer] = self._loop.create_future()
        self.waiting[self._last_id] = future
        self._writer.write(frame(body))
        return self._last_id, future

    def doubt(self, sent_at: float) -> None:
        """Ask for a sign of life, since nothing was heard after a call of `sent_at`."""
        if not self.alive or self._silence is not None or self.heard_at > sent_at:
            return
        with contextlib.suppress(Unavailable):
            call_id, future = self.send("ping", msgspec.Raw(encoder.encode(Nothing())))
            future.add_done_callback(lambda _future: self.waiting.pop(call_id, None))
        self._silence = self._loop.call_later(SILENCE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        _log.warning("link: a member says nothing any more; its connection is dropped")
        self._silence = None
        self._reading.cancel()

    async def close(self) -> None:
        """End the connection."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


class LinkClient:
    """Call one member; connects when needed, and again after a loss.

    `address` tells the member's address and core port at each attempt, `my_hello` makes this
    member's hello for a channel, `judge_peer` judges the member that answers.  `source` is the
    address that this member calls from: the one by which the others know it.
    """

    def __init__(
        self,
        identity: LinkIdentity,
        address: Address,
        my_hello: Callable[[Channel], Hello],
        judge_peer: JudgePeer,
        *,
        source: str | None = None,
    ) -> None:
        self._identity = identity
        self._source = None if source is None else (source, 0)
        self._address = address
        self._my_hello = my_hello
        self._judge_peer = judge_peer
        self._connection: _CallConnection | None = None
        self._attempt: asyncio.Task[_CallConnection] | None = None
        self._attempts = 0
        """How often it was tried to connect since the last answer."""
        self._in_flight = 0
        self._closings = 0

    @property
    def connected(self) -> bool:
        """Tell whether a connection for calls is open."""
        return self._connection is not None and self._connection.alive

    async def call(
        self,
        method: str,
        params: Quiet,
        *,
        timeout_seconds: float,
        connect_seconds: float | None = None,
    ) -> Any:
        """Return the method's result; `connect_seconds` bounds each wait for a connection.

        A call that does not write is sent again after a loss, until its deadline or `close`.
        Raises the other member's own error; LinkRefused; Unavailable with BUSY when nothing was
        done or nothing that counts; Unavailable with OUTCOME_UNKNOWN when a call that writes was
        sent and no answer came.
        """
        bound = MAX_WRITES_IN_FLIGHT if LINK_METHODS[method].writes else MAX_IN_FLIGHT
        if self._in_flight >= bound:
            raise Unavailable(faults.BUSY, "Too many calls to a member wait for their answers.")
        self._in_flight += 1
        try:
            return await self._call(method, params, timeout_seconds, connect_seconds)
        finally:
            self._in_flight -= 1

    async def _call(
        self, method: str, params: Quiet, timeout_seconds: float, connect_seconds: float | None
    ) -> Any:
        encoded = msgspec.Raw(encoder.encode(params))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        closings = self._closings
        while (left := deadline - loop.time()) > 0:
            wait = left if connect_seconds is None else min(left, connect_seconds)
            connection = await self._connected(loop.time() + wait)
            try:
                answer = await self._exchange(connection, method, encoded, deadline)
            except (TimeoutError, ConnectionResetError) as error:
                if LINK_METHODS[method].writes:
                    message = f"Method {method} was sent and not answered; it may have been done."
                    raise Unavailable(faults.OUTCOME_UNKNOWN, message) from error
                if closings != self._closings:
                    message = f"Method {method} was given up with the link to its member."
                    raise Unavailable(faults.BUSY, message) from error
                continue
            self._attempts = 0
            if answer.error is not None:
                raise error_from_wire(answer.error)
            return _result(method, answer.result)
        raise Unavailable(faults.BUSY, f"Method {method} was not answered in time.")

    async def _exchange(
        self, connection: _CallConnection, method: str, params: msgspec.Raw, deadline: float
    ) -> Answer:
        sent_at = asyncio.get_running_loop().time()
        call_id, future = connection.send(method, params)
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        except TimeoutError:
            connection.doubt(sent_at)
            raise
        finally:
            connection.waiting.pop(call_id, None)

    async def close(self) -> None:
        """End the connection and the calls under way; a later call connects again."""
        self._closings += 1
        attempt, self._attempt = self._attempt, None
        connection, self._connection = self._connection, None
        if attempt is not None:
            attempt.cancel()
            await asyncio.gather(attempt, return_exceptions=True)
        if connection is not None:
            await connection.close()

    # -------------------------------------------------------------- connecting

    async def _connected(self, deadline: float) -> _CallConnection:
        """Return the open connection, waiting for one; an attempt serves all who wait for it."""
        loop = asyncio.get_running_loop()
        cause = "it did not answer in time"
        while loop.time() < deadline:
            if self._connection is not None and self._connection.alive:
                return self._connection
            if self._attempt is None:
                self._attempt = loop.create_task(self._try_to_connect(self._pause()))
                self._attempt.add_done_callback(self._attempted)
            attempt = self._attempt
            await asyncio.wait({attempt}, timeout=deadline - loop.time())
            if not attempt.done():
                break
            if attempt.cancelled():
                cause = "the connection was given up"
                break
            error = attempt.exception()
            if error is None:
                continue
            if not isinstance(error, _UNREACHABLE):
                raise error
            cause = str(error) or cause
        raise Unavailable(faults.BUSY, f"A member of the cluster cannot be reached: {cause}.")

    def _pause(self) -> float:
        if not self._attempts:
            return 0.0
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._attempts, 10))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads attempts, no more

    def _attempted(self, attempt: asyncio.Task[_CallConnection]) -> None:
        if self._attempt is attempt:
            self._attempt = None
        if not attempt.cancelled():
            attempt.exception()  # whoever stopped waiting must not cause a warning

    async def _try_to_connect(self, pause: float) -> _CallConnection:
        await asyncio.sleep(pause)
        self._attempts += 1
        reader, writer = await self._open("calls", CONNECT_SECONDS)
        self._connection = _CallConnection(reader, writer)
        return self._connection

    async def open_postgresql(self, timeout_seconds: float) -> StreamPair:
        """Return a new stream to the member's PostgreSQL; the caller ends it.

        Raises LinkRefused, or Unavailable with BUSY; there is one attempt.
        """
        try:
            return await self._open("postgresql", timeout_seconds)
        except _UNREACHABLE as error:
            message = f"The PostgreSQL of a member cannot be reached: {error or 'no answer'}."
            raise Unavailable(faults.BUSY, message) from error

    async def _open(self, channel: Channel, seconds: float) -> StreamPair:
        host, port = self._address()
        context = self._identity.client_context()
        hello = self._my_hello(channel)
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, limit=READ_BYTES, local_addr=self._source
            )
            return await _introduced(reader, writer, hello, self._judge_peer)


async def _introduced(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    hello: Hello,
    judge_peer: JudgePeer,
) -> StreamPair:
    try:
        watch_for_loss(writer)
        await introduce(reader, writer, hello, judge_peer)
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


async def open_join(
    address: str, port: int, my_hello: Hello, judge_peer: JudgePeer, timeout_seconds: float
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """Knock at a member to join its cluster; return the stream and the member's certificate, DER.

    The certificate is not verified: the exchange that follows must.  Raises LinkRefused, or
    Unavailable with BUSY.
    """
    try:
        async with asyncio.timeout(timeout_seconds):
            reader, writer = await asyncio.open_connection(
                address, port, ssl=join_context(), limit=READ_BYTES
            )
            await _introduced(reader, writer, my_hello, judge_peer)
    except _UNREACHABLE as error:
        message = f"The member at {address}, port {port}, cannot be reached: {error or 'no answer'}"
        raise Unavailable(faults.BUSY, f"{message}.") from error
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return reader, writer, certificate


def _result(method: str, encoded: msgspec.Raw) -> Any:
    try:
        return result_decoder(method).decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"The answer to {method} has another shape than this version knows: {error}."
        if LINK_METHODS[method].writes:
            raise Unavailable(faults.OUTCOME_UNKNOWN, message) from error
        raise InternalFault(faults.INTERNAL, message) from error
