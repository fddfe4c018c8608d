"""What the two HTTPS listeners present, and its renewal by the appliance clock (rules T1, T2)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from conclave.appliance.tls import (
    WEBSERVER_CERTIFICATE_NAME,
    ensure_webserver_certificate,
    load_certificate,
)
from conclave.appliance.tls_contexts import AdminTls, rest_context
from conclave.clock import ApplianceClock

CHECK_SECONDS: Final = 3600.0

_log = logging.getLogger(__name__)


class WebserverTls:
    """The contexts of both listeners, and one task that keeps their certificate from ending.

    It looks each hour and whenever the time was set.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        addresses: Sequence[str],
        clock: ApplianceClock,
        *,
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        self._directory, self._name, self._addresses = directory, name, addresses
        self._clock = clock
        self._check_seconds = check_seconds
        certificate, key = self._ensure()
        self.rest: Final[ssl.SSLContext] = rest_context(certificate, key)
        self.admin: Final = AdminTls(certificate, key)
        self._known = (certificate.read_bytes(), key.read_bytes())
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="webserver-tls")

    async def stop(self) -> None:
        """End, whatever is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def regenerate(self) -> None:
        """Present a new certificate with a new key from now on."""
        (self._directory / WEBSERVER_CERTIFICATE_NAME).unlink(missing_ok=True)
        await self._look()

    def wake(self) -> None:
        """Look soon; returns at once."""
        self._wanted.set()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), self._check_seconds)
            self._wanted.clear()
            try:
                await self._look()
            except (OSError, ValueError):
                _log.exception("the webserver's certificate could not be renewed")

    async def _look(self) -> None:
        found = await asyncio.to_thread(self._read)
        if found != self._known:
            load_certificate(self.rest, *found)
            self.admin.set_webserver(*found)
            self._known = found
            message = "the webserver presents a new certificate: give %s to those who trust it"
            _log.warning(message, self._directory / WEBSERVER_CERTIFICATE_NAME)

    def _read(self) -> tuple[bytes, bytes]:
        certificate, key = self._ensure()
        return certificate.read_bytes(), key.read_bytes()

    def _ensure(self) -> tuple[Path, Path]:
        now = self._clock.now()
        return ensure_webserver_certificate(self._directory, self._name, self._addresses, now)
