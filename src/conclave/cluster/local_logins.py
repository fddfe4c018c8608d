"""Logins on a member that has lost the primary (rules C22 and B6).

Invariant: while failures of this member are not on the primary, no login goes there from here; so
nobody gets the same guesses twice by waiting for the primary to come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from conclave.cluster.attempts import CredentialName, Owed
from conclave.cluster.context import Context
from conclave.cluster.credentials import Credentials
from conclave.cluster.link.messages import LocalFailure, MergeFailures
from conclave.cluster.local_failures import (
    FailureBook,
    FailureFile,
    credential_digest,
    local_state,
)
from conclave.cluster.passwords import (
    Attempted,
    PasswordDesk,
    credential_of,
    credential_role,
)
from conclave.errors import ConclaveError
from conclave.keyring.keys import WrongPassword
from conclave.keyring.roles import LockState
from conclave.service.messages import ClientLogin, TicketResult
from conclave.store.rows import CredentialRow, KeyringRow

POLL_SECONDS: Final = 0.25

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class LocalDesk(PasswordDesk):
    """Hold passwords against this member's copy of the store, and count failures in its file."""

    file: FailureFile
    members: Callable[[], int]
    """How many members the cluster has."""

    async def _record(self, owed: Sequence[Owed]) -> None:
        try:
            await self.file.run(lambda book: [count(book) for count in owed])
        finally:
            self.file.pending = True

    async def _admission(self, attempted: Attempted) -> tuple[KeyringRow, LockState]:
        row, _ = await PasswordDesk._admission(self, attempted)
        credential = credential_of(row, attempted.role)
        digest = credential_digest(credential)
        role = credential_role(row, attempted.role)

        def look(book: FailureBook) -> tuple[bool, int]:
            known = book.knows(attempted.client_id, attempted.attempt_id)
            return known, book.count(attempted.keyring_id, role, digest)

        known, counted = await self.file.run(look)
        if known:
            raise WrongPassword
        return row, local_state(credential, counted, self.members(), self.context.limits)

    def _failure(
        self, attempted: Attempted, credential: CredentialRow, name: CredentialName
    ) -> Owed:
        keyring_id, role = name
        failure = LocalFailure(
            client_id=attempted.client_id,
            attempt_id=attempted.attempt_id,
            keyring_id=keyring_id,
            role=role,
            credential=credential_digest(credential),
        )
        now_ms = self.context.cluster_time_ms()
        return lambda book: book.add(failure, now_ms)

    async def _reset(self, attempted: Attempted, row: KeyringRow) -> KeyringRow:
        role = credential_role(row, attempted.role)
        digest = credential_digest(credential_of(row, attempted.role))

        def reset(book: FailureBook) -> None:
            if book.count(attempted.keyring_id, role, digest):
                book.reset(attempted.keyring_id, role)

        await self.file.run(reset)
        return row


@dataclass(slots=True)
class LocalLogins:
    """Check logins here, and bring what was counted to the primary once there is one."""

    context: Context
    credentials: Credentials
    """The handlers of logins, over a `LocalDesk`."""
    file: FailureFile
    send: Callable[[MergeFailures], Awaitable[Any]]
    """Merge a batch into the primary's counters; raises what calls raise."""
    may_send: Callable[[], bool]
    _merging: asyncio.Lock = field(default_factory=asyncio.Lock)
    _task: asyncio.Task[None] | None = None

    async def login(self, params: ClientLogin, role: str) -> TicketResult:
        """Check a password here and return a ticket."""
        return await self.credentials.login(params, role)

    async def merge(self) -> None:
        """Bring all failures to the primary; raise what its refusal is, to be tried again."""
        if not self.file.pending:
            return
        async with self._merging:
            while self.file.pending:
                # Before the file is read: a failure that comes meanwhile sets it again.
                self.file.pending = False
                try:
                    batch = await self.file.run(lambda book: book.batch())
                    if batch is None:
                        continue
                    await self.send(batch)
                    await self._forget(batch)
                except BaseException:
                    self.file.pending = True
                    raise
                self.file.pending = True

    async def _forget(self, batch: MergeFailures) -> None:
        await self.file.run(lambda book: book.forget(batch.batch_id))
        logger.info("Merged %d failed attempts into the primary's.", len(batch.failures))

    def start(self) -> None:
        """Merge from now on whenever there is something to merge and a primary to take it."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._merge_for_ever())

    async def _merge_for_ever(self) -> None:
        while True:
            if self.file.pending and self.may_send():
                try:
                    await self.merge()
                except ConclaveError as error:
                    logger.info("Failed attempts were not merged yet: %s", error.message)
            await asyncio.sleep(POLL_SECONDS)

    async def stop(self) -> None:
        """Merge no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self.file.close()
