"""One client's connection: frames in, answers out, in batches.

Invariant: a peer makes us hold no more than one frame, what one read brings, and a bounded number
of requests under way; while that bound or the send buffer is full, nothing more is read.  A frame
that breaks the protocol ends the connection unanswered.  The client's status is compared with the
page for each batch after it was read (rule C11).

Everything under a millisecond runs right here.  What must wait (a refresh from the store, a write
in the cluster process, an RSA key) runs as a task, and is answered whenever it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from conclave import faults
from conclave.errors import CKR_OK, ConclaveError, Unavailable
from conclave.ids import ClientId, KeyringId, ProcessId
from conclave.service import page as page_words
from conclave.service.admission import admit
from conclave.service.answers import Answers
from conclave.service.cache import ObjectEntry
from conclave.service.client_gate import PeerCertificate
from conclave.service.dispatch import FOR_MEMBERS, HANDLERS, SPREADING
from conclave.service.frames import FrameSplitter, FrameTooLong
from conclave.service.nesting import nests_deeper
from conclave.service.outbox import Outbox
from conclave.service.receiver import Receiver
from conclave.service.requests import (
    Caller,
    Handler,
    Later,
    Pins,
    ProtocolBroken,
    Rest,
    WithTicket,
)
from conclave.service.session_objects import SessionSeal
from conclave.service.wire import (
    BUSY,
    MAX_FRAME_BYTES,
    Operation,
    Request,
    Response,
)

if TYPE_CHECKING:
    from conclave.service.worker import Worker

MAX_OUTSTANDING: Final = 256
TURN_SECONDS: Final = 0.005
FLUSH_SECONDS: Final = 0.001
FLUSH_BYTES: Final = 1 << 18
HELLO_SECONDS: Final = 10.0
WAIT_SECONDS: Final = 10.0
MAX_WAITS: Final = 4
_MAX_REQUEST_ID: Final = 0xFFFFFFFF

_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ProtocolBroken)
"""What a decoder raises for a frame that is not of the protocol."""

_log = logging.getLogger(__name__)
_decode = msgspec.msgpack.Decoder(Request).decode
_monotonic = time.monotonic
_WORD_CLIENTS: Final = page_words.CLIENT_GENERATION
_HELLO: Final = int(Operation.HELLO)


class Connection(Receiver):
    """A client process's connection; `client_id` is set before anything is read."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.core = worker.core
        self.client_id, self.process_id = ClientId(b""), ProcessId(b"")
        self.keyrings: frozenset[KeyringId] | None = frozenset()
        self.member_key = b""
        self.asserted: dict[bytes, Caller] = {}
        self.source = ""
        self.public_seals: dict[bytes, SessionSeal] = {}
        self.public_blobs: dict[bytes, ObjectEntry] = {}
        self._words = worker.core.page.words
        self._handlers = HANDLERS
        self._splitter = FrameSplitter(MAX_FRAME_BYTES)
        self._waiting: deque[bytes] = deque()
        self._watch = worker.core.watch
        self._outbox = Outbox()
        self._answers = Answers(worker.core, self._outbox)
        self._outstanding = 0
        self.client_generation = -1
        self._checking = False
        self._choked = False
        self._reading = True
        self._turn_planned = self._closed = False

    # ------------------------------------------------------------------ life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is; greet him once his key was found in the list of clients."""
        self.attach(cast(asyncio.Transport, transport))
        self.source = str((transport.get_extra_info("peername") or ("local",))[0])
        if not self.worker.admit(self):
            self._transport.abort()
            return
        der = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        self._peer = PeerCertificate.read(der)
        self._hello_timer = asyncio.get_running_loop().call_later(HELLO_SECONDS, self._silent)
        self._check_client()

    def attach(self, transport: asyncio.Transport) -> None:
        """Answer over `transport`."""
        self._transport = transport
        self._outbox.transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        """Forget the client; writes under way run to their end."""
        self._closed = True
        self.worker.forget(self)
        self._waiting.clear()
        if hasattr(self, "_hello_timer"):
            self._hello_timer.cancel()
        self.release(self._transport)

    def close(self) -> None:
        """End the connection after what was answered has been sent."""
        self._closed = True
        self._outbox.flush()
        self._transport.close()

    def _silent(self) -> None:
        if not self.process_id:
            self._end("it sent no HELLO in time")

    def _end(self, reason: str) -> None:
        """Drop a peer that breaks the rules, with one line in the log now and then."""
        if not self._closed:
            self.worker.note_hostile(self.source, reason)
            self._closed = True
            self._waiting.clear()
            self._transport.abort()

    # ------------------------------------------------------------------ the client's status

    def _check_client(self) -> None:
        if not self._checking:
            self._checking = True
            self.worker.start_task(self._read_client())

    async def _read_client(self) -> None:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                admission = await admit(self.core.reader, self._peer.key_sha256)
        except (ConclaveError, TimeoutError):
            self._end("its key could not be looked up")
            return
        known = self.client_generation >= 0
        if admission.client_id is None or (known and admission.client_id != self.client_id):
            self._end(admission.reason)
            return
        if not self.check_certificate():
            return
        self._checking = False
        self.client_generation, self.keyrings = admission.client_generation, admission.keyrings
        if not known:
            self.client_id = admission.client_id
            if admission.is_member:
                self.member_key = self._peer.key_sha256
                self._handlers = FOR_MEMBERS
            self._outbox.append(self.worker.greeting())
            self._outbox.flush()
        self._plan_turn()

    def spread(self) -> None:
        """Spread this client's requests over the members from now on."""
        if not self.member_key:
            self._handlers = SPREADING
            self.core.spreader.begin()

    def check_certificate(self) -> bool:
        """Drop a client whose certificate is not valid by the appliance clock (rule T1)."""
        if self._peer.valid_at(self.worker.clock.now_ms()):
            return True
        self._end("its certificate is not valid at the appliance's time")
        return False

    # ------------------------------------------------------------------ reading

    def data_received(self, data: bytes) -> None:
        """Serve every complete frame of one read."""
        try:
            frames = self._splitter.feed(data)
        except FrameTooLong as error:
            self._end(str(error))
            return
        if frames and not self._closed:
            self._waiting.extend(frames)
            if not self._turn_planned:
                self._turn()

    def _plan_turn(self) -> None:
        if self._waiting and not self._turn_planned and not self._closed:
            self._turn_planned = True
            asyncio.get_running_loop().call_soon(self._planned_turn)

    def _planned_turn(self) -> None:
        self._turn_planned = False
        self._turn()

    def _turn(self) -> None:
        """Serve what waits, for a bounded time, and send the answers together."""
        waiting = self._waiting
        self._answers.look()
        started = flushed = _monotonic()
        while waiting and not self._closed:
            if self._must_pause():
                break
            self._serve(waiting.popleft())
            if waiting:
                now = _monotonic()
                if now - flushed > FLUSH_SECONDS or len(self._outbox) > FLUSH_BYTES:
                    self._outbox.flush()
                    flushed = now
                if now - started > TURN_SECONDS:
                    self._plan_turn()
                    break
        self._outbox.flush()
        self._regulate()

    def _must_pause(self) -> bool:
        if self._words[_WORD_CLIENTS] != self.client_generation:
            self._check_client()
            return True
        return self._choked or self._outstanding >= MAX_OUTSTANDING

    def _regulate(self) -> None:
        """Read on only while nothing waits."""
        if self._closed:
            return
        if self._waiting and self._reading:
            self._reading = False
            self._transport.pause_reading()
        elif not self._waiting and not self._reading:
            self._reading = True
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """Serve nothing while the client does not take its answers."""
        self._choked = True

    def resume_writing(self) -> None:
        """Go on."""
        self._choked = False
        self._plan_turn()

    # ------------------------------------------------------------------ one request

    def _serve(self, body: bytes) -> None:
        core = self.core
        core.fresh_ticket = None
        try:
            request = _decode(body)
            handler = self._handler(request)
            result = handler(core, self, request)
        except Later as later:
            self._start(self._answer_later(request, handler, later))
        except ConclaveError as error:
            self._answer_error(request, error)
        except _BROKEN as error:
            self._end(f"it broke the protocol: {error}")
        except Exception:  # noqa: BLE001 - the boundary of a request: logged, answered
            self._answers.fail(request)
        else:
            if result.__class__ is CoroutineType:
                self._start(self._answer_task(request, result, self._take_ticket()))
            else:
                self._answers.say(
                    Response(request.request_id, CKR_OK, result, self.core.fresh_ticket)
                )
                self.core.fresh_ticket = None

    def _handler(self, request: Request) -> Handler:
        if not 0 < request.request_id <= _MAX_REQUEST_ID:
            raise ProtocolBroken(f"request id {request.request_id}")
        if not self.process_id and request.operation != _HELLO:
            raise ProtocolBroken("a request came before HELLO")
        handler = self._handlers.get(request.operation)
        if handler is None:
            raise ProtocolBroken(f"there is no operation {request.operation}")
        if request.min_position is not None and request.min_position > self._watch.log_position:
            message = f"This member has not yet replayed log position {request.min_position}."
            raise Unavailable(faults.MEMBER_BEHIND, message)
        return handler

    def _take_ticket(self) -> bytes | None:
        ticket, self.core.fresh_ticket = self.core.fresh_ticket, None
        return ticket

    def _start(self, work: Rest) -> None:
        self._outstanding += 1
        self.worker.start_task(self._count_down(work))

    async def _count_down(self, work: Rest) -> None:
        try:
            await work
        finally:
            self._outstanding -= 1
            self._outbox.flush_soon()
            self._plan_turn()
            self._regulate()

    async def _answer_later(self, request: Request, handler: Handler, later: Later) -> None:
        """Wait for what the handler lacked and run it again."""
        pins: Pins = {}
        try:
            for _ in range(MAX_WAITS):
                async with asyncio.timeout(WAIT_SECONDS):
                    await later.wait(pins)
                if self._words[_WORD_CLIENTS] != self.client_generation:
                    await self._read_client()
                if self._closed:
                    return
                try:
                    self._answers.look()
                    result = _run_again(self, request, handler, pins)
                except Later as again:
                    later = again
                    continue
                ticket = self._take_ticket()
                if result.__class__ is CoroutineType:
                    await self._answer_task(request, result, ticket)
                else:
                    self._answers.say(Response(request.request_id, CKR_OK, result, ticket))
                return
            self._answers.say(Response(request.request_id, BUSY))
        except TimeoutError:
            self._answers.say(Response(request.request_id, BUSY))
        except ConclaveError as error:
            self._answer_error(request, error)
        except _BROKEN as error:
            self._end(f"it broke the protocol: {error}")
        except Exception:  # noqa: BLE001 - the boundary of a request: logged, answered
            self._answers.fail(request)

    async def _answer_task(self, request: Request, work: Rest, ticket: bytes | None) -> None:
        """Await the rest of a handler, which is not run again; it may bring a ticket of its own."""
        try:
            result = await work
            self._answers.look()
        except ConclaveError as error:
            self._answers.look()
            self._answer_error(request, error)
        except Later:
            self._answers.say(Response(request.request_id, BUSY))
        except Exception:  # noqa: BLE001 - the boundary of a request: logged, answered
            self._answers.fail(request)
        else:
            if result.__class__ is WithTicket:
                result, ticket = result.result, result.ticket
            self._answers.say(Response(request.request_id, CKR_OK, result, ticket))

    # ------------------------------------------------------------------ answering

    def _answer_error(self, request: Request, error: ConclaveError) -> None:
        fault = error.fault
        if fault is faults.MECHANISM_PARAM_INVALID and nests_deeper(bytes(request.args)):
            self._end("it broke the protocol: a parameter nests too deep")
        else:
            self._answers.refuse(request, error)


def _run_again(connection: Connection, request: Request, handler: Handler, pins: Pins) -> Any:
    core = connection.core
    core.fresh_ticket = None
    core.pinned = pins
    try:
        return handler(core, connection, request)
    finally:
        core.pinned = {}
