"""The listener of 8443: on all interfaces or one, as the webserver's settings say, or off.

Invariant: a change never waits for the request that asked for it; the former listener finishes what
is in flight, and then the new one listens.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import Final

from conclave.appliance.doors import Door
from conclave.appliance.network import bind_all
from conclave.appliance.webserver_settings import ALL_DEVICES, WebserverSettings
from conclave.errors import ConclaveError
from conclave.settings import ApplianceConfig

STOP_SECONDS: Final = 3.0

_log = logging.getLogger(__name__)


class RestListener:
    """Opens, moves and closes the REST door."""

    def __init__(
        self,
        config: ApplianceConfig,
        settings: WebserverSettings,
        door: Door,
        tls: ssl.SSLContext,
    ) -> None:
        self._config, self._settings = config, settings
        self._door, self._tls = door, tls
        self._lock = asyncio.Lock()
        self._moving: set[asyncio.Task[None]] = set()

    def bind(self) -> list[socket.socket]:
        """Return the sockets that the settings ask for; raise NotAllowed when one is taken."""
        if not self._settings.enabled:
            return []
        interfaces = self._config.interfaces
        device = self._settings.net_device
        if device != ALL_DEVICES and device not in interfaces:
            _log.warning("the webserver's network device %s is gone: it listens on all", device)
            device = ALL_DEVICES
        every = device == ALL_DEVICES
        addresses = sorted(set(interfaces.values())) if every else [interfaces[device]]
        return bind_all(addresses, self._config.rest_port, what="REST")

    async def start(self, sockets: list[socket.socket]) -> None:
        """Listen, and follow the settings from now on."""
        if sockets:
            await self._door.start(sockets, self._tls)
        self._settings.on_change = self._move_soon

    async def stop(self) -> None:
        """Finish what is in flight within the deadline, and stop listening."""
        for task in tuple(self._moving):
            task.cancel()
        if self._moving:
            await asyncio.wait(self._moving)
        await self._door.stop(deadline_seconds=STOP_SECONDS)

    def _move_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._move(), name="webserver moves")
        self._moving.add(task)
        task.add_done_callback(self._moving.discard)

    async def _move(self) -> None:
        async with self._lock:
            await self._door.stop(deadline_seconds=STOP_SECONDS)
            try:
                sockets = self.bind()
                if sockets:
                    await self._door.start(sockets, self._tls)
            except ConclaveError as error:
                _log.error("the webserver does not listen: %s", error.message)
