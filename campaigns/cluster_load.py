"""The load of a cluster campaign: clients that write, log in and look, at random members."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from sqlalchemy.exc import DBAPIError

from campaigns.cluster_history import (
    Acknowledged,
    Epoch,
    Expected,
    History,
    Known,
    Name,
    compare,
    moment,
)
from conclave import faults
from conclave.cluster.configuration import Standing
from conclave.cluster.member_state import FILE_NAME, MemberStateFile
from conclave.errors import ConclaveError, Fault, Unavailable
from conclave.ids import KeyringId
from conclave.service.messages import (
    ChangePassword,
    ClientLogin,
    ObjectDelete,
    TicketResult,
    WriteObjects,
    WriteResult,
)
from conclave.service.page import NO_LEASE_END
from conclave.service.wire import Role
from conclave.store.location import StoreLocation, open_reader
from tests.support.cluster_bench import ClusterBench, new_object
from tests.support.several import Several

CALL_SECONDS: Final = 4.0
OPERATION_SECONDS: Final = 25.0
SETTLE_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 8.0
PAUSE_SECONDS: Final = 0.05
KEPT_OBJECTS: Final = 60
WATCH_SECONDS: Final = 0.02
STATE_FILE_TURNS: Final = 10
WRONG_IN_A_ROW: Final = 2
"""A run of wrong logins whose end nobody confirmed is not made longer than this."""

NOTHING_DONE: Final = (
    faults.BUSY,
    faults.MEMBER_READ_ONLY,
    faults.MEMBER_NOT_AUTHORIZED,
    faults.MEMBER_NOT_FOUND,
    faults.STORAGE_FULL,
    faults.POSTGRESQL_UNAVAILABLE,
    faults.CLUSTER_NOT_FOUND,
    faults.CLIENT_NOT_FOUND,
    faults.KEYRING_NOT_FOUND,
)
"""Answers of a member that cannot, or is in no cluster at present: go elsewhere."""


T = TypeVar("T")


class GaveUpError(Exception):
    """No answer within the time of an operation; `unknown` tells whether it may have been done."""

    def __init__(self, *, unknown: bool, fault: Fault | None) -> None:
        super().__init__()
        self.unknown = unknown
        self.fault = fault


class RefusedError(Exception):
    """A definite refusal; `unknown` tells whether an earlier attempt had no answer."""

    def __init__(self, error: ConclaveError, *, unknown: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.unknown = unknown


@dataclass
class Load:
    """What all clients share."""

    house: Several
    history: History
    chance: random.Random
    """For what follows from answers; what a client decides it decides with a chance of its own."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    absent: set[Path] = field(default_factory=set)
    """The directories of members that are in no cluster at present."""
    cut_off: set[Path] = field(default_factory=set)
    """Those of members that nobody else sees and that are about to be deleted: what they
    acknowledge may be lost with them."""

    def member(self) -> ClusterBench:
        """Return a member by chance."""
        present = [b for b in self.house.members if b.directory not in self.absent]
        return self.chance.choice(present)

    def holding(self) -> list[ClusterBench]:
        """Return the members that are visible now: they hold every acknowledged write."""
        return [
            bench
            for bench in self.house.members
            if bench.directory not in self.absent | self.cut_off and is_visible(bench)
        ]

    async def insist(
        self, call: Callable[[ClusterBench], Awaitable[T]]
    ) -> tuple[T, ClusterBench, bool]:
        """Call members until one answers; return answer, member, and whether one never answered.

        Raises GaveUpError at the end of the time, and RefusedError.
        """
        deadline = time.monotonic() + OPERATION_SECONDS
        unknown, last = False, None
        while time.monotonic() < deadline:
            bench = self.member()
            try:
                return await call(bench), bench, unknown
            except ConclaveError as error:
                last = error.fault
                self.history.counts[f"answer {last.rest_id}"] += 1
                if last is faults.OUTCOME_UNKNOWN:
                    unknown = True
                elif last is faults.DEADLINE_PASSED:
                    break
                elif bench.directory in self.cut_off | self.absent:
                    # It knows what only it has acknowledged, and that is lost with it.
                    self.history.counts["refused by a member cut off"] += 1
                elif last not in NOTHING_DONE:
                    raise RefusedError(error, unknown=unknown) from error
            await asyncio.sleep(PAUSE_SECONDS * (1 + self.chance.random()))
        raise GaveUpError(unknown=unknown, fault=last)


