"""Counts and times of a load, in bounded memory, and how they are shown."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final

STEPS_PER_DOUBLING: Final = 16
"""A time is known to 4.4 %, however many there are."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What a load has done so far; times in seconds."""

    operations: int
    failures: tuple[tuple[str, int], ...]
    median: float
    p99: float


class Tally:
    """Takes what the threads of a load have done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: Counter[int] = Counter()
        self._failures: Counter[str] = Counter()

    def done(self, seconds: float) -> None:
        """Count an operation that took so long."""
        with self._lock:
            self._times[_step(seconds)] += 1

    def failed(self, name: str) -> None:
        """Count a failure with this return value's name."""
        with self._lock:
            self._failures[name] += 1

    def totals(self) -> Totals:
        """Return all counts up to now."""
        with self._lock:
            times, failures = Counter(self._times), tuple(sorted(self._failures.items()))
        return Totals(times.total(), failures, _quantile(times, 0.5), _quantile(times, 0.99))


def _step(seconds: float) -> int:
    return math.ceil(math.log2(max(seconds, 1e-7)) * STEPS_PER_DOUBLING)


def _quantile(times: Counter[int], share: float) -> float:
    """Return the time that this share of the operations did not exceed; 0 for none."""
    wanted = share * times.total()
    passed = 0
    for step in sorted(times):
        passed += times[step]
        if passed >= wanted:
            return float(2 ** (step / STEPS_PER_DOUBLING))
    return 0.0


def live_line(elapsed: float, totals: Totals, before: int, interval: float) -> str:
    """Return one line of the display: the rate of the last interval, and times of all."""
    rate = (totals.operations - before) / interval if interval > 0 else 0.0
    return (
        f"{elapsed:6.0f} s {rate:10.1f} op/s   p50 {totals.median * 1000:8.2f} ms"
        f"   p99 {totals.p99 * 1000:8.2f} ms   failures {_count(totals)}"
    )


def summary(mode: str, threads: int, elapsed: float, totals: Totals) -> str:
    """Return what is printed at the end."""
    rate = totals.operations / elapsed if elapsed > 0 else 0.0
    lines = [
        f"mode        {mode}",
        f"threads     {threads}",
        f"seconds     {elapsed:.1f}",
        f"operations  {totals.operations}",
        f"op/s        {rate:.1f}",
        f"p50 ms      {totals.median * 1000:.2f}",
        f"p99 ms      {totals.p99 * 1000:.2f}",
        f"failures    {_count(totals)}",
    ]
    lines += [f"    {name}  {count}" for name, count in totals.failures]
    return "\n".join(lines)


def _count(totals: Totals) -> int:
    return sum(count for _name, count in totals.failures)
