"""Limit guesses at the cloning domain and at the admin's password by join (C23); one join a time.

Invariants: an attempt that is refused here costs no computation and is not counted; attempts that
run at the same time cannot get around the limits, since each source has one at most; memory is
bounded.  The limiter is not for several threads.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.clock import boot_time_ms
from conclave.errors import ConclaveError, Unavailable
from conclave.ids import MemberId
from conclave.source_networks import network_of

FREE_FAILURES: Final = 5
FIRST_DELAY_MS: Final = 1000
LONGEST_DELAY_MS: Final = 300_000
FAILURES_PER_HOUR: Final = 100
HOUR_MS: Final = 3_600_000
MAX_SOURCES: Final = 4096
MAX_ATTEMPTS_AT_ONCE: Final = 8
CLAIM_MS: Final = 900_000
"""How long a joiner that is not heard of any more keeps others out."""
COUNTED: Final = frozenset(
    fault.rest_id
    for fault in (faults.CLONING_DOMAIN_MISMATCH, faults.JOIN_REFUSED, faults.JOIN_BROKEN)
)


@dataclass(frozen=True, slots=True)
class _Source:
    failures: int
    last_ms: int
    not_before_ms: int


class JoinLimiter:
    """Failures of the last hour by source and in all, and who is joining now."""

    def __init__(self, now_ms: Callable[[], int] = boot_time_ms) -> None:
        self._now_ms = now_ms
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._failed_at_ms: deque[int] = deque(maxlen=FAILURES_PER_HOUR)
        self._running: set[str] = set()
        self._joiner: MemberId | None = None
        self._claimed_until_ms = 0

    @contextmanager
    def attempt(self, source: str) -> Iterator[None]:
        """Hold one attempt of a source; count it when an error of a guess ends it.

        An end without an error forgets the source's failures. Raises Unavailable: JOIN_DELAYED
        with the seconds to wait, or JOIN_IN_PROGRESS while the source, or many, have one running.
        """
        source = network_of(source)
        self._require_may_try(source)
        self._running.add(source)
        try:
            yield
        except ConclaveError as error:
            if error.fault.rest_id in COUNTED:
                self._count(source)
            raise
        else:
            self._sources.pop(source, None)
        finally:
            self._running.discard(source)

    def claim(self, joiner: MemberId) -> None:
        """Let this joiner be the one that joins; raise Unavailable while another does."""
        now = self._now_ms()
        if self._joiner not in (None, joiner) and now < self._claimed_until_ms:
            message = (
                "Another appliance is joining the cluster now, and one can join at a time: join"
                " again when it is done."
            )
            raise Unavailable(faults.JOIN_IN_PROGRESS, message)
        self._joiner = joiner
        self._claimed_until_ms = now + CLAIM_MS

    def release(self, joiner: MemberId) -> None:
        """Let others join after this joiner is done or has failed."""
        if self._joiner == joiner:
            self._joiner = None

    def _require_may_try(self, source: str) -> None:
        wait_ms = max(self._source_waits_ms(source), self._all_wait_ms())
        if wait_ms > 0:
            seconds = -(-wait_ms // 1000)
            message = f"After failed joins the next is possible in {seconds} s."
            raise Unavailable(faults.JOIN_DELAYED, message)
        if source in self._running or len(self._running) >= MAX_ATTEMPTS_AT_ONCE:
            message = "Another attempt to join is being checked; join again in a few seconds."
            raise Unavailable(faults.JOIN_IN_PROGRESS, message)

    def _source_waits_ms(self, source: str) -> int:
        entry = self._sources.get(source)
        return 0 if entry is None else entry.not_before_ms - self._now_ms()

    def _all_wait_ms(self) -> int:
        failed, now = self._failed_at_ms, self._now_ms()
        while failed and now - failed[0] >= HOUR_MS:
            failed.popleft()
        # Attempts that run may fail yet, so they take a place each.
        full = len(failed) + len(self._running) >= FAILURES_PER_HOUR
        return failed[0] + HOUR_MS - now if full else 0

    def _count(self, source: str) -> None:
        now = self._now_ms()
        entry = self._sources.pop(source, None)
        known = entry is not None and now - entry.last_ms <= HOUR_MS
        failures = entry.failures + 1 if entry is not None and known else 1
        beyond = failures - FREE_FAILURES
        delay = 0 if beyond < 0 else min(FIRST_DELAY_MS << min(beyond, 20), LONGEST_DELAY_MS)
        self._sources[source] = _Source(failures, now, now + delay)
        self._failed_at_ms.append(now)
        while len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