# ------------------------------------------------------------------ looking


def is_visible(bench: ClusterBench) -> bool:
    """Tell whether a member is Read-Write, as its page says, and in a cluster at all."""
    return bench.page.lease_valid() and bench.page.epoch()[0] > 0


def _objects_of(bench: ClusterBench, keyring: bytes) -> dict[Name, int]:
    reader = open_reader(StoreLocation(bench.directory))
    try:
        found = reader.object_revisions(KeyringId(keyring))
    finally:
        reader.close()
    return {(keyring, bytes(object_id)): int(revision) for object_id, revision in found}


async def objects_of(bench: ClusterBench, keyring: bytes) -> dict[Name, int] | None:
    """Return what a member holds, None when its store does not answer at present."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await asyncio.to_thread(_objects_of, bench, keyring)
    except (ConclaveError, DBAPIError, OSError, TimeoutError):
        return None


async def look(load: Load, bench: ClusterBench, keyring: bytes, why: str) -> bool:
    """Compare what a visible member holds with what it must hold; False when it did not answer."""
    history = load.history
    before = history.expectations(keyring)
    if not is_visible(bench) or bench.directory in load.absent:
        return False
    seen = await objects_of(bench, keyring)
    if seen is None or bench.directory in load.absent:
        history.counts["looks without answer"] += 1
        return False
    findings = compare(before, history.expectations(keyring), seen)
    history.counts[f"looks {why}"] += 1
    history.counts["objects compared"] += findings.checked
    at = f"{why}, at member {load.house.members.index(bench)}, epoch {bench.page.epoch()}"
    for kind in ("missing", "undead", "changed"):
        for name in getattr(findings, kind):
            history.complain(kind, f"object {name[1].hex()} {before[name]} {at}, now {moment()}")
    return True


# ------------------------------------------------------------------ objects


class ObjectClient:
    """Creates and deletes objects of one keyring; nobody else touches those that it made."""

    def __init__(self, load: Load, keyring: bytes, password: bytes, chance: random.Random) -> None:
        self._load = load
        self._keyring = keyring
        self._password = password
        self._chance = chance
        self._mine: list[Name] = []
        self._ticket = b""

    async def run(self) -> None:
        """Work until the load ends."""
        chance = self._chance
        while not self._load.stopping.is_set():
            full = len(self._mine) >= KEPT_OBJECTS
            if self._mine and (full or chance.random() < 0.4):
                await self._delete(self._mine.pop(chance.randrange(len(self._mine))))
            else:
                await self._create((self._keyring, chance.randbytes(16)))
            await asyncio.sleep(chance.random() * 2 * PAUSE_SECONDS)

    async def _create(self, name: Name) -> None:
        write = WriteObjects(
            client_id=self._load.house.members[0].client_id,
            ticket=b"",
            keyring_id=self._keyring,
            writes=[new_object(name[1])],
            deletes=[],
            idempotency_key=os.urandom(16),
            request_mac=b"create",
            deadline_ms=0,
            result=b"created",
        )
        await self._write(name, write, Expected.ABSENT, Expected.PRESENT)

    async def _delete(self, name: Name) -> None:
        known = self._load.history.objects[name]
        delete = ObjectDelete(object_id=name[1], expected_revision=known.revision)
        write = WriteObjects(
            client_id=self._load.house.members[0].client_id,
            ticket=b"",
            keyring_id=self._keyring,
            writes=[],
            deletes=[delete],
            idempotency_key=os.urandom(16),
            request_mac=b"delete",
            deadline_ms=0,
            result=b"deleted",
        )
        await self._write(name, write, Expected.PRESENT, Expected.ABSENT)

    async def _write(
        self, name: Name, write: WriteObjects, before: Expected, after: Expected
    ) -> None:
        """Make one write, and look at every visible member once it is acknowledged."""
        history = self._load.history
        former = history.objects.get(name, Known(before))
        history.begin(name)
        kind = "creates" if after is Expected.PRESENT else "deletes"
        deadline_ms = self._load.member().deadline(int(OPERATION_SECONDS) + 5)

        async def call(bench: ClusterBench) -> WriteResult:
            ticket = await self._ticket_at(bench)
            params = msgspec.structs.replace(write, ticket=ticket, deadline_ms=deadline_ms)
            try:
                result: WriteResult = await bench.worker.call(
                    "write_objects", params, timeout_seconds=CALL_SECONDS
                )
            except ConclaveError as error:
                if error.fault is faults.NOT_LOGGED_IN:
                    self._ticket = b""
                    raise Unavailable(faults.BUSY, error.message) from error
                raise
            return result

        try:
            result, bench, unknown = await self._load.insist(call)
        except GaveUpError as end:
            history.counts[f"{kind} without answer"] += 1
            if not end.unknown:
                history.settle(name, before, former.revision)
            return
        except RefusedError as end:
            history.complain(
                "idempotency" if end.unknown else "refusal",
                f"{kind} of {name[1].hex()}, {former}: {end.error.message} now {moment()}",
            )
            return
        if bench.directory in self._load.cut_off | self._load.absent:
            history.counts["acknowledged by a member cut off"] += 1
            return
        history.counts[kind] += 1
        history.counts["repeated"] += result.repeated
        if result.repeated and not unknown:
            history.complain("idempotency", f"{kind} of {name[1].hex()} was repeated unasked")
        history.settle(name, after, result.revision)
        history.acknowledge(
            Acknowledged(bench.member_id, bench.page.epoch(), result.revision, time.monotonic())
        )
        if after is Expected.PRESENT:
            self._mine.append(name)
        for other in self._load.holding():
            if self._load.chance.random() < 0.5:
                await look(self._load, other, self._keyring, "after a write")

    async def _ticket_at(self, bench: ClusterBench) -> bytes:
        if not self._ticket:
            try:
                self._ticket = await log_in(bench, self._keyring, self._password)
            except ConclaveError as error:
                # Not the write's outcome: it was not sent yet.
                raise Unavailable(faults.BUSY, error.message) from error
        return self._ticket


async def log_in(
    bench: ClusterBench, keyring: bytes, password: bytes, role: Role = Role.KRCO
) -> bytes:
    """Log in at a member, once."""
    params = ClientLogin(
        client_id=bench.client_id,
        source="127.0.0.1",
        keyring_id=keyring,
        role=role,
        password=password,
        attempt_id=os.urandom(16),
    )
    result: TicketResult = await bench.worker.call("login", params, timeout_seconds=CALL_SECONDS)
    return result.ticket


# ------------------------------------------------------------------ passwords


class PasswordClient:
    """Changes the KRSO's password of a keyring of its own, and logs in rightly and wrongly."""

    def __init__(self, load: Load, keyring: bytes, password: bytes, chance: random.Random) -> None:
        self._load = load
        self._keyring = keyring
        self._chance = chance
        self._valid = {password}
        """One; several when the outcome of a change is unknown."""
        self._old: list[bytes] = []
        self._numbers = itertools.count(1)
        self._wrong = 0

    async def run(self) -> None:
        """Work until the load ends."""
        while not self._load.stopping.is_set():
            if self._chance.random() < 0.4 and len(self._valid) == 1:
                await self._change()
            await self.log_in_rightly()
            if self._wrong < WRONG_IN_A_ROW:
                await self._log_in_wrongly()
                await self.log_in_rightly()
            await asyncio.sleep(self._chance.random() * 4 * PAUSE_SECONDS)

    async def _change(self) -> None:
        (old,) = self._valid
        new = f"password-{next(self._numbers)}".encode()
        key = os.urandom(16)
        deadline_ms = self._load.member().deadline(int(OPERATION_SECONDS) + 5)

        async def call(bench: ClusterBench) -> TicketResult:
            params = ChangePassword(
                client_id=bench.client_id,
                source="127.0.0.1",
                ticket=None,
                keyring_id=self._keyring,
                role=Role.KRSO,
                old_password=old,
                new_password=new,
                idempotency_key=key,
                deadline_ms=deadline_ms,
            )
            result: TicketResult = await bench.worker.call(
                "change_password", params, timeout_seconds=CALL_SECONDS
            )
            return result

        history = self._load.history
        try:
            _, bench, _ = await self._load.insist(call)
        except GaveUpError as end:
            history.counts["password changes without answer"] += 1
            if end.unknown:
                self._valid = {old, new}
                # A member that hung may carry it out until its deadline, and answer nobody.
                await asyncio.sleep(SETTLE_SECONDS)
            return
        except RefusedError as end:
            kind = "idempotency" if end.unknown else "refusal"
            history.complain(kind, f"password change: {end.error.message} now {moment()}")
            self._valid = {old, new}
            return
        if bench.directory in self._load.cut_off | self._load.absent:
            self._valid = {old, new}
            return
        history.counts["password changes"] += 1
        self._valid = {new}
        self._old.append(old)

    async def log_in_rightly(self) -> bool:
        """Log in at a visible member with what must be the password; True when it was answered."""
        history = self._load.history
        for password in sorted(self._valid, key=lambda _word: self._load.chance.random()):
            outcome = await self._try(password)
            if outcome is True:
                self._wrong = 0
                others = self._valid - {password}
                self._valid = {password}
                self._old.extend(others)
                return True
            if outcome is None:
                return False
            if len(self._valid) == 1:
                history.complain("password", f"the valid one is refused, now {moment()}")
                self._valid = {password}
                return True
        return True

    async def _log_in_wrongly(self) -> None:
        old = self._chance.choice(self._old) if self._old else b"never-valid"
        self._wrong += 1
        if await self._try(old) is True:
            self._load.history.complain("password", f"an old one is accepted, now {moment()}")

    async def _try(self, password: bytes) -> bool | None:
        """Return whether a visible member accepts a password, None without an answer."""
        holding = self._load.holding()
        if not holding:
            await asyncio.sleep(PAUSE_SECONDS)
            return None
        bench = self._load.chance.choice(holding)
        history = self._load.history
        try:
            await log_in(bench, self._keyring, password, Role.KRSO)
        except ConclaveError as error:
            history.counts[f"login {error.fault.rest_id}"] += 1
            if error.fault is faults.PIN_LOCKED:
                history.complain("locked", f"after {self._wrong} wrong ones, now {moment()}")
                await self._unlock()
                return None
            return False if error.fault is faults.PIN_INCORRECT else None
        history.counts["logins"] += 1
        return True

    async def _unlock(self) -> None:
        self._wrong = 0
        name = str(UUID(bytes=self._keyring))
        with contextlib.suppress(ConclaveError):
            await self._load.member().unlock(name)


