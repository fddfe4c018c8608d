"""The other members as this one reaches them: one client each, and when each was last heard.

`visibleToServicingNode` is what `sees` tells.  Nothing here decides: a refusal and what a member
says of itself are handed to the listeners, which do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.cluster.configuration import MemberState, Peer
from conclave.cluster.judging import hello_of, judge_peer
from conclave.cluster.link.client import LinkClient
from conclave.cluster.link.hello import Hello, LinkRefused, Verdict
from conclave.cluster.link.identity import LinkIdentity
from conclave.cluster.link.messages import Pong
from conclave.cluster.link.streams import StreamPair
from conclave.errors import ConclaveError, Unavailable
from conclave.ids import MemberId
from conclave.service.quiet import Nothing, Quiet
from conclave.settings import ClusterTimes

PING_SECONDS: Final = 1.0
STREAM_SECONDS: Final = 5.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Neighbour:
    client: LinkClient
    heard_ms: int = 0
    """Boot time of its last answer; 0 never."""
    refused: bool = False
    report: Pong | None = None


class Neighbours:
    """All other members of the configuration."""

    def __init__(
        self,
        identity: LinkIdentity,
        state: Callable[[], MemberState],
        times: ClusterTimes,
        on_refused: Callable[[MemberId, LinkRefused], None],
        on_pong: Callable[[MemberId, Pong], None],
    ) -> None:
        self._identity = identity
        self._state = state
        self._times = times
        self._on_refused = on_refused
        self._on_pong = on_pong
        self._known: dict[MemberId, _Neighbour] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def sees(self, member_id: MemberId) -> bool:
        """Tell whether a member answered a short while ago."""
        known = self._known.get(member_id)
        return known is not None and known.heard_ms > 0 and self._is_recent(known.heard_ms)

    def last_heard_ms(self, member_id: MemberId) -> int:
        """Return the boot time of a member's last answer, 0 when there was none."""
        known = self._known.get(member_id)
        return known.heard_ms if known is not None else 0

    def note_heard(self, member_id: MemberId) -> None:
        """Take note of a call that a member made."""
        known = self._known.get(member_id)
        if known is not None:
            known.heard_ms = boot_time_ms()

    def refresh(self) -> None:
        """Begin to reach new members, and forget those that are no members any more."""
        wanted = {peer.member_id for peer in self._state().others()}
        for member_id in wanted - self._known.keys():
            self._known[member_id] = _Neighbour(self._client(member_id))
        for member_id in self._known.keys() - wanted:
            self._close(self._known.pop(member_id).client)

    def drop_connections(self) -> None:
        """Connect anew from now on: this member's certificate or epoch has changed."""
        for member_id, known in self._known.items():
            self._close(known.client)
            known.client = self._client(member_id)

    async def call(
        self, member_id: MemberId, method: str, params: Quiet, *, timeout_seconds: float
    ) -> Any:
        """Call a member; Unavailable (BUSY) for one that is not listed, and what calls raise."""
        known = self._known.get(member_id)
        if known is None:
            raise Unavailable(faults.BUSY, f"Member {member_id} is not reached at present.")
        try:
            result = await known.client.call(method, params, timeout_seconds=timeout_seconds)
        except LinkRefused as refusal:
            self._note_refusal(member_id, known, refusal)
            raise
        known.heard_ms = boot_time_ms()
        known.refused = False
        return result

    async def try_once(self, member_id: MemberId, seconds: float) -> None:
        """Try to hear a member now, best effort."""
        with contextlib.suppress(ConclaveError):
            await self.call(member_id, "ping", Nothing(), timeout_seconds=seconds)

    def report(self, member_id: MemberId) -> Pong | None:
        """Return what a member said of itself last, None when it is not seen."""
        known = self._known.get(member_id)
        return known.report if known is not None and self.sees(member_id) else None

    async def open_postgresql(self, member_id: MemberId) -> StreamPair:
        """Open a stream to a member's PostgreSQL."""
        known = self._known.get(member_id)
        if known is None:
            raise Unavailable(faults.BUSY, f"Member {member_id} is not reached at present.")
        return await known.client.open_postgresql(STREAM_SECONDS)

    async def tell_all(
        self, member_ids: Iterable[MemberId], method: str, params: Quiet, seconds: float
    ) -> None:
        """Call several members side by side, best effort."""
        calls = (
            self.call(member_id, method, params, timeout_seconds=seconds)
            for member_id in member_ids
        )
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, ConclaveError):
                raise result

    async def ping_for_ever(self) -> None:
        """Ask every member for a sign of life again and again."""
        while True:
            self.refresh()
            for member_id in list(self._known):
                self._run(self._ping(member_id))
            await asyncio.sleep(2 * self._times.heartbeat_ms / 1000)

    async def close(self) -> None:
        """End all connections."""
        known, self._known = self._known, {}
        for neighbour in known.values():
            self._close(neighbour.client)
        await asyncio.gather(*self._closing, return_exceptions=True)

    # ------------------------------------------------------------------ parts

    async def _ping(self, member_id: MemberId) -> None:
        with contextlib.suppress(ConclaveError):
            pong: Pong = await self.call(member_id, "ping", Nothing(), timeout_seconds=PING_SECONDS)
            known = self._known.get(member_id)
            if known is not None:
                known.report = pong
            self._on_pong(member_id, pong)

    def _is_recent(self, moment_ms: int) -> bool:
        return boot_time_ms() - moment_ms < self._times.drop_ms

    def _client(self, member_id: MemberId) -> LinkClient:
        def address() -> tuple[str, int]:
            peer: Peer | None = self._state().configuration.peer(member_id)
            if peer is None:
                raise Unavailable(faults.BUSY, f"Member {member_id} is not in the cluster.")
            return peer.address, peer.core_port

        def judge(hello: Hello, key_sha256: bytes | None) -> Verdict:
            if hello.member_id != member_id:
                message = f"Where member {member_id} should be, {hello.member_id[:36]!r} answers."
                return Verdict.refuse(faults.MEMBER_NOT_FOUND, message, reason="other")
            return judge_peer(self._state(), hello, key_sha256)

        state = self._state()
        own = state.configuration.peer(state.member_id)
        return LinkClient(
            self._identity,
            address,
            lambda channel: hello_of(self._state(), channel),
            judge,
            source=own.address if own is not None else None,
        )

    def _note_refusal(self, member_id: MemberId, known: _Neighbour, refusal: LinkRefused) -> None:
        if not known.refused:
            known.refused = True
            logger.warning("Link to member %s: %s", member_id, refusal.message)
        self._on_refused(member_id, refusal)

    def _close(self, client: LinkClient) -> None:
        self._run(client.close())

    def _run(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.get_running_loop().create_task(run())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
