"""Internal request and answer over Unix sockets, one event loop at each end, with deadlines.

Invariant: a call that writes ends with its result, with the error that the other side raised, with
BUSY when its frame never left this process, or with OUTCOME_UNKNOWN: never with a guess.  A peer
that has not proven a secret is told nothing and served nothing.

Frames are those of `conclave.service.frames`.  The first one is `[secret]`; it decides the caller's
role and is answered by `[0, nil, nil]`.  Then `[id, method, params]` is answered by `[id, nil,
result]` or `[id, [fault name, message, error class], nil]`, in any order.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from conclave import faults
from conclave.errors import ConclaveError, InternalFault, NotAllowed, Unavailable
from conclave.service.channel_errors import WireError, error_from_wire, error_to_wire
from conclave.service.frames import FrameSplitter, FrameTooLong, frame
from conclave.service.methods import METHODS
from conclave.service.quiet import Quiet

MAX_FRAME_BYTES: Final = 8 << 20
MAX_IN_FLIGHT: Final = 4096
MAX_UNSENT_BYTES: Final = 16 << 20
HANDSHAKE_SECONDS: Final = 5.0
CONNECT_PAUSE_SECONDS: Final = 0.02
DEFAULT_TIMEOUT_SECONDS: Final = 10.0

Handler = Callable[[Any, str], Awaitable[Quiet]]
"""Takes the parameter that `conclave.service.messages` declares and the caller's role."""

_log = logging.getLogger(__name__)


class _Secret(msgspec.Struct, array_like=True, frozen=True, gc=False):
    secret: bytes


class _Call(msgspec.Struct, array_like=True, frozen=True, gc=False):
    call_id: int
    method: str
    params: msgspec.Raw


class _Answer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    call_id: int
    error: WireError | None
    result: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_secret_decoder = msgspec.msgpack.Decoder(_Secret)
_call_decoder = msgspec.msgpack.Decoder(_Call)
_answer_decoder = msgspec.msgpack.Decoder(_Answer)
_parameter_decoders = {
    name: msgspec.msgpack.Decoder(row.parameter) for name, row in METHODS.items()
}
_result_decoders = {name: msgspec.msgpack.Decoder(row.result) for name, row in METHODS.items()}
_NIL: Final = msgspec.Raw(_encoder.encode(None))


class _Sender:
    """Sends what is said in one round of the event loop by one write."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._frames: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def say(self, message: msgspec.Struct) -> None:
        """Send a message soon."""
        if not self._frames:
            self._loop.call_soon(self.flush)
        self._frames.append(frame(_encoder.encode(message)))

    def flush(self) -> None:
        """Send what was said now."""
        if self._frames and not self._transport.is_closing():
            self._transport.write(b"".join(self._frames))
        self._frames.clear()


# ------------------------------------------------------------------ server


class _ServerConnection(asyncio.Protocol):
    """One caller; its role is empty until it has proven a secret."""

    def __init__(self, server: ChannelServer) -> None:
        self._server = server
        self._splitter = FrameSplitter(MAX_FRAME_BYTES)
        self._role = ""
        self._in_flight = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the secret, for a bounded time."""
        self._transport = cast(asyncio.Transport, transport)
        self._sender = _Sender(self._transport)
        self._server.connections.add(self)
        loop = asyncio.get_running_loop()
        self._handshake_timer = loop.call_later(HANDSHAKE_SECONDS, self.close)

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the caller; calls under way run to their end, since they may have written."""
        self._handshake_timer.cancel()
        self._server.connections.discard(self)

    def close(self) -> None:
        """End the connection after what was answered."""
        self._sender.flush()
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Serve every complete frame."""
        try:
            for body in self._splitter.feed(data):
                if self._role:
                    self._serve(_call_decoder.decode(body))
                else:
                    self._check_secret(_secret_decoder.decode(body).secret)
        except (FrameTooLong, msgspec.DecodeError, UnicodeDecodeError, NotAllowed) as error:
            _log.warning("internal channel: a caller was cut off: %s", error)
            self.close()

    def _check_secret(self, secret: bytes) -> None:
        role = self._server.role_of(secret)
        if not role:
            raise NotAllowed(faults.NOT_AUTHENTICATED, "The caller's secret is not known here.")
        self._handshake_timer.cancel()
        self._role = role
        self._sender.say(_Answer(0, None, _NIL))

    def _serve(self, call: _Call) -> None:
        self._in_flight += 1
        if self._in_flight >= MAX_IN_FLIGHT and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._server.start_task(self._run(call))

    async def _run(self, call: _Call) -> None:
        answer = await self._server.run(call.method, call.params, self._role)
        self._in_flight -= 1
        if self._transport.is_closing():
            return
        self._sender.say(_Answer(call.call_id, *answer))
        if self._paused and self._in_flight < MAX_IN_FLIGHT // 2:
            self._paused = False
            self._transport.resume_reading()


