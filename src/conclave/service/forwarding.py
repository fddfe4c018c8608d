"""FORWARD: another member's worker asks for one of its clients.

Invariant: only a connection whose certificate's key is a listed member's may assert a client, that
is looked at again for each request, and the asserted client is checked against this member's own
list of clients (rule C11).  Only what uses a key and changes nothing is done for another member.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from conclave.errors import CKR_OK, ConclaveError
from conclave.ids import ClientId, KeyringId, ProcessId
from conclave.service import key_handlers
from conclave.service.answers import refusal
from conclave.service.assigned import of_keyring
from conclave.service.cache import ObjectEntry
from conclave.service.requests import Caller, Handler, ProtocolBroken, args_decoder
from conclave.service.session_objects import SessionSeal
from conclave.service.wire import Forward, Operation, Request, Response

if TYPE_CHECKING:
    from conclave.service.core import Core

MAX_CALLERS: Final = 256
MAX_SOURCE_CHARACTERS: Final = 64
ID_BYTES: Final = 16

ANYWHERE: Final[dict[int, Handler]] = {
    int(Operation.SIGN): key_handlers.sign,
    int(Operation.VERIFY): key_handlers.verify,
    int(Operation.SIGN_RECOVER): key_handlers.sign_recover,
    int(Operation.VERIFY_RECOVER): key_handlers.verify_recover,
    int(Operation.ENCRYPT): key_handlers.encrypt,
    int(Operation.DECRYPT): key_handlers.decrypt,
}
"""What any member may do for a client of any other."""
FORWARDED: Final[dict[int, Handler]] = {
    operation: of_keyring(handler) for operation, handler in ANYWHERE.items()
}

_decode_forward = args_decoder(Forward)
_decode_request = msgspec.msgpack.Decoder(Request).decode
_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class AssertedCaller:
    """A process of another member's client, as handlers see it."""

    client_id: ClientId
    process_id: ProcessId
    source: str
    keyrings: frozenset[KeyringId] | None = frozenset()
    client_generation: int = -1
    member_key: bytes = b""
    public_seals: dict[bytes, SessionSeal] = field(default_factory=dict)
    public_blobs: dict[bytes, ObjectEntry] = field(default_factory=dict)
    asserted: dict[bytes, Caller] = field(default_factory=dict)

    def spread(self) -> None:
        """Do nothing: what came from another member stays here."""


def forward(core: Core, caller: Caller, request: Request) -> bytes:
    """Serve a request for another member's client; return the answer that it would get here."""
    args: Forward = _decode_forward(request.args)
    inner = _decode_request(args.request)
    handler = FORWARDED.get(inner.operation)
    if handler is None:
        raise ProtocolBroken(f"operation {inner.operation} is none to forward")
    listed = core.members.current(core.pinned).members
    if not caller.member_key or all(item.key_sha256 != caller.member_key for item in listed):
        raise ProtocolBroken("FORWARD came from somebody who is no member")
    asserted = _asserted(caller, args)
    found = core.asserted.require(asserted.client_id, core.pinned)
    asserted.keyrings, asserted.client_generation = found.keyrings, found.client_generation
    try:
        result = handler(core, asserted, inner)
    except ConclaveError as error:
        answer = refusal(inner, error)
    else:
        answer = Response(inner.request_id, CKR_OK, result, core.fresh_ticket)
    core.fresh_ticket = None
    return _encode(answer)


def _asserted(peer: Caller, args: Forward) -> Caller:
    name = args.client_id + args.process_id
    caller = peer.asserted.get(name)
    if caller is None:
        if len(args.client_id) != ID_BYTES or len(args.process_id) != ID_BYTES:
            raise ProtocolBroken("an asserted client's or process's id has not 16 bytes")
        if len(args.source) > MAX_SOURCE_CHARACTERS:
            raise ProtocolBroken("an asserted client's source is too long")
        if len(peer.asserted) >= MAX_CALLERS:
            del peer.asserted[next(iter(peer.asserted))]
        caller = AssertedCaller(ClientId(args.client_id), ProcessId(args.process_id), args.source)
        peer.asserted[name] = caller
    return caller
