"""The services of an appliance, as lists and shows report them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.appliance.cluster_service import ClusterServiceStatus
from conclave.errors import NotFound

CLUSTER: Final = "cluster"
CLUSTER_ACTIONS: Final = ("start", "stop", "restart", "enable", "disable", "factoryreset")


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """One service; `status` is running or stopped, `state` may also be starting (rule S2)."""

    service_id: str
    name: str
    status: str
    state: str
    on_boot: bool
    actions: tuple[str, ...]
    """Actions that may be asked for; none for a service that only lives with the daemon."""


NTP: Final = "ntp"
RESET: Final = "factoryreset"
WEBSERVER: Final = "webserver"
SWITCHED_ACTIONS: Final = ("start", "stop", "restart", "enable", "disable", RESET)
"""Of services that run exactly when they are enabled."""
_WITH_DAEMON: Final[Mapping[str, str]] = {"syslog": "System log"}
_ABSENT: Final[Mapping[str, str]] = {
    "ntls": "Network Trust Link",
    "snmp": "Simple Network Management Protocol",
}
"""Services of the appliance's family that this release does not have: always stopped."""


def list_services(
    cluster: ClusterServiceStatus,
    *,
    has_cluster: bool = True,
    ntp: bool = False,
    ssh: bool = False,
    webserver: bool = True,
) -> tuple[ServiceInfo, ...]:
    """Return all services in the order of their ids; the cluster's once its package is there.

    `ntp`, `ssh` and `webserver` tell whether those services run.
    """
    rows = [
        *(_cluster_rows(cluster) if has_cluster else ()),
        *(
            ServiceInfo(key, name, "running", "running", True, (RESET,))
            for key, name in _WITH_DAEMON.items()
        ),
        _switched(NTP, "Network Time Protocol", ntp, SWITCHED_ACTIONS),
        _switched(WEBSERVER, "Webserver (REST)", webserver, SWITCHED_ACTIONS),
        _switched("ssh", "Secure Shell (LunaSH)", ssh, ()),
        *(ServiceInfo(key, name, "stopped", "stopped", False, ()) for key, name in _ABSENT.items()),
    ]
    return tuple(sorted(rows, key=lambda row: row.service_id))


def _switched(key: str, name: str, on: bool, actions: tuple[str, ...]) -> ServiceInfo:
    """Return a service that runs exactly when it is enabled."""
    state = "running" if on else "stopped"
    return ServiceInfo(key, name, state, state, on, actions)


def _cluster_rows(cluster: ClusterServiceStatus) -> tuple[ServiceInfo, ...]:
    return (
        ServiceInfo(
            CLUSTER,
            "Cluster",
            cluster.status,
            cluster.state,
            cluster.on_boot,
            CLUSTER_ACTIONS,
        ),
        # The admin listener lives and dies with the cluster service.
        ServiceInfo(
            "clusteradmin",
            "Cluster administration",
            cluster.status,
            cluster.state,
            cluster.on_boot,
            (),
        ),
    )


def find_service(services: tuple[ServiceInfo, ...], service_id: str) -> ServiceInfo:
    """Return one service or raise NotFound."""
    for service in services:
        if service.service_id == service_id:
            return service
    known = ", ".join(service.service_id for service in services)
    message = f"There is no service {service_id!r}; there are {known}."
    raise NotFound(faults.SERVICE_NOT_FOUND, message)
