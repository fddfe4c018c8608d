"""The listener of 50070, which lives and dies with the cluster service."""

from __future__ import annotations

from typing import Final

from conclave.appliance.cluster_config import ClusterConfig
from conclave.appliance.doors import Door
from conclave.appliance.member_identity import MemberCertificate
from conclave.appliance.network import bind_all
from conclave.appliance.tls_contexts import AdminTls
from conclave.settings import ApplianceConfig

STOP_SECONDS: Final = 3.0


class AdminListener:
    """Open and close the admin door; without a door, tests go straight to the service."""

    def __init__(self, settings: ApplianceConfig, tls: AdminTls) -> None:
        self._settings = settings
        self._tls = tls
        self._door: Door | None = None

    def attach(self, door: Door) -> None:
        """Name the door that serves it."""
        self._door = door

    def use(self, certificate: MemberCertificate | None) -> None:
        """Present the member's certificate from now on, or the webserver's (None)."""
        self._tls.use(certificate)

    async def open(self, config: ClusterConfig) -> None:
        """Listen on the configured interface and port; raise NotAllowed when they are taken."""
        if self._door is None:
            return
        interfaces = self._settings.interfaces
        chosen = config.admin.interface
        addresses = [interfaces[chosen]] if chosen else sorted(set(interfaces.values()))
        sockets = bind_all(addresses, config.admin.port, what="admin")
        await self._door.start(sockets, self._tls.context)

    async def close(self) -> None:
        """Finish what is in flight within the deadline, and stop listening."""
        if self._door is not None:
            await self._door.stop(deadline_seconds=STOP_SECONDS)
