"""Whether a copy follows its primary, when one that does not is mended, and when that is repeated.

Invariant: a copy that a change of the role has just opened is given the whole of `STUCK_MS` to
begin to stream; one that cannot be opened is given no more by being tried again and again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from conclave.store.postgresql.status import Lsn, Positions

STUCK_MS: Final = 4000
"""How long a copy may fail to follow a primary that answers until it is mended."""
ASTRAY_MS: Final = 30_000
"""The same for one that is opened again and again meanwhile: each time it ends at once."""
MENDED_MS: Final = 30_000
"""A copy that does not follow so soon after it was mended has to be made anew."""
FIRST_PAUSE_MS: Final = 500
LONGEST_PAUSE_MS: Final = 60_000
LONGEST_UNREACHED_MS: Final = 2000
"""Longest pause after a mend for which the primary was not reached: nothing was copied."""

_NOTHING: Final = Lsn(0)

Mending = Literal["none", "mended", "made anew"]


@dataclass(frozen=True, slots=True)
class CopyWatch:
    """What was seen of a copy so far, in milliseconds of boot time; 0 is never."""

    stuck_since_ms: int = 0
    astray_since_ms: int = 0
    replayed: Lsn = _NOTHING
    openings: int = 0
    mended_ms: int = 0

    def after(
        self, copy: Positions | None, *, timeline: int, openings: int, now_ms: int
    ) -> CopyWatch:
        """Return what is known after one more look, while nobody changed the role.

        `copy` is None while PostgreSQL does not answer, `timeline` the primary's, and `openings`
        how often a change of the role has ended with the copy open.
        """
        if copy is None:
            return self._not_following(openings, now_ms)
        seen = replace(self, replayed=copy.replayed)
        if _follows(copy, timeline) and (_is_through(copy) or copy.replayed != self.replayed):
            return replace(seen, stuck_since_ms=0, astray_since_ms=0, openings=openings)
        return seen._not_following(openings, now_ms)

    def _not_following(self, openings: int, now_ms: int) -> CopyWatch:
        opened = openings != self.openings
        return replace(
            self,
            stuck_since_ms=now_ms if opened else self.stuck_since_ms or now_ms,
            astray_since_ms=self.astray_since_ms or now_ms,
            openings=openings,
        )

    def anew(self) -> CopyWatch:
        """Return what is known of a copy that begins to follow anew."""
        return replace(self, stuck_since_ms=0, astray_since_ms=0)

    def mended(self, now_ms: int) -> CopyWatch:
        """Return what is known of a copy that is being mended."""
        return replace(self.anew(), mended_ms=now_ms)

    def mending(self, now_ms: int) -> Mending:
        """Tell what the copy needs."""
        stuck = self.stuck_since_ms and now_ms - self.stuck_since_ms >= STUCK_MS
        astray = self.astray_since_ms and now_ms - self.astray_since_ms >= ASTRAY_MS
        if not (stuck or astray):
            return "none"
        again = self.mended_ms and now_ms - self.mended_ms < MENDED_MS
        return "made anew" if again else "mended"


@dataclass(frozen=True, slots=True)
class MendPause:
    """How long no copy is mended after that has failed, in milliseconds of boot time."""

    length_ms: int = 0
    until_ms: int = 0

    def over(self, now_ms: int) -> bool:
        """Tell whether a copy may be mended."""
        return now_ms >= self.until_ms

    def longer(self, now_ms: int, *, reached: bool) -> MendPause:
        """Return the pause after one more failure; `reached` tells whether the primary was."""
        bound_ms = LONGEST_PAUSE_MS if reached else LONGEST_UNREACHED_MS
        length_ms = min(max(2 * self.length_ms, FIRST_PAUSE_MS), bound_ms)
        # Nobody who was only not reached for a moment forgets how often a copy had failed.
        return MendPause(max(length_ms, self.length_ms), now_ms + length_ms)


def _follows(copy: Positions, timeline: int) -> bool:
    """Tell whether a copy follows a primary of that timeline, or will once it is through.

    One of an earlier timeline has more of that than the primary had, and PostgreSQL looks for the
    rest of it for ever.  One that still replays the log on its own disk is not expected to stream.
    """
    return not copy.own_log_replayed or (copy.streaming and copy.timeline >= timeline)


def _is_through(copy: Positions) -> bool:
    """Tell whether a copy has replayed all that it has; else it is expected to go on.

    One that receives but replays nothing of it does not follow either: its log is broken.
    """
    return copy.own_log_replayed and copy.replayed >= copy.written
