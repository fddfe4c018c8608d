"""Run programs of PostgreSQL as the account that owns the data."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from conclave import faults
from conclave.errors import InternalFault, Unavailable
from conclave.store.postgresql import launcher
from conclave.store.postgresql.account import Account

ENVIRONMENT: Final = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"}
KEPT_OUTPUT_BYTES: Final = 4096
END_SECONDS: Final = 5.0
_LINE_END: Final = re.compile(rb"[\r\n]+")


def command(account: Account, program: Path, arguments: Sequence[str]) -> list[str]:
    """Return the command line that runs a program as `account`, ended with the calling thread."""
    start = [sys.executable, "-I", "-S", launcher.__file__]
    identity = [str(account.uid), str(account.gid), str(os.getpid())]
    return [*start, *identity, str(program), *arguments]


async def spawn(
    account: Account, program: Path, arguments: Sequence[str]
) -> tuple[Process, asyncio.StreamReader]:
    """Start a program in a session of its own; return it with its standard error.

    The pipe is not the process object's, which would call the program ended only when everything
    that inherited the pipe has ended too.
    """
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *command(account, program, arguments),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=writing,
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    stream = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", 0)
    )
    return process, stream


async def run(
    account: Account,
    program: Path,
    arguments: Sequence[str],
    *,
    seconds: float,
    text: str = "",
    on_line: Callable[[str], None] | None = None,
) -> str:
    """Run a program to its end with `text` on its standard input; return its standard output.

    `on_line` is told each line of standard error.  Raises InternalFault with the end of standard
    error when the program fails, Unavailable when it takes more than `seconds`.
    """
    process = await asyncio.create_subprocess_exec(
        *command(account, program, arguments),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, complaint = await _talk(process, text, on_line)
    except TimeoutError as cause:
        message = f"{program.name} did not end within {seconds:g} s and was ended."
        raise Unavailable(faults.POSTGRESQL_UNAVAILABLE, message) from cause
    finally:
        await end(process)
    if process.returncode != 0:
        message = f"{program.name} failed with status {process.returncode}: {complaint}"
        raise InternalFault(faults.POSTGRESQL_FAILED, message)
    return output


async def end(process: Process) -> None:
    """End a program that may still run, at first politely, and reap it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        process.send_signal(number)
        try:
            async with asyncio.timeout(END_SECONDS):
                await process.wait()
        except TimeoutError:
            continue


async def _talk(
    process: Process, text: str, on_line: Callable[[str], None] | None
) -> tuple[str, str]:
    assert process.stdin and process.stdout and process.stderr  # noqa: S101 - pipes were asked for
    process.stdin.write(text.encode())
    process.stdin.close()
    output, complaint = await asyncio.gather(
        process.stdout.read(), _read_lines(process.stderr, on_line)
    )
    await process.wait()
    return output.decode(errors="replace"), complaint


async def _read_lines(stream: asyncio.StreamReader, on_line: Callable[[str], None] | None) -> str:
    """Hand out lines, which may end in a carriage return alone; return the end of it all."""
    kept = b""
    rest = b""
    while chunk := await stream.read(4096):
        kept = (kept + chunk)[-KEPT_OUTPUT_BYTES:]
        *lines, rest = _LINE_END.split(rest[-KEPT_OUTPUT_BYTES:] + chunk)
        for line in lines:
            if on_line is not None and line:
                on_line(line.decode(errors="replace"))
    return _LINE_END.sub(b"; ", kept.strip()).decode(errors="replace")
