"""When a copy is mended: by what was seen of it, not by what was being tried meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conclave.cluster.copy_watch import (
    ASTRAY_MS,
    FIRST_PAUSE_MS,
    LONGEST_PAUSE_MS,
    LONGEST_UNREACHED_MS,
    MENDED_MS,
    STUCK_MS,
    CopyWatch,
    MendPause,
)
from conclave.store.postgresql.status import Lsn, Positions

STREAMS = Positions(
    timeline=1,
    written=Lsn(90),
    replayed=Lsn(90),
    in_recovery=True,
    streaming=True,
    own_log_replayed=True,
)
OPENED = replace(STREAMS, streaming=False)
"""Opened to readers, and its stream has not begun."""


def looked(watch: CopyWatch, copy: Positions | None, now_ms: int, openings: int = 0) -> CopyWatch:
    return watch.after(copy, timeline=1, openings=openings, now_ms=now_ms)


def test_a_copy_that_was_opened_a_moment_ago_is_not_mended_however_long_its_start_took() -> None:
    """It was looked at while PostgreSQL was down, and again before its stream had begun."""
    watch = looked(CopyWatch(), None, 500)
    watch = looked(watch, OPENED, 4800, openings=1)
    assert watch.mending(4800) == "none"
    watch = looked(watch, OPENED, 4799 + STUCK_MS, openings=1)
    assert watch.mending(4799 + STUCK_MS) == "none"
    assert looked(watch, STREAMS, 4800 + STUCK_MS, 1).mending(4800 + STUCK_MS) == "none"
    watch = looked(watch, OPENED, 4800 + STUCK_MS, openings=1)
    assert watch.mending(4800 + STUCK_MS) == "mended"


@pytest.mark.parametrize("copy", [None, OPENED, replace(STREAMS, written=Lsn(99))])
def test_a_copy_that_cannot_be_opened_is_mended_while_it_is_tried_again(
    copy: Positions | None,
) -> None:
    watch = looked(looked(CopyWatch(), STREAMS, 0), copy, 500)
    for now_ms in (2000, 499 + STUCK_MS):
        watch = looked(watch, copy, now_ms)
        assert watch.mending(now_ms) == "none"
    watch = looked(watch, copy, 500 + STUCK_MS)
    assert watch.mending(500 + STUCK_MS) == "mended"


def test_a_copy_that_ends_each_time_it_was_opened_is_mended_all_the_same() -> None:
    watch = looked(CopyWatch(), None, 1)
    looks = range(1000, ASTRAY_MS + 2000, 1000)
    needs = []
    for openings, now_ms in enumerate(looks, 1):
        watch = looked(watch, None, now_ms, openings)
        needs.append(watch.mending(now_ms))
    assert needs.index("mended") == next(
        number for number, now_ms in enumerate(looks) if now_ms > ASTRAY_MS
    )


def test_a_copy_of_an_earlier_timeline_does_not_follow() -> None:
    watch = CopyWatch().after(STREAMS, timeline=2, openings=0, now_ms=1)
    watch = watch.after(STREAMS, timeline=2, openings=0, now_ms=1 + STUCK_MS)
    assert watch.mending(1 + STUCK_MS) == "mended"


def test_a_copy_that_replays_its_own_log_goes_on_even_if_it_was_started_anew() -> None:
    replays = replace(OPENED, own_log_replayed=False)
    watch = looked(looked(CopyWatch(), STREAMS, 0), None, 500)
    for number in range(1, 20):
        now_ms = number * STUCK_MS
        watch = looked(watch, replace(replays, replayed=Lsn(number)), now_ms)
        assert watch.mending(now_ms) == "none"
    stands = replace(replays, replayed=watch.replayed)
    watch = looked(looked(watch, stands, 100_000), stands, 100_000 + STUCK_MS)
    assert watch.mending(100_000 + STUCK_MS) == "mended"


def test_a_copy_that_does_not_follow_soon_after_it_was_mended_is_made_anew() -> None:
    watch = looked(CopyWatch(), None, 1)
    watch = watch.mended(1 + STUCK_MS)
    assert watch.mending(1 + STUCK_MS) == "none"
    watch = looked(watch, None, 9000)
    assert watch.mending(9000 + STUCK_MS) == "made anew"
    late = looked(watch.anew(), None, 1 + STUCK_MS + MENDED_MS)
    assert late.mending(1 + 2 * STUCK_MS + MENDED_MS) == "mended"
    assert watch.anew().mending(9000 + STUCK_MS) == "none"


def failed(pause: MendPause, *, reached: bool) -> tuple[MendPause, int]:
    """Return the pause after a failure, and how long it is."""
    longer = pause.longer(pause.until_ms, reached=reached)
    length_ms = longer.until_ms - pause.until_ms
    assert not longer.over(longer.until_ms - 1)
    assert longer.over(longer.until_ms)
    return longer, length_ms


def test_the_pause_after_a_mend_that_failed_is_doubled_up_to_a_minute() -> None:
    pause, lengths = MendPause(), []
    assert pause.over(0)
    for _ in range(9):
        pause, length_ms = failed(pause, reached=True)
        lengths.append(length_ms)
    assert lengths[:4] == [FIRST_PAUSE_MS * 2**power for power in range(4)]
    assert lengths[-1] == LONGEST_PAUSE_MS


def test_who_does_not_reach_the_primary_tries_again_soon_but_forgets_no_other_failure() -> None:
    pause = MendPause()
    for _ in range(9):
        pause, length_ms = failed(pause, reached=False)
    assert length_ms == LONGEST_UNREACHED_MS
    for _ in range(9):
        pause, _ = failed(pause, reached=True)
    pause, length_ms = failed(pause, reached=False)
    assert length_ms == LONGEST_UNREACHED_MS
    assert failed(pause, reached=True)[1] == LONGEST_PAUSE_MS
