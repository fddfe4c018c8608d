"""What the audit log says about one happening."""

from __future__ import annotations

import enum
from typing import Any

import msgspec


class EventKind(enum.StrEnum):
    """What happened."""

    OPERATION = "operation"
    LOGIN = "login"
    TASK = "task"
    """A task came to its end."""
    LOG = "log"
    """Something about the log itself."""


class Outcome(enum.StrEnum):
    """How it ended."""

    DONE = "done"
    ACCEPTED = "accepted"
    """It goes on as a task, whose end is recorded as well."""
    REFUSED = "refused"
    FAILED = "failed"
    """It broke inside the appliance: what was done is unknown."""


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One happening; nothing in it is a secret."""

    kind: EventKind
    outcome: Outcome
    door: str = ""
    user: str = ""
    """Who; empty when nobody proved who it is."""
    role: str = ""
    source: str = ""
    """Network address."""
    operation: str = ""
    target: str = ""
    """Path of the resource."""
    arguments: dict[str, Any] = {}
    """What was sent, without its secrets."""
    status: int = 0
    """HTTP status."""
    fault: str = ""
    """Identifier of the refusal."""
    task: str = ""
    repeated: int = 0
    """How many more of the same were left out since the last record of them."""
    note: str = ""
