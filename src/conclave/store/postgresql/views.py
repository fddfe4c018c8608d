"""What a running PostgreSQL says of itself, its standbys and the log that it keeps for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from conclave.ids import MemberId
from conclave.store.postgresql import status
from conclave.store.postgresql.control import Control
from conclave.store.postgresql.status import Positions, StandbyStatus, member_name

_REPLICATION: Final = """\
SELECT application_name, state, coalesce(replay_lsn, '0/0')::text, coalesce(sent_lsn, '0/0')::text,
    coalesce(extract(epoch from replay_lag) * 1000, 0)::bigint, reply_time
FROM pg_stat_replication"""
_POSITIONS: Final = """\
SELECT CASE WHEN NOT standby
        THEN ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int
        ELSE coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
            greatest((SELECT timeline_id FROM pg_control_checkpoint()),
                (SELECT min_recovery_end_timeline FROM pg_control_recovery()))) END,
    coalesce(CASE WHEN standby THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
        ELSE pg_current_wal_flush_lsn() END, '0/0')::text,
    coalesce(CASE WHEN standby THEN pg_last_wal_replay_lsn()
        ELSE pg_current_wal_flush_lsn() END, '0/0')::text,
    standby,
    EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming'),
    NOT standby OR pg_last_wal_receive_lsn() IS NOT NULL
FROM pg_is_in_recovery() AS standby"""
# A standby asks for a stream, whether anybody answers or not, when it has replayed all of the log
# on its own disk and not before; from then on there is a position that was received.
_SLOTS: Final = """\
SELECT slot_name::text, active_pid, coalesce(wal_status, '') FROM pg_replication_slots
WHERE slot_type = 'physical'"""


@dataclass(frozen=True, slots=True)
class SlotReport:
    """What `Instance.slots` found."""

    lost: tuple[MemberId, ...]
    """Members whose log was not kept any longer: they must copy the store anew."""


class Views:
    """Questions to one server through its control connection."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._heard: dict[str, tuple[object, float]] = {}

    async def slots(self, members: Sequence[MemberId]) -> SlotReport:
        """Let the log be kept for these members and no others, as far as the limit goes."""
        wanted = {member_name(member): member for member in members}
        lost = []
        existing = set()
        for name, pid, kept in await self._control.ask(_SLOTS):
            if name not in wanted or kept == "lost":
                await self._drop_slot(name, pid)
                if name in wanted:
                    lost.append(wanted[name])
            else:
                existing.add(name)
        for name in wanted.keys() - existing:
            await self._control.ask("SELECT pg_create_physical_replication_slot(%s)", [name])
        return SlotReport(tuple(lost))

    async def replication(self) -> list[StandbyStatus]:
        """Return the standbys that are connected to this primary."""
        found = []
        now = time.monotonic()
        heard: dict[str, tuple[object, float]] = {}
        for name, state, replayed, sent, lag_ms, replied in await self._control.ask(_REPLICATION):
            member = status.member_of(name)
            if member is None:
                continue
            # The reply's own time is of the other machine's clock: only its change is used.
            before = self._heard.get(name)
            heard[name] = before if before and before[0] == replied else (replied, now)
            age_ms = int((now - heard[name][1]) * 1000)
            positions = (status.parse_lsn(replayed), status.parse_lsn(sent))
            found.append(StandbyStatus(member, state, *positions, lag_ms, age_ms))
        self._heard = heard
        return found

    async def positions(self) -> Positions:
        """Return how far the log reaches here."""
        (row,) = await self._control.ask(_POSITIONS)
        timeline, written, replayed, standby, streaming, through = row
        reached = (status.parse_lsn(written), status.parse_lsn(replayed))
        return Positions(
            timeline, *reached, in_recovery=standby, streaming=streaming, own_log_replayed=through
        )

    async def _drop_slot(self, name: str, pid: int | None) -> None:
        if pid is not None:
            await self._control.ask("SELECT pg_terminate_backend(%s, 2000)", [pid])
        await self._control.ask("SELECT pg_drop_replication_slot(%s)", [name])
