"""Keep clients to the keyrings that are theirs (assignment mode `assigned`).

Invariant: every operation but those of NO_KEYRING names a keyring first, and does nothing before
that one was looked up among the caller's; a keyring of others is answered as one that is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from conclave.service.core import keyring_not_found
from conclave.service.requests import Caller, Handler
from conclave.service.wire import Operation, Request

if TYPE_CHECKING:
    from conclave.service.core import Core

NO_KEYRING: Final = frozenset(
    {
        Operation.HELLO,
        Operation.PING,
        Operation.LIST_TOKENS,
        Operation.MECHANISMS,
        Operation.MEMBERS,
        Operation.LOGOUT,
        Operation.RANDOM,
    }
)
"""Operations that name no keyring; LIST_TOKENS leaves out those of others itself."""


class _Named(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The head of the arguments of every operation that names a keyring."""

    keyring_id: bytes


_decode = msgspec.msgpack.Decoder(_Named).decode


def of_keyring(handler: Handler) -> Handler:
    """Return a handler that finds no keyring but those of its caller."""

    def run(core: Core, caller: Caller, request: Request) -> Any:
        theirs = caller.keyrings
        if theirs is not None:
            keyring_id = _decode(request.args).keyring_id
            if keyring_id not in theirs:
                raise keyring_not_found(keyring_id)
        return handler(core, caller, request)

    return run
