"""One mutually authenticated connection to a crypto worker.

Invariant: after Interrupted nothing is known of the request in flight and the connection is
closed, so an answer can never be taken for another request's.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, cast

import msgspec

from conclave import faults
from conclave.client.clusters import ClusterEntry
from conclave.client.refusals import refusal
from conclave.errors import BadInput, InternalFault, NotAllowed, Unavailable
from conclave.service import wire

MonotonicSeconds = Callable[[], float]
SOFTWARE: Final = "conclave-python"
NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME: the host's clock never decides (rule T1)."""
_GREETING: Final = msgspec.msgpack.Decoder(wire.Greeting)
_ENCODER: Final = msgspec.msgpack.Encoder()
_NIL: Final = msgspec.Raw(b"\xc0")


class Answer(wire.Message, frozen=True):
    """An answer whose result is not decoded yet."""

    request_id: int
    value: int
    result: msgspec.Raw = _NIL
    ticket: bytes | None = None
    state: wire.MemberState | None = None


_ANSWER: Final = msgspec.msgpack.Decoder(Answer)


class Interrupted(Unavailable):
    """The connection could not be made, or ended before the answer."""

    def __init__(self, message: str) -> None:
        super().__init__(faults.UNABLE_TO_CONNECT, message)


def client_tls_context(entry: ClusterEntry) -> ssl.SSLContext:
    """Return a context that presents the client's certificate and trusts this cluster's CA only.

    Raises BadInput when one of the three files is missing or malformed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A member's certificate carries the cluster's fixed name, not an address: see _check_name.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    try:
        context.load_verify_locations(cafile=entry.ca_file)
        context.load_cert_chain(entry.certificate_file, entry.key_file, password=_no_password)
    except (OSError, ValueError) as cause:
        message = (
            f"The certificate files of cluster {entry.index:02} cannot be used"
            f" ({entry.certificate_file}, {entry.key_file}, {entry.ca_file}): {cause}."
        )
        raise BadInput(faults.CLIENT_CONFIGURATION, message) from cause
    return context


class Connection:
    """A connection after TLS, greeting and HELLO; one request at a time, not thread-safe."""

    def __init__(self, stream: ssl.SSLSocket, where: str, monotonic: MonotonicSeconds) -> None:
        self._stream = stream
        self._where = where
        self._monotonic = monotonic
        self._last_id = 0
        self.state: wire.MemberState | None = None
        """What the member told last of itself."""
        self.greeting: wire.Greeting
        self.greeted_at: float

    @classmethod
    def open(
        cls,
        entry: ClusterEntry,
        context: ssl.SSLContext,
        process_id: bytes,
        deadline: float,
        *,
        monotonic: MonotonicSeconds = time.monotonic,
    ) -> Connection:
        """Connect, check the server's name, read the greeting and say HELLO.

        `deadline` is an instant of `monotonic`. Raises Interrupted.
        """
        where = f"{entry.host}:{entry.port}"
        stream = _connect(entry, context, where, deadline - monotonic())
        connection = cls(stream, where, monotonic)
        try:
            _check_name(stream, entry, where)
            connection._greet(process_id, deadline)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close without waiting for the peer."""
        self._stream.close()

    def call(
        self,
        operation: wire.Operation,
        args: msgspec.Raw,
        ticket: bytes | None,
        deadline: float,
        *,
        min_position: int | None = None,
    ) -> Answer:
        """Send one request and return its answer; raise Interrupted when none came in time."""
        self._last_id = self._last_id % 0xFFFFFFFF + 1
        request = wire.Request(self._last_id, operation, ticket, args, min_position)
        body = _ENCODER.encode(request)
        if len(body) > wire.MAX_FRAME_BYTES:
            message = f"A request of {len(body)} bytes is longer than {wire.MAX_FRAME_BYTES}."
            raise BadInput(faults.DATA_LEN_RANGE, message)
        try:
            self._send(len(body).to_bytes(wire.FRAME_HEADER_BYTES, "big") + body, deadline)
            answer = _ANSWER.decode(self._read_frame(deadline))
            if answer.request_id != self._last_id:
                self._broken("it answered another request")
        except msgspec.DecodeError as cause:
            self._broken(f"it sent an answer of another shape ({cause})")
        except BaseException:
            self.close()
            raise
        self.state = answer.state or self.state
        return answer

    def _greet(self, process_id: bytes, deadline: float) -> None:
        try:
            self.greeting = _GREETING.decode(self._read_frame(deadline))
        except msgspec.DecodeError as cause:
            self._broken(f"its greeting has another shape ({cause})")
        self.greeted_at = self._monotonic()
        if self.greeting.magic != "conclave":
            self._broken("its greeting is not Conclave's")
        if self.greeting.protocol_version != wire.PROTOCOL_VERSION:
            self._broken(f"it speaks version {self.greeting.protocol_version} of the protocol")
        hello = msgspec.Raw(_ENCODER.encode(wire.Hello(process_id, SOFTWARE)))
        answer = self.call(wire.Operation.HELLO, hello, None, deadline)
        if answer.value == wire.BUSY:
            message = f"The cluster's entry member {self._where} is busy."
            raise Interrupted(message)
        if answer.value != 0:
            raise refusal(answer.value, "HELLO")

    def _send(self, data: bytes, deadline: float) -> None:
        try:
            self._stream.settimeout(_left(deadline, self._monotonic))
            self._stream.sendall(data)
        except OSError as cause:
            self._lost(cause)

    def _read_frame(self, deadline: float) -> bytes:
        length = int.from_bytes(self._read(wire.FRAME_HEADER_BYTES, deadline), "big")
        if not 0 < length <= wire.MAX_FRAME_BYTES:
            self._broken(f"it sent a frame of {length} bytes")
        return self._read(length, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < size:
            try:
                self._stream.settimeout(_left(deadline, self._monotonic))
                part = self._stream.recv(size - len(received))
            except OSError as cause:
                self._lost(cause)
            if not part:
                self._lost(ConnectionResetError("the peer closed it"))
            received += part
        return bytes(received)

    def _lost(self, cause: OSError) -> NoReturn:
        message = f"The connection to the cluster's entry member {self._where} ended: {cause}."
        raise Interrupted(message) from cause

    def _broken(self, how: str) -> NoReturn:
        self.close()
        message = f"The peer {self._where} does not keep to the protocol: {how}."
        raise InternalFault(faults.PROTOCOL_BROKEN, message)


def _connect(
    entry: ClusterEntry, context: ssl.SSLContext, where: str, timeout_seconds: float
) -> ssl.SSLSocket:
    try:
        if timeout_seconds <= 0:
            raise TimeoutError("the deadline has passed")
        plain = socket.create_connection((entry.host, entry.port), timeout=timeout_seconds)
    except OSError as cause:
        message = f"No connection to the cluster's entry member {where}: {cause}."
        raise Interrupted(message) from cause
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return context.wrap_socket(plain, server_hostname=entry.common_name)
    except OSError as cause:
        plain.close()
        message = f"TLS with the cluster's entry member {where} failed: {cause}."
        raise Interrupted(message) from cause


def _check_name(stream: ssl.SSLSocket, entry: ClusterEntry, where: str) -> None:
    certificate = cast(Mapping[str, Any], stream.getpeercert() or {})
    names = [
        value
        for relative_name in certificate.get("subject", ())
        for kind, value in relative_name
        if kind == "commonName"
    ]
    if names != [entry.common_name]:
        message = (
            f"The peer {where} presents the name {names} where LNHServerCN{entry.index:02}"
            f" demands {entry.common_name!r}; it is not a member of this cluster."
        )
        raise NotAllowed(faults.UNABLE_TO_CONNECT, message)


def _left(deadline: float, monotonic: MonotonicSeconds) -> float:
    left = deadline - monotonic()
    if left <= 0:
        message = "The deadline passed before the cluster answered."
        raise TimeoutError(message)
    return left


def _no_password() -> bytes:
    # Without this OpenSSL would ask on the terminal for an encrypted key's password.
    message = "an encrypted client key cannot be used"
    raise ValueError(message)
