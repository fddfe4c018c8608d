"""Who is visible: the primary's decisions, as functions of what it has seen.

Invariant: a member leaves the list only when its lease has surely ended, since until then it may
serve reads as if it knew every acknowledged write: `drop_ms` after the last heartbeat that was
answered with a grant, or once it has said that it is Read-Only or gone (rule C16).  A member is
granted a lease only while it stands in the list that is recorded in the store.  One whose lease has
ended begins another only when it has replayed what the primary names with the grant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from conclave.ids import MemberId
from conclave.settings import ClusterTimes
from conclave.store.postgresql.status import Positions

CLOSE_BYTES: Final = 4 << 20
"""How far behind a member may be to be waited for from then on."""
LOOK_MS: Final = 500
"""How old what was seen of a log may be when a lease is renewed that had ended."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What the primary knows of one other member; times are boot time, ms."""

    member_id: MemberId
    heard_ms: int = 0
    """Its last heartbeat."""
    granted_ms: int = 0
    """When the last heartbeat was answered with a grant."""
    granted_sent_ms: int = 0
    """When the member sent the newest heartbeat that was granted, by its own clock."""
    closed: bool = False
    """It said that it is Read-Only, in a heartbeat sent after the last granted one."""
    gone: bool = False
    """It has said goodbye."""
    streaming: bool = False
    behind_bytes: int = 0
    """Of what the primary has written, how much it has not replayed."""
    replayed_lsn: int = 0
    behind_since_ms: int = 0
    """Since when it has replayed nothing although there is something; 0 when it goes on."""


@dataclass(frozen=True, slots=True)
class Look:
    """How far a log reached at a moment of boot time, ms; nothing is known by default."""

    looked_ms: int = 0
    written_lsn: int = 0

    def position(self, now_ms: int) -> int:
        """Return how far it reached, 0 when that is too long ago to be trusted."""
        return self.written_lsn if now_ms - self.looked_ms <= LOOK_MS else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to change about the list of those whose replay a commit waits for."""

    waited_for: tuple[MemberId, ...]
    dropped: tuple[MemberId, ...]
    added: tuple[MemberId, ...]


@dataclass(frozen=True, slots=True)
class VisibleList:
    """Whose replay the commits of a primary wait for, and which of it is recorded in the store.

    A list that was changed and changed back is another one: somebody may have missed what was
    committed in between, and nothing is acknowledged before this list is recorded as well.
    """

    waited_for: tuple[MemberId, ...] = ()
    recorded: tuple[MemberId, ...] = ()
    changes: int = 0
    recorded_changes: int = 0
    """After how many changes it was recorded."""

    @property
    def is_recorded(self) -> bool:
        """Tell whether the list as it is now is the recorded one."""
        return self.recorded == self.waited_for and self.recorded_changes == self.changes

    def begun(self, waited_for: tuple[MemberId, ...]) -> VisibleList:
        """Return the list of one that begins to lead; nothing of it is recorded."""
        number = self.changes + 1
        return VisibleList(waited_for, (), number, number)

    def changed(self, waited_for: tuple[MemberId, ...]) -> VisibleList:
        """Return the list after a change, if it is one."""
        if waited_for == self.waited_for:
            return self
        return replace(self, waited_for=waited_for, changes=self.changes + 1)

    def kept(self, committed: VisibleList) -> VisibleList:
        """Return the list after that one was committed; unchanged when it is another by now."""
        if self.changes != committed.changes:
            return self
        return replace(self, recorded=self.waited_for, recorded_changes=self.changes)


def heard(
    watched: Watched, now_ms: int, *, sent_ms: int, says_read_write: bool, granted: bool
) -> Watched:
    """Take note of a heartbeat sent at `sent_ms` of the member's clock, and of its answer.

    A member has one heartbeat under way and takes no answer to one that it gave up; what it says of
    itself therefore holds for the grants of all heartbeats before, but not for later ones, should
    this heartbeat have been overtaken.
    """
    watched = replace(watched, heard_ms=now_ms, gone=False)
    if granted:
        sent_ms = max(sent_ms, watched.granted_sent_ms)
        return replace(watched, granted_ms=now_ms, granted_sent_ms=sent_ms, closed=False)
    overtaken = sent_ms <= watched.granted_sent_ms
    return watched if overtaken else replace(watched, closed=not says_read_write)


def replayed(
    watched: Watched, now_ms: int, *, streaming: bool, replayed_lsn: int, behind_bytes: int
) -> Watched:
    """Take note of how far a member's copy of the store has come.

    How far it is behind tells nothing of that: under an even load it is always as much.
    """
    goes_on = not behind_bytes or (streaming and replayed_lsn > watched.replayed_lsn)
    return replace(
        watched,
        streaming=streaming,
        behind_bytes=behind_bytes,
        replayed_lsn=replayed_lsn,
        behind_since_ms=0 if goes_on else watched.behind_since_ms or now_ms,
    )


def suspicious(watched: Watched, now_ms: int, times: ClusterTimes) -> bool:
    """Tell whether a member gets no further grant: it is gone, or its copy does not go on."""
    patience = times.drop_ms - times.lease_ms
    stuck = watched.behind_since_ms and now_ms - watched.behind_since_ms >= patience
    return watched.gone or not watched.streaming or bool(stuck)


def may_drop(watched: Watched, now_ms: int, times: ClusterTimes) -> bool:
    """Tell whether a member's lease has surely ended."""
    if watched.gone or now_ms - watched.granted_ms >= times.drop_ms:
        return True
    return watched.closed


def may_add(watched: Watched, now_ms: int, times: ClusterTimes) -> bool:
    """Tell whether a member is there and close enough to be waited for."""
    present = not watched.gone and now_ms - watched.heard_ms < times.lease_ms
    close = watched.streaming and watched.behind_bytes <= CLOSE_BYTES
    # Whoever was just dropped as stuck would otherwise be waited for again at the next look.
    return present and close and not suspicious(watched, now_ms, times)


def plan(
    waited_for: Iterable[MemberId],
    watched: Mapping[MemberId, Watched],
    now_ms: int,
    times: ClusterTimes,
) -> Plan:
    """Return whom to wait for from now on."""
    before = tuple(waited_for)
    dropped = tuple(
        member
        for member in before
        if member not in watched
        or (
            may_drop(watched[member], now_ms, times)
            and (
                suspicious(watched[member], now_ms, times)
                or now_ms - watched[member].heard_ms >= times.lease_ms
            )
        )
    )
    added = tuple(
        member
        for member, state in watched.items()
        if member not in before and may_add(state, now_ms, times)
    )
    kept = tuple(member for member in before if member not in dropped)
    return Plan((*kept, *added), dropped, added)


def caught_up(
    copy: Positions, looked_ms: int, now_ms: int, *, timeline: int, written_lsn: int
) -> bool:
    """Tell whether a member without a lease may begin one that the primary has granted.

    `copy` is what the member asked of its PostgreSQL at `looked_ms`, the rest what the primary
    named with the grant; zeros name nothing.  A lease that goes on needs none of that, since no
    commit is acknowledged meanwhile that the member has not replayed.
    """
    named = timeline > 0 and written_lsn > 0
    follows = copy.streaming and copy.own_log_replayed and copy.timeline == timeline
    recent = now_ms - looked_ms <= LOOK_MS
    return named and follows and recent and copy.replayed >= written_lsn


def lease_end_ms(sent_ms: int, times: ClusterTimes) -> int:
    """Return until when a member is Read-Write whose heartbeat of `sent_ms` was granted."""
    return sent_ms + times.lease_ms
