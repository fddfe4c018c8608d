"""The keeper never stops waiting for a member that may hold a lease, nor waits for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conclave.cluster import keeper
from conclave.cluster.keeper import Watched
from conclave.ids import MemberId
from conclave.settings import ClusterTimes
from conclave.store.postgresql.status import Lsn, Positions

TIMES = ClusterTimes()
FOLLOWER = MemberId("b")
STEP_MS = 50
GIVE_UP_MS = 500


@dataclass
class Pair:
    """One primary and one follower, whose boot clocks differ, and what is under way between."""

    skew_ms: int
    now_ms: int = 10_000
    watched: Watched = field(default_factory=lambda: Watched(FOLLOWER, streaming=True))
    waited_for: tuple[MemberId, ...] = ()
    lease_end_ms: int = 0
    asked_ms: int = 0
    next_beat_ms: int = 0
    requests: list[tuple[int, int, bool]] = field(default_factory=list)
    answers: list[tuple[int, int, bool]] = field(default_factory=list)

    @property
    def member_ms(self) -> int:
        return self.now_ms + self.skew_ms

    def read_write(self) -> bool:
        return self.member_ms < self.lease_end_ms

    def beat(self, delay_ms: int | None) -> None:
        if self.asked_ms and self.member_ms - self.asked_ms >= GIVE_UP_MS:
            self.asked_ms = 0
        if self.asked_ms or self.member_ms < self.next_beat_ms:
            return
        self.asked_ms = self.member_ms
        self.next_beat_ms = self.member_ms + TIMES.heartbeat_ms
        if delay_ms is not None:
            self.requests.append((self.now_ms + delay_ms, self.member_ms, self.read_write()))

    def deliver(self, delay_ms: int | None) -> None:
        for due in [r for r in self.requests if r[0] <= self.now_ms]:
            self.requests.remove(due)
            granted = FOLLOWER in self.waited_for and not keeper.suspicious(
                self.watched, self.now_ms, TIMES
            )
            self.watched = keeper.heard(
                self.watched, self.now_ms, sent_ms=due[1], says_read_write=due[2], granted=granted
            )
            if delay_ms is not None:
                self.answers.append((self.now_ms + delay_ms, due[1], granted))
        for answer in [a for a in self.answers if a[0] <= self.now_ms]:
            self.answers.remove(answer)
            if answer[1] == self.asked_ms:
                self.asked_ms = 0
                end_ms = keeper.lease_end_ms(answer[1], TIMES)
                self.lease_end_ms = end_ms if answer[2] else 0

    def look(self, *, streaming: bool, behind: int) -> keeper.Plan:
        self.watched = keeper.replayed(
            self.watched, self.now_ms, streaming=streaming, replayed_lsn=1, behind_bytes=behind
        )
        plan = keeper.plan(self.waited_for, {FOLLOWER: self.watched}, self.now_ms, TIMES)
        self.waited_for = plan.waited_for
        return plan


DELAY = st.one_of(st.none(), st.sampled_from([0, 0, 0, 100, 300, 700, 1400, 3000]))
STEP = st.tuples(DELAY, DELAY, st.booleans(), st.sampled_from([0, 0, 100]))


@settings(deadline=None, max_examples=150)
@given(st.integers(-5000, 5000), st.lists(STEP, min_size=20, max_size=150))
def test_no_member_that_holds_a_lease_is_dropped(
    skew_ms: int, steps: Sequence[tuple[int | None, int | None, bool, int]]
) -> None:
    pair = Pair(skew_ms)
    for out, back, streaming, behind in steps:
        pair.beat(out)
        pair.deliver(back)
        pair.look(streaming=streaming, behind=behind)
        assert FOLLOWER in pair.waited_for or not pair.read_write()
        pair.now_ms += STEP_MS


@settings(deadline=None, max_examples=100)
@given(st.lists(STEP, max_size=80), st.booleans())
def test_a_silent_or_stuck_member_is_dropped_in_time_and_not_taken_back(
    steps: Sequence[tuple[int | None, int | None, bool, int]], silent: bool
) -> None:
    pair = Pair(0)
    for out, back, streaming, behind in steps:
        pair.beat(out)
        pair.deliver(back)
        pair.look(streaming=streaming, behind=behind)
        pair.now_ms += STEP_MS
    if silent:
        pair.requests.clear()
    start_ms = pair.now_ms
    limit_ms = TIMES.drop_ms + (0 if silent else TIMES.drop_ms - TIMES.lease_ms)
    while pair.now_ms < start_ms + limit_ms + 4 * TIMES.drop_ms:
        if not silent:
            pair.beat(0)
        pair.deliver(0)
        pair.look(streaming=True, behind=100)
        if pair.now_ms > start_ms + limit_ms + STEP_MS:
            assert FOLLOWER not in pair.waited_for
        pair.now_ms += STEP_MS


def test_a_member_that_goes_on_under_an_even_load_stays() -> None:
    watched = Watched(FOLLOWER)
    for now_ms in range(10_000, 20_000, 100):
        watched = keeper.replayed(
            watched, now_ms, streaming=True, replayed_lsn=now_ms, behind_bytes=500
        )
        assert not keeper.suspicious(watched, now_ms, TIMES)


def test_a_word_that_was_overtaken_by_a_grant_does_not_drop() -> None:
    watched = keeper.heard(
        Watched(FOLLOWER, streaming=True), 10_000, sent_ms=500, says_read_write=False, granted=True
    )
    late = keeper.heard(watched, 10_100, sent_ms=250, says_read_write=False, granted=False)
    assert not keeper.may_drop(late, 10_100, TIMES)
    own = keeper.heard(late, 10_300, sent_ms=750, says_read_write=False, granted=False)
    assert keeper.may_drop(own, 10_300, TIMES)


COPY = Positions(2, Lsn(1000), Lsn(1000), in_recovery=True, streaming=True, own_log_replayed=True)


def caught_up(copy: Positions, age_ms: int = 0, *, timeline: int = 2, written: int = 1000) -> bool:
    """Tell whether a lease may begin that was granted with these positions of the primary."""
    return keeper.caught_up(copy, 5000, 5000 + age_ms, timeline=timeline, written_lsn=written)


def test_c16_a_lease_begins_with_a_copy_that_streams_and_has_what_the_primary_names() -> None:
    assert caught_up(COPY)
    assert caught_up(COPY, keeper.LOOK_MS)
    assert caught_up(replace(COPY, written=Lsn(2000), replayed=Lsn(1500)))


@pytest.mark.parametrize(
    "copy",
    [
        replace(COPY, replayed=Lsn(999)),
        replace(COPY, streaming=False),
        replace(COPY, own_log_replayed=False),
        replace(COPY, timeline=1),
        replace(COPY, timeline=3),
    ],
)
def test_c16_no_lease_begins_with_a_copy_that_is_behind(copy: Positions) -> None:
    assert not caught_up(copy)


def test_c16_no_lease_begins_by_an_old_look_or_if_the_primary_names_nothing() -> None:
    assert not caught_up(COPY, keeper.LOOK_MS + 1)
    assert not caught_up(COPY, written=0)
    assert not caught_up(replace(COPY, timeline=0), timeline=0)
    look = keeper.Look(5000, 1000)
    assert look.position(5000 + keeper.LOOK_MS) == 1000
    assert look.position(5001 + keeper.LOOK_MS) == 0
    assert keeper.Look().position(100) == 0
