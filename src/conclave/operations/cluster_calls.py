"""What cluster operations share: typed calls into the cluster process, and the one cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from conclave import faults
from conclave.errors import InternalFault, NotFound
from conclave.service.messages import ClusterList, ClusterSummary
from conclave.service.quiet import Nothing, Quiet

if TYPE_CHECKING:
    from conclave.appliance.appliance import Appliance

Answer = TypeVar("Answer", bound=Quiet)


class Asker(Protocol):
    """Whatever has the appliance at hand: a call, or a session of LunaSH."""

    @property
    def appliance(self) -> Appliance:
        """Return the appliance."""


class CallWithPath(Asker, Protocol):
    """A call whose path may name a cluster."""

    @property
    def path(self) -> Mapping[str, str]:
        """Return what stands for the path's placeholders."""


async def ask(call: Asker, method: str, params: Quiet, wanted: type[Answer]) -> Answer:
    """Call the cluster process; raises what it raised, or SERVICE_STOPPED."""
    answer = await call.appliance.cluster.call(method, params)
    if not isinstance(answer, wanted):
        message = f"The cluster process answered {method} with {type(answer).__name__}."
        raise InternalFault(faults.INTERNAL, message)
    return answer


async def find_cluster(call: Asker) -> ClusterSummary | None:
    """Return the cluster of this appliance, if there is one."""
    found = await ask(call, "list_clusters", Nothing(), ClusterList)
    return found.clusters[0] if found.clusters else None


async def the_cluster(call: CallWithPath) -> ClusterSummary:
    """Return the cluster, which must exist and, if the path names one, be that one."""
    cluster = await find_cluster(call)
    if cluster is None:
        message = "There is no cluster on this appliance: create one with POST /api/clusters."
        raise NotFound(faults.CLUSTER_NOT_FOUND, message)
    named = call.path.get("clusterid", cluster.cluster_id)
    if named.lower() != cluster.cluster_id:
        message = f"There is no cluster {named[:64]!r} on this appliance."
        raise NotFound(faults.CLUSTER_NOT_FOUND, message)
    return cluster
