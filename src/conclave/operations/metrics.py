"""Metrics for monitoring."""

from __future__ import annotations

from conclave.operations.model import READERS, Call, NoArguments, Reply, operation
from conclave.operations.reveals import Reveals


@operation(
    "metrics.show",
    "GET",
    "/metrics",
    summary="Show members, modes, keyrings, certificate and mechanisms in Prometheus's format.",
    arguments=NoArguments,
    roles=READERS,
    reveals=Reveals.USE,
    statuses=(200,),
    media=frozenset(),
    only="REST: monitoring programs read it; status and show commands say the same to people",
)
async def show_metrics(call: Call, _arguments: NoArguments) -> Reply:
    """Show what monitoring wants to know."""
    return Reply(text=await call.appliance.metrics.text())
