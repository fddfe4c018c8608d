"""What handlers are: functions of (core, caller, request), and how they say that they wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from conclave import faults
from conclave.errors import BadInput, ConclaveError, NotAllowed, Unavailable
from conclave.ids import ClientId, KeyringId, ProcessId
from conclave.service.wire import (
    MAX_ATTRIBUTE_BYTES,
    MAX_TEMPLATE_ATTRIBUTES,
    Request,
    Template,
    Write,
)

if TYPE_CHECKING:
    from conclave.service.cache import ObjectEntry
    from conclave.service.core import Core
    from conclave.service.session_objects import SessionSeal

IDEMPOTENCY_KEY_BYTES: Final = 16

Pins = dict[object, Any]
"""What was loaded for one waiting request, by name."""


class Caller(Protocol):
    """What a handler sees of a connection."""

    client_id: ClientId
    keyrings: frozenset[KeyringId] | None
    """What the client may use; None means all."""
    client_generation: int
    """Of the list of clients in which that was read."""
    process_id: ProcessId
    source: str
    member_key: bytes
    """SHA-256 of a member's key, empty for a client."""
    public_seals: dict[bytes, SessionSeal]
    """Seals of the process's public session objects by keyring."""
    public_blobs: dict[bytes, ObjectEntry]
    """Opened public session objects by blob."""
    asserted: dict[bytes, Caller]
    """Whom a member speaks for, by client and process id."""

    def spread(self) -> None:
        """Spread the caller's requests over the members from now on."""


Handler = Callable[["Core", Caller, Request], Any]
"""Returns the result, or a coroutine that brings it later; raises ConclaveError or `Later`."""

Rest = Coroutine[Any, Any, Any]


class Later(Exception):
    """The handler lacks something; run it again once `wait` has returned."""

    def __init__(self, wait: Callable[[Pins], Awaitable[None]]) -> None:
        super().__init__()
        self.wait = wait


class WrongRole(NotAllowed):
    """The ticket is good and its role the wrong one.

    PKCS #11 says CKR_USER_NOT_LOGGED_IN; the answer carries the ticket, so that the module does
    not take it for void.
    """

    def __init__(self, message: str) -> None:
        super().__init__(faults.NOT_LOGGED_IN, message)


class ProtocolBroken(Exception):
    """The peer does not keep to the protocol; the connection ends without an answer."""


@dataclass(frozen=True, slots=True, repr=False)
class WithTicket:
    """A result whose answer carries a ticket."""

    result: Any
    ticket: bytes | None


def bad_argument(message: str) -> ConclaveError:
    """Return the error for arguments of the right shape and wrong content."""
    return BadInput(faults.BAD_REQUEST, message)


def check_template(template: Template) -> None:
    """Refuse a template beyond the protocol's limits."""
    if len(template) > MAX_TEMPLATE_ATTRIBUTES:
        raise bad_argument(
            f"A template has at most {MAX_TEMPLATE_ATTRIBUTES} attributes, not {len(template)}."
        )
    for number, value in template:
        if len(value) > MAX_ATTRIBUTE_BYTES:
            raise bad_argument(
                f"Attribute {number:#x} has {len(value)} bytes; {MAX_ATTRIBUTE_BYTES} are allowed."
            )


def check_write(write: Write | None, now_ms: int) -> Write:
    """Return the write part of a request; refuse one that is missing, malformed or too late."""
    if write is None:
        raise bad_argument("A change of the token needs an idempotency key and a deadline.")
    if len(write.idempotency_key) != IDEMPOTENCY_KEY_BYTES:
        raise bad_argument(
            f"An idempotency key has {IDEMPOTENCY_KEY_BYTES} bytes,"
            f" not {len(write.idempotency_key)}."
        )
    if write.deadline_ms <= now_ms:
        raise deadline_passed()
    return write


def deadline_passed() -> ConclaveError:
    """Return the error for a write that came after its deadline."""
    message = "The request came after its deadline and was dropped."
    return Unavailable(faults.DEADLINE_PASSED, message)


def args_decoder(kind: type[msgspec.Struct]) -> Callable[[msgspec.Raw], Any]:
    """Return the decoder of one operation's arguments."""
    return msgspec.msgpack.Decoder(kind).decode
