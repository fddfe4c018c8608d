"""The connection for orders: it can be closed whatever is asked on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from conclave.store.postgresql.account import Directories
from tests.support.postgresql import new_members

CLOSING = """
import asyncio, sys
from pathlib import Path
import uvloop
from conclave.errors import Unavailable
from conclave.store.postgresql.control import Control

async def main() -> None:
    control, ended = Control(Path(sys.argv[1])), 0
    for turns in range(48):
        assert await control.ask("SELECT 1") == [(1,)]
        question = asyncio.create_task(control.ask("SELECT pg_sleep(0.05)", seconds=60))
        for _ in range(turns % 16):
            await asyncio.sleep(0)
        await control.close()
        if turns % 16 < 2:  # it may not have begun yet, and opens another connection then
            question.cancel()
        try:
            async with asyncio.timeout(10):
                await question
        except (Unavailable, asyncio.CancelledError):
            ended += 1
    await control.close()
    print(ended)

with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    runner.run(main())
"""
"""In a process of its own, which the mistake ends; with the event loop that members have."""


def test_a_connection_is_closed_only_when_no_question_is_under_way_on_it(
    tmp_path: Path, pristine: Directories
) -> None:
    """A primary that hands over closes it while its keeper asks for the positions."""

    async def work() -> None:
        async with new_members(tmp_path, 1, pristine) as (member,):
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", CLOSING, str(member.places.run)],
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert (done.returncode, done.stdout.strip()) == (0, "48"), done.stderr

    asyncio.run(work())
