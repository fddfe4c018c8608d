"""Where LunaSH's lines and answers come from: what a terminal of any kind offers a session."""

from __future__ import annotations

from typing import Protocol

from conclave.lunash.grammar import Node


class EndOfInput(Exception):
    """Nobody will type any more."""


class Interrupted(Exception):
    """The user pressed Ctrl-C at a prompt."""


class Idle(Exception):
    """Nothing was typed for too long."""


class Terminal(Protocol):
    """A user's end of a session."""

    def use(self, root: Node) -> None:
        """Complete by these commands from now on."""

    @property
    def interactive(self) -> bool:
        """Tell whether somebody reads along, who wants a banner and prompts."""

    def write(self, text: str) -> None:
        """Print text at once."""

    def write_error(self, text: str) -> None:
        """Print text apart from the output, where there is such a place."""

    async def command(self, prompt: str) -> str:
        """Return a command line; raise EndOfInput, Interrupted, Idle or BadInput."""

    async def answer(self, *, secret: bool) -> str:
        """Return the answer to a question; raise EndOfInput, Interrupted, Idle or BadInput."""

    async def interrupted(self) -> None:
        """Return when the user presses Ctrl-C while a command runs."""

    async def drain(self) -> None:
        """Wait until what was printed is on its way."""
