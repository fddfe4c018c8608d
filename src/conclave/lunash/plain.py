"""A session without a terminal: lines come from standard input as they stand, nothing is echoed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from conclave import faults
from conclave.errors import BadInput
from conclave.lunash.grammar import MAX_LINE_BYTES, Node
from conclave.lunash.terminal import EndOfInput, Idle


class Reader(Protocol):
    """The stream that lines come from."""

    async def read(self, count: int) -> str:
        """Return up to so many characters, "" at the end."""


class PlainTerminal:
    """Lines of a stream, in the order of the questions."""

    def __init__(
        self,
        reader: Reader,
        write: Callable[[str], None],
        write_error: Callable[[str], None],
        drain: Callable[[], Awaitable[None]],
        *,
        idle_seconds: float,
    ) -> None:
        self._reader = reader
        self._write = write
        self._write_error = write_error
        self._drain = drain
        self._idle_seconds = idle_seconds
        self._text = ""
        self._ended = False

    def use(self, root: Node) -> None:
        """Pass over: nobody presses Tab."""

    @property
    def interactive(self) -> bool:
        """Nobody reads along."""
        return False

    def write(self, text: str) -> None:
        """Print text."""
        self._write(text)

    def write_error(self, text: str) -> None:
        """Print text to standard error."""
        self._write_error(text)

    async def command(self, prompt: str) -> str:  # noqa: ARG002 - nobody reads it
        """Return the next line."""
        return await self._line()

    async def answer(self, *, secret: bool) -> str:
        """Return the next line; what was read is not shown."""
        self._write("> ")
        line = await self._line()
        self._write("*" * len(line) + "\n" if secret else line + "\n")
        return line

    async def interrupted(self) -> None:
        """Wait for ever: without a terminal there is no Ctrl-C."""
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """Wait until what was printed is on its way."""
        await self._drain()

    async def _line(self) -> str:
        while "\n" not in self._text:
            if len(self._text) > MAX_LINE_BYTES:
                self._text = ""
                self._ended = True
                message = f"A line may have {MAX_LINE_BYTES} bytes at most; this one is longer."
                raise BadInput(faults.COMMAND_LINE, message)
            if self._ended:
                if not self._text:
                    raise EndOfInput
                self._text += "\n"
                break
            await self._read_more()
        line, _, self._text = self._text.partition("\n")
        return line.removesuffix("\r")

    async def _read_more(self) -> None:
        try:
            async with asyncio.timeout(self._idle_seconds):
                chunk = await self._reader.read(4096)
        except TimeoutError:
            raise Idle from None
        self._text += chunk
        self._ended = not chunk
