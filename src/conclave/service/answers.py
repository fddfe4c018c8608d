"""What a connection says to its client, and what it tells him of the member on the way.

Invariant: an answer that changes the client's knowledge of the member carries the whole state, and
the state is looked at after the work was done, so that the answer to a change tells a log position
that covers it (rule C17).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from conclave import faults
from conclave.errors import Ckr, ConclaveError, InternalFault
from conclave.service.core import Core
from conclave.service.outbox import Outbox
from conclave.service.requests import WrongRole
from conclave.service.wire import BEHIND, BUSY, Request, Response, ResponseWithState

_log = logging.getLogger(__name__)


class Answers:
    """The answers of one connection; `say` is the way of the hot path, swapped for one answer."""

    __slots__ = ("_core", "_outbox", "_told", "_watch", "say")

    def __init__(self, core: Core, outbox: Outbox) -> None:
        self._core = core
        self._watch = core.watch
        self._outbox = outbox
        self._told = -1
        """The number of the state that this client was told last."""
        self.say: Callable[[Response], None] = outbox.append

    def look(self) -> None:
        """Look at the page; let the next answer tell what the client does not know yet."""
        self._core.begin_batch()
        if self._watch.number != self._told:
            self.say = self._say_with_state

    def _say_with_state(self, response: Response) -> None:
        watch = self._watch
        self._told = watch.number
        self.say = self._outbox.append
        self.say(
            ResponseWithState(
                response.request_id,
                response.value,
                response.result,
                response.ticket,
                watch.state,
            )
        )

    def refuse(self, request: Request, error: ConclaveError) -> None:
        """Answer that a request was refused."""
        self.say(refusal(request, error))

    def fail(self, request: Request) -> None:
        """Answer that a request met a mistake of ours; to be called where it was caught."""
        _log.exception("Operation %d failed.", request.operation)
        self.say(Response(request.request_id, int(Ckr.GENERAL_ERROR)))


def refusal(request: Request, error: ConclaveError) -> Response:
    """Return the answer that tells of an error; BUSY for what may be repeated as it is."""
    if isinstance(error, InternalFault):
        _log.error("Operation %d met a fault of ours: %s", request.operation, error)
    fault = error.fault
    if fault is faults.MEMBER_BEHIND:
        return Response(request.request_id, BEHIND)
    busy = fault.retry_is_safe or fault is faults.OUTCOME_UNKNOWN
    ticket = request.ticket if isinstance(error, WrongRole) else None
    return Response(request.request_id, BUSY if busy else fault.ckr, None, ticket)