class ChannelServer:
    """Serve methods of `conclave.service.messages` to callers that prove a secret."""

    def __init__(
        self, socket_path: Path | str, secrets: Mapping[str, bytes], handlers: Mapping[str, Handler]
    ) -> None:
        unknown = handlers.keys() - METHODS.keys()
        if unknown:
            raise ValueError(f"No row in the method table for {sorted(unknown)}.")
        self.connections: set[_ServerConnection] = set()
        self._path = Path(socket_path)
        self._secrets = dict(secrets)
        self._handlers = dict(handlers)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, replacing a socket that a killed predecessor left; mode 0600."""
        self._path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: _ServerConnection(self), str(self._path), start_serving=False
        )
        self._path.chmod(0o600)
        await self._server.start_serving()

    async def close(self, *, grace_seconds: float = 5.0) -> None:
        """Accept no more, let calls under way end within the grace, then cut every caller off."""
        if self._server is not None:
            self._server.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in tuple(self._tasks):
            task.cancel()
        for connection in tuple(self.connections):
            connection.close()
        self._path.unlink(missing_ok=True)

    def role_of(self, secret: bytes) -> str:
        """Return the role that a secret proves, or an empty string; constant-time per secret."""
        found = ""
        for role, expected in self._secrets.items():
            if hmac.compare_digest(secret, expected):
                found = role
        return found

    def start_task(self, work: Any) -> None:
        """Run a coroutine beside the others and hold it until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(
        self, method: str, params: msgspec.Raw, role: str
    ) -> tuple[WireError | None, msgspec.Raw]:
        """Run one method; return its error or its result as the wire carries them."""
        try:
            return None, msgspec.Raw(_encoder.encode(await self._run(method, params, role)))
        except ConclaveError as error:
            return error_to_wire(error), _NIL
        except Exception:  # noqa: BLE001
            # The boundary of the process: the cause goes to the log, the caller learns that.
            _log.exception("internal channel: method %s failed", method)
            message = f"Method {method} failed inside; the log of its process has the cause."
            return error_to_wire(InternalFault(faults.INTERNAL, message)), _NIL

    async def _run(self, method: str, params: msgspec.Raw, role: str) -> Quiet:
        handler = self._handlers.get(method)
        if handler is None or role not in METHODS[method].roles:
            raise NotAllowed(faults.NO_ACL_RULE, f"Role {role} has no method {method} here.")
        try:
            parameter = _parameter_decoders[method].decode(params)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"Method {method} was called with a parameter of another shape: {error}."
            raise InternalFault(faults.INTERNAL, message) from error
        return await handler(parameter, role)


# ------------------------------------------------------------------ client


