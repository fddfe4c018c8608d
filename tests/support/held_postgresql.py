"""Programs of PostgreSQL of which the server starts when a test says so."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from conclave.store.postgresql.binaries import NEEDED
from tests.support.postgresql import found
from tests.support.postgresql import until as until_true

# Only a server that stays is held: not the question for its version, nor what fills new data.
_SERVER = """\
#!/bin/sh
case "$*" in
*--version*|*--single*) ;;
*) [ -p {gate} ] && read -r _ < {gate} ;;
esac
exec {server} "$@"
"""


@dataclass(frozen=True)
class HeldPostgresql:
    """A directory for the setting `postgresql.directory`."""

    directory: Path

    @property
    def gate(self) -> Path:
        return self.directory / "gate"

    async def waiting(self) -> int:
        """Return when a server waits to be started, with what `let_go` needs."""
        opened: list[int] = []

        async def at_the_gate() -> bool:
            try:
                opened.append(os.open(self.gate, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody reads yet
                return False
            return True

        await until_true(at_the_gate, "the start of PostgreSQL")
        return opened[0]

    def let_go(self, waiting: int) -> None:
        """Let the server start, and hold no other one."""
        self.gate.unlink()
        os.close(waiting)


@contextmanager
def other_programs(script: Callable[[Path, Path], str]) -> Iterator[Path]:
    """Yield programs that PostgreSQL's account can reach, which a test's directory it cannot.

    In the place of the server is the script for their directory and for the real server.
    """
    programs, _ = found()
    with tempfile.TemporaryDirectory(prefix="conclave-held-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for program in NEEDED:
            (directory / program).symlink_to(programs.program(program))
        server = directory / "postgres"
        server.unlink()
        server.write_text(script(directory, programs.program("postgres")))
        server.chmod(0o755)
        yield directory


@asynccontextmanager
async def held_postgresql() -> AsyncIterator[HeldPostgresql]:
    """Yield programs of which the server waits."""

    def script(directory: Path, server: Path) -> str:
        return _SERVER.format(gate=HeldPostgresql(directory).gate, server=server)

    with other_programs(script) as directory:
        held = HeldPostgresql(directory)
        os.mkfifo(held.gate)
        held.gate.chmod(0o644)
        yield held