# ------------------------------------------------------------------ who is primary


async def watch_primaries(load: Load) -> None:
    """Look again and again at who each member believes to be primary, and who acts as it."""
    for turn in itertools.count():
        if load.stopping.is_set():
            return
        for bench in load.house.members:
            led = epoch_led_by(bench)
            if led is not None:
                where = f"page of {bench.directory.name}"
                load.history.see_primary(led, bench.member_id, where, time.monotonic())
            if turn % STATE_FILE_TURNS == 0:
                _look_at_state_file(load, bench)
        await asyncio.sleep(WATCH_SECONDS)


def epoch_led_by(bench: ClusterBench) -> Epoch | None:
    """Return the epoch in which a member takes writes as the primary now, None if it does not."""
    page = bench.page
    epoch = page.epoch()
    # Two words: what is read between two equal epochs belongs to that epoch.
    # Who is in no cluster has a lease without end too, but nobody has authorized it.
    leads = page.authorized() and page.lease_end_ms() == NO_LEASE_END
    number, promoter = epoch
    return (number, str(promoter)) if leads and number and page.epoch() == epoch else None


def _look_at_state_file(load: Load, bench: ClusterBench) -> None:
    state = MemberStateFile(bench.directory / FILE_NAME).load()
    # Whoever is no member any more only keeps who was primary when it was one.
    if state is not None and state.standing in (Standing.MEMBER, Standing.JOINING):
        epoch = (state.epoch.number, str(state.epoch.promoter))
        primary, where = str(state.configuration.primary), f"state of {bench.directory.name}"
        load.history.see_primary(epoch, primary, where, time.monotonic())
