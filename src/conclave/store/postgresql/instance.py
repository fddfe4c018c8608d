"""One member's PostgreSQL: made, started in a role, copied, rewound, promoted, stopped.

Invariant: the list of synchronous standbys is what `start` or `set_synchronous` was told last, and
when they return every process of the server that counts acknowledgements has read it.  No method
waits without a deadline, whatever state PostgreSQL is in.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.errors import Conflict, InternalFault, Unavailable
from conclave.ids import MemberId
from conclave.store.postgresql import account as accounts
from conclave.store.postgresql import configuration, programs, replacing, status, upstream
from conclave.store.postgresql.account import Account, Directories
from conclave.store.postgresql.admission import Admission
from conclave.store.postgresql.binaries import Binaries
from conclave.store.postgresql.configuration import DATABASE, OWNER, READER, Role
from conclave.store.postgresql.control import Control
from conclave.store.postgresql.server import FAST_SECONDS, Server, StopMode
from conclave.store.postgresql.status import Lsn, Positions, StandbyStatus, member_name
from conclave.store.postgresql.views import SlotReport, Views

START_SECONDS: Final = 120.0
INITIALIZE_SECONDS: Final = 120.0
COPY_SECONDS: Final = 3600.0
LIST_SECONDS: Final = 5.0
PROMOTE_SECONDS: Final = 30
CHECKPOINT_SECONDS: Final = 60.0
CONTROL_DATA_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.01
_START_POLL_SECONDS: Final = 0.05
_SHIFT: Final = 8

_PERCENT: Final = re.compile(r"\((\d+)%\)")
_PREPARE: Final = f"""\
CREATE ROLE {READER} LOGIN;
ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} GRANT SELECT ON TABLES TO {READER};
CREATE DATABASE {DATABASE};
"""
_PRIORITIES: Final = """\
SELECT application_name, sync_priority FROM pg_stat_replication
WHERE flush_lsn IS NOT NULL AND starts_with(application_name, 'm_')"""


class Instance:
    """The PostgreSQL of this member; `member_id` names it to its primary."""

    def __init__(
        self,
        binaries: Binaries,
        data_dir: Path,
        run_dir: Path,
        account: Account,
        *,
        member_id: MemberId | None = None,
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self._binaries = binaries
        self._places = Directories(data_dir, run_dir)
        self._account = account
        self._member_id = member_id
        self._server = Server(account, data_dir)
        self._server.on_exit = on_exit
        self._control = Control(run_dir)
        self._views = Views(self._control)
        self._admission = Admission(
            self._places, account, self._server, self._control, self._views.positions
        )
        self._list_lock = asyncio.Lock()
        self._synchronous: tuple[MemberId, ...] = ()
        self._shift = 0

    @property
    def running(self) -> bool:
        """Tell whether postgres runs."""
        return self._server.running

    @property
    def pid(self) -> int | None:
        """Return the process id of postgres while it runs."""
        return self._server.pid

    @property
    def initialized(self) -> bool:
        """Tell whether there are data."""
        return (self._places.data / "PG_VERSION").exists()

    @property
    def synchronous(self) -> tuple[MemberId, ...]:
        """Return the members that a commit waits for."""
        return self._synchronous

    # ------------------------------------------------------------------ life

    async def initialize(self) -> None:
        """Make an empty database with its roles, unless there are data already."""
        self._require_stopped("initialised")
        await asyncio.to_thread(accounts.prepare, self._places, self._account)
        if self.initialized:
            return
        fresh = await self._fresh_directory()
        options = ["-D", str(fresh), "-U", OWNER, "-A", "trust", "--locale=C", "-E", "UTF8", "-k"]
        await self._run("initdb", [*options, "--no-instructions"], INITIALIZE_SECONDS)
        single = ["--single", "-D", str(fresh), "template1"]
        await self._run("postgres", single, INITIALIZE_SECONDS, text=_PREPARE)
        await asyncio.to_thread(replacing.take_over, self._places.data, fresh)

    async def start(
        self, role: Role, *, synchronous: Sequence[MemberId] = (), rewound: bool = False
    ) -> None:
        """Start in a role, and return when it answers; a standby is closed to readers.

        Raises InternalFault when postgres ends or has the other role, Unavailable at the deadline,
        Conflict (STORE_DIVERGED) for data that were rewound in part, but for those that `rewound`
        tells are to be looked at; it does not run then.
        """
        if not rewound:
            replacing.require_whole(self._places.data)
        if role == "standby" and self._member_id is None:
            message = "A standby needs a member id, by which its primary knows it."
            raise InternalFault(faults.POSTGRESQL_FAILED, message)
        await asyncio.to_thread(accounts.prepare, self._places, self._account)
        await self._server.end_leftovers()
        await self._write_configuration(role, synchronous)
        arguments = configuration.arguments(self._places.data, self._places.run)
        await self._control.close()
        await self._server.start(self._binaries.program("postgres"), arguments)
        try:
            await self._answers(role)
        except BaseException:
            await self._server.kill()
            raise

    async def admit_readers(self) -> None:
        """Let readers connect; see `Admission.open`."""
        await self._admission.open()

    async def stop(self, mode: StopMode = "fast", seconds: float = FAST_SECONDS) -> None:
        """Shut down; what has not ended after `seconds` of a fast stop is killed."""
        await self._control.close()
        await self._server.stop(mode, seconds)

    async def kill(self) -> None:
        """End it at once, as a crash would."""
        await self._control.close()
        await self._server.kill()

    async def checkpoint(self) -> None:
        """Write everything to the data files, so that a stop or a rewind is quick and right."""
        # On a connection of its own: it may take long, and others must go on asking meanwhile.
        control = Control(self._places.run)
        try:
            await control.ask("CHECKPOINT", seconds=CHECKPOINT_SECONDS)
        finally:
            await control.close()

    async def shutdown_position(self) -> Lsn | None:
        """Return where the log ended at a clean shutdown, None after a crash or while it runs."""
        arguments = ["-D", str(self._places.data)]
        told = await self._run("pg_controldata", arguments, CONTROL_DATA_SECONDS)
        return status.shutdown_position(told)

    # ------------------------------------------------------------------ copies

    async def base_backup(
        self,
        upstream_dir: Path,
        member_id: MemberId,
        progress: Callable[[float], None],
        *,
        kept: Path | None = None,
    ) -> None:
        """Replace the data by a copy of the server behind `upstream_dir`.

        `progress` is told the done part, 0 to 1.  The old data stay until the copy is complete, and
        are moved to `kept` then if that is given; after an interruption it may be called again.
        First raises Conflict for another major version, InternalFault without room for `kept`.
        """
        self._require_stopped("copied")
        await asyncio.to_thread(accounts.prepare, self._places, self._account)
        await self._server.end_leftovers()
        slot = member_name(member_id)
        await upstream.prepare(upstream_dir, slot, self._binaries.major)
        keep = kept if self.initialized else None
        await asyncio.to_thread(replacing.prepare_to_keep, self._places.data, keep)

        def note(line: str) -> None:
            if found := _PERCENT.search(line):
                progress(min(int(found[1]), 100) / 100)

        fresh = await self._fresh_directory()
        source = upstream.conninfo(upstream_dir, "pg_basebackup")
        options = ["-D", str(fresh), "-d", source, "-S", slot, "-X", "stream"]
        options += ["-c", "fast", "-P", "--no-password"]
        await self._run("pg_basebackup", options, COPY_SECONDS, on_line=note)
        await asyncio.to_thread(replacing.take_over, self._places.data, fresh, keep)
        progress(1.0)

    async def rewind(self, upstream_dir: Path) -> None:
        """Take back what the server behind `upstream_dir` does not have, and copy what it has.

        Raises Conflict with STORE_DIVERGED when that cannot be done: copy the store anew then.
        `start` takes the data only as `rewound`, until `replacing.unmark` is called.
        """
        self._require_stopped("rewound")
        await self._server.end_leftovers()
        # A promotion shows in the control file, which is compared, after a checkpoint only.
        await upstream.checkpoint(upstream_dir, CHECKPOINT_SECONDS)
        source = upstream.conninfo(upstream_dir, "pg_rewind") + " dbname=postgres"
        # A primary recovers from a crash first, and must not throw away the log that it needs next.
        # A copy must not: what it has not replayed it would take for its own, and end its log.
        was_copy = (self._places.data / configuration.STANDBY_SIGNAL).exists()
        await self._write_configuration("standby" if was_copy else "primary")
        settings = self._places.run / configuration.MAIN_FILE
        arguments = ["-D", str(self._places.data), f"--config-file={settings}"]
        arguments += ["--source-server", source]
        arguments += ["--no-ensure-shutdown"] if was_copy else []
        # What a dry run refuses was not changed and stays whole.  It refuses every primary that
        # crashed, which is to be recovered first.
        tries = was_copy or await self.shutdown_position() is not None
        try:
            if tries:
                await self._run("pg_rewind", [*arguments, "--dry-run"], COPY_SECONDS)
            await asyncio.to_thread(replacing.mark, self._places.data)
            await self._run("pg_rewind", arguments, COPY_SECONDS)
        except InternalFault as cause:
            message = f"The store must be copied anew, it cannot be rewound: {cause.message}"
            raise Conflict(faults.STORE_DIVERGED, message) from cause

    async def promote(self) -> None:
        """Make a running standby the primary; no commit waits for anybody until a list is set."""
        await self.set_synchronous(())
        rows = await self._control.ask(
            "SELECT pg_promote(true, %s)", [PROMOTE_SECONDS], seconds=PROMOTE_SECONDS + 5.0
        )
        if rows != [(True,)]:
            message = f"PostgreSQL was not promoted within {PROMOTE_SECONDS} s."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message)

    # ------------------------------------------------------------------ standbys

    async def set_synchronous(self, member_ids: Sequence[MemberId]) -> None:
        """Let commits wait for all of these members and no others, those under way included."""
        try:
            async with asyncio.timeout(LIST_SECONDS), self._list_lock:
                await self._set_synchronous(tuple(member_ids))
        except TimeoutError as cause:
            message = f"PostgreSQL did not take the list of standbys within {LIST_SECONDS:g} s."
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from cause

    async def slots(self, members: Sequence[MemberId]) -> SlotReport:
        """Let the log be kept for these members and no others, as far as the limit goes."""
        return await self._views.slots(members)

    async def replication(self) -> list[StandbyStatus]:
        """Return the standbys that are connected to this primary."""
        return await self._views.replication()

    async def positions(self) -> Positions:
        """Return how far the log reaches here."""
        return await self._views.positions()

    # ------------------------------------------------------------------ helpers

    async def _run(
        self,
        name: str,
        arguments: Sequence[str],
        seconds: float,
        *,
        text: str = "",
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        program = self._binaries.program(name)
        return await programs.run(
            self._account, program, arguments, seconds=seconds, text=text, on_line=on_line
        )

    async def _write_configuration(self, role: Role, synchronous: Sequence[MemberId] = ()) -> None:
        self._shift = 0
        self._admission.closed = role == "standby"
        self._synchronous = tuple(synchronous) if role == "primary" else ()
        await asyncio.to_thread(
            configuration.write_files,
            self._places,
            self._account,
            role,
            own_name=member_name(self._member_id) if self._member_id is not None else "",
            synchronous=configuration.synchronous_list(self._synchronous, self._shift),
        )

    async def _answers(self, role: Role) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await _until(lambda: self._is_in(role), _START_POLL_SECONDS)
        except TimeoutError as cause:
            message = f"PostgreSQL does not answer: {self._server.complaint()}"
            raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from cause

    async def _is_in(self, role: Role) -> bool:
        if not self._server.running:
            message = f"PostgreSQL does not start: {self._server.complaint()}"
            raise InternalFault(faults.POSTGRESQL_FAILED, message)
        try:
            rows = await self._control.ask("SELECT pg_is_in_recovery()")
        except Unavailable:
            return False
        if rows != [(role == "standby",)]:
            message = f"PostgreSQL started, but not as {role}."
            raise InternalFault(faults.POSTGRESQL_FAILED, message)
        return True

    async def _set_synchronous(self, members: tuple[MemberId, ...]) -> None:
        waited_before = bool(self._synchronous)
        self._shift = _SHIFT - self._shift
        setting = configuration.synchronous_list(members, self._shift)
        await asyncio.to_thread(configuration.write_list, self._places.run, self._account, setting)
        self._synchronous = members
        self._server.signal(signal.SIGHUP)
        expected = {
            member_name(member): self._shift + number for number, member in enumerate(members, 1)
        }
        await _until(lambda: self._has_read(setting, expected))
        if (await self._control.ask("SELECT pg_is_in_recovery()")) == [(True,)]:
            return
        if members and not waited_before:
            # Whether anybody waits at all is told by the checkpointer, between two checkpoints.
            await self._control.ask("CHECKPOINT", seconds=LIST_SECONDS)
        # Who waits is looked at when a standby reports, and it reports when there is something new.
        await self._control.ask("SELECT pg_logical_emit_message(true, 'conclave', '')")

    async def _has_read(self, setting: str, expected: dict[str, int]) -> bool:
        if await self._control.ask("SHOW synchronous_standby_names") != [(setting,)]:
            return False
        rows = await self._control.ask(_PRIORITIES)
        return all(priority == expected.get(name, 0) for name, priority in rows)

    async def _fresh_directory(self) -> Path:
        return await asyncio.to_thread(replacing.fresh_directory, self._places.data, self._account)

    def _require_stopped(self, what: str) -> None:
        if self.running:
            message = f"PostgreSQL must be stopped before its data are {what}."
            raise InternalFault(faults.POSTGRESQL_FAILED, message)


async def _until(holds: Callable[[], Awaitable[bool]], poll_seconds: float = _POLL_SECONDS) -> None:
    while True:
        if await holds():
            return
        await asyncio.sleep(poll_seconds)
