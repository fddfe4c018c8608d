"""What the daemon is to know: the newest state under a number that grows with every change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import msgspec

from conclave.clock import boot_time_ms
from conclave.errors import Fault
from conclave.service.messages import Notice, RefusedJoin, Watch

MAX_WAIT_SECONDS = 60.0
MAX_REFUSED_JOINS = 32
"""Kept for a daemon that was busy when they happened."""
_FIRST = Notice(
    number=1,
    smk=b"",
    domain=b"",
    cluster_id="",
    member_id="",
    dual_identity=False,
    member_certificate_pem="",
    ca_certificate_pem="",
    users_version=0,
    removed="",
)


@dataclass(slots=True)
class Notices:
    """The newest notice, and those who wait for another."""

    notice: Notice = _FIRST
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _ended: bool = False

    async def change(self, **fields: object) -> None:
        """Replace fields of the notice and wake the daemon, if they differ."""
        changed = msgspec.structs.replace(self.notice, **fields)
        if changed == self.notice:
            return
        async with self._changed:
            self.notice = msgspec.structs.replace(changed, number=self.notice.number + 1)
            self._changed.notify_all()

    async def refused_join(self, source: str, user_id: str, fault: Fault) -> None:
        """Add a join that guessed wrong to the last ones; their limiter bounds how many come."""
        kept = self.notice.refused_joins[-(MAX_REFUSED_JOINS - 1) :]
        number = max(boot_time_ms(), kept[-1].number + 1 if kept else 0)
        refused = RefusedJoin(number, source, user_id, fault.rest_id)
        await self.change(refused_joins=[*kept, refused])

    async def end(self) -> None:
        """Let nobody wait any more: the process stops, and waits itself for calls under way."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def watch(self, params: Watch, _role: str) -> Notice:
        """Return the notice once its number is not `seen`, or after the time asked for."""
        try:
            async with asyncio.timeout(min(params.seconds, MAX_WAIT_SECONDS)), self._changed:
                await self._changed.wait_for(
                    lambda: self._ended or self.notice.number != params.seen
                )
        except TimeoutError:
            pass
        return self.notice
