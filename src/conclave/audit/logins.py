"""Records of attempts to log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conclave import faults
from conclave.audit.events import AuditEvent, EventKind, Outcome
from conclave.source_networks import network_of

if TYPE_CHECKING:
    from conclave.appliance.users import LoginAttempt
    from conclave.audit.log import AuditLog


def record_login(log: AuditLog, attempt: LoginAttempt) -> None:
    """Record an attempt; of those that come too early, one a minute for each source."""
    fault = attempt.fault
    repeated: int | None = 0
    if fault is faults.LOGIN_DELAYED:
        repeated = log.repeats.due((network_of(attempt.source), attempt.user_id, fault.rest_id))
    elif fault is faults.BUSY:
        repeated = log.repeats.due((network_of(attempt.source), fault.rest_id))
    if repeated is None:
        return
    log.note(
        AuditEvent(
            kind=EventKind.LOGIN,
            outcome=Outcome.DONE if fault is None else Outcome.REFUSED,
            door=attempt.door,
            user=attempt.user_id,
            role=attempt.role,
            source=attempt.source,
            status=204 if fault is None else fault.http_status,
            fault="" if fault is None else fault.rest_id,
            note="" if attempt.user_id else "the name belongs to no user",
            repeated=repeated,
        )
    )
