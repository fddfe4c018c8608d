"""The cluster service: its configuration, start and stop, and the daemon's calls into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from conclave.service import messages
from conclave.service.messages import Quiet

IdentityMode = Literal["single", "dual"]


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """Where admin or crypto traffic is accepted; `interface` None means every interface."""

    interface: str | None
    port: int


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The cluster service's configuration; `core_address` None means not yet chosen."""

    core_address: str | None
    admin: ListenerConfig
    crypto: ListenerConfig
    identity: IdentityMode


@dataclass(frozen=True, slots=True)
class ClusterServiceStatus:
    """What runs: `pids` has `cluster`, `worker-0` ... for the processes of the service."""

    status: Literal["running", "stopped"]
    state: Literal["stopped", "starting", "running"]
    on_boot: bool
    authorized: bool
    pids: dict[str, int]
    restart_required: tuple[str, ...]
    """Why a restart is required; empty when what runs is what is configured."""


class ClusterService:
    """Start, stop, configure and call the cluster service."""

    def config(self) -> ClusterConfig:
        """Return the configuration."""
        raise NotImplementedError

    async def set_core_address(self, address: str) -> None:
        """Fix the core address: one of the appliance's, once until factory reset (S6)."""
        raise NotImplementedError

    async def set_listener(
        self,
        service: Literal["admin", "crypto"],
        *,
        interface: str | None = None,
        port: int | None = None,
    ) -> None:
        """Bind admin or crypto to an interface, a port, or both; None leaves it as it is."""
        raise NotImplementedError

    async def set_identity(self, mode: str) -> None:
        """Choose single or dual identity; Conflict once a cluster exists (K1)."""
        raise NotImplementedError

    async def set_on_boot(self, value: bool) -> None:
        """Say whether the service starts with the appliance; starts and stops nothing (S3)."""
        raise NotImplementedError

    async def start(self, *, force: bool = False) -> None:
        """Start and wait until ready; `force` passes over the certificate's validity only."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop, wiping the SMK: the member must be authorized again."""
        raise NotImplementedError

    async def restart(self, *, force: bool = False) -> None:
        """Stop and start: the member must be authorized again (S4)."""
        raise NotImplementedError

    async def factory_reset(self) -> None:
        """Remove cluster store, core address and certificates; keep HSM, partition and SMK (S8)."""
        raise NotImplementedError

    def status(self) -> ClusterServiceStatus:
        """Return status, state and processes."""
        raise NotImplementedError

    async def call(self, method: str, params: Quiet) -> Quiet:
        """Call a method of `conclave.service.messages.METHODS` in the cluster process.

        Raises Unavailable or NotAllowed (SERVICE_STOPPED) when the service does not run.
        """
        raise NotImplementedError

    async def create_cluster(
        self, label: str, so_password: bytes, *, source: str = "local"
    ) -> messages.ClusterSummary:
        """Create a cluster of one after the SO's password was checked."""
        raise NotImplementedError

    async def authorize(
        self,
        member_id: str,
        partition_label: str,
        co_password: bytes,
        *,
        source: str = "local",
    ) -> None:
        """Open the SMK with the CO's password and give it to the cluster process."""
        raise NotImplementedError
