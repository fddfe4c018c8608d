"""Keep strangers from flooding the log: of the same refusal, one record a minute."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

from conclave.clock import boot_time_ms

QUIET_MS: Final = 60_000
MAX_KEYS: Final = 4096


class Repeats:
    """Count what was left out; memory is bounded, the oldest key goes first."""

    def __init__(self, now_ms: Callable[[], int] = boot_time_ms) -> None:
        self._now_ms = now_ms
        self._seen: OrderedDict[Hashable, tuple[int, int]] = OrderedDict()

    def due(self, key: Hashable) -> int | None:
        """Return how many were left out since the last record, or None to leave this one out."""
        now = self._now_ms()
        last, left_out = self._seen.get(key, (None, 0))
        if last is not None and now - last < QUIET_MS:
            self._seen[key] = (last, left_out + 1)
            return None
        self._seen.pop(key, None)
        self._seen[key] = (now, 0)
        while len(self._seen) > MAX_KEYS:
            self._seen.popitem(last=False)
        return left_out
