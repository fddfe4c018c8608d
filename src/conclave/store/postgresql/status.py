"""What PostgreSQL says about itself, as values."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final, NewType

from conclave.ids import MemberId

Lsn = NewType("Lsn", int)
"""A position in the write-ahead log, in bytes."""

NAME_PREFIX: Final = "m_"
SHUT_DOWN_STATES: Final = ("shut down", "shut down in recovery")


@dataclass(frozen=True, slots=True)
class StandbyStatus:
    """What the primary knows of one standby that is connected."""

    member_id: MemberId
    state: str
    """`streaming` when it has caught up; `startup`, `catchup` or `backup` before."""
    replayed: Lsn
    sent: Lsn
    replay_lag_ms: int
    """How long the newest report was behind; 0 while nothing happens."""
    reply_age_ms: int
    """Milliseconds since it last said anything."""


@dataclass(frozen=True, slots=True)
class Positions:
    """How far a member's log reaches."""

    timeline: int
    written: Lsn
    """What it has on disk: flushed on a primary, received on a standby."""
    replayed: Lsn
    """What its readers see."""
    in_recovery: bool
    """True on a standby."""
    streaming: bool
    """True on a standby that receives from its primary now."""
    own_log_replayed: bool
    """False on a standby that has begun with what its own disk holds and is not through with it:
    until then it may be behind what it has acknowledged before it was started."""


def member_name(member_id: MemberId) -> str:
    """Return the application name and slot name of a member."""
    return NAME_PREFIX + uuid.UUID(member_id).hex


def member_of(name: str) -> MemberId | None:
    """Return the member with that application or slot name, None when it is not one of ours."""
    if not name.startswith(NAME_PREFIX):
        return None
    try:
        return MemberId(str(uuid.UUID(hex=name.removeprefix(NAME_PREFIX))))
    except ValueError:
        return None


def parse_lsn(text: str) -> Lsn:
    """Read PostgreSQL's `16/B374D848`; raises ValueError."""
    high, separator, low = text.partition("/")
    if not separator:
        message = f"{text!r} is no position in the log"
        raise ValueError(message)
    return Lsn(int(high, 16) << 32 | int(low, 16))


def format_lsn(position: Lsn) -> str:
    """Write a position as PostgreSQL does."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def shutdown_position(control_data: str) -> Lsn | None:
    """Return from pg_controldata's text where a clean shutdown ended, None after a crash."""
    lines = (line.partition(":") for line in control_data.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in lines}
    if fields.get("Database cluster state") not in SHUT_DOWN_STATES:
        return None
    return parse_lsn(fields["Latest checkpoint location"])