class _ClientConnection(asyncio.Protocol):
    """One connection of a client; `waiting` maps call ids to those who wait."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._splitter = FrameSplitter(MAX_FRAME_BYTES)
        self.waiting: dict[int, asyncio.Future[_Answer]] = {}
        self.alive = False
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Prove the secret."""
        self._transport = cast(asyncio.Transport, transport)
        self._sender = _Sender(self._transport)
        self._sender.say(_Secret(self._secret))

    def connection_lost(self, error: Exception | None) -> None:
        """Tell everybody who waits."""
        self.alive = False
        cause = ConnectionResetError(str(error or "closed by the other side"))
        waiting: list[asyncio.Future[Any]] = [self.accepted, *self.waiting.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(cause)
                future.exception()  # whoever stopped waiting must not cause a warning
        self.waiting.clear()

    def data_received(self, data: bytes) -> None:
        """Hand answers to those who wait."""
        try:
            for body in self._splitter.feed(data):
                self._deliver(_answer_decoder.decode(body))
        except (FrameTooLong, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.error("internal channel: an answer makes no sense: %s", error)
            self._transport.abort()

    def _deliver(self, answer: _Answer) -> None:
        if answer.call_id == 0:
            self.alive = True
            if not self.accepted.done():
                self.accepted.set_result(None)
            return
        future = self.waiting.pop(answer.call_id, None)
        if future is not None and not future.done():
            future.set_result(answer)

    def send(self, call: _Call) -> asyncio.Future[_Answer]:
        """Write a call; raise Unavailable, with nothing sent, when a bound is reached."""
        unsent = self._transport.get_write_buffer_size()
        if len(self.waiting) >= MAX_IN_FLIGHT or unsent > MAX_UNSENT_BYTES:
            raise Unavailable(faults.BUSY, "Too many internal calls wait for their answers.")
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self.waiting[call.call_id] = future
        self._sender.say(call)
        return future

    def close(self) -> None:
        """End the connection."""
        self._transport.abort()


class ChannelClient:
    """Call the methods of one server; connects when needed, and again after a loss."""

    def __init__(self, socket_path: Path | str, secret: bytes) -> None:
        self._path = str(socket_path)
        self._secret = secret
        self._connection: _ClientConnection | None = None
        self._connecting = asyncio.Lock()
        self._last_id = 0

    async def call(
        self,
        method: str,
        params: Quiet,
        *,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        connect_seconds: float | None = None,
    ) -> Any:
        """Return the method's result; `connect_seconds` bounds each wait for a connection.

        A call that does not write is sent again after a loss, until its deadline.  Raises the
        server's own error; Unavailable with BUSY when nothing was done; Unavailable with
        OUTCOME_UNKNOWN when a call that writes was sent and no answer came.
        """
        encoded = msgspec.Raw(_encoder.encode(params))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while (left := deadline - loop.time()) > 0:
            connection = await self._connected(min(left, connect_seconds or left))
            try:
                answer = await self._exchange(connection, method, encoded, deadline)
            except (TimeoutError, ConnectionResetError) as error:
                if METHODS[method].writes:
                    message = f"Method {method} was sent and not answered; it may have been done."
                    raise Unavailable(faults.OUTCOME_UNKNOWN, message) from error
                continue
            if answer.error is not None:
                raise error_from_wire(answer.error)
            return _result_decoders[method].decode(answer.result)
        raise Unavailable(faults.BUSY, f"Method {method} was not answered in time.")

    async def _exchange(
        self, connection: _ClientConnection, method: str, params: msgspec.Raw, deadline: float
    ) -> _Answer:
        self._last_id += 1
        call_id = self._last_id
        future = connection.send(_Call(call_id, method, params))
        try:
            async with asyncio.timeout_at(deadline):
                return await future
        finally:
            connection.waiting.pop(call_id, None)

    async def close(self) -> None:
        """End the connection; a later call connects again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _connected(self, seconds: float) -> _ClientConnection:
        if self._connection is not None and self._connection.alive:
            return self._connection
        try:
            async with asyncio.timeout(seconds), self._connecting:
                while self._connection is None or not self._connection.alive:
                    await self._try_to_connect()
                return self._connection
        except TimeoutError as error:
            message = "The process behind the internal channel did not answer in time."
            raise Unavailable(faults.BUSY, message) from error

    async def _try_to_connect(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            _, connection = await loop.create_unix_connection(
                lambda: _ClientConnection(self._secret), self._path
            )
            try:
                await connection.accepted
                self._connection = connection
            finally:
                if not connection.alive:
                    connection.close()
        if self._connection is None or not self._connection.alive:
            await asyncio.sleep(CONNECT_PAUSE_SECONDS)
