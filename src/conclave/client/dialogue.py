"""What is said on one connection to a worker, whoever carries the bytes: frames, greeting, HELLO.

Both faces of the client, the one that blocks and that for asyncio, speak through this class.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

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


class Dialogue:
    """One side of a conversation with a worker: makes requests, takes answers, keeps its state."""

    def __init__(self, entry: ClusterEntry, monotonic: MonotonicSeconds = time.monotonic) -> None:
        self.entry = entry
        self.where = f"{entry.host}:{entry.port}"
        self.state: wire.MemberState | None = None
        """What the member told last of itself."""
        self.greeting: wire.Greeting
        self.greeted_at: float
        self.last_id = 0
        self._monotonic = monotonic

    def request(
        self,
        operation: wire.Operation,
        args: msgspec.Raw,
        ticket: bytes | None,
        min_position: int | None,
    ) -> bytes:
        """Return the frame of a new request, whose id is `last_id` then; raise BadInput."""
        self.last_id = self.last_id % 0xFFFFFFFF + 1
        body = _ENCODER.encode(wire.Request(self.last_id, operation, ticket, args, min_position))
        if len(body) > wire.MAX_FRAME_BYTES:
            message = f"A request of {len(body)} bytes is longer than {wire.MAX_FRAME_BYTES}."
            raise BadInput(faults.DATA_LEN_RANGE, message)
        return len(body).to_bytes(wire.FRAME_HEADER_BYTES, "big") + body

    def hello(self, process_id: bytes) -> msgspec.Raw:
        """Return the arguments of HELLO."""
        return msgspec.Raw(_ENCODER.encode(wire.Hello(process_id, SOFTWARE)))

    def length(self, header: bytes) -> int:
        """Return how long the frame with this header is; raise InternalFault for too long."""
        length = int.from_bytes(header, "big")
        if not 0 < length <= wire.MAX_FRAME_BYTES:
            self.broken(f"it sent a frame of {length} bytes")
        return length

    def take_greeting(self, body: bytes) -> None:
        """Take the first frame; raise InternalFault when it is none of ours."""
        try:
            self.greeting = _GREETING.decode(body)
        except msgspec.DecodeError as cause:
            self.broken(f"its greeting has another shape ({cause})")
        self.greeted_at = self._monotonic()
        if self.greeting.magic != "conclave":
            self.broken("its greeting is not Conclave's")
        if self.greeting.protocol_version != wire.PROTOCOL_VERSION:
            self.broken(f"it speaks version {self.greeting.protocol_version} of the protocol")

    def take_answer(self, body: bytes) -> Answer:
        """Return the answer in a frame, and keep what it tells of the member."""
        try:
            answer = _ANSWER.decode(body)
        except msgspec.DecodeError as cause:
            self.broken(f"it sent an answer of another shape ({cause})")
        self.state = answer.state or self.state
        return answer

    def take_hello(self, answer: Answer) -> None:
        """Take the answer to HELLO; raise Interrupted when busy, or the refusal it is."""
        if answer.value == wire.BUSY:
            message = f"The cluster's entry member {self.where} is busy."
            raise Interrupted(message)
        if answer.value != 0:
            raise refusal(answer.value, "HELLO")

    def lost(self, cause: OSError | EOFError) -> NoReturn:
        """Raise Interrupted: the connection ended."""
        reason = _reason(cause)
        message = f"The connection to the cluster's entry member {self.where} ended: {reason}."
        raise Interrupted(message) from cause

    def unreachable(self, cause: OSError | EOFError | ValueError, *, tls: bool) -> NoReturn:
        """Raise Interrupted: there is no connection; a ValueError says no host has such a name."""
        how = (
            f"TLS with the cluster's entry member {self.where} failed"
            if tls
            else f"No connection to the cluster's entry member {self.where}"
        )
        raise Interrupted(f"{how}: {_reason(cause)}.") from cause

    def broken(self, how: str) -> NoReturn:
        """Raise InternalFault: the peer does not keep to the protocol."""
        message = f"The peer {self.where} does not keep to the protocol: {how}."
        raise InternalFault(faults.PROTOCOL_BROKEN, message)

    def seconds_left(self, deadline: float) -> float:
        """Return how long there is until an instant of the clock; raise TimeoutError for none."""
        left = deadline - self._monotonic()
        if left <= 0:
            message = "The deadline passed before the cluster answered."
            raise TimeoutError(message)
        return left

    def check_name(self, certificate: Mapping[str, Any]) -> None:
        """Raise NotAllowed unless the peer's certificate carries the cluster's fixed name."""
        names = [
            value
            for relative_name in certificate.get("subject", ())
            for kind, value in relative_name
            if kind == "commonName"
        ]
        if names != [self.entry.common_name]:
            message = (
                f"The peer {self.where} presents the name {names} where"
                f" LNHServerCN{self.entry.index:02} demands {self.entry.common_name!r};"
                " it is not a member of this cluster."
            )
            raise NotAllowed(faults.UNABLE_TO_CONNECT, message)


def client_tls_context(entry: ClusterEntry) -> ssl.SSLContext:
    """Return a context that presents the client's certificate and trusts this cluster's CA only.

    Raises BadInput naming the one of the three files that is missing or malformed.
    """
    for path in (entry.ca_file, entry.certificate_file, entry.key_file):
        try:
            path.open("rb").close()
        except OSError as cause:
            what = f"The file {path} of cluster {entry.index:02} cannot be read: {cause.strerror}."
            raise BadInput(faults.CLIENT_CONFIGURATION, what) from cause
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A member's certificate carries the cluster's fixed name, not an address: see check_name.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
    try:
        context.load_verify_locations(cafile=entry.ca_file)
    except (OSError, ValueError) as cause:
        message = f"The file {entry.ca_file} holds no certificate of a CA."
        raise BadInput(faults.CLIENT_CONFIGURATION, message) from cause
    try:
        context.load_cert_chain(entry.certificate_file, entry.key_file, password=_no_password)
    except (OSError, ValueError) as cause:
        message = (
            f"The file {entry.key_file} is no key without a password, or not that of"
            f" {entry.certificate_file}."
        )
        raise BadInput(faults.CLIENT_CONFIGURATION, message) from cause
    return context


def _reason(cause: OSError | EOFError | ValueError) -> str:
    """Return why there is no connection, for people."""
    match cause:
        case TimeoutError():
            return "no answer in time"
        case EOFError():
            return "the peer closed it"
        case UnicodeError():
            return "no host has such a name"
        case ssl.SSLCertVerificationError():
            return f"certificate verify failed: {cause.verify_message}"
        case ssl.SSLError() if cause.reason:
            return str(cause.reason).replace("_", " ").lower()
        case OSError() if cause.strerror:
            return cause.strerror[0].lower() + cause.strerror[1:]
    return str(cause)


def _no_password() -> bytes:
    # Without this OpenSSL would ask on the terminal for an encrypted key's password.
    message = "an encrypted client key cannot be used"
    raise ValueError(message)
