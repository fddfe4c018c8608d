"""Layouts of the service family: the status is the product's (5.x), the list ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from conclave.lunash.render.cluster import cluster_status
from conclave.lunash.render.tables import table

if TYPE_CHECKING:
    from conclave.operations.services import ServiceView

__all__ = ["cluster_status", "service_list", "service_status"]


def service_status(service: ServiceView) -> list[str]:
    """Return whether a service runs."""
    return ["", f"   {service.id} is {_STATES.get(service.state, service.state)}", ""]


def service_list(services: Sequence[ServiceView]) -> list[str]:
    """Return one line for each service."""
    rows = [
        (each.id, each.name, each.state, "enabled" if each.on_boot else "disabled")
        for each in services
    ]
    return table(("Service", "Name", "Status", "On Boot"), rows)


_STATES = {"stopped": "not running"}
