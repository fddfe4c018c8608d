"""How often and how long one worker used each mechanism, in memory that the daemon reads.

A worker counts with a few additions to mapped words and speaks to nobody, so counting costs less
than a microsecond.  The map has one writer, its worker, and is made by the daemon, so that counts
survive a respawn.  A reader may catch an operation half counted, which monitoring does not mind.
"""

from __future__ import annotations

import bisect
import enum
import mmap
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from conclave.crypto.mechanisms import MECHANISMS
from conclave.errors import ConclaveError

T = TypeVar("T")

BUCKETS_S: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1)
"""Upper ends of the latency classes in seconds; a last class takes the rest."""
_BUCKETS_NS: Final = tuple(int(end * 1e9) for end in BUCKETS_S)
_CLASSES: Final = len(BUCKETS_S) + 1
_NAME: Final = 0
"""Use and mechanism of the row plus 1; 0 in a row that is free."""
_FIRST_CLASS: Final = 1
_SUM: Final = _FIRST_CLASS + _CLASSES
_FAILED: Final = _SUM + 1
_ROW_WORDS: Final = _FAILED + 1
_ROWS: Final = 1024
METERS_BYTES: Final = 8 * _ROW_WORDS * _ROWS
"""Fixed, since worker and daemon may be of different releases, with other mechanisms."""

now_ns = time.perf_counter_ns


_MECHANISMS: Final = 1 << 32
UNKNOWN: Final = _MECHANISMS - 1
"""Stands for every number that names no mechanism: a client may send any."""


class Use(enum.IntEnum):
    """What a mechanism was used for."""

    SIGN = 0
    VERIFY = 1
    ENCRYPT = 2
    DECRYPT = 3
    WRAP = 4
    UNWRAP = 5
    DERIVE = 6
    ENCAPSULATE = 7
    DECAPSULATE = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """Counts of one mechanism in one use: successes by latency class, seconds in all, failures."""

    use: Use
    mechanism: int
    classes: tuple[int, ...]
    seconds: float
    failures: int


class Meters:
    """One mapping of a worker's counts."""

    def __init__(self, fd: int, *, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self.fd = fd
        self._map = mmap.mmap(fd, METERS_BYTES, access=access)
        self._words = memoryview(self._map).cast("Q")
        # What a worker counted before it was respawned goes on in the same rows.
        self._rows = {row[_NAME]: start for start, row in self._used()}

    @classmethod
    def create(cls) -> Self:
        """Make counts of nothing; the descriptor is inheritable."""
        fd = os.memfd_create("conclave-meters", 0)
        os.ftruncate(fd, METERS_BYTES)
        return cls(fd, writable=False)

    def done(self, use: Use, mechanism: int, started_ns: int) -> None:
        """Count a success that began at `started_ns` of `now_ns`."""
        row = self._row(use, mechanism)
        spent = now_ns() - started_ns
        words = self._words
        words[row + _FIRST_CLASS + bisect.bisect_left(_BUCKETS_NS, spent)] += 1
        words[row + _SUM] += spent

    def failed(self, use: Use, mechanism: int) -> None:
        """Count a failure."""
        known = mechanism if mechanism in MECHANISMS else UNKNOWN
        self._words[self._row(use, known) + _FAILED] += 1

    def measured(self, use: Use, mechanism: int, work: Callable[[], T]) -> T:
        """Do one thing and count it, a refusal as a failure."""
        started = now_ns()
        try:
            made = work()
        except ConclaveError:
            self.failed(use, mechanism)
            raise
        self.done(use, mechanism, started)
        return made

    def readings(self) -> Iterator[Reading]:
        """Return what was used at all."""
        for _, row in self._used():
            use, mechanism = divmod(row[_NAME] - 1, _MECHANISMS)
            classes = tuple(row[_FIRST_CLASS:_SUM])
            yield Reading(Use(use), mechanism, classes, row[_SUM] / 1e9, row[_FAILED])

    def _row(self, use: Use, mechanism: int) -> int:
        name = use * _MECHANISMS + mechanism + 1
        row = self._rows.get(name)
        return self._new_row(name) if row is None else row

    def _new_row(self, name: int) -> int:
        # The rows of a worker of another release stay; the last one takes what has no place then.
        number = min(len(self._rows), _ROWS - 1)
        row = number * _ROW_WORDS
        if number < _ROWS - 1:
            self._words[row + _NAME] = name
            self._rows[name] = row
        return row

    def _used(self) -> Iterator[tuple[int, list[int]]]:
        for start in range(0, _ROW_WORDS * (_ROWS - 1), _ROW_WORDS):
            row = self._words[start : start + _ROW_WORDS].tolist()
            if not row[_NAME]:
                return
            yield start, row

    def close(self) -> None:
        """Unmap the counts and close the descriptor."""
        if not self._map.closed:
            self._words.release()
            self._map.close()
            os.close(self.fd)
