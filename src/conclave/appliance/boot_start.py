"""Start the cluster service at boot, again and again while it is refused for what may pass.

A port that an outgoing connection happens to hold is free again when that connection ends, and
nobody who could start the service by hand needs to be there when a host boots.

Invariant: whoever ends the service or says that it shall not start by itself has the last word:
nothing is started after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from conclave import faults
from conclave.appliance.cluster_config import StoredClusterConfig
from conclave.errors import ConclaveError

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 30.0

PASSING: Final = (faults.SERVICE_FAILED, faults.BUSY)
"""A port, a process or a change of packages may be in the way."""

_log = logging.getLogger(__name__)


class BootStart:
    """The attempts of one boot, as far as what is configured asks for them."""

    def __init__(self, configured: Callable[[], StoredClusterConfig]) -> None:
        self._configured = configured
        self._called_off = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """Tell whether the service is to be started."""
        return self._configured().on_boot and not self._called_off.is_set()

    def call_off(self) -> None:
        """Start nothing more: somebody ended the service."""
        self._called_off.set()

    async def run(self, start: Callable[[], Awaitable[None]]) -> None:
        """Start until it is done, refused for good, or not wanted any more."""
        if not self._configured().on_boot and self._configured().cluster_created:
            _log.warning("the cluster service does not start: it is not enabled at boot (onBoot)")
        pause = FIRST_PAUSE_SECONDS
        while self.wanted and await _fails_for_now(start, pause):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._called_off.wait()
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def _fails_for_now(start: Callable[[], Awaitable[None]], pause: float) -> bool:
    """Start, and tell whether it was refused for what may pass by itself; log why."""
    try:
        await start()
    except ConclaveError as refusal:
        passes = refusal.fault in PASSING
        then = f"; next attempt in {pause:.0f} s" if passes else ""
        _log.error("the cluster service did not start: %s%s", refusal.message, then)
        return passes
    except Exception:  # noqa: BLE001
        # The boundary of a task that nobody waits for.
        _log.exception("the cluster service did not start; next attempt in %.0f s", pause)
        return True
    return False
