"""The services of an appliance, as lists and shows report them."""

from __future__ import annotations

from dataclasses import dataclass


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
