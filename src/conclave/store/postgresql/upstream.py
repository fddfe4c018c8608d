"""What a member asks of its primary before it copies the primary's store or rewinds its own."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.errors import Conflict, Unavailable
from conclave.store.postgresql.configuration import OWNER
from conclave.store.postgresql.control import Control

REACH_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)


def conninfo(directory: Path, application_name: str) -> str:
    """Return how a program of PostgreSQL reaches the server behind a socket directory."""
    words = (f"host={directory}", f"user={OWNER}", f"application_name={application_name}")
    return " ".join((*words, "connect_timeout=5", "sslmode=disable", "gssencmode=disable"))


async def prepare(directory: Path, slot: str, major: int) -> None:
    """Have the log kept for a copy; raises Conflict when the majors of PostgreSQL differ.

    The copying program itself would copy another major version without a word.  The way to the
    primary may just be laid anew, as by the epoch of a join: what fails at once is tried again for
    REACH_SECONDS before Unavailable is raised; a primary that hangs is asked once.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + REACH_SECONDS
    while True:
        try:
            return await _prepare(directory, slot, major)
        except Unavailable as error:
            if loop.time() + PAUSE_SECONDS >= until:
                raise
            _log.info("The primary is asked for a copy once more: %s", error.message)
        await asyncio.sleep(PAUSE_SECONDS)


async def _prepare(directory: Path, slot: str, major: int) -> None:
    control = Control(directory)
    try:
        ((version,),) = await control.ask("SHOW server_version_num")
        if int(version) // 10_000 != major:
            message = (
                f"The primary has PostgreSQL {int(version) // 10_000}, this member {major}:"
                " all members need the same major version."
            )
            raise Conflict(faults.VERSION_MISMATCH, message)
        await control.ask(
            "SELECT pg_create_physical_replication_slot(%s) WHERE NOT EXISTS"
            " (SELECT FROM pg_replication_slots WHERE slot_name = %s)",
            [slot, slot],
        )
    finally:
        await control.close()


async def checkpoint(directory: Path, seconds: float) -> None:
    """Have the server behind a socket directory write down where it is."""
    control = Control(directory)
    try:
        await control.ask("CHECKPOINT", seconds=seconds)
    finally:
        await control.close()
