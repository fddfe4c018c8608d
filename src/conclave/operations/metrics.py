"""Metrics for monitoring."""

from __future__ import annotations

from conclave.operations.customers import ASKED, refuse_customer
from conclave.operations.model import READERS, Call, NoArguments, Reply, operation
from conclave.operations.refusals import CLUSTER_CALL


@operation(
    "metrics.show",
    "GET",
    "/metrics",
    summary="Show members, modes, keyrings, certificate and mechanisms in Prometheus's format.",
    arguments=NoArguments,
    roles=READERS,
    statuses=(200,),
    media=frozenset(),
    cluster_methods=ASKED,
    faults=CLUSTER_CALL,
    only="REST: monitoring programs read it; status and show commands say the same to people",
)
async def show_metrics(call: Call, _arguments: NoArguments) -> Reply:
    """Show what monitoring wants to know."""
    await refuse_customer(call, "the metrics tell")
    return Reply(text=await call.appliance.metrics.text())
