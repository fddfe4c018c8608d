"""What the audit log says about changes and downloads of a user's files over scp and sftp."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from conclave import faults
from conclave.appliance.user_files import shown_name
from conclave.appliance.users import Login, Users
from conclave.audit.events import AuditEvent, EventKind, Outcome
from conclave.audit.log import AuditLog
from conclave.errors import ConclaveError, Fault
from conclave.lunash.execution import DOOR


class BrokenOff(ConclaveError):
    """An upload ended before its end."""


@dataclass(frozen=True, slots=True)
class FileChange:
    """One change, or download: its operation's name, and the paths as the client sent them."""

    operation: str
    path: bytes
    new_path: bytes | None = None
    size_bytes: int | None = None


class FileRecords:
    """Records of one login's changes, made through one session."""

    def __init__(
        self, log: AuditLog, users: Users, login: Login, *, source: str, protocol: str
    ) -> None:
        self.user_id: Final = login.user_id
        self._log = log
        self._users = users
        self._login = login
        self._source = source
        self._protocol = protocol

    def is_current(self) -> bool:
        """Tell whether the login still holds."""
        return self._users.current(self._login) is not None

    def require_writable(self) -> None:
        """Raise Unavailable while no change may be made, since none could be recorded."""
        self._log.require_writable()

    async def done(self, change: FileChange) -> None:
        """Record a change; it is on disk when this returns."""
        await self._log.write(self._event(change, Outcome.DONE, None))

    @contextlib.contextmanager
    def refusals(self, change: FileChange) -> Iterator[None]:
        """Record whatever refuses or breaks the change inside."""
        try:
            yield
        except BrokenOff as error:
            self._log.note(self._event(change, Outcome.FAILED, error.fault))
            raise
        except ConclaveError as error:
            self._log.note(self._event(change, Outcome.REFUSED, error.fault))
            raise
        except (OSError, asyncio.CancelledError):
            # A thread goes on where its caller is cancelled, so it may have been made.
            self._log.note(self._event(change, Outcome.FAILED, faults.INTERNAL))
            raise

    def _event(self, change: FileChange, outcome: Outcome, fault: Fault | None) -> AuditEvent:
        user = self._users.current(self._login)
        arguments: dict[str, str | int] = {"protocol": self._protocol}
        if change.new_path is not None:
            arguments["newName"] = _shown(change.new_path)
        if change.size_bytes is not None:
            arguments["size"] = change.size_bytes
        return AuditEvent(
            kind=EventKind.OPERATION,
            outcome=outcome,
            door=DOOR,
            user=self.user_id,
            role="" if user is None else str(user.role),
            source=self._source,
            operation=change.operation,
            target=f"/users/{self.user_id}/files/{_shown(change.path)}",
            arguments=arguments,
            status=0 if fault is None else fault.http_status,
            fault="" if fault is None else fault.rest_id,
        )


def _shown(path: bytes) -> str:
    return shown_name(path.removeprefix(b"/").decode(errors="backslashreplace"))
