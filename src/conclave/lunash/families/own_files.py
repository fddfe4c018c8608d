"""The files of the user whose session it is, for commands that read or write one."""

from __future__ import annotations

import asyncio
from typing import Final

from conclave import faults
from conclave.errors import BadInput
from conclave.operations.commands import Option, ShellCall

FETCH: Final = "Use 'scp' from a client machine to get file named:"
"""Stands above the name of a file that a command wrote, as the product prints it."""


def file_option(summary: str) -> Option:
    """Return an option that names one of the user's files."""
    return Option(name="file", short="fi", summary=summary, value="filename", required=True)


async def read_own(shell: ShellCall, name: str, *, most_bytes: int) -> bytes:
    """Return a small file's content; raise NotFound, or BadInput when it is larger."""
    user_id = shell.caller.user.user_id

    def read() -> bytes:
        with shell.appliance.files.open(user_id, name) as stream:
            return stream.read(most_bytes + 1)

    content = await asyncio.to_thread(read)
    if len(content) > most_bytes:
        message = f"The file {name!r} is larger than the {most_bytes} bytes that it may have here."
        raise BadInput(faults.BAD_REQUEST, message)
    return content


async def write_own(shell: ShellCall, name: str, content: bytes) -> list[str]:
    """Write a file, replacing one of that name; return the lines that say where it is."""
    user_id = shell.caller.user.user_id
    await asyncio.to_thread(shell.appliance.files.store, user_id, name, [content])
    return [FETCH, name]
