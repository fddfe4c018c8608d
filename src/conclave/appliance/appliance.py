"""The appliance as its doors see it: one object that has every part."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING

from conclave.appliance.cluster_service import ClusterService
from conclave.appliance.services import ServiceInfo
from conclave.clock import ApplianceClock
from conclave.hsm.hsm import Hsm
from conclave.settings import ApplianceConfig

if TYPE_CHECKING:
    from conclave.appliance.store import ApplianceStore
    from conclave.appliance.time import ApplianceTime
    from conclave.appliance.users import Users


class Appliance:
    """Everything the doors use; the daemon makes it, tests may as well."""

    config: ApplianceConfig
    clock: ApplianceClock
    time: ApplianceTime
    hsm: Hsm
    cluster: ClusterService
    store: ApplianceStore
    users: Users

    def services(self) -> Sequence[ServiceInfo]:
        """Return all services: cluster, clusteradmin, webserver, ntp, ssh and so on."""
        raise NotImplementedError

    def service(self, service_id: str) -> ServiceInfo:
        """Return one service; raise NotFound (SERVICE_NOT_FOUND)."""
        raise NotImplementedError

    async def hash_password(self, password: bytes, salt: bytes, source: str) -> bytes:
        """Derive 32 bytes with Argon2id in the login process; Unavailable when it is busy."""
        raise NotImplementedError

    def rest_tls_context(self) -> ssl.SSLContext:
        """Return the TLS context of 8443."""
        raise NotImplementedError

    def admin_tls_context(self) -> ssl.SSLContext:
        """Return the TLS context of 50070: the member's certificate once there is one."""
        raise NotImplementedError
