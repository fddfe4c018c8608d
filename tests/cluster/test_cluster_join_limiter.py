"""The limits of joins, with a clock that the test sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conclave import faults
from conclave.cluster import join_limiter
from conclave.cluster.join_limiter import JoinLimiter
from conclave.errors import Fault, NotAllowed, Unavailable
from conclave.ids import MemberId
from tests.support.hsm_bench import Moment

ONE, TWO = MemberId("one"), MemberId("two")


def fail(limiter: JoinLimiter, source: str, fault: Fault = faults.JOIN_REFUSED) -> None:
    with pytest.raises(NotAllowed), limiter.attempt(source):
        raise NotAllowed(fault, "no")


def refusal(limiter: JoinLimiter, source: str) -> Unavailable:
    with pytest.raises(Unavailable) as caught, limiter.attempt(source):
        raise AssertionError("the attempt was let in")
    return caught.value


def test_sixth_attempt_waits_and_the_wait_grows() -> None:
    moment = Moment()
    limiter = JoinLimiter(moment)
    for _ in range(5):
        fail(limiter, "a")
    for seconds in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300):
        assert f" {seconds} s" in refusal(limiter, "a").message
        moment.ms += 1000 * seconds - 1
        assert refusal(limiter, "a").fault is faults.JOIN_DELAYED
        moment.ms += 1
        fail(limiter, "a")
    with limiter.attempt("b"):
        pass


def test_success_forgets_failures_of_its_source() -> None:
    limiter = JoinLimiter(Moment())
    for _ in range(3):
        for _ in range(4):
            fail(limiter, "a")
        with limiter.attempt("a"):
            pass


def test_what_is_no_guess_is_not_counted() -> None:
    limiter = JoinLimiter(Moment())
    for _ in range(20):
        fail(limiter, "a", faults.CLOCK_SKEW)


def test_hundred_failures_in_an_hour_stop_all_sources() -> None:
    moment = Moment()
    limiter = JoinLimiter(moment)
    for number in range(100):
        fail(limiter, f"source {number}")
        moment.ms += 1000
    assert "3500 s" in refusal(limiter, "new").message
    moment.ms += 3_500_000
    fail(limiter, "new")
    assert refusal(limiter, "newer").fault is faults.JOIN_DELAYED


def test_attempts_at_the_same_time_do_not_get_around_the_limits() -> None:
    limiter = JoinLimiter(Moment())
    for number in range(99):
        fail(limiter, f"source {number}")
    with limiter.attempt("a"):
        assert refusal(limiter, "a").fault is faults.JOIN_DELAYED
        assert refusal(limiter, "b").fault is faults.JOIN_DELAYED
    fresh = JoinLimiter(Moment())
    with fresh.attempt("a"):
        assert refusal(fresh, "a").fault is faults.JOIN_IN_PROGRESS
        with fresh.attempt("b"):
            pass


def test_one_joins_at_a_time_until_released_or_silent() -> None:
    moment = Moment()
    limiter = JoinLimiter(moment)
    limiter.claim(ONE)
    limiter.claim(ONE)
    with pytest.raises(Unavailable) as caught:
        limiter.claim(TWO)
    assert caught.value.fault is faults.JOIN_IN_PROGRESS
    limiter.release(TWO)
    with pytest.raises(Unavailable):
        limiter.claim(TWO)
    limiter.release(ONE)
    limiter.claim(TWO)
    moment.ms += join_limiter.CLAIM_MS
    limiter.claim(ONE)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 400_000)), max_size=300))
def test_no_hour_ever_has_more_failures_than_allowed(steps: list[tuple[int, int]]) -> None:
    moment = Moment()
    limiter = JoinLimiter(moment)
    failed: list[int] = []
    for source, later in steps:
        moment.ms += later % 20_000
        try:
            with limiter.attempt(f"source {source}"):
                failed.append(moment.ms)
                raise NotAllowed(faults.CLONING_DOMAIN_MISMATCH, "no")
        except (NotAllowed, Unavailable):
            pass
    for at in failed:
        assert sum(1 for other in failed if at <= other < at + join_limiter.HOUR_MS) <= 100


def test_memory_of_sources_is_bounded() -> None:
    moment = Moment()
    limiter = JoinLimiter(moment)
    for number in range(join_limiter.MAX_SOURCES + 10):
        fail(limiter, f"source {number}")
        moment.ms += join_limiter.HOUR_MS // join_limiter.FAILURES_PER_HOUR
    assert len(limiter._sources) == join_limiter.MAX_SOURCES
