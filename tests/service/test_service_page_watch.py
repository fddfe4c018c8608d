"""What a worker tells clients of the page: once per change, by the boot clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import pytest

from conclave.ids import MemberId, RowRevision
from conclave.service.page import NO_LEASE_END, SharedPage
from conclave.service.page_watch import PageWatch
from conclave.service.wire import MemberState

MEMBER = MemberId("2f1c6d1e-8a8b-4c0e-9d3f-0123456789ab")


class Clock:
    now_ms = 1000

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def page(clock: Clock) -> Iterator[SharedPage]:
    made = SharedPage.create(boot_time_ms=clock)
    made.set_epoch(3, MEMBER)
    yield made
    made.close()


def told(watch: PageWatch) -> MemberState:
    return msgspec.msgpack.decode(watch.state, type=MemberState)


def test_each_change_of_a_told_word_is_one_new_state(page: SharedPage) -> None:
    watch = PageWatch(page)
    watch.look()
    assert told(watch) == MemberState(3, MEMBER, 0, 0, True)
    seen = watch.number
    assert not watch.look()
    page.bump_global()
    page.set_authorized(True)
    page.set_cluster_time_offset(-500)
    assert watch.look()
    assert (watch.number, watch.authorized, watch.now_ms) == (seen, True, 500)
    changes: list[tuple[Callable[[], None], tuple[int, str, int, int, bool]]] = [
        (lambda: page.set_log_position(RowRevision(9)), (3, MEMBER, 9, 0, True)),
        (page.bump_members, (3, MEMBER, 9, 1, True)),
        (lambda: page.set_epoch(4, MEMBER), (4, MEMBER, 9, 1, True)),
    ]
    for change, state in changes:
        change()
        watch.look()
        assert told(watch) == MemberState(*state)
        assert watch.number == (seen := seen + 1)


def test_an_epoch_being_written_is_not_told(page: SharedPage) -> None:
    watch = PageWatch(page)
    watch.look()
    page.words[6] = 0
    watch.look()
    assert told(watch).epoch_number == 3


def test_c16_the_lease_ends_by_the_clock_without_any_word_changing(
    page: SharedPage, clock: Clock
) -> None:
    watch = PageWatch(page)
    page.set_lease_end(1500)
    watch.look()
    seen = watch.number
    clock.now_ms = 1499
    watch.look()
    assert told(watch).read_write
    clock.now_ms = 1500
    assert not watch.look()
    assert not told(watch).read_write
    assert watch.number == seen + 1
    page.set_lease_end(3000)
    watch.look()
    assert told(watch).read_write


def test_c17_a_member_is_cut_off_when_the_limit_has_passed_after_the_lease(
    page: SharedPage, clock: Clock
) -> None:
    bounded, unbounded = PageWatch(page, read_only_limit_seconds=2), PageWatch(page)
    page.set_lease_end(1500)
    for now_ms, expected in ((1500, False), (3499, False), (3500, True)):
        clock.now_ms = now_ms
        bounded.look()
        unbounded.look()
        assert (bounded.cut_off, unbounded.cut_off) == (expected, False)
    page.set_lease_end(NO_LEASE_END)
    bounded.look()
    assert not bounded.cut_off
