"""What may be chosen about the REST doors."""

from __future__ import annotations

from dataclasses import dataclass

from conclave.rest.media_types import Strictness


@dataclass(frozen=True, slots=True, kw_only=True)
class RestSettings:
    """Limits and habits of a door; sizes in bytes."""

    strictness: Strictness = Strictness.VENDOR
    """Media types of 8443; 50070 always accepts plain JSON."""
    task_status_204: bool = False
    """Announce tasks with 204 and Location only, as old callers expect."""
    max_body_bytes: int = 64 * 1024
    body_seconds: float = 30.0
    """How long a body may take to arrive."""
    max_connections: int = 256
