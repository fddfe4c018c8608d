"""Keep the cluster service's configuration: rules decide, the appliance store remembers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from conclave.appliance import cluster_config
from conclave.appliance.cluster_config import ClusterConfig, IdentityMode, StoredClusterConfig
from conclave.appliance.documents import Documents
from conclave.settings import ApplianceConfig

DOCUMENT: Final = "cluster service"
DAY_MS: Final = 86_400_000


class ClusterSettings:
    """The configuration of one appliance's cluster service; its owner keeps changes apart."""

    def __init__(
        self, settings: ApplianceConfig, documents: Documents, stored: StoredClusterConfig
    ) -> None:
        self._settings = settings
        self._documents = documents
        self.stored = stored

    @classmethod
    async def open(cls, settings: ApplianceConfig, documents: Documents) -> ClusterSettings:
        """Read the configuration from the store."""
        return cls(settings, documents, await documents.load(DOCUMENT, StoredClusterConfig))

    def config(self) -> ClusterConfig:
        """Return the configuration with the appliance's defaults filled in."""
        settings = self._settings
        return cluster_config.effective(self.stored, settings.admin_port, settings.crypto_port)

    @property
    def postgresql_account(self) -> str:
        """Return the account that was set for PostgreSQL, "" for the usual ones."""
        return self._settings.postgresql.account

    def core_address(self) -> str:
        """Return the core address; raise NotAllowed when there is none that can be used (S6)."""
        return cluster_config.require_core_address(self.config(), self._settings.interfaces)

    async def set_core_address(self, address: str) -> None:
        """Fix the core address."""
        interfaces = self._settings.interfaces
        await self._change(
            lambda stored: cluster_config.with_core_address(stored, address, interfaces)
        )

    async def set_listener(
        self, service: str, interface: str | None, port: int | None, now_ms: int
    ) -> None:
        """Set interface or port of the admin or crypto listener; a former crypto port is kept."""
        settings = self._settings
        until_ms = now_ms + settings.former_port_days * DAY_MS

        def change(stored: StoredClusterConfig) -> StoredClusterConfig:
            before = stored.crypto_port or settings.crypto_port
            changed = cluster_config.with_listener(
                stored, service, interface, port, settings.interfaces
            )
            after = changed.crypto_port or settings.crypto_port
            return cluster_config.with_former_port(changed, before, after, until_ms)

        await self._change(change)

    async def set_identity(self, mode: str) -> None:
        """Choose single or dual identity."""
        await self._change(lambda stored: cluster_config.with_identity(stored, mode))

    async def set_on_boot(self, value: bool) -> None:
        """Say whether the service starts with the appliance."""
        await self._change(lambda stored: msgspec.structs.replace(stored, on_boot=value))

    async def remember_cluster(self, mode: IdentityMode | None) -> None:
        """Note the cluster's identity mode, or that there is none, for when none can be asked."""
        await self._change(lambda stored: cluster_config.with_cluster(stored, mode))

    async def reset(self) -> None:
        """Forget everything that was configured."""
        await self._change(lambda _stored: StoredClusterConfig())

    async def _change(self, change: Callable[[StoredClusterConfig], StoredClusterConfig]) -> None:
        changed = change(self.stored)
        if changed != self.stored:
            await self._documents.save(DOCUMENT, changed)
            self.stored = changed
