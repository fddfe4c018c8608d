"""Counts and times of a load, in bounded memory, and how they are shown."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

STEPS_PER_DOUBLING: Final = 16
"""A time is known to 4.4 %, however many there are."""
MILLISECONDS: Final = 1000.0


@dataclass(frozen=True, slots=True)
class Totals:
    """What a load has done; times in seconds."""

    operations: int = 0
    failures: tuple[tuple[str, int], ...] = ()
    median: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    longest: float = 0.0

    @property
    def failed(self) -> int:
        """Return how many operations failed."""
        return sum(count for _name, count in self.failures)


class _Counts:
    """Operations by their time, and failures by their name."""

    def __init__(self) -> None:
        self.times: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.longest = 0.0

    def totals(self) -> Totals:
        times = self.times
        median, p90, p99 = (_quantile(times, share) for share in (0.5, 0.9, 0.99))
        failures = tuple(sorted(self.failures.items()))
        return Totals(times.total(), failures, median, p90, p99, self.longest)


class Tally:
    """Takes what the threads of a load have done, in all and since it was last looked at."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all, self._recent = _Counts(), _Counts()

    def done(self, seconds: float) -> None:
        """Count an operation that took so long."""
        step = _step(seconds)
        with self._lock:
            for counts in (self._all, self._recent):
                counts.times[step] += 1
                counts.longest = max(counts.longest, seconds)

    def failed(self, name: str) -> None:
        """Count a failure with this return value's name."""
        with self._lock:
            for counts in (self._all, self._recent):
                counts.failures[name] += 1

    def totals(self) -> Totals:
        """Return all counts up to now."""
        with self._lock:
            return self._all.totals()

    def recent(self) -> Totals:
        """Return what came since this was called last."""
        with self._lock:
            counts, self._recent = self._recent, _Counts()
        return counts.totals()


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


def rate(operations: int, seconds: float) -> float:
    """Return operations in a second; 0 for no time."""
    return operations / seconds if seconds > 0 else 0.0


def live_line(elapsed: float, recent: Totals, interval: float, failed: int) -> str:
    """Return the line of one interval: its rate and times, and all failures up to now."""
    return (
        f"{elapsed:6.0f} s {rate(recent.operations, interval):10.1f} op/s   {_times(recent)}"
        f"   failures {failed}"
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """What a display shows at one moment; times in seconds."""

    title: str
    elapsed: float
    planned: float
    interval: float
    recent: Totals
    totals: Totals


def display(scene: Scene) -> list[str]:
    """Return the lines that a terminal shows, always as many."""
    recent, totals = scene.recent, scene.totals
    failures = ", ".join(f"{name} {count}" for name, count in totals.failures) or "none"
    return [
        f"{scene.title}   {scene.elapsed:.0f} s of {scene.planned:.0f} s",
        f"  now {rate(recent.operations, scene.interval):10.1f} op/s   {_times(recent)}",
        f"  all {rate(totals.operations, scene.elapsed):10.1f} op/s   {_times(totals)}",
        f"  operations {totals.operations}   failures {failures}",
    ]


def redrawn(lines: Sequence[str], columns: int, *, first: bool) -> str:
    """Return what a terminal is sent so that these lines stand where the last ones stood."""
    up = "" if first else f"\x1b[{len(lines)}A"
    return up + "".join(f"\r\x1b[2K{line[: max(1, columns - 1)]}\n" for line in lines)


def _times(totals: Totals) -> str:
    parts = (
        ("p50", totals.median),
        ("p90", totals.p90),
        ("p99", totals.p99),
        ("max", totals.longest),
    )
    return "  ".join(f"{name} {value * MILLISECONDS:7.2f}" for name, value in parts) + " ms"


def summary_data(mode: str, threads: int, elapsed: float, totals: Totals) -> dict[str, Any]:
    """Return what came of a load; times in milliseconds."""
    return {
        "mode": mode,
        "threads": threads,
        "seconds": round(elapsed, 1),
        "operations": totals.operations,
        "opsPerSecond": round(rate(totals.operations, elapsed), 1),
        "p50Ms": round(totals.median * MILLISECONDS, 2),
        "p90Ms": round(totals.p90 * MILLISECONDS, 2),
        "p99Ms": round(totals.p99 * MILLISECONDS, 2),
        "maxMs": round(totals.longest * MILLISECONDS, 2),
        "failures": dict(totals.failures),
    }


def summary(mode: str, threads: int, elapsed: float, totals: Totals) -> str:
    """Return what is printed at the end."""
    lines = [
        f"mode        {mode}",
        f"threads     {threads}",
        f"seconds     {elapsed:.1f}",
        f"operations  {totals.operations}",
        f"op/s        {rate(totals.operations, elapsed):.1f}",
        f"p50 ms      {totals.median * MILLISECONDS:.2f}",
        f"p90 ms      {totals.p90 * MILLISECONDS:.2f}",
        f"p99 ms      {totals.p99 * MILLISECONDS:.2f}",
        f"max ms      {totals.longest * MILLISECONDS:.2f}",
        f"failures    {totals.failed}",
    ]
    lines += [f"    {name}  {count}" for name, count in totals.failures]
    return "\n".join(lines)
