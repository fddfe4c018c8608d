"""Spread the requests of clients that talk to one member only over the members of its group.

Invariant: every request is answered here.  What another member did not answer at once, or answered
with anything but success, is done here; only what changes nothing goes elsewhere, and only to a
member that has replayed all that this one has (rule C17).

A request goes where fewest are waiting.  Handing one on costs as much as some tens of microseconds
of work, so only what was seen to cost more, and is not long, is spread.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from conclave.clock import ApplianceClock
from conclave.errors import ConclaveError
from conclave.service.assigned import of_keyring
from conclave.service.forwarding import ANYWHERE
from conclave.service.member_directory import KnownMembers, MemberDirectory
from conclave.service.page_watch import PageWatch
from conclave.service.peer_link import PeerAnswer, PeerLink
from conclave.service.requests import Caller, Handler, Later, Pins
from conclave.service.wire import Forward, Member, Request, Standing

if TYPE_CHECKING:
    from conclave.service.core import Core

WORTH_SECONDS: Final = 100e-6
MAX_ARGUMENT_BYTES: Final = 16 << 10
MAX_COSTS: Final = 1024
REFRESH_SECONDS: Final = 1.0
_PIN: Final = "spread"

_log = logging.getLogger(__name__)
_encode = msgspec.msgpack.Encoder().encode
_monotonic = time.perf_counter


class KeyUse(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The head of the arguments of SIGN, VERIFY, ENCRYPT and DECRYPT."""

    keyring_id: bytes
    reference: bytes
    mechanism: int


_decode_use = msgspec.msgpack.Decoder(KeyUse).decode
CostName = tuple[int, bytes, int]


class Spreader:
    """What one worker knows of the others, and how long its own clients wait."""

    def __init__(
        self,
        members: MemberDirectory,
        watch: PageWatch,
        clock: ApplianceClock,
        make_context: Callable[[], ssl.SSLContext],
    ) -> None:
        self._members = members
        self._watch = watch
        self._clock = clock
        self._make_context = make_context
        self._links: dict[str, PeerLink] = {}
        self._known: KnownMembers | None = None
        self._group = ""
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        """Requests that wait here for their turn."""
        self._costs: dict[CostName, float] = {}
        self._handed_on = 0
        self._kept = 0

    def begin(self) -> None:
        """Connect to the other members, now that a client wants its requests spread."""
        if self._task is None:
            self._task = asyncio.create_task(self._refresh(self._make_context()))

    async def close(self) -> None:
        """End all connections, and log what they were good for."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            for link in self._links.values():
                await link.close()
            _log.info(
                "Of the requests that were spread %d were done elsewhere, %d here.",
                self._handed_on, self._kept,
            )  # fmt: skip

    # ------------------------------------------------------------------ a request

    def serve(self, core: Core, caller: Caller, request: Request, handler: Handler) -> Any:
        """Serve a request here or elsewhere; raises Later while that is under way."""
        name = self._name(request)
        if _PIN in core.pinned:
            answer: PeerAnswer | None = core.pinned[_PIN]
            if answer is not None:
                core.fresh_ticket = answer.ticket
                return answer.result
        elif self._is_worth(name, request, core.serving) and self._candidates(core.serving):
            raise Later(lambda pins: self._place(pins, caller, request, core.serving))
        started = _monotonic()
        result = handler(core, caller, request)
        self._note(name, _monotonic() - started)
        return result

    @staticmethod
    def _name(request: Request) -> CostName:
        use = _decode_use(request.args)
        return request.operation, use.reference, use.mechanism

    def _is_worth(self, name: CostName, request: Request, serving: bool) -> bool:
        if len(bytes(request.args)) > MAX_ARGUMENT_BYTES:
            return False
        return not serving or self._costs.get(name, 0.0) >= WORTH_SECONDS

    def _note(self, name: CostName, seconds: float) -> None:
        before = self._costs.get(name)
        if before is None and len(self._costs) >= MAX_COSTS:
            del self._costs[next(iter(self._costs))]
        self._costs[name] = seconds if before is None else before + (seconds - before) / 4

    async def _place(self, pins: Pins, caller: Caller, request: Request, serving: bool) -> None:
        link = self._least_loaded(serving)
        if link is not None:
            forward = Forward(caller.client_id, caller.source, _encode(request), caller.process_id)
            answer = await link.ask(forward, self._watch.log_position)
            if answer is not None and answer.value == 0:
                self._handed_on += 1
                pins[_PIN] = answer
                return
        self._kept += 1
        pins[_PIN] = None
        await self._own_turn()

    async def _own_turn(self) -> None:
        """Wait until those who came before are served; between two the network is looked at."""
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(0)
        finally:
            self._waiting -= 1

    def _candidates(self, serving: bool) -> list[PeerLink]:
        """Return the links to those who may be asked now."""
        ready = [link for link in self._links.values() if link.ready]
        own = [link for link in ready if link.member.group == self._group]
        # While this member serves its group is not down, and another group is none to ask.
        return own if own or serving else ready

    def _least_loaded(self, serving: bool) -> PeerLink | None:
        """Return the link with fewer requests under way than wait here, None when here is best."""
        best = min(self._candidates(serving), key=lambda link: link.outstanding, default=None)
        if best is None or not serving:
            return best
        return best if best.outstanding < self._waiting else None

    # ------------------------------------------------------------------ the members

    async def _refresh(self, context: ssl.SSLContext) -> None:
        while True:
            if self._known is None or self._members.fresh() is not self._known:
                try:
                    await self._take(await self._members.load(), context)
                except ConclaveError as error:
                    _log.info("The list of members cannot be read now: %s", error)
            await asyncio.sleep(REFRESH_SECONDS)

    async def _take(self, known: KnownMembers, context: ssl.SSLContext) -> None:
        self._known = known
        own_id = self._members.own_id
        self._group = next((item.group for item in known.members if item.member_id == own_id), "")
        wanted = {
            member.member_id: member
            for member in known.members
            if member.member_id != own_id
            and member.state in (Standing.READ_WRITE, Standing.READ_ONLY)
        }
        for name, link in list(self._links.items()):
            if not _same_peer(wanted.get(name), link.member):
                del self._links[name]
                await link.close()
        for name, member in wanted.items():
            if name in self._links:
                self._links[name].member = member
            else:
                self._links[name] = PeerLink(member, context, self._clock)


def _same_peer(now: Member | None, before: Member) -> bool:
    return now is not None and (now.address, now.crypto_port, now.key_sha256) == (
        before.address, before.crypto_port, before.key_sha256,
    )  # fmt: skip


def spread(handler: Handler) -> Handler:
    """Return the handler for clients that want their requests spread."""

    def serve(core: Core, caller: Caller, request: Request) -> Any:
        return core.spreader.serve(core, caller, request, handler)

    return serve


SPREAD: Final[dict[int, Handler]] = {
    operation: of_keyring(spread(handler)) for operation, handler in ANYWHERE.items()
}
"""What replaces the handlers of the table for those clients."""
