"""Waits for a condition, never for a time alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SOON_MS = 10_000
"""What waits for the timeout of a receiver takes 20 s, what waits for a call's deadline 30 s."""


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Return whether `condition` came true within `seconds`."""
    deadline = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        if time.monotonic() >= deadline:
            return False
        tick.wait(0.01)
    return True
